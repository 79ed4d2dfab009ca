//! Which member of a group has which partition. Pure.
//!
//! What holds: every partition of a topic that some member reads has exactly one
//! owner, who reads it; no member has two more partitions than another who could
//! take one of them; a partition moves only for the sake of that.

use std::collections::{BTreeMap, HashMap};

use crate::name::{TopicName, TopicPartition};

/// A member and what it reads.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber<'a> {
    pub(crate) id: u64,
    pub(crate) topics: &'a [TopicName],
}

/// The owner of each of `partitions`, as close to `owners` as balance allows.
pub(crate) fn assign(
    partitions: &[TopicPartition],
    subscribers: &[Subscriber<'_>],
    owners: &HashMap<TopicPartition, u64>,
) -> HashMap<TopicPartition, u64> {
    let reads = |id: u64, partition: &TopicPartition| {
        subscribers
            .iter()
            .any(|subscriber| subscriber.id == id && subscriber.topics.contains(&partition.topic))
    };
    let mut assigned = HashMap::new();
    let mut loads: BTreeMap<u64, usize> = subscribers.iter().map(|subscriber| (subscriber.id, 0)).collect();
    for partition in partitions {
        if let Some(owner) = owners.get(partition).copied().filter(|owner| reads(*owner, partition)) {
            *loads.entry(owner).or_default() += 1;
            assigned.insert(partition.clone(), owner);
        }
    }
    let least_loaded = |loads: &BTreeMap<u64, usize>, partition: &TopicPartition| {
        let candidates = loads.iter().filter(|(id, _)| reads(**id, partition));
        candidates
            .min_by_key(|(id, load)| (**load, **id))
            .map(|(id, load)| (*id, *load))
    };
    for partition in partitions {
        if !assigned.contains_key(partition)
            && let Some((owner, _)) = least_loaded(&loads, partition)
        {
            *loads.entry(owner).or_default() += 1;
            assigned.insert(partition.clone(), owner);
        }
    }
    // Each move makes the sum of the squares of the loads smaller, so this ends.
    let mut has_moved = true;
    while has_moved {
        has_moved = false;
        for partition in partitions.iter().rev() {
            let Some(owner) = assigned.get(partition).copied() else {
                continue;
            };
            let load = loads.get(&owner).copied().unwrap_or_default();
            if let Some((least, least_load)) = least_loaded(&loads, partition)
                && least_load + 1 < load
            {
                loads.insert(owner, load - 1);
                loads.insert(least, least_load + 1);
                assigned.insert(partition.clone(), least);
                has_moved = true;
            }
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(index: usize) -> TopicName {
        TopicName::new(&format!("t{index}")).unwrap()
    }

    fn partitions(topics: &[u32]) -> Vec<TopicPartition> {
        let of = |(index, count): (usize, &u32)| {
            (0..*count).map(move |partition| TopicPartition {
                topic: topic(index),
                partition,
            })
        };
        topics.iter().enumerate().flat_map(of).collect()
    }

    fn count(owners: &HashMap<TopicPartition, u64>, id: u64) -> usize {
        owners.values().filter(|owner| **owner == id).count()
    }

    #[test]
    fn a_joining_member_takes_only_its_share() {
        let topics = [topic(0)];
        let partitions = partitions(&[6]);
        let member = |id| Subscriber { id, topics: &topics };
        let two = assign(&partitions, &[member(1), member(2)], &HashMap::new());
        let three = assign(&partitions, &[member(1), member(2), member(3)], &two);
        assert_eq!([1, 2, 3].map(|id| count(&three, id)), [2, 2, 2]);
        let moved = partitions
            .iter()
            .filter(|partition| two[partition] != three[partition])
            .count();
        assert_eq!(moved, 2);
        let left = assign(&partitions, &[member(1), member(3)], &three);
        let moved = partitions
            .iter()
            .filter(|partition| three[partition] != left[partition])
            .count();
        assert_eq!(moved, 2, "only what the leaving member had");
    }

    proptest! {
        #[test]
        fn everything_has_one_owner_that_reads_it_and_loads_are_even(
            counts in prop::collection::vec(0..8u32, 1..4),
            reads in prop::collection::vec(prop::collection::vec(any::<bool>(), 4), 0..5),
            before in prop::collection::vec(0..6u64, 32),
        ) {
            let partitions = partitions(&counts);
            let topics: Vec<Vec<TopicName>> = reads
                .iter()
                .map(|reads| (0..counts.len()).filter(|index| reads[*index]).map(topic).collect())
                .collect();
            let members: Vec<_> =
                (0..).zip(&topics).map(|(id, topics)| Subscriber { id, topics }).collect();
            let owners = partitions.iter().cloned().zip(before).collect();
            let assigned = assign(&partitions, &members, &owners);
            for partition in &partitions {
                let could = |member: &&Subscriber<'_>| member.topics.contains(&partition.topic);
                let Some(owner) = assigned.get(partition) else {
                    prop_assert!(!members.iter().any(|member| could(&member)));
                    continue;
                };
                prop_assert!(members[*owner as usize].topics.contains(&partition.topic));
                for other in members.iter().filter(could) {
                    prop_assert!(count(&assigned, *owner) <= count(&assigned, other.id) + 1);
                }
            }
            prop_assert_eq!(assign(&partitions, &members, &assigned), assigned, "a second time moves nothing");
        }
    }
}
