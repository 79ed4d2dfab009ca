//! Taking up what a rebalance gives, at what the group has committed, and giving
//! up what it takes.
//!
//! What holds: nothing is read of a partition before its committed position,
//! metadata and extent are known, however long the coordinator is away; claims
//! end before the last commit of a revoked partition is made; a partition is
//! given up to the group only after that commit, or its limit.

use std::time::{Duration, Instant};

use super::super::error::{Fault, fault_of};
use super::super::native::list::NO_OFFSET;
use super::super::native::{Code, Event, NativeError, PartitionList, group};
use super::member::Member;
use super::standing::{Standing, list_at, partitions_of};
use super::start::{Extent, Start, start_of};
use crate::error::ReadErrorKind;
use crate::ledger::PendingCommit;
use crate::name::TopicPartition;
use crate::read::{Assignment, Gap, ReadEvent};

/// Before what failed is asked again.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// The longest that a revocation waits for its commit.
const LAST_COMMIT_LIMIT: Duration = Duration::from_secs(3);

/// What a rebalance gave and is not taken up yet.
pub(super) struct Pending {
    partitions: Vec<TopicPartition>,
    retry_at: Instant,
}

impl Pending {
    pub(super) fn retry_at(&self) -> Instant {
        self.retry_at
    }
}

impl Member {
    pub(super) fn take_rebalance(&mut self, event: &Event) {
        let partitions = partitions_of(&event.partitions());
        match event.error_code() {
            Some(Code::AssignPartitions) => {
                for partition in &partitions {
                    let number = i32::try_from(partition.partition).unwrap_or(i32::MAX);
                    if let Err(error) = self.fetched.take_partition(partition.topic.as_str(), number) {
                        tracing::error!(%partition, %error, "a partition has no queue");
                    }
                }
                self.pending = Some(Pending {
                    partitions,
                    retry_at: self.now(),
                });
            }
            Some(Code::RevokePartitions) => self.give_up(partitions),
            code => {
                tracing::warn!(?code, "a rebalance is not understood: all partitions are given up");
                let all = self.shared.lock().ledger.assignments();
                self.give_up(all.into_iter().map(|assigned| assigned.partition).collect());
            }
        }
    }

    /// Takes up what is pending, if its time has come and the broker tells where.
    pub(super) fn take_up(&mut self) {
        let Some(pending) = self.pending.take() else { return };
        if pending.retry_at > self.now() {
            self.pending = Some(pending);
            return;
        }
        match self.standings(&pending.partitions) {
            Ok(standings) => {
                if self.is_same(&pending.partitions) {
                    self.begin(standings);
                }
            }
            Err(error) => {
                self.shared
                    .stopped_reading(&format!("where the group stands is not known: {error}"));
                let retry_at = self.now() + RETRY_AFTER;
                self.pending = Some(Pending { retry_at, ..pending });
            }
        }
    }

    /// Begins to read at where the group stands.
    fn begin(&mut self, standings: Vec<Standing>) {
        let (start, policy) = (self.shared.options.start, self.shared.options.missing_position);
        let mut gaps = Vec::new();
        let mut assigned = Vec::with_capacity(standings.len());
        for Standing {
            partition,
            committed,
            extent,
        } in standings
        {
            let (frontier, is_new) = match start_of(committed, extent, start, policy) {
                Start::New(frontier) => (frontier, true),
                Start::At(frontier) => (frontier, false),
                Start::Beyond {
                    frontier,
                    expected,
                    missing,
                } => {
                    gaps.push(Gap {
                        partition: partition.clone(),
                        expected_position: expected,
                        resumed_position: frontier.next(),
                        missing_records: missing,
                    });
                    (frontier, true)
                }
                Start::Refused { expected, missing } => {
                    self.refuse(&partition, expected, missing, extent);
                    return;
                }
            };
            let mut inner = self.shared.lock();
            let generation = inner.ledger.assign(partition.clone(), frontier);
            if is_new {
                inner.ledger.require_commit(&partition);
            }
            inner.ledger.set_end(&partition, extent.end);
            let position = inner.ledger.read_position(&partition).unwrap_or(extent.first);
            drop(inner);
            assigned.push(Assignment {
                partition,
                generation,
                position,
            });
        }
        if let Err(error) = self.take(&assigned) {
            tracing::warn!(group = %self.shared.options.group, %error, "an assignment was not taken up");
            let mut inner = self.shared.lock();
            for assignment in &assigned {
                inner.ledger.revoke(&assignment.partition);
            }
            return;
        }
        for assignment in &assigned {
            self.progress
                .begin(&assignment.partition, assignment.position, self.now());
        }
        self.shared.reads();
        if !assigned.is_empty() {
            tracing::info!(group = %self.shared.options.group, partitions = assigned.len(), "partitions were assigned");
            self.shared.tell(ReadEvent::Assigned(assigned));
        }
        gaps.into_iter().for_each(|gap| self.tell_gap(gap));
    }

    /// Has librdkafka fetch; an assignment of nothing is to be answered as well.
    fn take(&mut self, assigned: &[Assignment]) -> Result<(), NativeError> {
        let mut list = PartitionList::new();
        for assignment in assigned {
            let offset = i64::try_from(assignment.position).unwrap_or(i64::MAX);
            list.add(
                assignment.partition.topic.as_str(),
                assignment.partition.partition,
                offset,
            )?;
        }
        group::take(&self.client, &list)?;
        self.resume_all(assigned.iter().map(|assignment| &assignment.partition));
        Ok(())
    }

    pub(super) fn tell_gap(&self, gap: Gap) {
        tracing::error!(
            group = %self.shared.options.group, partition = %gap.partition, expected = gap.expected_position,
            resumed = gap.resumed_position, missing = gap.missing_records, "records are missing"
        );
        self.shared.tell(ReadEvent::Gap(gap));
    }

    pub(super) fn refuse(&self, partition: &TopicPartition, expected: u64, missing: u64, extent: Extent) {
        let group = &self.shared.options.group;
        let message = format!(
            "group {group} stands at {expected} of {partition}, which holds {} to {}: {missing} records are missing. \
             Move the group, or let it go on with another missing_position policy",
            extent.first, extent.end
        );
        self.shared.fail(ReadErrorKind::PositionMissing, message);
    }

    /// Gives partitions up: ends their claims, commits, and tells the group.
    fn give_up(&mut self, partitions: Vec<TopicPartition>) {
        let lost = group::is_lost(&self.client);
        let last = self.end_claims(&partitions);
        if lost {
            self.shared
                .stopped_reading("the session was lost: others have the partitions");
        } else {
            let limit = LAST_COMMIT_LIMIT.min(self.shared.options.session_timeout / 3);
            self.commit_last(last, self.now() + limit);
        }
        if let Some(pending) = &mut self.pending {
            pending.partitions.retain(|partition| !partitions.contains(partition));
        }
        let given_up = list_at(&partitions, |_| NO_OFFSET).and_then(|list| group::give_up(&self.client, &list));
        if let Err(error) = given_up {
            tracing::warn!(group = %self.shared.options.group, %error, "partitions were not given up");
        }
        if !partitions.is_empty() {
            tracing::info!(group = %self.shared.options.group, lost, partitions = partitions.len(), "partitions were revoked");
            self.shared.tell(ReadEvent::Revoked(partitions));
        }
    }

    /// Ends the claims on partitions; returns what is to be committed of them.
    pub(super) fn end_claims(&mut self, partitions: &[TopicPartition]) -> Vec<PendingCommit> {
        let mut inner = self.shared.lock();
        let mut last = Vec::new();
        for partition in partitions {
            last.extend(inner.ledger.revoke(partition).filter(|pending| pending.changed));
            inner.drop_records(partition);
            self.progress.end(partition);
        }
        last
    }

    /// Commits, leaves the group and closes, until `deadline`.
    pub(super) fn leave(&mut self, deadline: Instant) -> Result<(), String> {
        let all: Vec<TopicPartition> = {
            let assignments = self.shared.lock().ledger.assignments();
            assignments.into_iter().map(|assigned| assigned.partition).collect()
        };
        let last = self.end_claims(&all);
        let committed = self.commit_last(last, deadline);
        self.pending = None;
        let left = group::begin_close(&self.control).map_err(|error| error.to_string());
        while left.is_ok() && !group::is_closed(&self.client) {
            if self.now() >= deadline {
                return Err("the group was not left in time: it notices when the session ends".to_owned());
            }
            let Some(event) = self.control.poll(Duration::from_millis(20)) else {
                continue;
            };
            if event.error_code() == Some(Code::RevokePartitions) {
                let _ = group::give_up(&self.client, &event.partitions());
            } else if event.error_code() == Some(Code::AssignPartitions) {
                let _ = group::take(&self.client, &PartitionList::new());
            }
        }
        left?;
        if committed {
            Ok(())
        } else {
            Err("what was settled last could not be committed in time".to_owned())
        }
    }

    /// A fault of one partition.
    pub(super) fn take_partition_fault(&mut self, partition: &TopicPartition, error: &NativeError) {
        match fault_of(error.code) {
            Fault::PositionGone => self.progress.mark_broken(partition),
            Fault::NotAuthorized => self.shared.stopped_reading(&format!("{partition}: {error}")),
            _ => tracing::debug!(%partition, %error, "a partition met a fault that may heal"),
        }
    }
}
