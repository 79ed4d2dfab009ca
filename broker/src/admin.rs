//! Administering topics and groups of one broker.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;

use crate::error::{AdminError, AdminErrorKind};
use crate::name::{GroupName, TopicName, TopicPartition};

/// A topic to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: TopicName,
    /// How many partitions, at least 1.
    pub partitions: u32,
    /// Kafka only; `None` is the broker's default.
    pub replication_factor: Option<u32>,
    /// Records older than this may go; `None` is the broker's default.
    pub retention: Option<Duration>,
    /// Oldest records may go while a partition holds more bytes than this.
    pub retention_bytes: Option<u64>,
}

impl TopicSpec {
    /// A topic of so many partitions with the broker's defaults.
    pub fn new(name: TopicName, partitions: u32) -> Self {
        Self {
            name,
            partitions,
            replication_factor: None,
            retention: None,
            retention_bytes: None,
        }
    }
}

/// A topic that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: TopicName,
    /// Changes when a topic of the same name is deleted and made again.
    pub id: String,
    /// How many partitions.
    pub partitions: u32,
    /// Records that can still be read, over all partitions; an upper bound
    /// where positions have holes.
    pub records: u64,
}

/// Where a group stands in one partition, seen from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    /// The partition.
    pub partition: TopicPartition,
    /// All before it is settled; the oldest position for a group that has none.
    pub settled_position: u64,
    /// The position that the next record will get.
    pub end_position: u64,
    /// How many are settled beyond the settled position.
    pub settled_beyond: u64,
    /// The time of the oldest record that is not settled; `None` when there is
    /// none, or the broker cannot tell.
    pub oldest_unsettled: Option<SystemTime>,
}

impl PartitionLag {
    /// Records that are not settled.
    pub fn lag(&self) -> u64 {
        self.end_position
            .saturating_sub(self.settled_position)
            .saturating_sub(self.settled_beyond)
    }
}

/// A group and its position in every partition of the topics that it has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub name: GroupName,
    /// By topic and partition.
    pub partitions: Vec<PartitionLag>,
}

/// Where a group is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetTarget {
    /// At the oldest record of each partition.
    Earliest,
    /// After the newest record of each partition.
    Latest,
    /// At the first record of each partition whose time is not before this.
    Time(SystemTime),
    /// At a position of one partition.
    Position {
        /// The partition.
        partition: u32,
        /// The position; it must lie between the partition's oldest record and its end.
        position: u64,
    },
}

/// A wish to move a group within one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReset {
    /// The topic.
    pub topic: TopicName,
    /// Where to.
    pub target: ResetTarget,
    /// Only say where the group would go on.
    pub dry_run: bool,
}

/// Administers one broker. Duties:
///
/// M1. Making a topic that is there with the same number of partitions succeeds
///     and changes nothing; with another number it is `AlreadyExists`.
/// M2. When `create_topic` returns, appends to the topic are not refused as
///     `TopicNotFound`.
/// M3. `list_topics` leaves out the broker's own topics.
/// M4. Lag counts what is committed: it never says less than is unsettled.
/// M5. `grow_topic` only ever adds partitions; the same number changes nothing
///     and fewer is `InvalidRequest`. Where the broker's keys are placed by
///     consistent hashing, about 1/(N+1) of them move from N to N+1, and order
///     per key is kept over the move.
/// M6. A reset or deletion of a group that has members anywhere is `GroupActive`
///     and changes nothing (a dry run needs no group without members); what cannot
///     be done by this kind is `Unsupported`. A reset answers for each partition that
///     is concerned, and forgets what was settled beyond.
#[async_trait]
pub trait Admin: Send + Sync {
    /// Makes a topic.
    async fn create_topic(&self, spec: &TopicSpec) -> Result<TopicDescription, AdminError>;

    /// Deletes a topic and its records.
    async fn delete_topic(&self, name: &TopicName) -> Result<(), AdminError>;

    /// All topics, by name.
    async fn list_topics(&self) -> Result<Vec<TopicDescription>, AdminError>;

    /// One topic.
    async fn describe_topic(&self, name: &TopicName) -> Result<TopicDescription, AdminError>;

    /// All groups, by name.
    async fn list_groups(&self) -> Result<Vec<GroupName>, AdminError>;

    /// One group.
    async fn describe_group(&self, name: &GroupName) -> Result<GroupDescription, AdminError>;

    /// Gives a topic more partitions.
    async fn grow_topic(&self, name: &TopicName, partitions: u32) -> Result<TopicDescription, AdminError>;

    /// Moves a group that has no members; returns where it stands then, in each
    /// partition that is concerned.
    async fn reset_group(&self, name: &GroupName, reset: &GroupReset) -> Result<Vec<PartitionLag>, AdminError>;

    /// Forgets a group that has no members, with its positions.
    async fn delete_group(&self, name: &GroupName) -> Result<(), AdminError>;
}

/// A time in milliseconds since the Unix epoch.
pub(crate) fn unix_millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    }
}

/// The time of a record; a time before 1970 counts as 1970.
pub(crate) fn time_of_millis(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// Refuses a position that a partition does not have. `extent` is from its oldest
/// record to its end, if the topic has the partition.
pub(crate) fn check_position(
    topic: &TopicName,
    partitions: u32,
    (partition, position): (u32, u64),
    extent: Option<(u64, u64)>,
) -> Result<(), AdminError> {
    let message = match extent {
        Some((start, end)) if (start..=end).contains(&position) => return Ok(()),
        Some((start, end)) => format!(
            "partition {topic}/{partition} has no position {position}; name one from {start} (its oldest record) to {end} (its end)"
        ),
        None => format!("topic {topic} has no partition {partition}; it has {partitions}, counted from 0"),
    };
    Err(AdminError::new(AdminErrorKind::InvalidRequest, message))
}
