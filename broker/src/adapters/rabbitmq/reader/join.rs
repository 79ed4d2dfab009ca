//! Makes everything ready that a group needs on the broker, before it is read.
//!
//! What holds: a new group's queues are bound before the catalog names the group, and
//! not before their own names are surely on the broker's disk; what a group was made for, one member at a time or
//! members that compete, stays.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::BasicConsumeOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};

use super::shared::Shared;
use crate::adapters::rabbitmq::catalog::{CatalogState, Change};
use crate::adapters::rabbitmq::core::Core;
use crate::adapters::rabbitmq::fault::Fault;
use crate::adapters::rabbitmq::limits;
use crate::adapters::rabbitmq::link::Up;
use crate::adapters::rabbitmq::topology::{self, CALL_LIMIT, call};
use crate::name::TopicName;
use crate::read::{ReaderOptions, StartPosition};

/// What a record is taken to weigh when the prefetch is chosen.
const TYPICAL_RECORD_BYTES: usize = 16 * 1024;
/// The pause before a broker with a delivery limit is looked at again.
const LIMITED_PAUSE: Duration = Duration::from_secs(2);
/// Members that compete leave one another something.
const SHARED_PREFETCH: u16 = 500;
/// Below this a prefetch costs more time than it saves memory.
const MIN_BYTES_PREFETCH: usize = 16;

/// What a session has at hand when it is joined.
pub(super) struct Joined {
    pub(super) up: Up,
    pub(super) state: Arc<CatalogState>,
    pub(super) ear: Consumer,
    /// Held for as long as the ear is.
    _channel: Channel,
}

/// How many deliveries of a shard may be under way: an even part of the records that
/// the reader may hold, and of its bytes for records of a typical size.
pub(super) fn prefetch(max_records: usize, max_bytes: usize, shards: u32) -> u16 {
    let shards = shards.max(1) as usize;
    let by_bytes = (max_bytes / TYPICAL_RECORD_BYTES / shards).max(MIN_BYTES_PREFETCH);
    let prefetch = (max_records / shards).min(by_bytes).max(1);
    u16::try_from(prefetch).unwrap_or(u16::MAX)
}

/// The same for a shard that other members consume as well.
pub(super) fn shared_prefetch(max_records: usize, max_bytes: usize, shards: u32) -> u16 {
    prefetch(max_records, max_bytes, shards).min(SHARED_PREFETCH)
}

/// Why the group cannot be read in order: its members compete.
pub(super) fn check_order(options: &ReaderOptions, state: &CatalogState) -> Result<(), String> {
    let group = &options.group;
    let shared = |name: &&TopicName| state.topics.get(*name).is_some_and(|topic| topic.is_shared_by(group));
    match options.topics.iter().find(shared).filter(|_| options.ordered) {
        Some(topic) => Err(format!(
            "group {group} was made for ordering NONE, so its members compete for each partition of {topic}, and \
             cannot be read in order now; read it with ordering NONE, or stop its workers and delete it, or choose \
             another group"
        )),
        None => Ok(()),
    }
}

/// Makes everything ready that this group needs on the broker.
pub(super) async fn join(core: &Arc<Core>, shared: &Arc<Shared>) -> Result<Joined, Fault> {
    let up = loop {
        match core.read.up(Duration::from_millis(500)).await {
            Ok(up) => break up,
            Err(Fault::Closed) => return Err(Fault::Closed),
            Err(fault) => shared.does_not_read(core.read.now(), &fault),
        }
    };
    if let Err(fault) = core.limits.check(core).await {
        shared.does_not_read(core.read.now(), &fault);
        tokio::time::sleep(LIMITED_PAUSE).await;
        return Err(fault);
    }
    limits::look(core, up.epoch);
    let options = &shared.options;
    let mut state = core.catalog.refresh(CALL_LIMIT).await?;
    let channel = call(up.connection.create_channel()).await?;
    for name in &options.topics {
        loop {
            let missing = || Fault::Missing(format!("topic {name} is not there; make it, or wait until it is made"));
            let topic = state.topics.get(name).ok_or_else(missing)?.clone();
            let is_member = topic.groups.contains(&options.group);
            if topic.growing_to.is_some() && !is_member {
                return Err(Fault::Away(format!(
                    "topic {name} is growing; the group is made when it has grown"
                )));
            }
            topology::declare_topic(&channel, &core.names, name, topic.shards, core.config.parked_bytes).await?;
            let shards = 0..topic.growing_to.unwrap_or(topic.shards);
            // A group that was made in order stays so: it may be read without wanting it.
            let shared = if is_member {
                topic.is_shared_by(&options.group)
            } else {
                !options.ordered
            };
            for shard in shards.clone() {
                topology::declare_group_queue(&channel, &core.names, name, &options.group, shard, shared).await?;
            }
            if !is_member {
                tokio::time::sleep(topology::NEW_QUEUE_GRACE).await;
            }
            for shard in shards {
                topology::bind_group_queue(&channel, &core.names, name, &options.group, shard).await?;
            }
            if is_member {
                break;
            }
            let change = Change::GroupCreated {
                topic: name.to_string(),
                topic_id: topic.id,
                group: options.group.to_string(),
                earliest: options.start == StartPosition::Earliest,
                shared,
            };
            // Once more, for the topic may have grown before the entry was made.
            state = core.catalog.append(change).await?.1;
        }
    }
    let channel = call(up.connection.create_channel()).await?;
    let ear = topology::declare_ear(&channel, &core.names, &options.group).await?;
    let consume = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let ear = call(channel.basic_consume(ear.into(), "".into(), consume, FieldTable::default())).await?;
    Ok(Joined {
        up,
        state,
        ear,
        _channel: channel,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefetch_of_all_shards_stays_within_the_options() {
        assert_eq!(prefetch(10_000, 64 << 20, 1), 4096);
        assert_eq!(prefetch(10_000, 1 << 30, 8), 1250);
        assert_eq!(prefetch(5, 64 << 20, 1), 5);
        assert_eq!(prefetch(2, 64 << 20, 4), 1);
        assert_eq!(prefetch(1_000_000, usize::MAX, 1), u16::MAX);
        assert_eq!(prefetch(100, 1000, 1), 16);
    }
}
