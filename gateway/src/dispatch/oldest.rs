//! The oldest record that is held of each partition: how old the group's lag is.

use std::collections::HashMap;

use meridian_broker::TopicPartition;

use super::dispatcher::Dispatcher;

impl Dispatcher {
    /// The time of the record with the lowest position of each partition, in milliseconds since the Unix epoch. All
    /// before it are settled, so it is the oldest one that is not.
    pub fn oldest_held(&self) -> HashMap<TopicPartition, i64> {
        let mut oldest: HashMap<&TopicPartition, (u64, i64)> = HashMap::new();
        for item in self.items.values() {
            let (claim, time) = (&item.work.claim, item.work.record.timestamp_ms);
            let known = oldest.entry(&claim.partition).or_insert((claim.position, time));
            if claim.position < known.0 {
                *known = (claim.position, time);
            }
        }
        let times = oldest
            .into_iter()
            .map(|(partition, (_, time))| (partition.clone(), time));
        times.collect()
    }
}
