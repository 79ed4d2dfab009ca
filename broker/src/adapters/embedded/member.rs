//! One member of a group: what it holds, and what its reader is to be told.
//! Shared by the reader, its settler and the coordination of its group.
//!
//! What holds: the lock is held for short, without I/O, and never while the
//! groups' lock is asked for; events of a partition are told before records of
//! it under the generation that they speak of.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::Notify;
use uuid::Uuid;

use super::block::{BlockError, BlockReader};
use super::log::{Found, Partition};
use crate::error::{ReadError, ReadErrorKind};
use crate::ledger::{Ledger, Observed};
use crate::name::TopicPartition;
use crate::read::{Gap, MissingPositionPolicy, ReadEvent, ReadRecord, ReaderOptions};

/// Records that one event has at most.
const MAX_EVENT_RECORDS: usize = 1024;
/// Events that wait to be told; more are told as one change.
const MAX_EVENTS: usize = 64;

/// A member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) id: u64,
    pub(super) options: ReaderOptions,
    /// Its topics that were there when it was opened, each with the ends of its
    /// partitions.
    pub(super) opened_at: Vec<(Uuid, Vec<u64>)>,
    pub(super) opened: SystemTime,
    pub(super) wake: Arc<Notify>,
    pub(super) state: Mutex<MemberState>,
}

/// An assigned partition, and how far its records were read ahead.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) partition: Arc<Partition>,
    pub(super) generation: u64,
    /// What is settled beyond the frontier nearly fills what can be stored of it.
    pub(super) is_metadata_full: bool,
    reader: Option<BlockReader>,
    read_ahead: VecDeque<Bytes>,
}

/// A fault that ends reading.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) kind: ReadErrorKind,
    pub(super) message: String,
}

#[derive(Debug, Default)]
pub(super) struct MemberState {
    pub(super) ledger: Ledger,
    pub(super) assigned: BTreeMap<TopicPartition, Assigned>,
    pub(super) events: VecDeque<ReadEvent>,
    pub(super) fault: Option<Fault>,
    pub(super) has_left: bool,
    /// `next` waits for room; a settlement is to wake it.
    pub(super) waits_for_room: bool,
    /// Whose turn it is.
    last_read: Option<TopicPartition>,
}

/// Blocks to be read from the store.
#[derive(Debug)]
pub(super) struct ColdRead {
    pub(super) partition: Arc<Partition>,
    pub(super) generation: u64,
    pub(super) position: u64,
    pub(super) end_position: u64,
}

/// What `next` is to do.
#[derive(Debug)]
pub(super) enum Step {
    Tell(ReadEvent),
    Fail(Fault),
    Read(ColdRead),
    Wait,
}

impl Fault {
    pub(super) fn closed() -> Self {
        let message = "the reader or its broker is closed; open another".to_owned();
        Self {
            kind: ReadErrorKind::Closed,
            message,
        }
    }

    pub(super) fn error(self) -> ReadError {
        ReadError::new(self.kind, self.message)
    }
}

/// What a group does whose position is gone: where it goes on, or a fault.
pub(super) fn missing_position(
    options: &ReaderOptions,
    partition: &Partition,
    expected_position: u64,
    settled: impl Iterator<Item = std::ops::Range<u64>>,
) -> Result<Gap, Fault> {
    let row = partition.row();
    let resumed_position = match options.missing_position {
        MissingPositionPolicy::Earliest => row.start,
        MissingPositionPolicy::Latest => row.end,
        MissingPositionPolicy::Fail => {
            let message = format!(
                "group {} stands at position {expected_position} of {}, and the log starts at {}: retention took the \
                 records between; let the group go on at the earliest or latest record, and keep records longer",
                options.group, partition.name, row.start
            );
            return Err(Fault {
                kind: ReadErrorKind::PositionMissing,
                message,
            });
        }
    };
    let overlap = |range: std::ops::Range<u64>| range.end.min(resumed_position).saturating_sub(range.start);
    let settled: u64 = settled.map(overlap).sum();
    Ok(Gap {
        partition: partition.name.clone(),
        expected_position,
        resumed_position,
        missing_records: resumed_position
            .saturating_sub(expected_position)
            .saturating_sub(settled),
    })
}

impl Assigned {
    pub(super) fn new(partition: Arc<Partition>, generation: u64) -> Self {
        Self {
            partition,
            generation,
            is_metadata_full: false,
            reader: None,
            read_ahead: VecDeque::new(),
        }
    }

    /// The next block at `position`, from what was read ahead or the log's tail.
    fn next_block(&mut self, position: u64) -> Result<Found, BlockError> {
        while let Some(block) = self.read_ahead.pop_front() {
            let mut reader = BlockReader::new(block)?;
            reader.seek(position)?;
            if reader.next_position() == position && !reader.is_done() {
                return Ok(Found::Block(reader));
            }
        }
        self.partition.find(position)
    }
}

impl MemberState {
    /// Has an event told before anything else.
    pub(super) fn tell(&mut self, event: ReadEvent) {
        match (self.events.back_mut(), event) {
            (Some(ReadEvent::Assigned(before)), ReadEvent::Assigned(more)) => before.extend(more),
            (Some(ReadEvent::Revoked(before)), ReadEvent::Revoked(more)) => before.extend(more),
            (_, event) => self.events.push_back(event),
        }
        if self.events.len() > MAX_EVENTS {
            self.condense();
        }
    }

    /// Many changes become one: all is revoked, and what there is is assigned.
    fn condense(&mut self) {
        let mut revoked = HashSet::new();
        let mut gaps = Vec::new();
        for event in self.events.drain(..) {
            match event {
                ReadEvent::Revoked(partitions) => revoked.extend(partitions),
                ReadEvent::Gap(gap) => gaps.push(ReadEvent::Gap(gap)),
                ReadEvent::Assigned(_) | ReadEvent::Records(_) => {}
            }
        }
        revoked.extend(self.assigned.keys().cloned());
        self.events.push_back(ReadEvent::Revoked(revoked.into_iter().collect()));
        self.events.push_back(ReadEvent::Assigned(self.ledger.assignments()));
        self.events.extend(gaps.into_iter().take(MAX_EVENTS / 2));
    }

    /// Takes in blocks that were read from the store, if they are still wanted.
    pub(super) fn take_in(&mut self, read: &ColdRead, blocks: Vec<Bytes>) {
        if let Some(assigned) = self.assigned.get_mut(&read.partition.name)
            && assigned.generation == read.generation
            && assigned.reader.is_none()
        {
            assigned.read_ahead = blocks.into();
        }
    }

    /// What comes next for a reader with these options.
    pub(super) fn step(&mut self, options: &ReaderOptions) -> Step {
        self.waits_for_room = false;
        if let Some(event) = self.events.pop_front() {
            return Step::Tell(event);
        }
        if let Some(fault) = &self.fault {
            return Step::Fail(fault.clone());
        }
        if self.has_left {
            return Step::Fail(Fault::closed());
        }
        let released = self.ledger.take_released(MAX_EVENT_RECORDS);
        if !released.is_empty() {
            return Step::Tell(ReadEvent::Records(released));
        }
        if !self
            .ledger
            .has_room(options.max_unsettled_records, options.max_unsettled_bytes)
        {
            self.waits_for_room = true;
            return Step::Wait;
        }
        self.read(options)
    }

    /// Records of the partitions, beginning with the one after the last.
    fn read(&mut self, options: &ReaderOptions) -> Step {
        let mut records = Vec::new();
        let mut cold = None;
        let mut turns: Vec<TopicPartition> = self.assigned.keys().cloned().collect();
        let after = |last: &TopicPartition| turns.partition_point(|partition| partition <= last);
        let first = self.last_read.as_ref().map_or(0, after);
        turns.rotate_left(first);
        for partition in turns {
            match self.read_partition(&partition, options, &mut records) {
                Ok(None) => {}
                Ok(Some(read)) => cold = cold.or(Some(read)),
                Err(fault) => {
                    self.fault = Some(fault);
                    break;
                }
            }
            if records.len() >= MAX_EVENT_RECORDS {
                self.last_read = Some(partition);
                break;
            }
        }
        if !records.is_empty() {
            return Step::Tell(ReadEvent::Records(records));
        }
        match (self.events.pop_front(), &self.fault, cold) {
            (Some(event), _, _) => Step::Tell(event),
            (None, Some(fault), _) => Step::Fail(fault.clone()),
            (None, None, Some(read)) => {
                self.last_read = Some(read.partition.name.clone());
                Step::Read(read)
            }
            (None, None, None) => Step::Wait,
        }
    }

    /// Reads one partition as far as there is room and memory has it.
    fn read_partition(
        &mut self,
        name: &TopicPartition,
        options: &ReaderOptions,
        records: &mut Vec<ReadRecord>,
    ) -> Result<Option<ColdRead>, Fault> {
        let Some(assigned) = self
            .assigned
            .get_mut(name)
            .filter(|assigned| !assigned.is_metadata_full)
        else {
            return Ok(None);
        };
        while records.len() < MAX_EVENT_RECORDS
            && self
                .ledger
                .has_room(options.max_unsettled_records, options.max_unsettled_bytes)
        {
            let next = match &mut assigned.reader {
                Some(reader) => reader.next().map_err(|error| damaged(name, error))?,
                None => None,
            };
            if let Some((position, record)) = next {
                if let Observed::Claimed(record) = self.ledger.observe(name, position, record) {
                    records.push(record);
                }
                continue;
            }
            assigned.reader = None;
            let position = self.ledger.read_position(name).unwrap_or_default();
            match assigned.next_block(position).map_err(|error| damaged(name, error))? {
                Found::Block(reader) => assigned.reader = Some(reader),
                Found::AtEnd => break,
                Found::OnDisk { end_position } => {
                    let (partition, generation) = (Arc::clone(&assigned.partition), assigned.generation);
                    return Ok(Some(ColdRead {
                        partition,
                        generation,
                        position,
                        end_position,
                    }));
                }
                Found::Gone => {
                    let beyond = self
                        .ledger
                        .frontier(name)
                        .into_iter()
                        .flat_map(|frontier| frontier.ranges());
                    let beyond = beyond.filter(|range| range.start >= position);
                    let gap = missing_position(options, &assigned.partition, position, beyond)?;
                    self.ledger.skip_to(name, gap.resumed_position);
                    self.events.push_back(ReadEvent::Gap(gap));
                    break;
                }
            }
        }
        Ok(None)
    }
}

fn damaged(name: &TopicPartition, error: BlockError) -> Fault {
    let message = format!("partition {name} is damaged: {error}; restore the broker's folder from a backup");
    Fault {
        kind: ReadErrorKind::StorageDamaged,
        message,
    }
}
