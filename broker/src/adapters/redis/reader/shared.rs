//! What the handles of a reader and its member's task share: the ledger, the events
//! that nobody has taken yet, what is settled and not told, and what the handles want.
//!
//! What holds: one lock with short sections; the records of the outbox are claims of
//! the ledger, so its size is bounded by the reader's options.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use tokio::sync::Notify;

use super::super::core::Core;
use super::super::health::wall_time;
use crate::error::{ReadError, ReadErrorKind};
use crate::ledger::{Ledger, PendingCommit};
use crate::name::TopicPartition;
use crate::read::{Gap, ReadEvent, ReadRecord, ReaderOptions, ReaderState};
use crate::seam::BrokerState;

/// Records that one event holds at most.
pub(super) const RECORDS_PER_EVENT: usize = 512;

pub(super) struct Shared {
    pub(super) core: Arc<Core>,
    pub(super) options: ReaderOptions,
    /// What Redis calls this reader: the consumer, and the owner of shards.
    pub(super) member: String,
    inner: Mutex<Inner>,
    /// Something can be taken by `next`.
    pub(super) happened: Notify,
    /// A commit or the close is over.
    pub(super) finished: Notify,
    /// The task is to look at what is wanted.
    pub(super) wake: Notify,
}

pub(super) struct Inner {
    pub(super) ledger: Ledger,
    pub(super) outbox: VecDeque<ReadEvent>,
    /// Why reading ended, for whoever asks.
    pub(super) failure: Option<(ReadErrorKind, String)>,
    pub(super) not_reading: Option<(SystemTime, String)>,
    pub(super) wish: Wish,
    /// The task waits for room.
    pub(super) full: bool,
    /// What is settled and Redis does not know yet.
    settled: HashMap<TopicPartition, Vec<u64>>,
    settled_count: usize,
    pub(super) settled_since: Option<Instant>,
    /// Commits that were asked for, and the last of them that was made.
    pub(super) commits_asked: u64,
    pub(super) commits_made: u64,
    /// How leaving went, when it is over.
    pub(super) left: Option<Result<(), String>>,
}

/// What the handles want of the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Read,
    /// Commit and leave, until then.
    Leave(Instant),
    /// End as if the process had.
    Vanish,
}

impl Shared {
    pub(super) fn new(core: Arc<Core>, options: ReaderOptions) -> Self {
        let since = wall_time(&core.clock);
        Self {
            core,
            options,
            member: uuid::Uuid::new_v4().simple().to_string(),
            inner: Mutex::new(Inner {
                ledger: Ledger::new(),
                outbox: VecDeque::new(),
                failure: None,
                not_reading: Some((since, "joining the group".to_owned())),
                wish: Wish::Read,
                full: false,
                settled: HashMap::new(),
                settled_count: 0,
                settled_since: None,
                commits_asked: 0,
                commits_made: 0,
                left: None,
            }),
            happened: Notify::new(),
            finished: Notify::new(),
            wake: Notify::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an event behind the others.
    pub(super) fn tell(&self, event: ReadEvent) {
        self.lock().outbox.push_back(event);
        self.happened.notify_one();
    }

    /// Reading ends: an operator is needed.
    pub(super) fn fail(&self, kind: ReadErrorKind, message: String) {
        if kind == ReadErrorKind::Closed {
            tracing::info!(group = %self.options.group, %message, "a reader ended");
        } else {
            tracing::error!(group = %self.options.group, %message, "a reader ended");
        }
        let mut inner = self.lock();
        let since = wall_time(&self.core.clock);
        inner.not_reading.get_or_insert((since, message.clone()));
        inner.failure.get_or_insert((kind, message));
        drop(inner);
        self.happened.notify_one();
    }

    pub(super) fn has_failed(&self) -> bool {
        self.lock().failure.is_some()
    }

    /// It does not read, from now on if it did before.
    pub(super) fn stopped_reading(&self, reason: &str) {
        let now = wall_time(&self.core.clock);
        let mut inner = self.lock();
        match &mut inner.not_reading {
            Some((_, why)) => reason.clone_into(why),
            none => {
                tracing::warn!(group = %self.options.group, reason, "a reader does not read");
                *none = Some((now, reason.to_owned()));
            }
        }
    }

    /// It reads again.
    pub(super) fn reads(&self) {
        if let Some((_, reason)) = self.lock().not_reading.take() {
            tracing::info!(group = %self.options.group, before = reason, "a reader reads");
        }
    }

    pub(super) fn state(&self) -> ReaderState {
        let own = self.lock().not_reading.clone();
        let broker = match self.core.health.state() {
            BrokerState::Available => None,
            BrokerState::Unavailable { since, reason } => Some((since, reason)),
        };
        match (own, broker) {
            (None, None) => ReaderState::Reading,
            (Some((since, _)), Some((_, reason))) | (None, Some((since, reason))) | (Some((since, reason)), None) => {
                ReaderState::NotReading { since, reason }
            }
        }
    }

    /// Logs a gap, for whom the event does not reach.
    pub(super) fn log_gap(&self, gap: &Gap) {
        tracing::error!(
            group = %self.options.group, partition = %gap.partition, expected = gap.expected_position,
            resumed = gap.resumed_position, missing = gap.missing_records, "records are missing"
        );
    }
}

impl Inner {
    /// What can be taken now: released records first, for they come before any
    /// record of their partition that was not handed out yet.
    pub(super) fn take(&mut self) -> Option<Result<ReadEvent, ReadError>> {
        if self.ledger.has_released() {
            let released = self.ledger.take_released(RECORDS_PER_EVENT);
            if !released.is_empty() {
                return Some(Ok(ReadEvent::Records(released)));
            }
        }
        if let Some(event) = self.outbox.pop_front() {
            return Some(Ok(event));
        }
        let (kind, message) = self.failure.as_ref()?;
        Some(Err(ReadError::new(*kind, message.clone())))
    }

    pub(super) fn is_over(&self) -> bool {
        self.left.is_some() || self.wish != Wish::Read
    }

    /// Puts a record behind the others.
    pub(super) fn add_record(&mut self, record: ReadRecord) {
        match self.outbox.back_mut() {
            Some(ReadEvent::Records(last)) if last.len() < RECORDS_PER_EVENT => last.push(record),
            _ => {
                let mut records = Vec::with_capacity(RECORDS_PER_EVENT.min(64));
                records.push(record);
                self.outbox.push_back(ReadEvent::Records(records));
            }
        }
    }

    /// Takes the records of a partition out of the outbox: their claims are over.
    pub(super) fn drop_records(&mut self, partition: &TopicPartition) {
        for event in &mut self.outbox {
            if let ReadEvent::Records(records) = event {
                records.retain(|record| record.claim.partition != *partition);
            }
        }
        self.outbox
            .retain(|event| !matches!(event, ReadEvent::Records(records) if records.is_empty()));
    }

    pub(super) fn note_settled(&mut self, partition: &TopicPartition, position: u64, now: Instant) {
        match self.settled.get_mut(partition) {
            Some(positions) => positions.push(position),
            None => {
                self.settled.insert(partition.clone(), vec![position]);
            }
        }
        self.settled_count += 1;
        self.settled_since.get_or_insert(now);
    }

    /// Whether what was noted last is all that waits to be told.
    pub(super) fn is_first_settled(&self) -> bool {
        self.settled_count == 1
    }

    /// What is settled and was not told yet, with the ledger's word for it.
    pub(super) fn take_settled(&mut self) -> (HashMap<TopicPartition, Vec<u64>>, Vec<PendingCommit>) {
        self.settled_count = 0;
        self.settled_since = None;
        (std::mem::take(&mut self.settled), self.ledger.dirty())
    }

    /// The same of one partition, whose claims end.
    pub(super) fn take_settled_of(&mut self, partition: &TopicPartition) -> Vec<u64> {
        let positions = self.settled.remove(partition).unwrap_or_default();
        self.settled_count -= positions.len();
        if self.settled_count == 0 {
            self.settled_since = None;
        }
        positions
    }

    /// What could not be told waits on, if the partition is still there.
    pub(super) fn put_settled_back(&mut self, partition: TopicPartition, positions: Vec<u64>, now: Instant) {
        if self.ledger.is_assigned(&partition) && !positions.is_empty() {
            self.settled_count += positions.len();
            self.settled.entry(partition).or_default().extend(positions);
            self.settled_since.get_or_insert(now);
        }
    }
}
