//! What one reader holds: its partitions, the records that it handed out, and
//! what became of them. The bookkeeping behind duties R2 to R5 of
//! [`Reader`](crate::Reader), the same for every adapter.
//!
//! Pure: no I/O, no clock, no lock. An adapter puts it behind a mutex with short
//! critical sections, feeds it what the broker says (`assign`, `observe`,
//! `revoke`), and stores what it asks to have stored (`dirty`,
//! `mark_committed`). How a frontier is stored is the adapter's business.
//!
//! What holds:
//! - A claim settles only under the generation that gave it; generations rise
//!   over the ledger's life and are never used twice.
//! - The frontier of a partition never passes a record that was observed and is
//!   not settled, nor a position that was not observed and is no hole.
//! - A record that this reader knows to be settled is not handed out again, also
//!   when the partition comes back after a lost session; unless the group's
//!   position was moved back meanwhile, which is an operator's wish to replay.
//! - Memory is bounded by the unsettled records (`has_room` is the reader's gate)
//!   and by the number of partitions that are remembered after a revocation.

mod partition;
mod remembered;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;

use meridian_event::Record;
use rustc_hash::FxHashMap;

use self::partition::PartitionLedger;
use self::remembered::Remembered;
use crate::error::SettleError;
use crate::frontier::Frontier;
use crate::name::TopicPartition;
use crate::read::{Assignment, Claim, PartitionPosition, ReadRecord};

/// What became of a record that the broker handed over.
#[derive(Debug)]
pub enum Observed {
    /// It is to be handed out under this claim.
    Claimed(ReadRecord),
    /// It is settled; it is not to be handed out.
    AlreadySettled,
    /// It is out under this generation, or waits as released; it is not to be
    /// handed out a second time.
    AlreadyClaimed,
    /// The partition is not this reader's.
    NotAssigned,
}

/// A frontier that is to be made durable, as of one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingCommit {
    /// The partition.
    pub partition: TopicPartition,
    /// Under which assignment.
    pub generation: u64,
    /// What is settled.
    pub frontier: Frontier,
    /// Whether anything changed since the last commit that was confirmed.
    pub changed: bool,
    version: u64,
}

/// The bookkeeping of one reader.
#[derive(Debug, Default)]
pub struct Ledger {
    partitions: FxHashMap<TopicPartition, PartitionLedger>,
    last_generation: u64,
    unsettled_records: usize,
    unsettled_bytes: usize,
    /// Partitions with released records, each once, in the order of their turn.
    released: VecDeque<TopicPartition>,
    remembered: Remembered,
}

impl Ledger {
    /// Nothing assigned.
    pub fn new() -> Self {
        Self::default()
    }

    /// Generations from now on are above `generation`: for an adapter whose
    /// generations rise over all its readers.
    pub fn raise_generation(&mut self, generation: u64) {
        self.last_generation = self.last_generation.max(generation);
    }

    /// Takes a partition up at what the broker says is settled, together with
    /// what this reader knows of an earlier assignment. Claims of an assignment
    /// that is still there end. Returns the new generation.
    pub fn assign(&mut self, partition: TopicPartition, frontier: Frontier) -> u64 {
        self.revoke(&partition);
        self.last_generation += 1;
        let generation = self.last_generation;
        let mut ledger = PartitionLedger::new(generation, frontier);
        if let Some(known) = self.remembered.recall(&partition, ledger.frontier().next()) {
            ledger.merge(&known);
        }
        self.partitions.insert(partition, ledger);
        generation
    }

    /// Gives a partition up: its claims end. Returns what is to be committed, if
    /// the broker still takes it; `None` when the partition was not assigned.
    pub fn revoke(&mut self, partition: &TopicPartition) -> Option<PendingCommit> {
        let ledger = self.partitions.remove(partition)?;
        self.unsettled_records -= ledger.unsettled_records();
        self.unsettled_bytes -= ledger.unsettled_bytes();
        self.released.retain(|waiting| waiting != partition);
        let pending = pending_commit(partition, &ledger);
        self.remembered
            .remember(partition.clone(), &pending, ledger.committed_next());
        Some(pending)
    }

    /// Forgets what was known of a partition after its revocation: its positions
    /// mean something else now, as after a topic was made anew.
    pub fn forget(&mut self, partition: &TopicPartition) {
        self.remembered.forget(partition);
    }

    /// Takes note of a record. Positions between the last one observed and this
    /// one hold no records (compaction, transaction markers) and are settled.
    /// The partition's records must be observed in order.
    pub fn observe(&mut self, partition: &TopicPartition, position: u64, record: Record) -> Observed {
        let Some(ledger) = self.partitions.get_mut(partition) else {
            return Observed::NotAssigned;
        };
        if ledger.frontier().is_settled(position) {
            ledger.advance_to(position.saturating_add(1));
            return Observed::AlreadySettled;
        }
        if position < ledger.read_position() {
            return Observed::AlreadyClaimed;
        }
        let size = record.size_bytes();
        let record = Arc::new(record);
        ledger.claim(position, size, Arc::clone(&record));
        self.unsettled_records += 1;
        self.unsettled_bytes += size;
        let claim = Claim {
            partition: partition.clone(),
            generation: ledger.generation(),
            position,
        };
        Observed::Claimed(ReadRecord {
            claim,
            record,
            size_bytes: size,
            releases: 0,
        })
    }

    /// The broker's reading position has come to `position` and there was no
    /// record between: the rest is holes. Does nothing if the partition is not
    /// assigned or is past it.
    pub fn advance_to(&mut self, partition: &TopicPartition, position: u64) {
        if let Some(ledger) = self.partitions.get_mut(partition) {
            ledger.advance_to(position);
        }
    }

    /// Everything before `position` is gone from the broker, and reading goes on
    /// there. Claims below it end as settled.
    pub fn skip_to(&mut self, partition: &TopicPartition, position: u64) {
        if let Some(ledger) = self.partitions.get_mut(partition) {
            let before = (ledger.unsettled_records(), ledger.unsettled_bytes());
            ledger.skip_to(position);
            self.unsettled_records -= before.0 - ledger.unsettled_records();
            self.unsettled_bytes -= before.1 - ledger.unsettled_bytes();
        }
    }

    /// The record is done.
    ///
    /// # Errors
    /// [`SettleError::Stale`] when the claim's generation is over,
    /// [`SettleError::NotClaimed`] when the record is settled already, waits to
    /// be handed out again, or never was handed out.
    pub fn settle(&mut self, claim: &Claim) -> Result<(), SettleError> {
        let size = self.current(claim)?.settle(claim.position)?;
        self.unsettled_records -= 1;
        self.unsettled_bytes -= size;
        Ok(())
    }

    /// The record is not done and waits to be handed out again.
    ///
    /// # Errors
    /// As [`Ledger::settle`].
    pub fn release(&mut self, claim: &Claim) -> Result<(), SettleError> {
        let is_first = self.current(claim)?.release(claim.position)?;
        if is_first {
            self.released.push_back(claim.partition.clone());
        }
        Ok(())
    }

    fn current(&mut self, claim: &Claim) -> Result<&mut PartitionLedger, SettleError> {
        match self.partitions.get_mut(&claim.partition) {
            Some(ledger) if ledger.generation() == claim.generation => Ok(ledger),
            Some(ledger) if ledger.generation() < claim.generation => Err(SettleError::NotClaimed),
            _ => Err(SettleError::Stale),
        }
    }

    /// Whether released records wait; they come before anything unread.
    pub fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// Up to `max` released records, in order within each partition, under
    /// claims again. Partitions take turns.
    pub fn take_released(&mut self, max: usize) -> Vec<ReadRecord> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(partition) = self.released.pop_front()
        {
            let Some(ledger) = self.partitions.get_mut(&partition) else {
                continue;
            };
            let generation = ledger.generation();
            for (position, released) in ledger.take_released(max - taken.len()) {
                let claim = Claim {
                    partition: partition.clone(),
                    generation,
                    position,
                };
                taken.push(ReadRecord {
                    claim,
                    record: released.record,
                    size_bytes: released.size,
                    releases: released.releases,
                });
            }
            if ledger.has_released() {
                self.released.push_back(partition);
            }
        }
        taken
    }

    /// Records that were observed and are not settled, released ones included.
    pub fn unsettled_records(&self) -> usize {
        self.unsettled_records
    }

    /// Their bytes.
    pub fn unsettled_bytes(&self) -> usize {
        self.unsettled_bytes
    }

    /// Whether another record may be fetched under these limits.
    pub fn has_room(&self, max_records: usize, max_bytes: usize) -> bool {
        self.unsettled_records < max_records && self.unsettled_bytes < max_bytes
    }

    /// The partitions whose frontier moved since the last confirmed commit.
    pub fn dirty(&self) -> Vec<PendingCommit> {
        let changed = self.partitions.iter().filter(|(_, ledger)| ledger.is_dirty());
        changed
            .map(|(partition, ledger)| pending_commit(partition, ledger))
            .collect()
    }

    /// Whether anything waits to be committed.
    pub fn is_dirty(&self) -> bool {
        self.partitions.values().any(PartitionLedger::is_dirty)
    }

    /// The broker has stored this. Of no effect under another generation, but for
    /// what is remembered of a revoked one.
    pub fn mark_committed(&mut self, commit: &PendingCommit) {
        match self.partitions.get_mut(&commit.partition) {
            Some(ledger) if ledger.generation() == commit.generation => {
                ledger.mark_committed(commit.version, commit.frontier.next());
            }
            Some(_) => {}
            None => self.remembered.mark_committed(commit),
        }
    }

    /// Makes a partition count as changed, so that the next commit names it: the
    /// position at which a new group begins has to be stored as well.
    pub fn require_commit(&mut self, partition: &TopicPartition) {
        if let Some(ledger) = self.partitions.get_mut(partition) {
            ledger.require_commit();
        }
    }

    /// Takes note of the position that the partition's next record will get.
    pub fn set_end(&mut self, partition: &TopicPartition, end_position: u64) {
        if let Some(ledger) = self.partitions.get_mut(partition) {
            ledger.set_end(end_position);
        }
    }

    /// Where the group stands in each partition, by name.
    pub fn positions(&self) -> Vec<PartitionPosition> {
        let mut positions: Vec<_> = self
            .partitions
            .iter()
            .map(|(partition, ledger)| PartitionPosition {
                partition: partition.clone(),
                settled_position: ledger.frontier().next(),
                settled_beyond: ledger.frontier().settled_beyond(),
                end_position: ledger.end_position(),
            })
            .collect();
        positions.sort_by(|left, right| left.partition.cmp(&right.partition));
        positions
    }

    /// What is assigned, by name; each with the position that is read next.
    pub fn assignments(&self) -> Vec<Assignment> {
        let mut assignments: Vec<_> = self
            .partitions
            .iter()
            .map(|(partition, ledger)| Assignment {
                partition: partition.clone(),
                generation: ledger.generation(),
                position: ledger.read_position(),
            })
            .collect();
        assignments.sort_by(|left, right| left.partition.cmp(&right.partition));
        assignments
    }

    /// Whether the partition is this reader's.
    pub fn is_assigned(&self, partition: &TopicPartition) -> bool {
        self.partitions.contains_key(partition)
    }

    /// The position that is read next in a partition.
    pub fn read_position(&self, partition: &TopicPartition) -> Option<u64> {
        self.partitions.get(partition).map(PartitionLedger::read_position)
    }

    /// What is settled in a partition.
    pub fn frontier(&self, partition: &TopicPartition) -> Option<&Frontier> {
        self.partitions.get(partition).map(PartitionLedger::frontier)
    }
}

fn pending_commit(partition: &TopicPartition, ledger: &PartitionLedger) -> PendingCommit {
    PendingCommit {
        partition: partition.clone(),
        generation: ledger.generation(),
        frontier: ledger.frontier().clone(),
        changed: ledger.is_dirty(),
        version: ledger.version(),
    }
}
