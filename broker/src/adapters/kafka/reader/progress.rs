//! Partitions that have records and give none: librdkafka can fetch from the
//! wrong broker for ever without an error, or stop at a position that is gone.
//!
//! What holds: a partition is looked at only while there is room for its
//! records; seeking comes before opening a client anew; both are logged.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::super::native::{NativeError, group};
use super::member::Member;
use super::standing::list_at;
use super::start::{Start, start_of};
use crate::frontier::Frontier;
use crate::name::TopicPartition;
use crate::read::{Assignment, Gap, ReadEvent};

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Between two looks at whether cluster and topics are the same.
const IDENTIFY_INTERVAL: Duration = Duration::from_secs(30);

/// Without progress for so long, a partition is sought anew.
const SEEK_AFTER: Duration = Duration::from_secs(10);

/// Without progress for so long, the client is opened anew.
const REBUILD_AFTER: Duration = Duration::from_secs(30);

/// How long a seek may take.
const SEEK_LIMIT: Duration = Duration::from_secs(2);

/// Before a position that is gone is looked at again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct Progress {
    partitions: HashMap<TopicPartition, Mark>,
    broken: HashSet<TopicPartition>,
    look_at: Option<Instant>,
    identify_at: Option<Instant>,
    retry_at: Option<Instant>,
    /// Clients that were opened anew.
    pub(super) rebuilds: u64,
}

/// Where a partition was seen last.
struct Mark {
    position: u64,
    since: Instant,
    sought: bool,
}

impl Progress {
    pub(super) fn begin(&mut self, partition: &TopicPartition, position: u64, now: Instant) {
        self.partitions.insert(
            partition.clone(),
            Mark {
                position,
                since: now,
                sought: false,
            },
        );
        self.broken.remove(partition);
    }

    pub(super) fn end(&mut self, partition: &TopicPartition) {
        self.partitions.remove(partition);
        self.broken.remove(partition);
    }

    pub(super) fn mark_broken(&mut self, partition: &TopicPartition) {
        self.broken.insert(partition.clone());
    }

    /// Partitions that have not moved since the limit; moves the marks of the others.
    fn standing(&mut self, positions: &[(TopicPartition, u64)], now: Instant) -> Vec<TopicPartition> {
        let mut standing = Vec::new();
        for (partition, position) in positions {
            let Some(mark) = self.partitions.get_mut(partition) else {
                continue;
            };
            if mark.position != *position {
                *mark = Mark {
                    position: *position,
                    since: now,
                    sought: false,
                };
            } else if now.duration_since(mark.since) >= SEEK_AFTER {
                standing.push(partition.clone());
            }
        }
        standing
    }

    /// Nothing is expected of a partition.
    fn excuse_one(&mut self, partition: &TopicPartition, now: Instant) {
        if let Some(mark) = self.partitions.get_mut(partition) {
            mark.since = now;
        }
    }

    /// Nothing is expected of any partition.
    fn excuse(&mut self, now: Instant) {
        self.partitions.values_mut().for_each(|mark| mark.since = now);
    }
}

impl Member {
    /// Looks after partitions that do not move, if it is time.
    pub(super) fn serve_progress(&mut self) {
        let now = self.now();
        if !self.progress.broken.is_empty() && self.progress.retry_at.is_none_or(|at| at <= now) {
            self.progress.retry_at = Some(now + RETRY_AFTER);
            for partition in std::mem::take(&mut self.progress.broken) {
                if let Err(error) = self.mend(&partition) {
                    tracing::debug!(%partition, %error, "a position that is gone could not be looked at yet");
                    self.progress.mark_broken(&partition);
                }
            }
        }
        if self.progress.look_at.is_some_and(|at| at > now) {
            return;
        }
        self.progress.look_at = Some(now + LOOK_INTERVAL);
        let (full, positions) = {
            let inner = self.shared.lock();
            let assigned = inner.ledger.assignments().into_iter();
            (
                inner.full,
                assigned
                    .map(|assigned| (assigned.partition, assigned.position))
                    .collect::<Vec<_>>(),
            )
        };
        if full || !self.shared.cluster.health.is_available() {
            self.progress.excuse(now);
            return;
        }
        if self.progress.identify_at.is_none_or(|at| at <= now) && !positions.is_empty() {
            self.progress.identify_at = Some(now + IDENTIFY_INTERVAL);
            let partitions: Vec<_> = positions.iter().map(|(partition, _)| partition.clone()).collect();
            if !self.is_same(&partitions) {
                return;
            }
        }
        self.commits
            .paused()
            .for_each(|partition| self.progress.excuse_one(partition, now));
        let standing = self.progress.standing(&positions, now);
        if !standing.is_empty() {
            self.look_at_standing(&standing, now);
        }
    }

    fn look_at_standing(&mut self, standing: &[TopicPartition], now: Instant) {
        let Ok(extents) = self.extents(standing) else { return };
        let mut seek = Vec::new();
        for partition in standing {
            let Some(extent) = extents.get(partition) else { continue };
            let Some(mark) = self.progress.partitions.get_mut(partition) else {
                continue;
            };
            self.shared.lock().ledger.set_end(partition, extent.end);
            if extent.end == mark.position {
                mark.since = now; // nothing to read
            } else if extent.end < mark.position {
                self.progress.mark_broken(partition); // the log was cut
            } else if now.duration_since(mark.since) >= REBUILD_AFTER {
                let reason = format!(
                    "{partition} has records up to {} and gives none after {}",
                    extent.end, mark.position
                );
                self.rebuild(&reason);
                return;
            } else if !mark.sought {
                mark.sought = true;
                tracing::warn!(%partition, position = mark.position, end = extent.end, "a partition gives no records and is sought anew");
                seek.push((partition.clone(), mark.position));
            }
        }
        for (partition, position) in seek {
            if let Err(error) = self.seek(&partition, position) {
                tracing::warn!(%partition, %error, "a partition was not sought");
            }
        }
    }

    fn seek(&self, partition: &TopicPartition, position: u64) -> Result<(), NativeError> {
        let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
        self.fetched.take_partition(partition.topic.as_str(), number)?;
        let offset = i64::try_from(position).unwrap_or(i64::MAX);
        let list = list_at(std::slice::from_ref(partition), |_| offset)?;
        group::seek(&self.client, &list, SEEK_LIMIT)
    }

    /// The position that is read next is gone: goes on as the options say.
    fn mend(&mut self, partition: &TopicPartition) -> Result<(), NativeError> {
        let Some(position) = self.shared.lock().ledger.read_position(partition) else {
            return Ok(());
        };
        if !self.is_same(std::slice::from_ref(partition)) {
            return Ok(());
        }
        let extents = self.extents(std::slice::from_ref(partition))?;
        let Some(extent) = extents.get(partition).copied() else {
            return Ok(());
        };
        let options = &self.shared.options;
        let at = Some(Frontier::new(position));
        match start_of(at, extent, options.start, options.missing_position) {
            Start::New(_) | Start::At(_) => self.seek(partition, position),
            Start::Refused { expected, missing } => {
                self.refuse(partition, expected, missing, extent);
                Ok(())
            }
            Start::Beyond {
                frontier,
                expected,
                missing,
            } => {
                let resumed = frontier.next();
                self.seek(partition, resumed)?;
                if resumed >= position {
                    self.shared.lock().ledger.skip_to(partition, resumed);
                } else {
                    self.begin_again(partition, frontier);
                }
                self.progress.begin(partition, resumed, self.now());
                self.tell_gap(Gap {
                    partition: partition.clone(),
                    expected_position: expected,
                    resumed_position: resumed,
                    missing_records: missing,
                });
                Ok(())
            }
        }
    }

    /// The positions of a partition mean something else now: claims on it are over.
    fn begin_again(&mut self, partition: &TopicPartition, frontier: Frontier) {
        self.end_claims(std::slice::from_ref(partition));
        let mut inner = self.shared.lock();
        inner.ledger.forget(partition);
        let position = frontier.next();
        let generation = inner.ledger.assign(partition.clone(), frontier);
        inner.ledger.require_commit(partition);
        drop(inner);
        self.shared.tell(ReadEvent::Revoked(vec![partition.clone()]));
        let assignment = Assignment {
            partition: partition.clone(),
            generation,
            position,
        };
        self.shared.tell(ReadEvent::Assigned(vec![assignment]));
    }
}
