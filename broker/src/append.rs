//! Appending: admit, then commit.
//!
//! Two waits, so that back-pressure and durability are both visible: `admit`
//! waits for room and fixes the order; the [`Commit`] it returns resolves when
//! each record is durable, refused, or unknown.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_trait::async_trait;
use meridian_event::Record;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::{AppendError, AppendErrorKind};
use crate::name::TopicName;

/// A record and where it shall go.
#[derive(Clone, Debug)]
pub struct AppendRecord {
    /// The topic; it must exist.
    pub topic: TopicName,
    /// The partition; `None` lets the key choose as the broker's
    /// [`KeyPlacement`](crate::KeyPlacement) says, any partition for a record
    /// without a key.
    pub partition: Option<u32>,
    /// The record.
    pub record: Record,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The partition, from 0.
    pub partition: u32,
    /// Rises by at least one from record to record within a partition.
    pub position: u64,
}

/// What became of one admitted record.
pub type AppendOutcome = Result<Position, AppendError>;

/// A record that was not admitted: it comes back whole, surely not stored.
#[derive(Debug)]
pub struct RefusedRecord {
    /// Index in the batch given to `admit`.
    pub index: usize,
    /// The record as it was given.
    pub record: AppendRecord,
    /// Why; its `stored` is always `No`.
    pub error: AppendError,
}

/// The answer to `admit`.
#[derive(Debug)]
pub struct Admission {
    /// Records that were not taken, by rising index.
    pub refused: Vec<RefusedRecord>,
    /// Resolves to one outcome for each record that was taken, in the order of
    /// the batch (that is: the batch's order less the refused indices).
    pub commit: Commit,
}

/// Appends records to the topics of one broker. Duties:
///
/// A1. Durable at commit: an `Ok` outcome means that the record survives what
///     the broker's [`Durability`](crate::Durability) says it survives.
/// A2. Every record has exactly one outcome: refused at admission (and handed
///     back), or `Ok`, refused or unknown at commit. `Stored::No` is never said
///     of a record that may be stored.
/// A3. Order: records of one partition become readable in the order of
///     admission, within a batch and across batches whose `admit` calls follow
///     one another. A record that cannot be taken for want of room stops the
///     line: all later records of that batch for the same broker queue are
///     refused with it. A record refused for a fault of its own does not.
/// A4. Bounded: at most the configured records and bytes are admitted and not
///     committed; beyond that `admit` waits until `deadline`, then refuses
///     with `Overloaded`.
/// A5. Every commit resolves, within the configured delivery time-out, also
///     when the broker is gone. A broker known to be gone refuses at admission
///     with `BrokerUnavailable` rather than take what it cannot send.
/// A6. Dropping a [`Commit`] or the `admit` future never blocks, never panics,
///     and leaves admitted records on their way. After a fault the appender
///     mends itself; nobody has to reopen it.
#[async_trait]
pub trait Appender: Send + Sync {
    /// Takes a batch in order, waiting for room until `deadline`.
    async fn admit(&self, batch: Vec<AppendRecord>, deadline: Instant) -> Admission;

    /// Waits until everything admitted has its outcome, or until `deadline`.
    /// True when nothing is left.
    async fn flush(&self, deadline: Instant) -> bool;
}

/// Resolves to the outcomes of the admitted records of one batch.
#[derive(Debug)]
pub struct Commit {
    admitted: usize,
    receiver: Option<oneshot::Receiver<Vec<AppendOutcome>>>,
    observer: Option<Observer>,
}

type Tell = Box<dyn FnOnce(&[AppendOutcome]) + Send>;

/// Told the outcomes once, whether or not somebody still waits for the commit.
struct Observer {
    runtime: Handle,
    tell: Tell,
}

impl fmt::Debug for Observer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Observer")
    }
}

/// The adapter's end of a [`Commit`].
#[derive(Debug)]
pub struct CommitSender(oneshot::Sender<Vec<AppendOutcome>>);

impl Commit {
    /// A commit of `admitted` records, and the sender that resolves it. Should
    /// the sender be dropped, every outcome is unknown.
    pub fn pair(admitted: usize) -> (CommitSender, Commit) {
        let (sender, receiver) = oneshot::channel();
        let commit = Commit {
            admitted,
            receiver: Some(receiver),
            observer: None,
        };
        (CommitSender(sender), commit)
    }

    /// A commit of nothing, resolved already.
    pub fn empty() -> Commit {
        Commit {
            admitted: 0,
            receiver: None,
            observer: None,
        }
    }

    /// How many records were admitted.
    pub fn admitted(&self) -> usize {
        self.admitted
    }

    /// Has the outcomes told to `tell` as well. Should the commit be dropped
    /// before it resolved, a task on `runtime` waits for them in its place, so
    /// that what becomes of the records is counted all the same.
    #[must_use]
    pub fn observe(mut self, runtime: Handle, tell: impl FnOnce(&[AppendOutcome]) + Send + 'static) -> Commit {
        let tell = Box::new(tell);
        self.observer = Some(Observer { runtime, tell });
        self
    }
}

/// Every outcome when the sender was dropped.
fn lost(admitted: usize) -> Vec<AppendOutcome> {
    let unknown = || {
        let fault = "the appender ended before it knew the outcome";
        AppendError::unknown(AppendErrorKind::Internal, fault)
    };
    (0..admitted).map(|_| Err(unknown())).collect()
}

impl CommitSender {
    /// Resolves the commit; true when somebody still waits for it.
    pub fn resolve(self, outcomes: Vec<AppendOutcome>) -> bool {
        self.0.send(outcomes).is_ok()
    }
}

impl Future for Commit {
    type Output = Vec<AppendOutcome>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let admitted = self.admitted;
        let outcomes = match self.receiver.as_mut() {
            Some(receiver) => ready!(Pin::new(receiver).poll(context)),
            None => Ok(Vec::new()),
        };
        self.receiver = None;
        let outcomes = outcomes.unwrap_or_else(|_| lost(admitted));
        if let Some(observer) = self.observer.take() {
            (observer.tell)(&outcomes);
        }
        Poll::Ready(outcomes)
    }
}

impl Drop for Commit {
    fn drop(&mut self) {
        let (Some(receiver), Some(observer)) = (self.receiver.take(), self.observer.take()) else {
            return;
        };
        let admitted = self.admitted;
        observer.runtime.spawn(async move {
            let outcomes = receiver.await.unwrap_or_else(|_| lost(admitted));
            (observer.tell)(&outcomes);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn stored(position: u64) -> AppendOutcome {
        Ok(Position { partition: 0, position })
    }

    #[tokio::test]
    async fn a_lost_sender_makes_every_outcome_unknown() {
        let (sender, commit) = Commit::pair(2);
        drop(sender);
        let outcomes = commit.await;
        assert_eq!(outcomes.len(), 2);
        for outcome in outcomes {
            assert_eq!(outcome.unwrap_err().stored, crate::Stored::Unknown);
        }
        assert!(Commit::empty().await.is_empty());
    }

    #[tokio::test]
    async fn outcomes_are_observed_once_whoever_waits() {
        let (told, outcomes) = mpsc::sync_channel(8);
        let observe = |commit: Commit| {
            let told = told.clone();
            commit.observe(Handle::current(), move |outcomes| {
                told.send(outcomes.len()).unwrap();
            })
        };
        let (sender, commit) = Commit::pair(1);
        sender.resolve(vec![stored(1)]);
        assert_eq!(observe(commit).await.len(), 1);
        assert_eq!(outcomes.try_recv(), Ok(1));
        assert!(outcomes.try_recv().is_err());

        // Nobody waits for the second; it is told when it resolves, not before.
        let (sender, commit) = Commit::pair(3);
        drop(observe(commit));
        tokio::task::yield_now().await;
        assert!(outcomes.try_recv().is_err());
        drop(sender);
        let told = async {
            while outcomes.try_recv() != Ok(3) {
                tokio::task::yield_now().await;
            }
        };
        let limit = std::time::Duration::from_secs(5);
        tokio::time::timeout(limit, told).await.unwrap();
    }
}
