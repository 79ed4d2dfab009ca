//! What waits for the line: records that were admitted, in the order of admission.
//!
//! What holds: its size is bounded by the room that its records hold; whoever has the
//! lock awaits nothing.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use meridian_event::Record;
use tokio::sync::Notify;

use crate::append::{AppendOutcome, CommitSender};
use crate::error::AppendErrorKind;
use crate::name::TopicName;

/// How a record finds its shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Shard(u32),
    Key,
}

/// A record to be appended.
pub(super) struct Item {
    pub(super) topic: TopicName,
    pub(super) place: Place,
    pub(super) record: Record,
}

/// Records that were admitted together.
pub(super) struct Work {
    pub(super) items: Vec<Item>,
    /// One for each item; `None` until it is known.
    pub(super) outcomes: Vec<Option<AppendOutcome>>,
    pub(super) sender: CommitSender,
    pub(super) expires: Instant,
    pub(super) cost_bytes: usize,
}

impl Work {
    pub(super) fn new(items: Vec<Item>, sender: CommitSender, expires: Instant, cost_bytes: usize) -> Self {
        Self {
            outcomes: items.iter().map(|_| None).collect(),
            items,
            sender,
            expires,
            cost_bytes,
        }
    }
}

/// What waits for the line.
#[derive(Default)]
pub(super) struct Queue {
    inner: Mutex<Waiting>,
    pub(super) wake: Notify,
}

#[derive(Default)]
pub(super) struct Waiting {
    pub(super) works: VecDeque<Work>,
    pub(super) has_ended: bool,
    pub(super) full: Option<(Instant, String)>,
}

impl Queue {
    pub(super) fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What waits is refused, and nothing is taken any more.
    pub(super) fn end(&self) {
        self.lock().has_ended = true;
        self.wake.notify_one();
    }

    /// Why nothing is admitted now.
    pub(super) fn full_reason(&self, now: Instant) -> Option<(AppendErrorKind, String)> {
        let waiting = self.lock();
        let (until, reason) = waiting.full.as_ref()?;
        (now < *until).then(|| (AppendErrorKind::StorageFull, reason.clone()))
    }
}
