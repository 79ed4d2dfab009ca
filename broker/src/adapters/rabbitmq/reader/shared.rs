//! What a reader's handle and its tasks share: the ledger, and records on their way
//! from the shards to `next`.
//!
//! Positions are delivery tags: they count the deliveries of one channel, and a new
//! channel is a new generation.
//!
//! What holds: events are told in the order in which they happened; records only of
//! shards that are assigned; what is handed out stays within the options, what waits
//! beyond that within the prefetch of each shard.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use meridian_event::Record;
use tokio::sync::Notify;

use super::acks::{AckPlan, Acks, Marker, Reach};
use crate::adapters::rabbitmq::fault::Fault;
use crate::error::{ReadError, ReadErrorKind, SettleError};
use crate::frontier::Frontier;
use crate::ledger::{Ledger, Observed};
use crate::name::TopicPartition;
use crate::read::{Assignment, Claim, PartitionPosition, ReadEvent, ReaderOptions, ReaderState};

/// Records in one event.
const MAX_EVENT_RECORDS: usize = 500;

/// What a channel delivered.
pub(super) enum Item {
    Record(Record),
    Marker,
}

struct ShardState {
    generation: u64,
    waiting: VecDeque<(u64, Item)>,
    last_tag: u64,
    acks: Acks,
    settled_since_flush: usize,
    /// As many settlements are acknowledged at once, without waiting for the interval.
    flush_at: usize,
    flush: Arc<Notify>,
}

/// The shared part.
pub(super) struct Shared {
    pub(super) options: ReaderOptions,
    inner: Mutex<Inner>,
    /// Told when `next` may have something.
    pub(super) woken: Notify,
    /// Told when the reader is gone.
    pub(super) leave: Notify,
}

enum Event {
    Tell(ReadEvent),
    /// The shard's channel is gone: its claims end when this is told.
    Lost(TopicPartition, u64),
}

struct Inner {
    ledger: Ledger,
    events: VecDeque<Event>,
    shards: HashMap<TopicPartition, ShardState>,
    last_read: Option<TopicPartition>,
    state: ReaderState,
    fault: Option<(ReadErrorKind, String)>,
    closed: bool,
    /// Settlements went with a channel before they were acknowledged.
    lost_settlements: bool,
}

impl Shared {
    pub(super) fn new(options: ReaderOptions, since: std::time::SystemTime) -> Arc<Self> {
        Arc::new(Self {
            options,
            inner: Mutex::new(Inner {
                ledger: Ledger::new(),
                events: VecDeque::new(),
                shards: HashMap::new(),
                last_read: None,
                state: ReaderState::NotReading {
                    since,
                    reason: "joining the group".to_owned(),
                },
                fault: None,
                closed: false,
                lost_settlements: false,
            }),
            woken: Notify::new(),
            leave: Notify::new(),
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happens next, if anything has.
    pub(super) fn step(&self) -> Option<Result<ReadEvent, ReadError>> {
        let mut inner = self.inner();
        if inner.closed {
            let message = "the reader or its broker was closed";
            return Some(Err(ReadError::new(ReadErrorKind::Closed, message)));
        }
        match inner.events.pop_front() {
            Some(Event::Tell(event)) => return Some(Ok(event)),
            Some(Event::Lost(partition, generation)) => {
                inner.end_claims(&partition, generation);
                return Some(Ok(ReadEvent::Revoked(vec![partition])));
            }
            None => {}
        }
        if let Some((kind, message)) = &inner.fault {
            return Some(Err(ReadError::new(*kind, message.clone())));
        }
        let released = inner.ledger.take_released(MAX_EVENT_RECORDS);
        if !released.is_empty() {
            return Some(Ok(ReadEvent::Records(released)));
        }
        let records = inner.read(&self.options);
        (!records.is_empty()).then_some(Ok(ReadEvent::Records(records)))
    }

    /// A shard is read by a channel of its own from now on. Returns the generation.
    pub(super) fn assigned(&self, partition: &TopicPartition, prefetch: u16, flush: &Arc<Notify>) -> u64 {
        let mut inner = self.inner();
        // What was known of an earlier channel counted other deliveries.
        inner.ledger.forget(partition);
        let generation = inner.ledger.assign(partition.clone(), Frontier::new(1));
        let shard = ShardState {
            generation,
            waiting: VecDeque::new(),
            last_tag: 0,
            acks: Acks::new(),
            settled_since_flush: 0,
            flush_at: (usize::from(prefetch) / 4).clamp(1, 1000),
            flush: Arc::clone(flush),
        };
        inner.shards.insert(partition.clone(), shard);
        inner.events.push_back(Event::Tell(ReadEvent::Assigned(vec![Assignment {
            partition: partition.clone(),
            generation,
            position: 1,
        }])));
        drop(inner);
        self.woken.notify_one();
        generation
    }

    /// The shard is this reader's no more. What is settled can still be acknowledged
    /// on its channel: that plan is returned.
    pub(super) fn revoked(&self, partition: &TopicPartition, generation: u64) -> Option<AckPlan> {
        let mut inner = self.inner();
        let shard = inner
            .shards
            .remove(partition)
            .filter(|shard| shard.generation == generation);
        let mut shard = shard?;
        let frontier = inner.ledger.frontier(partition).cloned().unwrap_or_default();
        inner.ledger.revoke(partition);
        inner.ledger.forget(partition);
        inner
            .events
            .push_back(Event::Tell(ReadEvent::Revoked(vec![partition.clone()])));
        let plan = shard.acks.plan(&frontier, Reach::All);
        drop(inner);
        self.woken.notify_one();
        Some(plan)
    }

    /// The shard's channel is gone, and its records come again. Claims end when `next`
    /// tells it; until then settlements are taken, and of no use.
    pub(super) fn lost(&self, partition: &TopicPartition, generation: u64) {
        let mut inner = self.inner();
        let is_current = |shard: &ShardState| shard.generation == generation;
        if inner.shards.get(partition).is_some_and(is_current) {
            let shard = inner.shards.remove(partition);
            let frontier = inner.ledger.frontier(partition).cloned().unwrap_or_default();
            inner.lost_settlements |= shard.is_some_and(|mut shard| !shard.acks.plan(&frontier, Reach::All).is_empty());
            inner.events.push_back(Event::Lost(partition.clone(), generation));
        }
        drop(inner);
        self.woken.notify_one();
    }

    /// Settlements were lost with their channel: the records come again.
    pub(super) fn lost_settlements(&self) {
        self.inner().lost_settlements = true;
    }

    /// Whether any were, since this was asked last.
    pub(super) fn take_lost_settlements(&self) -> bool {
        std::mem::take(&mut self.inner().lost_settlements)
    }

    /// What a shard's channel delivered, in order.
    pub(super) fn delivered(&self, partition: &TopicPartition, items: Vec<(u64, Item)>, markers: Vec<Marker>) {
        let mut inner = self.inner();
        if let Some(shard) = inner.shards.get_mut(partition) {
            if let Some((tag, _)) = items.last() {
                shard.last_tag = shard.last_tag.max(*tag);
            }
            shard.waiting.extend(items);
            for marker in markers {
                shard.acks.mark(marker);
            }
        }
        drop(inner);
        self.woken.notify_one();
    }

    /// What is to be acknowledged now.
    pub(super) fn plan_acks(&self, partition: &TopicPartition, reach: Reach) -> AckPlan {
        let mut inner = self.inner();
        let Inner { ledger, shards, .. } = &mut *inner;
        let (Some(shard), Some(frontier)) = (shards.get_mut(partition), ledger.frontier(partition)) else {
            return AckPlan::default();
        };
        shard.settled_since_flush = 0;
        shard.acks.plan(frontier, reach)
    }

    /// The marker whose predecessors are all settled.
    pub(super) fn due_marker(&self, partition: &TopicPartition) -> Option<Marker> {
        let inner = self.inner();
        let frontier = inner.ledger.frontier(partition)?;
        inner.shards.get(partition)?.acks.due_marker(frontier).cloned()
    }

    pub(super) fn marker_reported(&self, partition: &TopicPartition) {
        if let Some(shard) = self.inner().shards.get_mut(partition) {
            shard.acks.reported();
        }
    }

    /// Deliveries that are not acknowledged, or only planned to be.
    pub(super) fn unsettled(&self, partition: &TopicPartition) -> u64 {
        let inner = self.inner();
        let shard = inner.shards.get(partition);
        shard.map_or(0, |shard| shard.acks.unsettled(shard.last_tag))
    }

    pub(super) fn settle(&self, claim: &Claim) -> Result<(), SettleError> {
        let mut inner = self.inner();
        if inner.closed {
            return Err(SettleError::Closed);
        }
        let was_full = !inner.has_room(&self.options);
        inner.ledger.settle(claim)?;
        let mut flush = None;
        if let Some(shard) = inner.shards.get_mut(&claim.partition) {
            shard.settled_since_flush += 1;
            if shard.settled_since_flush == shard.flush_at {
                flush = Some(Arc::clone(&shard.flush));
            }
        } else {
            inner.lost_settlements = true;
        }
        drop(inner);
        if let Some(flush) = flush {
            flush.notify_one();
        }
        if was_full {
            self.woken.notify_one();
        }
        Ok(())
    }

    pub(super) fn release(&self, claim: &Claim) -> Result<(), SettleError> {
        let mut inner = self.inner();
        if inner.closed {
            return Err(SettleError::Closed);
        }
        inner.ledger.release(claim)?;
        drop(inner);
        self.woken.notify_one();
        Ok(())
    }

    pub(super) fn positions(&self) -> Vec<PartitionPosition> {
        self.inner().ledger.positions()
    }

    pub(super) fn state(&self) -> ReaderState {
        self.inner().state.clone()
    }

    pub(super) fn reads(&self) {
        self.inner().state = ReaderState::Reading;
    }

    /// It does not read; `since` is kept when that was so before.
    pub(super) fn does_not_read(&self, now: std::time::SystemTime, fault: &Fault) {
        let mut inner = self.inner();
        let since = match inner.state {
            ReaderState::NotReading { since, .. } => since,
            ReaderState::Reading => now,
        };
        let reason = fault.text().to_owned();
        inner.state = ReaderState::NotReading { since, reason };
    }

    /// An operator is needed.
    pub(super) fn fail(&self, kind: ReadErrorKind, message: String) {
        self.inner().fault = Some((kind, message));
        self.woken.notify_one();
    }

    pub(super) fn close(&self) {
        self.inner().closed = true;
        self.woken.notify_one();
    }
}

impl Inner {
    fn has_room(&self, options: &ReaderOptions) -> bool {
        self.ledger
            .has_room(options.max_unsettled_records, options.max_unsettled_bytes)
    }

    fn end_claims(&mut self, partition: &TopicPartition, generation: u64) {
        let assignments = self.ledger.assignments();
        let mut current = assignments.iter().filter(|assigned| assigned.partition == *partition);
        if current.any(|assigned| assigned.generation == generation) {
            self.ledger.revoke(partition);
            self.ledger.forget(partition);
        }
    }

    /// Records of the shards in turn, as far as there is room.
    fn read(&mut self, options: &ReaderOptions) -> Vec<crate::read::ReadRecord> {
        let mut turns: Vec<_> = self.shards.keys().cloned().collect();
        turns.sort();
        let after = |last: &TopicPartition| turns.partition_point(|partition| partition <= last);
        let first = self.last_read.as_ref().map_or(0, after);
        turns.rotate_left(first);
        let mut records = Vec::new();
        for partition in turns {
            while records.len() < MAX_EVENT_RECORDS && self.has_room(options) {
                let waiting = self.shards.get_mut(&partition).map(|shard| &mut shard.waiting);
                let Some((tag, item)) = waiting.and_then(VecDeque::pop_front) else {
                    break;
                };
                match item {
                    Item::Marker => self.ledger.advance_to(&partition, tag + 1),
                    Item::Record(record) => {
                        if let Observed::Claimed(record) = self.ledger.observe(&partition, tag, record) {
                            records.push(record);
                        }
                    }
                }
            }
            if records.len() >= MAX_EVENT_RECORDS {
                self.last_read = Some(partition);
                break;
            }
        }
        records
    }
}
