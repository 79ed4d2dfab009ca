//! Reading: claims, settlement out of order, release, commit by frontier.
//!
//! A reader takes part in a group through the broker's own mechanism and hands
//! out records under claims. Leases to workers, attempts and delays are the
//! gateway's business; a claim is what the broker holds this reader to.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use meridian_event::Record;

use crate::error::{ReadError, SettleError};
use crate::name::{GroupName, TopicName, TopicPartition};

/// Where a group that has no position begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StartPosition {
    /// At the oldest record.
    #[default]
    Earliest,
    /// After the newest record, as of opening.
    Latest,
}

/// What to do when the position at which a group stands is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MissingPositionPolicy {
    /// Tell the gap and go on at the oldest record.
    Earliest,
    /// Tell the gap and go on after the newest record.
    Latest,
    /// End with `PositionMissing`.
    #[default]
    Fail,
}

/// How to read.
#[derive(Clone, Debug)]
pub struct ReaderOptions {
    /// The group; its positions live on the broker.
    pub group: GroupName,
    /// The topics, each once.
    pub topics: Vec<TopicName>,
    /// Where a new group begins.
    pub start: StartPosition,
    /// What to do when a position is gone.
    pub missing_position: MissingPositionPolicy,
    /// The reader fetches no more while this many records are unsettled.
    pub max_unsettled_records: usize,
    /// The same in bytes of records.
    pub max_unsettled_bytes: usize,
    /// A reader that shows no life for this long loses its claims to others.
    pub session_timeout: Duration,
    /// Settlements become durable on the broker at least this often.
    pub commit_interval: Duration,
    /// Whether a partition's records come to one reader of the group at a time. Without that, a broker of queues lets
    /// readers compete for the records of a partition, each with several at hand; a broker of logs does as ever.
    pub ordered: bool,
}

impl ReaderOptions {
    /// The defaults for a group over topics: earliest, fail on a gap, 10,000
    /// records, 64 MiB, 15 s, 100 ms, ordered.
    pub fn new(group: GroupName, topics: Vec<TopicName>) -> Self {
        Self {
            group,
            topics,
            start: StartPosition::default(),
            missing_position: MissingPositionPolicy::default(),
            max_unsettled_records: 10_000,
            max_unsettled_bytes: 64 * 1024 * 1024,
            session_timeout: Duration::from_secs(15),
            commit_interval: Duration::from_millis(100),
            ordered: true,
        }
    }
}

/// The right to settle one record. It ends when the partition is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The partition.
    pub partition: TopicPartition,
    /// Which assignment of the partition to this reader: fences late settlements.
    pub generation: u64,
    /// The record's position.
    pub position: u64,
}

/// A record under a claim.
#[derive(Clone, Debug)]
pub struct ReadRecord {
    /// Names it in settlements.
    pub claim: Claim,
    /// The record, shared with the reader, which keeps it until it is settled.
    pub record: Arc<Record>,
    /// Its size, as budgets count it: [`Record::size_bytes`].
    pub size_bytes: usize,
    /// How often this reader released it before.
    pub releases: u32,
}

impl ReadRecord {
    /// A record that was not released before.
    pub fn new(claim: Claim, record: Record) -> Self {
        Self {
            claim,
            size_bytes: record.size_bytes(),
            record: Arc::new(record),
            releases: 0,
        }
    }
}

/// A partition that this reader now reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The partition.
    pub partition: TopicPartition,
    /// The generation of claims on it.
    pub generation: u64,
    /// The first position that will be read.
    pub position: u64,
}

/// Records that are gone between where the group stood and where it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The partition.
    pub partition: TopicPartition,
    /// The position that should have come next.
    pub expected_position: u64,
    /// Where reading goes on.
    pub resumed_position: u64,
    /// How many records are missing.
    pub missing_records: u64,
}

/// What a reader tells.
#[derive(Clone, Debug)]
pub enum ReadEvent {
    /// Records in order within each partition; a released record comes again
    /// before any record of its partition that was not handed out yet.
    Records(Vec<ReadRecord>),
    /// Partitions that this reader has from now on.
    Assigned(Vec<Assignment>),
    /// Partitions that it has no more: their claims are over. What was settled
    /// before is committed if the broker could be reached.
    Revoked(Vec<TopicPartition>),
    /// Records are missing and the policy was to go on.
    Gap(Gap),
}

/// Whether a reader reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaderState {
    /// All is well; there may be nothing to read.
    Reading,
    /// It tries, and cannot.
    NotReading {
        /// Since when.
        since: SystemTime,
        /// Why, for people.
        reason: String,
    },
}

/// Where a group stands in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionPosition {
    /// The partition.
    pub partition: TopicPartition,
    /// All before it is settled.
    pub settled_position: u64,
    /// How many are settled beyond it.
    pub settled_beyond: u64,
    /// The position that the next record will get, as last seen.
    pub end_position: u64,
}

/// Reads for one member of a group. Duties:
///
/// R1. Every record appended durably to the topics is handed out at least once
///     to some reader of the group, in order within its partition.
/// R2. A record handed out and neither settled nor released is handed to nobody
///     else while this reader lives and holds its partition.
/// R3. A claim ends with its generation: a partition revoked, a session lost, a
///     reader dropped. Unsettled records then come again, to whoever has the
///     partition next; a late settlement is refused as stale and changes nothing.
/// R4. Never settle ahead: the committed position never passes an unsettled
///     record, while records settled beyond it survive a restart and do not
///     come again.
/// R5. Bounded: it holds no more than the options allow.
/// R6. It never gives up on a fault that can heal (broker gone, restarted,
///     absent at start, coordinator moved): it retries for ever with capped
///     backoff, and its state says since when and why it does not read.
///     `next` returns an error only when an operator is needed.
/// R7. Two groups never affect one another.
/// R8. `next` is cancel safe: dropping its future loses nothing.
/// R9. A reader that is dropped without `close` leaves as if it had crashed, and
///     blocks nobody while it does.
#[async_trait]
pub trait Reader: Send {
    /// What happens next; waits until something does.
    ///
    /// # Errors
    /// [`ReadError`] when reading cannot go on without an operator.
    async fn next(&mut self) -> Result<ReadEvent, ReadError>;

    /// Settles and releases, from any task, also while `next` waits.
    fn settler(&self) -> std::sync::Arc<dyn Settler>;

    /// Leaves the group: commits what is settled, gives up all claims at once
    /// so that others have the records without waiting for a time-out.
    ///
    /// # Errors
    /// [`ReadError`] when the last commit could not be made within `limit`; the
    /// reader is closed all the same.
    async fn close(self: Box<Self>, limit: Duration) -> Result<(), ReadError>;
}

/// Settles what a reader handed out.
#[async_trait]
pub trait Settler: Send + Sync {
    /// The record is done. Out of order is fine. Becomes durable within the
    /// commit interval, or at [`Settler::commit`].
    ///
    /// # Errors
    /// [`SettleError::Stale`] when the claim is over.
    fn settle(&self, claim: &Claim) -> Result<(), SettleError>;

    /// The record is not done and shall come again, from this reader or another.
    ///
    /// # Errors
    /// [`SettleError::Stale`] when the claim is over.
    fn release(&self, claim: &Claim) -> Result<(), SettleError>;

    /// Makes all settlements so far durable.
    ///
    /// # Errors
    /// [`ReadError`] when the broker could not be reached within `limit`; the
    /// settlements stay and are committed later.
    async fn commit(&self, limit: Duration) -> Result<(), ReadError>;

    /// Where the group stands, for the partitions that this reader has.
    fn positions(&self) -> Vec<PartitionPosition>;

    /// Whether it reads, or since when not.
    fn state(&self) -> ReaderState;
}
