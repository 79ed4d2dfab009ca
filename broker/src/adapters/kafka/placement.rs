//! Where the records of a batch go: their topics' partitions, and which of them
//! a record is for.
//!
//! What holds: the partition of a key is ours and not librdkafka's, so that it is
//! the one of Kafka's Java client; a topic is asked for once, and by a few calls
//! at a time, however many records name it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::cluster::Cluster;
use super::error::{Fault, fault_of};
use super::native::produce::TopicHandle;
use super::session::Session;
use crate::append::{AppendRecord, RefusedRecord};
use crate::error::{AppendError, AppendErrorKind};
use crate::name::TopicName;
use crate::partitioner::{KeylessTurns, partition_for};

/// Records without a key that go to one partition before the next one's turn.
const KEYLESS_RECORDS_PER_TURN: u32 = 100;

/// Topics that are asked for at once, at most.
const MAX_LOOKUPS: usize = 4;

/// How long the cluster may take to tell a topic's partitions.
pub(super) const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

/// Finds the places of records.
pub(super) struct Placement {
    cluster: Arc<Cluster>,
    turns: Mutex<KeylessTurns>,
    lookups: Semaphore,
}

/// A topic of a batch.
pub(super) struct Destination {
    pub(super) topic: TopicName,
    pub(super) found: Result<(u32, Arc<TopicHandle>), Refusal>,
}

pub(super) type Refusal = (AppendErrorKind, String);

/// A record that is fit to be handed over.
pub(super) struct Ready {
    pub(super) index: usize,
    pub(super) destination: usize,
    pub(super) partition: i32,
    pub(super) cost: usize,
    pub(super) record: AppendRecord,
}

impl Placement {
    pub(super) fn new(cluster: &Arc<Cluster>) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            turns: Mutex::new(KeylessTurns::new(KEYLESS_RECORDS_PER_TURN, rand::random())),
            lookups: Semaphore::new(MAX_LOOKUPS),
        }
    }

    /// Finds the topics of a batch.
    pub(super) async fn destinations(
        &self,
        session: &Session,
        batch: &[AppendRecord],
        deadline: Instant,
    ) -> Vec<Destination> {
        let mut destinations: Vec<Destination> = Vec::with_capacity(1);
        for record in batch {
            if find(&destinations, &record.topic).is_some() {
                continue;
            }
            let count = match self.cluster.known_partitions(&record.topic) {
                Some(count) => Ok(count),
                None => self.look_up(&record.topic, deadline).await,
            };
            let found = count.and_then(|count| {
                let handle = session.topic(&record.topic);
                let handle = handle.map_err(|error| (AppendErrorKind::Internal, error.to_string()))?;
                Ok((count, handle))
            });
            destinations.push(Destination {
                topic: record.topic.clone(),
                found,
            });
        }
        destinations
    }

    async fn look_up(&self, topic: &TopicName, deadline: Instant) -> Result<u32, Refusal> {
        let late = || {
            let message = format!("the partitions of topic {topic} were not known in time");
            (AppendErrorKind::BrokerUnavailable, message)
        };
        let asked = async {
            let _permit = self.lookups.acquire().await.ok()?;
            let (cluster, topic) = (Arc::clone(&self.cluster), topic.clone());
            let ask = move || cluster.ask_partitions(&topic, LOOKUP_LIMIT);
            tokio::task::spawn_blocking(ask).await.ok()
        };
        let found = tokio::time::timeout_at(deadline.into(), asked).await.ok().flatten();
        found.ok_or_else(late)?.map_err(|error| match fault_of(error.code) {
            Fault::TopicMissing => {
                let message = format!("topic {topic} is not there: make it with `meridian topics create`");
                (AppendErrorKind::TopicNotFound, message)
            }
            Fault::TimedOut => late(),
            fault => {
                let message = format!("the partitions of topic {topic} are not known: {error}");
                (fault.append_kind(), message)
            }
        })
    }

    /// Parts a batch into what can be handed over and what cannot.
    pub(super) fn sort_out(
        &self,
        batch: Vec<AppendRecord>,
        destinations: &[Destination],
        cost: impl Fn(usize) -> usize,
        refused: &mut Vec<RefusedRecord>,
    ) -> VecDeque<Ready> {
        let mut ready = VecDeque::with_capacity(batch.len());
        for (index, record) in batch.into_iter().enumerate() {
            match self.place(&record, destinations) {
                Ok((destination, partition)) => {
                    let cost = cost(record.record.size_bytes());
                    ready.push_back(Ready {
                        index,
                        destination,
                        partition,
                        cost,
                        record,
                    });
                }
                Err((kind, message)) => refused.push(refusal(index, record, kind, message)),
            }
        }
        ready
    }

    fn place(&self, record: &AppendRecord, destinations: &[Destination]) -> Result<(usize, i32), Refusal> {
        let (size, max) = (record.record.size_bytes(), self.cluster.config.max_record_bytes);
        if size > max {
            let message = format!("the record has {size} bytes and the broker takes {max} at most");
            return Err((AppendErrorKind::RecordTooLarge, message));
        }
        let missing = || {
            (
                AppendErrorKind::TopicNotFound,
                format!("topic {} is not there", record.topic),
            )
        };
        let destination = find(destinations, &record.topic).ok_or_else(missing)?;
        let (count, _) = destinations[destination].found.as_ref().map_err(Clone::clone)?;
        let partition = match (record.partition, &record.record.key) {
            (Some(partition), _) if partition >= *count => {
                let message = format!(
                    "topic {} has {count} partitions, and no partition {partition}",
                    record.topic
                );
                return Err((AppendErrorKind::TopicNotFound, message));
            }
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for(key, *count),
            (None, None) => self.turns.lock().unwrap_or_else(PoisonError::into_inner).next(*count),
        };
        Ok((destination, i32::try_from(partition).unwrap_or(i32::MAX)))
    }
}

fn find(destinations: &[Destination], topic: &TopicName) -> Option<usize> {
    destinations.iter().position(|destination| destination.topic == *topic)
}

pub(super) fn refusal(index: usize, record: AppendRecord, kind: AppendErrorKind, message: String) -> RefusedRecord {
    RefusedRecord {
        index,
        record,
        error: AppendError::refused(kind, message),
    }
}
