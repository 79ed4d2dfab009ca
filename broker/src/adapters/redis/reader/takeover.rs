//! Taking a shard up where the group stands, looking after it, and giving it up.
//!
//! What holds: nothing is handed out before the ownership is taken and what is missing
//! is told; with the policy to fail nothing is changed, so that the next reader finds
//! the same; claims end before the last settlements are told and the owner's key goes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::entry::EntryId;
use super::super::error::Fault;
use super::super::script::{GIVE_UP, MOVE_GROUP};
use super::super::session::{Session, word};
use super::member::Member;
use super::settling::tell;
use super::shard::{Fetched, Missing, Mode, Shard, Standing};
use crate::error::ReadErrorKind;
use crate::frontier::Frontier;
use crate::name::TopicPartition;
use crate::read::{Assignment, Gap, MissingPositionPolicy, ReadEvent};

/// The longest that giving a shard up waits for its last settlements.
const LAST_SETTLING_LIMIT: Duration = Duration::from_secs(3);

impl Member {
    /// Takes a shard up; false when another owns it still.
    pub(super) async fn take_up(&mut self, session: &Session, partition: &TopicPartition) -> Result<bool, Fault> {
        let sent = self.now();
        let (name, number) = (&partition.topic, partition.partition);
        let standing = self.stand(session, name, number, "take", self.start()).await?;
        if standing.owner != self.shared.member {
            return Ok(false);
        }
        if !standing.is_there {
            return Err(Fault::lost(super::super::topics::missing(name)));
        }
        let options = &self.shared.options;
        let keys = &self.shared.core.keys;
        let (stream, owner) = (keys.stream(name, number), keys.owner(name, number, &options.group));
        let lease_until = sent + options.session_timeout;
        let mut shard = Shard::new(stream, owner, &standing, lease_until);
        let mut frontier = Frontier::new(standing.lowest());
        let mut gap = None;
        match standing.missing(options.missing_position) {
            Missing::Nothing => {}
            Missing::Refused { expected, count } => {
                self.refuse(partition, expected, count, &standing);
                let arguments = vec![word(&self.shared.member), word(options.group.as_str())];
                GIVE_UP.run(session, &[&shard.stream, &shard.owner], arguments).await?;
                return Ok(true);
            }
            Missing::Beyond {
                frontier: beyond,
                expected,
                count,
            } => {
                let resumed = beyond.next();
                if resumed > standing.delivered.next_position() || standing.delivered > standing.last {
                    let id = match standing.first {
                        Some(first) if resumed < standing.end() => EntryId::before(first.epoch, resumed),
                        _ => standing.last,
                    };
                    let arguments = vec![word(&self.shared.member), word(options.group.as_str()), id.value()];
                    MOVE_GROUP
                        .run(session, &[&shard.stream, &shard.owner], arguments)
                        .await?;
                    shard.oldest_epoch = id.epoch;
                }
                shard.next = resumed;
                frontier = beyond;
                gap = Some(Gap {
                    partition: partition.clone(),
                    expected_position: expected,
                    resumed_position: resumed,
                    missing_records: count,
                });
            }
        }
        if shard.mode != Mode::New {
            // What is pending is claimed first; then comes what was not delivered.
            shard.oldest_epoch = standing
                .lowest_pending
                .map_or(shard.oldest_epoch, |lowest| lowest.epoch);
            shard.next = shard.next.max(standing.delivered.next_position());
        }
        let mut inner = self.shared.lock();
        let generation = inner.ledger.assign(partition.clone(), frontier);
        inner.ledger.set_end(partition, standing.end());
        let position = inner.ledger.read_position(partition).unwrap_or_default();
        drop(inner);
        self.held.insert(partition.clone(), shard);
        tracing::info!(group = %self.shared.options.group, %partition, position, "a shard was taken up");
        self.shared.tell(ReadEvent::Assigned(vec![Assignment {
            partition: partition.clone(),
            generation,
            position,
        }]));
        if let Some(gap) = gap {
            self.shared.log_gap(&gap);
            self.shared.tell(ReadEvent::Gap(gap));
        }
        Ok(true)
    }

    fn refuse(&self, partition: &TopicPartition, expected: u64, count: u64, standing: &Standing) {
        let group = &self.shared.options.group;
        let message = format!(
            "group {group} stands at {expected} of {partition}, which holds {} to {}: {count} records are missing. \
             Move the group, or let it go on with another missing_position policy",
            standing.first_position(),
            standing.end()
        );
        self.shared.fail(ReadErrorKind::PositionMissing, message);
    }

    /// What became of a shard that is held, from an answer to what was `sent`.
    pub(super) fn look_at(&mut self, partition: &TopicPartition, standing: &Standing, sent: Instant) {
        let Some(shard) = self.held.get_mut(partition) else {
            return;
        };
        if standing.owner != self.shared.member {
            return self.lose(std::slice::from_ref(partition));
        }
        shard.lease_until = sent + self.shared.options.session_timeout;
        if !standing.is_there {
            return; // the next look at the topic tells
        }
        if !standing.has_group {
            self.without_group.insert(partition.clone());
            self.next_tick = self.shared.core.clock.now();
            return;
        }
        let (read, unsettled) = {
            let mut inner = self.shared.lock();
            inner.ledger.set_end(partition, standing.end());
            let read = inner.ledger.read_position(partition).unwrap_or_default();
            let settled = inner.ledger.frontier(partition);
            let settled = settled.map_or(0, |frontier| frontier.next() + frontier.settled_beyond());
            (read, read.saturating_sub(settled))
        };
        let policy = self.shared.options.missing_position;
        let (first, end) = (standing.first_position(), standing.end());
        if end < shard.next {
            // Only a Redis that went back to an older state has less than was read.
            let gap = Gap {
                partition: partition.clone(),
                expected_position: shard.next,
                resumed_position: end,
                missing_records: shard.next - end,
            };
            let (expected, count) = (gap.expected_position, gap.missing_records);
            if policy == MissingPositionPolicy::Fail {
                return self.refuse(partition, expected, count, standing);
            }
            self.shared.log_gap(&gap);
            self.lose(std::slice::from_ref(partition));
            self.shared.lock().ledger.forget(partition);
            self.shared.tell(ReadEvent::Gap(gap));
        } else if shard.mode == Mode::New && first > shard.next {
            let (expected, count) = (shard.next, first - shard.next);
            if policy == MissingPositionPolicy::Fail {
                return self.refuse(partition, expected, count, standing);
            }
            shard.backlog.push_back(Fetched::Gap(Gap {
                partition: partition.clone(),
                expected_position: expected,
                resumed_position: first,
                missing_records: count,
            }));
            shard.next = first;
        } else if shard.mode == Mode::New
            && shard.next >= read
            && standing.pending < unsettled + shard.waiting_records()
        {
            // Between two turns of this task nothing is read: what is not settled is pending, and more may be.
            self.without_pending.insert(partition.clone());
            self.next_tick = self.shared.core.clock.now();
        }
    }

    /// Gives shards up in order: ends their claims, tells what is settled, lets others have them.
    pub(super) async fn give_up(&mut self, session: &Arc<Session>, partitions: &[TopicPartition]) {
        if partitions.is_empty() {
            return;
        }
        let limit = LAST_SETTLING_LIMIT.min(self.shared.options.session_timeout / 3);
        let mut gone = Vec::new();
        for partition in partitions {
            let Some(shard) = self.held.remove(partition) else {
                continue;
            };
            let (last, settled) = {
                let mut inner = self.shared.lock();
                let last = inner.ledger.revoke(partition);
                inner.drop_records(partition);
                (last, inner.take_settled_of(partition))
            };
            let group = &self.shared.options.group;
            let leaving = async {
                tell(session, &self.shared, &shard, &settled).await?;
                let arguments = vec![word(&self.shared.member), word(group.as_str())];
                GIVE_UP.run(session, &[&shard.stream, &shard.owner], arguments).await
            };
            match tokio::time::timeout(limit, leaving).await {
                Ok(Ok(_)) => {
                    if let Some(last) = last {
                        self.shared.lock().ledger.mark_committed(&last);
                    }
                }
                Ok(Err(fault)) => tracing::warn!(%group, %partition, %fault, "a shard was not given up in order"),
                Err(_) => tracing::warn!(%group, %partition, "a shard was not given up in time"),
            }
            gone.push(partition.clone());
        }
        tracing::info!(group = %self.shared.options.group, partitions = gone.len(), "shards were given up");
        self.shared.tell(ReadEvent::Revoked(gone));
    }

    /// Gives all up without telling anything more, so that others need not wait.
    pub(super) async fn give_up_all(&mut self) {
        let shards = std::mem::take(&mut self.held);
        let Some(session) = self.shared.core.control.session() else {
            return;
        };
        let leaving = async {
            for shard in shards.values() {
                let arguments = vec![word(&self.shared.member), word(self.shared.options.group.as_str())];
                GIVE_UP.run(&session, &[&shard.stream, &shard.owner], arguments).await?;
            }
            self.show_life(&session, true).await
        };
        let limit = self.shared.options.session_timeout / 3;
        if !matches!(tokio::time::timeout(limit, leaving).await, Ok(Ok(_))) {
            tracing::debug!("a group was not left in order; its session ends by itself");
        }
    }

    /// The reader is gone: its claims are over already.
    pub(super) async fn vanish(mut self) {
        self.give_up_all().await;
        self.shared.lock().left = Some(Err("the reader was dropped".to_owned()));
        self.shared.finished.notify_waiters();
    }

    /// Tells what is settled, leaves the group and ends, until `deadline`.
    pub(super) async fn leave(mut self, deadline: Instant) {
        let result = tokio::time::timeout_at(deadline.into(), self.leave_in_order()).await;
        let result = result.unwrap_or_else(|_| Err("what was settled last could not be told in time".to_owned()));
        let mut inner = self.shared.lock();
        for partition in self.held.keys() {
            inner.ledger.revoke(partition);
        }
        inner.outbox.clear();
        inner.left = Some(result);
        drop(inner);
        self.shared.finished.notify_waiters();
    }

    /// Ends all claims, tells what is settled, and lets others have the shards.
    pub(super) async fn leave_in_order(&mut self) -> Result<(), String> {
        // No claim is alive while what is settled is told for the last time.
        let mut last = Vec::new();
        {
            let mut inner = self.shared.lock();
            for partition in self.held.keys() {
                inner.ledger.revoke(partition);
                inner.drop_records(partition);
                last.push((partition.clone(), inner.take_settled_of(partition)));
            }
        }
        let is_clean = last.iter().all(|(_, settled)| settled.is_empty());
        let Some(session) = self.shared.core.control.session() else {
            return if is_clean {
                Ok(())
            } else {
                Err("what was settled last could not be told: there is no connection to Redis".to_owned())
            };
        };
        for (partition, settled) in last {
            if let Some(shard) = self.held.get(&partition) {
                tell(&session, &self.shared, shard, &settled)
                    .await
                    .map_err(|fault| fault.to_string())?;
            }
        }
        self.give_up_all().await;
        Ok(())
    }
}
