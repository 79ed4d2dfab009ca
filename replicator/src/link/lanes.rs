//! The lines of all partitions that a reader has, and the batches taken from them.
//!
//! What holds: lines take turns, so that no partition keeps the others waiting;
//! a line of an assignment that is over is forgotten, with what becomes of its
//! records.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use meridian_broker::{AppendRecord, TopicName, TopicPartition};

use super::lag::Times;
use crate::line::Line;

/// Names a lane, for as long as the session lasts.
pub(crate) type LaneId = u64;

/// A record on its way: whose it is, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) lane: LaneId,
    pub(crate) number: u64,
}

/// One partition of the source, and where its records go.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) line: Line,
    pub(crate) source: TopicPartition,
    pub(crate) target: TopicName,
    pub(crate) target_partition: Option<u32>,
    pub(crate) generation: u64,
    pub(crate) last_ms: Option<i64>,
    has_turn: bool,
}

impl Lane {
    pub(crate) fn new(
        line: Line,
        source: TopicPartition,
        target: TopicName,
        target_partition: Option<u32>,
        generation: u64,
    ) -> Self {
        Self {
            line,
            source,
            target,
            target_partition,
            generation,
            last_ms: None,
            has_turn: false,
        }
    }
}

/// All lanes of a session.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    by_id: HashMap<LaneId, Lane>,
    ids: HashMap<TopicPartition, LaneId>,
    next_id: LaneId,
    turns: VecDeque<LaneId>,
}

impl Lanes {
    /// Adds the lane of a partition, in place of the one that it had.
    pub(crate) fn insert(&mut self, lane: Lane) -> LaneId {
        let id = self.next_id;
        self.next_id += 1;
        if let Some(old) = self.ids.insert(lane.source.clone(), id) {
            self.by_id.remove(&old);
        }
        self.by_id.insert(id, lane);
        id
    }

    /// The partition is somebody else's.
    pub(crate) fn remove(&mut self, partition: &TopicPartition) {
        if let Some(id) = self.ids.remove(partition) {
            self.by_id.remove(&id);
        }
    }

    /// The lane of an assignment.
    pub(crate) fn find(&self, partition: &TopicPartition, generation: u64) -> Option<LaneId> {
        let id = *self.ids.get(partition)?;
        self.by_id
            .get(&id)
            .filter(|lane| lane.generation == generation)
            .map(|_| id)
    }

    pub(crate) fn get(&self, id: LaneId) -> Option<&Lane> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: LaneId) -> Option<&mut Lane> {
        self.by_id.get_mut(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Lane> {
        self.by_id.values()
    }

    /// The lane may have something to send.
    pub(crate) fn give_turn(&mut self, id: LaneId) {
        if let Some(lane) = self.by_id.get_mut(&id)
            && !std::mem::replace(&mut lane.has_turn, true)
        {
            self.turns.push_back(id);
        }
    }

    /// Ends waits that are over, and gives turns to those who waited.
    pub(crate) fn tick(&mut self, now: Instant) {
        let ids: Vec<LaneId> = self.by_id.keys().copied().collect();
        for id in ids {
            if let Some(lane) = self.by_id.get_mut(&id) {
                lane.line.tick(now);
            }
            self.give_turn(id);
        }
    }

    /// Up to `max_records` from the lanes whose turn it is; `visited` are the
    /// lanes that were looked at, whose skipped records may now be settled.
    pub(crate) fn take(&mut self, max_records: usize, visited: &mut Vec<LaneId>) -> (Vec<Sent>, Vec<AppendRecord>) {
        let (mut sent, mut batch) = (Vec::new(), Vec::new());
        while batch.len() < max_records
            && let Some(id) = self.turns.pop_front()
        {
            let Some(lane) = self.by_id.get_mut(&id) else {
                continue;
            };
            lane.has_turn = false;
            visited.push(id);
            while batch.len() < max_records {
                let Some((number, record)) = lane.line.take() else {
                    break;
                };
                sent.push(Sent { lane: id, number });
                batch.push(AppendRecord {
                    topic: lane.target.clone(),
                    partition: lane.target_partition,
                    record,
                });
            }
            if batch.len() == max_records {
                self.give_turn(id);
            }
        }
        (sent, batch)
    }

    /// What the lines know of times.
    pub(crate) fn times(&self) -> BTreeMap<TopicPartition, Times> {
        let times = |lane: &Lane| Times {
            front_ms: lane.line.front().map(|item| item.record.timestamp_ms),
            last_ms: lane.last_ms,
            caught_up_ms: None,
        };
        self.by_id
            .values()
            .map(|lane| (lane.source.clone(), times(lane)))
            .collect()
    }
}
