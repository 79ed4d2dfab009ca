//! One assigned partition of a [`Ledger`](super::Ledger): the records between the
//! first unsettled one and the last one observed.
//!
//! The entries lie in a queue in order of position. Where positions have no
//! holes, the entry of a position is found by subtraction; otherwise by binary
//! search. Settled entries leave at the front, or all at once when they are the
//! majority, so that one record that never settles does not keep the rest.
//!
//! What holds: entries rise in position; every entry that is not settled is not
//! settled in the frontier either; the two counters are the sums over those.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use meridian_event::Record;

use crate::error::SettleError;
use crate::frontier::Frontier;

/// Below this many entries a sweep is not worth its while.
const SWEEP_MIN_ENTRIES: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Out,
    Released,
    Settled,
}

#[derive(Debug)]
struct Entry {
    position: u64,
    state: State,
    releases: u32,
    size: usize,
    /// Kept until it is settled, to be handed out again after a release.
    record: Option<Arc<Record>>,
}

/// A record that is handed out again.
#[derive(Debug)]
pub(super) struct Again {
    pub(super) record: Arc<Record>,
    pub(super) size: usize,
    pub(super) releases: u32,
}

#[derive(Debug)]
pub(super) struct PartitionLedger {
    generation: u64,
    frontier: Frontier,
    /// The position that is read next; all before it were observed or are holes.
    read_position: u64,
    end_position: u64,
    entries: VecDeque<Entry>,
    settled_entries: usize,
    released: BTreeSet<u64>,
    unsettled_records: usize,
    unsettled_bytes: usize,
    /// Rises with every change of the frontier.
    version: u64,
    committed_version: u64,
    committed_next: u64,
}

impl PartitionLedger {
    pub(super) fn new(generation: u64, frontier: Frontier) -> Self {
        Self {
            generation,
            read_position: frontier.next(),
            end_position: frontier.settled_end(),
            committed_next: frontier.next(),
            frontier,
            entries: VecDeque::new(),
            settled_entries: 0,
            released: BTreeSet::new(),
            unsettled_records: 0,
            unsettled_bytes: 0,
            version: 0,
            committed_version: 0,
        }
    }

    /// Takes in what is known of an earlier assignment, before anything is read.
    pub(super) fn merge(&mut self, known: &Frontier) {
        let before = self.frontier.clone();
        self.frontier.merge(known);
        if self.frontier != before {
            self.version += 1;
        }
        self.read_position = self.frontier.next();
        self.end_position = self.end_position.max(self.frontier.settled_end());
    }

    pub(super) fn claim(&mut self, position: u64, size: usize, record: Arc<Record>) {
        self.advance_to(position);
        self.read_position = position + 1; // not settled, hence below u64::MAX
        self.end_position = self.end_position.max(self.read_position);
        self.unsettled_records += 1;
        self.unsettled_bytes += size;
        self.entries.push_back(Entry {
            position,
            state: State::Out,
            releases: 0,
            size,
            record: Some(record),
        });
    }

    /// Nothing lies between the read position and `position`.
    pub(super) fn advance_to(&mut self, position: u64) {
        if position <= self.read_position {
            return;
        }
        if self.frontier.settle_range(self.read_position..position) > 0 {
            self.version += 1;
        }
        self.read_position = position;
        self.end_position = self.end_position.max(position);
    }

    /// Settles the record; returns its size.
    pub(super) fn settle(&mut self, position: u64) -> Result<usize, SettleError> {
        let index = self.find_out(position)?;
        let entry = &mut self.entries[index];
        let size = entry.size;
        entry.state = State::Settled;
        entry.record = None;
        self.frontier.settle(position);
        self.version += 1;
        self.unsettled_records -= 1;
        self.unsettled_bytes -= size;
        self.settled_entries += 1;
        self.sweep();
        Ok(size)
    }

    /// True when this is the only released record now.
    pub(super) fn release(&mut self, position: u64) -> Result<bool, SettleError> {
        let index = self.find_out(position)?;
        let entry = &mut self.entries[index];
        entry.state = State::Released;
        entry.releases = entry.releases.saturating_add(1);
        let is_first = self.released.is_empty();
        self.released.insert(position);
        Ok(is_first)
    }

    /// The oldest released records, which are out again.
    pub(super) fn take_released(&mut self, max: usize) -> Vec<(u64, Again)> {
        let mut taken = Vec::with_capacity(max.min(self.released.len()));
        while taken.len() < max
            && let Some(position) = self.released.pop_first()
        {
            let Some(index) = self.find(position) else {
                continue;
            };
            let entry = &mut self.entries[index];
            entry.state = State::Out;
            if let Some(record) = entry.record.clone() {
                let again = Again {
                    record,
                    size: entry.size,
                    releases: entry.releases,
                };
                taken.push((position, again));
            }
        }
        taken
    }

    /// Everything before `position` is gone.
    pub(super) fn skip_to(&mut self, position: u64) {
        while let Some(entry) = self.entries.front()
            && entry.position < position
        {
            if entry.state == State::Settled {
                self.settled_entries -= 1;
            } else {
                self.unsettled_records -= 1;
                self.unsettled_bytes -= entry.size;
            }
            self.entries.pop_front();
        }
        self.released = self.released.split_off(&position);
        if position > self.frontier.next() {
            self.frontier.skip_to(position);
            self.version += 1;
        }
        self.read_position = self.read_position.max(position);
        self.end_position = self.end_position.max(position);
    }

    fn find(&self, position: u64) -> Option<usize> {
        let first = self.entries.front()?.position;
        let guess = usize::try_from(position.checked_sub(first)?).ok()?;
        if self.entries.get(guess).is_some_and(|entry| entry.position == position) {
            return Some(guess);
        }
        self.entries
            .binary_search_by_key(&position, |entry| entry.position)
            .ok()
    }

    fn find_out(&self, position: u64) -> Result<usize, SettleError> {
        self.find(position)
            .filter(|index| self.entries[*index].state == State::Out)
            .ok_or(SettleError::NotClaimed)
    }

    fn sweep(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.state == State::Settled) {
            self.entries.pop_front();
            self.settled_entries -= 1;
        }
        if self.entries.len() >= SWEEP_MIN_ENTRIES && self.settled_entries > self.entries.len() / 2 {
            // Costs as much as the settlements since the last sweep, so it is free on average.
            self.entries.retain(|entry| entry.state != State::Settled);
            self.settled_entries = 0;
        }
    }

    pub(super) fn mark_committed(&mut self, version: u64, next: u64) {
        self.committed_version = self.committed_version.max(version);
        self.committed_next = self.committed_next.max(next);
    }

    pub(super) fn require_commit(&mut self) {
        self.version += 1;
    }

    pub(super) fn set_end(&mut self, end_position: u64) {
        self.end_position = end_position.max(self.read_position);
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    pub(super) fn read_position(&self) -> u64 {
        self.read_position
    }

    pub(super) fn end_position(&self) -> u64 {
        self.end_position
    }

    pub(super) fn committed_next(&self) -> u64 {
        self.committed_next
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.version > self.committed_version
    }

    pub(super) fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    pub(super) fn unsettled_records(&self) -> usize {
        self.unsettled_records
    }

    pub(super) fn unsettled_bytes(&self) -> usize {
        self.unsettled_bytes
    }

    #[cfg(test)]
    pub(super) fn entry_count(&self) -> usize {
        self.entries.len()
    }
}
