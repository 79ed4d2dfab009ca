//! What waits for the writer: appends, changes of topics, positions of groups.
//!
//! A queue between tokio's workers, which must never block, and the one thread
//! that writes. It has no limit of its own: appends are bounded by the budgets
//! that they hold permits of, everything else by the callers that wait for it.
//!
//! What holds: work is taken in the order in which it was put; nothing is put
//! after the end, and everything put before it is taken.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use meridian_event::Record;
use meridian_runtime::BytePermit;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::log::{Partition, locked};
use super::rows::PositionRow;
use crate::admin::{TopicDescription, TopicSpec};
use crate::append::CommitSender;
use crate::error::AdminError;
use crate::name::{GroupName, TopicName};

/// The most bytes of records that one commit takes, unless one batch has more.
const MAX_COMMIT_BYTES: usize = 8 * 1024 * 1024;

/// Records of one batch, each with its partition.
#[derive(Debug)]
pub(super) struct AppendWork {
    pub(super) records: Vec<(Arc<Partition>, Record)>,
    pub(super) size_bytes: usize,
    pub(super) sender: CommitSender,
    /// Room in flight, given back when the outcome is known.
    pub(super) permits: Vec<BytePermit>,
}

/// A position of a group in a partition.
#[derive(Debug)]
pub(super) struct PositionChange {
    pub(super) group: GroupName,
    pub(super) topic: Uuid,
    pub(super) partition: u32,
    pub(super) row: PositionRow,
}

/// Something for the writer to do.
#[derive(Debug)]
pub(super) enum Work {
    Append(AppendWork),
    /// Answered with whether they are durable.
    Positions(Vec<PositionChange>, oneshot::Sender<bool>),
    CreateTopic(TopicSpec, oneshot::Sender<Result<TopicDescription, AdminError>>),
    DeleteTopic(TopicName, oneshot::Sender<Result<(), AdminError>>),
    GrowTopic(TopicName, u32, oneshot::Sender<Result<TopicDescription, AdminError>>),
    DeleteGroup(GroupName, oneshot::Sender<Result<(), AdminError>>),
}

impl Work {
    fn size_bytes(&self) -> usize {
        match self {
            Work::Append(append) => append.size_bytes,
            _ => 0,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    work: VecDeque<Work>,
    is_ended: bool,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

/// What the writer got.
#[derive(Debug)]
pub(super) enum Taken {
    Work(Vec<Work>),
    /// Nothing came in time.
    Nothing,
    /// Nothing will come any more.
    Ended,
}

impl Queue {
    /// Puts work at the end; it comes back when the queue has ended.
    pub(super) fn put(&self, work: Work) -> Result<(), Work> {
        let mut state = locked(&self.state);
        if state.is_ended {
            return Err(work);
        }
        state.work.push_back(work);
        let is_first = state.work.len() == 1;
        drop(state);
        if is_first {
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Nothing may be put any more.
    pub(super) fn end(&self) {
        locked(&self.state).is_ended = true;
        self.changed.notify_all();
    }

    /// Gives up what waits, when nobody will take it: each sender is dropped,
    /// which tells who waits that the outcome is unknown.
    pub(super) fn abandon(&self) {
        let work = std::mem::take(&mut locked(&self.state).work);
        drop(work);
    }

    /// Takes what waits, in order, up to the size of one commit; waits for it
    /// until `deadline`.
    pub(super) fn take(&self, deadline: Instant) -> Taken {
        let mut state = locked(&self.state);
        while state.work.is_empty() {
            if state.is_ended {
                return Taken::Ended;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Taken::Nothing;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let (mut taken, mut bytes) = (Vec::with_capacity(state.work.len()), 0);
        while bytes < MAX_COMMIT_BYTES
            && let Some(work) = state.work.pop_front()
        {
            bytes += work.size_bytes();
            taken.push(work);
        }
        Taken::Work(taken)
    }

    /// Lets the writer rest without being deaf to the end. True when it came.
    pub(super) fn rest(&self, span: Duration) -> bool {
        let state = locked(&self.state);
        let waited = self.changed.wait_timeout_while(state, span, |state| !state.is_ended);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_ended
    }

    /// Lets the writer rest, whether the end came or not.
    pub(super) fn pause(&self, span: Duration) {
        let state = locked(&self.state);
        drop(self.changed.wait_timeout(state, span));
    }
}
