//! Appending: admit, then commit.
//!
//! Two waits, so that back-pressure and durability are both visible: `admit`
//! waits for room and fixes the order; the [`Commit`] it returns resolves when
//! each record is durable, refused, or unknown.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use async_trait::async_trait;
use meridian_event::Record;
use tokio::sync::oneshot;

use crate::error::{AppendError, AppendErrorKind};
use crate::name::TopicName;

/// A record and where it shall go.
#[derive(Clone, Debug)]
pub struct AppendRecord {
    /// The topic; it must exist.
    pub topic: TopicName,
    /// The partition; `None` lets the key choose (murmur2 as Kafka's Java
    /// client does, any partition for a record without a key).
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
}

/// The adapter's end of a [`Commit`].
#[derive(Debug)]
pub struct CommitSender(oneshot::Sender<Vec<AppendOutcome>>);

impl Commit {
    /// A commit of `admitted` records, and the sender that resolves it. Should
    /// the sender be dropped, every outcome is unknown.
    pub fn pair(admitted: usize) -> (CommitSender, Commit) {
        let (sender, receiver) = oneshot::channel();
        (CommitSender(sender), Commit { admitted, receiver: Some(receiver) })
    }

    /// A commit of nothing, resolved already.
    pub fn empty() -> Commit {
        Commit { admitted: 0, receiver: None }
    }

    /// How many records were admitted.
    pub fn admitted(&self) -> usize {
        self.admitted
    }
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
        let Some(receiver) = self.receiver.as_mut() else {
            return Poll::Ready(Vec::new());
        };
        let outcome = ready!(Pin::new(receiver).poll(context));
        self.receiver = None;
        Poll::Ready(outcome.unwrap_or_else(|_| {
            let lost = || {
                AppendError::unknown(
                    AppendErrorKind::Internal,
                    "the appender ended before it knew the outcome",
                )
            };
            (0..admitted).map(|_| Err(lost())).collect()
        }))
    }
}
