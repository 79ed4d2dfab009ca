//! What the coordinator and the leaders say of partitions: where the group stands,
//! what there is to read, and whether it is still the same topic.
//!
//! What holds: every question has a limit; an answer that is not complete is an
//! error, for half of it would begin a partition at the wrong place.

use std::collections::HashMap;
use std::time::Duration;

use super::super::native::list::NO_OFFSET;
use super::super::native::metadata;
use super::super::native::request::{self, OffsetOf, TopicFacts};
use super::super::native::{Code, EventQueue, NativeError, PartitionList, group};
use super::member::Member;
use super::start::Extent;
use crate::error::ReadErrorKind;
use crate::frontier::Frontier;
use crate::metadata as commit_metadata;
use crate::name::{TopicName, TopicPartition};

/// How long the coordinator and the leaders may take to answer, each time.
const ASK_LIMIT: Duration = Duration::from_secs(3);

/// What the broker says of one partition.
pub(super) struct Standing {
    pub(super) partition: TopicPartition,
    pub(super) committed: Option<Frontier>,
    pub(super) extent: Extent,
}

impl Member {
    /// Where the group stands and what there is, from the coordinator and the leaders.
    pub(super) fn standings(&self, partitions: &[TopicPartition]) -> Result<Vec<Standing>, NativeError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let list = list_at(partitions, |_| NO_OFFSET)?;
        group::committed(&self.client, &list, ASK_LIMIT)?;
        let mut committed = HashMap::new();
        for element in list.elements() {
            if let Some(code) = element.error {
                return Err(NativeError::of(code));
            }
            let (Some(partition), Ok(next)) = (
                partition_of(element.topic, element.partition),
                u64::try_from(element.offset),
            ) else {
                continue; // nothing is committed
            };
            let text = String::from_utf8_lossy(element.metadata);
            let frontier = commit_metadata::decode(next, &text).unwrap_or_else(|error| {
                tracing::warn!(%partition, %error, "what is settled beyond is not known and may come again");
                Frontier::new(next)
            });
            committed.insert(partition, frontier);
        }
        let extents = self.extents(partitions)?;
        let standing = |partition: &TopicPartition| {
            let extent = extents.get(partition).copied();
            Ok(Standing {
                partition: partition.clone(),
                committed: committed.remove(partition),
                extent: extent.ok_or_else(|| NativeError::of(Code::UnknownTopicOrPartition))?,
            })
        };
        partitions.iter().map(standing).collect()
    }

    /// Whether the partitions are of the cluster and the topics that they were of
    /// before; ends the reader if not. What cannot be told now is taken as the same.
    pub(super) fn is_same(&self, partitions: &[TopicPartition]) -> bool {
        let mut names: Vec<&str> = partitions.iter().map(|partition| partition.topic.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let facts = match self.topic_facts(&names) {
            Ok(facts) => facts,
            Err(error) => {
                tracing::debug!(%error, "the ids of topics are not known");
                Vec::new()
            }
        };
        let cluster = metadata::cluster_id(&self.client, Duration::ZERO);
        let broken = {
            let identities = &mut self.shared.lock().identities;
            let cluster = cluster.map_or(Ok(()), |id| identities.see_cluster(id));
            facts
                .iter()
                .filter(|fact| fact.error.is_none())
                .fold(cluster, |same, fact| {
                    let Ok(topic) = TopicName::new(&fact.name) else {
                        return same;
                    };
                    same.and(identities.see_topic(&topic, &fact.id))
                })
        };
        broken
            .map_err(|message| self.shared.fail(ReadErrorKind::ContinuityBroken, message))
            .is_ok()
    }

    fn topic_facts(&self, names: &[&str]) -> Result<Vec<TopicFacts>, NativeError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let queue = EventQueue::own(&self.client).ok_or_else(|| NativeError::of(Code::Fail))?;
        request::describe_topics(&queue, names, ASK_LIMIT, 0)?;
        Ok(request::described_topics(&request::wait(&queue, ASK_LIMIT)?))
    }

    /// What partitions hold, from their leaders.
    pub(super) fn extents(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<HashMap<TopicPartition, Extent>, NativeError> {
        let ask = |of: OffsetOf| -> Result<HashMap<TopicPartition, u64>, NativeError> {
            let list = list_at(partitions, |_| of.as_offset())?;
            let queue = EventQueue::own(&self.client).ok_or_else(|| NativeError::of(Code::Fail))?;
            request::list_offsets(&queue, &list, true, ASK_LIMIT, 0)?;
            let listed = request::listed_offsets(&request::wait(&queue, ASK_LIMIT)?);
            let mut offsets = HashMap::with_capacity(listed.len());
            for listed in listed {
                let offset = listed.offset.map_err(NativeError::of)?;
                if let Ok(topic) = TopicName::new(&listed.topic) {
                    offsets.insert(
                        TopicPartition {
                            topic,
                            partition: listed.partition,
                        },
                        offset,
                    );
                }
            }
            Ok(offsets)
        };
        let (first, end) = (ask(OffsetOf::First)?, ask(OffsetOf::End)?);
        let extent = |(partition, first): (TopicPartition, u64)| {
            let end = end.get(&partition).copied()?;
            Some((partition, Extent { first, end }))
        };
        Ok(first.into_iter().filter_map(extent).collect())
    }
}

/// A list of partitions, each at its offset.
pub(super) fn list_at(
    partitions: &[TopicPartition],
    offset: impl Fn(&TopicPartition) -> i64,
) -> Result<PartitionList, NativeError> {
    let mut list = PartitionList::new();
    for partition in partitions {
        list.add(partition.topic.as_str(), partition.partition, offset(partition))?;
    }
    Ok(list)
}

fn partition_of(topic: &str, partition: i32) -> Option<TopicPartition> {
    Some(TopicPartition {
        topic: TopicName::new(topic).ok()?,
        partition: u32::try_from(partition).ok()?,
    })
}

pub(super) fn partitions_of(list: &PartitionList) -> Vec<TopicPartition> {
    list.elements()
        .filter_map(|element| partition_of(element.topic, element.partition))
        .collect()
}
