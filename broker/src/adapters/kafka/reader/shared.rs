//! What the handles of a reader and its member's thread share: the ledger, the
//! events that nobody has taken yet, and what the handles want of the thread.
//!
//! What holds: one lock with short sections, never held over a call of
//! librdkafka; the records of the outbox are claims of the ledger, so its size
//! is bounded by the reader's options.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Instant, SystemTime};

use tokio::sync::Notify;

use super::super::cluster::Cluster;
use super::super::health::wall_time;
use super::identity::Identities;
use crate::error::{ReadError, ReadErrorKind};
use crate::ledger::Ledger;
use crate::name::TopicPartition;
use crate::read::{ReadEvent, ReadRecord, ReaderOptions, ReaderState};
use crate::seam::BrokerState;

/// Records that one event holds at most.
pub(super) const RECORDS_PER_EVENT: usize = 512;

pub(super) struct Shared {
    pub(super) cluster: Arc<Cluster>,
    pub(super) options: ReaderOptions,
    inner: Mutex<Inner>,
    /// Something can be taken by `next`.
    pub(super) happened: Notify,
    /// A commit or the close is over.
    pub(super) finished: Notify,
    member: OnceLock<Thread>,
}

pub(super) struct Inner {
    pub(super) ledger: Ledger,
    pub(super) outbox: VecDeque<ReadEvent>,
    /// Why reading ended, for whoever asks.
    pub(super) failure: Option<(ReadErrorKind, String)>,
    pub(super) not_reading: Option<(SystemTime, String)>,
    pub(super) wish: Wish,
    /// The thread waits for room.
    pub(super) full: bool,
    /// Commits that were asked for, and the last of them that was made.
    pub(super) commits_asked: u64,
    pub(super) commits_made: u64,
    /// The cluster and the topics as they were first seen; one entry a topic.
    pub(super) identities: Identities,
    /// How leaving went, when it is over.
    pub(super) left: Option<Result<(), String>>,
}

/// What the handles want of the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Read,
    /// Commit and leave, until then.
    Leave(Instant),
    /// End as if the process had.
    Vanish,
}

impl Shared {
    pub(super) fn new(cluster: Arc<Cluster>, options: ReaderOptions) -> Self {
        let since = wall_time(&cluster.clock);
        Self {
            cluster,
            options,
            inner: Mutex::new(Inner {
                ledger: Ledger::new(),
                outbox: VecDeque::new(),
                failure: None,
                not_reading: Some((since, "joining the group".to_owned())),
                wish: Wish::Read,
                full: false,
                commits_asked: 0,
                commits_made: 0,
                identities: Identities::default(),
                left: None,
            }),
            happened: Notify::new(),
            finished: Notify::new(),
            member: OnceLock::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_member(&self, thread: Thread) {
        let _ = self.member.set(thread);
    }

    /// Has the thread look at what is wanted.
    pub(super) fn wake_member(&self) {
        if let Some(thread) = self.member.get() {
            thread.unpark();
        }
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
        let since = wall_time(&self.cluster.clock);
        inner.not_reading.get_or_insert((since, message.clone()));
        inner.failure.get_or_insert((kind, message));
        drop(inner);
        self.happened.notify_one();
    }

    /// It does not read, from now on if it did before.
    pub(super) fn stopped_reading(&self, reason: &str) {
        let now = wall_time(&self.cluster.clock);
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
        let cluster = match self.cluster.health.state() {
            BrokerState::Available => None,
            BrokerState::Unavailable { since, reason } => Some((since, reason)),
        };
        match (own, cluster) {
            (None, None) => ReaderState::Reading,
            (Some((since, _)), Some((_, reason))) | (None, Some((since, reason))) | (Some((since, reason)), None) => {
                ReaderState::NotReading { since, reason }
            }
        }
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

    /// Puts records behind the others.
    pub(super) fn add_records(&mut self, records: Vec<ReadRecord>) {
        match self.outbox.back_mut() {
            Some(ReadEvent::Records(last)) if last.len() + records.len() <= RECORDS_PER_EVENT => {
                last.extend(records);
            }
            _ => self.outbox.push_back(ReadEvent::Records(records)),
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
}
