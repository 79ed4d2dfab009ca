//! Admits records: finds each its partition, waits for room, hands batches to
//! the writer.
//!
//! What holds: what is admitted holds permits of both budgets until its outcome
//! is known; a batch that has room is handed over in one piece, one that has not
//! goes piece by piece as room comes, in order.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use async_trait::async_trait;
use meridian_runtime::BytePermit;

use super::core::Core;
use super::log::{Partition, Topic, locked};
use super::queue::{AppendWork, Work};
use super::writer::unavailable;
use crate::append::{Admission, AppendRecord, Appender, Commit, RefusedRecord};
use crate::error::{AppendError, AppendErrorKind};
use crate::partitioner::{KeylessTurns, partition_for};
use crate::seam::BrokerState;

/// Records without a key that go to one partition before the next has its turn.
const KEYLESS_RECORDS_PER_TURN: u32 = 64;

/// The appender.
pub(super) struct EmbeddedAppender {
    core: Arc<Core>,
    turns: Mutex<KeylessTurns>,
}

/// A record that found its place.
struct Placed {
    index: usize,
    partition: Arc<Partition>,
    record: AppendRecord,
    size: usize,
}

impl EmbeddedAppender {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            turns: Mutex::new(KeylessTurns::new(KEYLESS_RECORDS_PER_TURN, 0)),
        }
    }

    /// Finds the place of each record, and refuses what has none.
    fn place(&self, batch: Vec<AppendRecord>, refused: &mut Vec<RefusedRecord>) -> Vec<Placed> {
        let whole = self.refusal_of_all();
        let mut topic: Option<Arc<Topic>> = None;
        let mut placed = Vec::with_capacity(batch.len());
        for (index, record) in batch.into_iter().enumerate() {
            if topic
                .as_ref()
                .is_none_or(|topic| topic.name != record.topic || topic.is_deleted())
            {
                topic = self.core.topics.get(&record.topic);
            }
            let found = match &whole {
                Some((kind, message)) => Err(AppendError::refused(*kind, message.clone())),
                None => self.partition(topic.as_deref(), &record),
            };
            match found {
                Ok(partition) => {
                    let size = record.record.size_bytes();
                    placed.push(Placed {
                        index,
                        partition,
                        record,
                        size,
                    });
                }
                Err(error) => refused.push(RefusedRecord { index, record, error }),
            }
        }
        placed
    }

    /// Why nothing at all is taken.
    fn refusal_of_all(&self) -> Option<(AppendErrorKind, String)> {
        if self.core.is_closed() {
            return Some((AppendErrorKind::Closed, closed_message()));
        }
        if self.core.state() == BrokerState::Available {
            return None;
        }
        let error = unavailable(&self.core);
        Some((error.kind, error.message))
    }

    fn partition(&self, topic: Option<&Topic>, record: &AppendRecord) -> Result<Arc<Partition>, AppendError> {
        let Some(topic) = topic else {
            let message = format!("topic {} is not there; make it first", record.topic);
            return Err(AppendError::refused(AppendErrorKind::TopicNotFound, message));
        };
        let (size, max) = (record.record.size_bytes(), self.core.config.max_record_bytes);
        if size > max {
            let message = format!("a record of {size} bytes is over the limit of {max} bytes; raise max_record_bytes");
            return Err(AppendError::refused(AppendErrorKind::RecordTooLarge, message));
        }
        let partitions = topic.row.partitions;
        let index = match (record.partition, &record.record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for(key, partitions),
            (None, None) => locked(&self.turns).next(partitions),
        };
        topic.partitions.get(index as usize).cloned().ok_or_else(|| {
            let message = format!("topic {} has no partition {index}, only {partitions}", topic.name);
            AppendError::refused(AppendErrorKind::TopicNotFound, message)
        })
    }

    /// Hands records over in one piece.
    fn put(&self, placed: Vec<Placed>, permits: Vec<BytePermit>, refused: &mut Vec<RefusedRecord>) -> Commit {
        let (sender, commit) = Commit::pair(placed.len());
        let size_bytes = placed.iter().map(|placed| placed.size).sum();
        let names: Vec<_> = placed
            .iter()
            .map(|placed| (placed.index, placed.record.partition))
            .collect();
        let records = placed
            .into_iter()
            .map(|placed| (placed.partition, placed.record.record))
            .collect();
        match self.core.queue.put(Work::Append(AppendWork {
            records,
            size_bytes,
            sender,
            permits,
        })) {
            Ok(()) => commit,
            Err(work) => {
                if let Work::Append(work) = work {
                    for ((index, partition), (place, record)) in names.into_iter().zip(work.records) {
                        let topic = place.name.topic.clone();
                        let error = AppendError::refused(AppendErrorKind::Closed, closed_message());
                        refused.push(RefusedRecord {
                            index,
                            record: AppendRecord {
                                topic,
                                partition,
                                record,
                            },
                            error,
                        });
                    }
                }
                Commit::empty()
            }
        }
    }

    /// Room for so much, at once or not at all.
    fn try_room(&self, records: usize, bytes: usize) -> Option<Vec<BytePermit>> {
        let records = self.core.record_budget.try_acquire(records as u64)?;
        let bytes = self.core.byte_budget.try_acquire(bytes as u64)?;
        Some(vec![records, bytes])
    }

    /// Room for one record, by the deadline.
    async fn room(&self, size: usize, deadline: Instant) -> Result<Vec<BytePermit>, AppendError> {
        let overloaded = |error: meridian_runtime::ByteBudgetError| {
            let message = format!("the appender's queue is full: {error}; slow down or raise max_in_flight_*");
            AppendError::refused(AppendErrorKind::Overloaded, message)
        };
        let deadline = deadline.into();
        let records = self.core.record_budget.acquire(1, deadline).await.map_err(overloaded)?;
        let bytes = self
            .core
            .byte_budget
            .acquire(size as u64, deadline)
            .await
            .map_err(overloaded)?;
        Ok(vec![records, bytes])
    }

    /// Hands records over as room comes; the first without room ends it.
    async fn put_piecewise(
        &self,
        mut placed: Vec<Placed>,
        deadline: Instant,
        refused: &mut Vec<RefusedRecord>,
    ) -> Vec<Commit> {
        let mut commits = Vec::new();
        while !placed.is_empty() {
            let mut permits = match self.room(placed[0].size, deadline).await {
                Ok(permits) => permits,
                Err(error) => {
                    let (kind, message) = (error.kind, error.message);
                    refused.extend(placed.into_iter().map(|placed| {
                        let error = AppendError::refused(kind, message.clone());
                        RefusedRecord {
                            index: placed.index,
                            record: placed.record,
                            error,
                        }
                    }));
                    break;
                }
            };
            let mut count = 1;
            while let Some(next) = placed.get(count)
                && let Some(more) = self.try_room(1, next.size)
            {
                permits.extend(more);
                count += 1;
            }
            let rest = placed.split_off(count);
            commits.push(self.put(std::mem::replace(&mut placed, rest), permits, refused));
        }
        commits
    }
}

fn closed_message() -> String {
    "the broker is closed or closing; append elsewhere".to_owned()
}

/// One commit of several, in their order.
fn join(mut commits: Vec<Commit>) -> Commit {
    if commits.len() <= 1 {
        return commits.pop().unwrap_or_else(Commit::empty);
    }
    let (sender, commit) = Commit::pair(commits.iter().map(Commit::admitted).sum());
    tokio::spawn(async move {
        let mut outcomes = Vec::new();
        for commit in commits {
            outcomes.extend(commit.await);
        }
        sender.resolve(outcomes);
    });
    commit
}

#[async_trait]
impl Appender for EmbeddedAppender {
    async fn admit(&self, batch: Vec<AppendRecord>, deadline: Instant) -> Admission {
        let mut refused = Vec::new();
        let placed = self.place(batch, &mut refused);
        if placed.is_empty() {
            return Admission {
                refused,
                commit: Commit::empty(),
            };
        }
        let bytes = placed.iter().map(|placed| placed.size).sum();
        let commit = match self.try_room(placed.len(), bytes) {
            Some(permits) => self.put(placed, permits, &mut refused),
            None => join(self.put_piecewise(placed, deadline, &mut refused).await),
        };
        refused.sort_by_key(|refused| refused.index);
        Admission { refused, commit }
    }

    async fn flush(&self, deadline: Instant) -> bool {
        // Everything in flight holds a record's permit: with all permits in hand nothing is.
        let budget = &self.core.record_budget;
        if budget.in_use() == 0 {
            return true;
        }
        budget.acquire(budget.max_bytes(), deadline.into()).await.is_ok()
    }
}
