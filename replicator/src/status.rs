//! What a link says of itself, at one moment.

use meridian_broker::{BrokerName, RegionName, TopicName};

use crate::spec::LinkName;

/// What a link is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It looks at its two ends for the first time.
    Starting,
    /// It mirrors.
    Running,
    /// An operator paused it.
    Paused,
    /// An end does not do its part; the link tries again by itself.
    Retrying,
    /// Something needs an operator, who then resumes the link.
    Stopped,
}

impl LinkState {
    /// Every state, for metrics.
    pub const ALL: [Self; 5] = [
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Retrying,
        Self::Stopped,
    ];

    /// As the value of a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Retrying => "retrying",
            Self::Stopped => "stopped",
        }
    }
}

/// Where a link stands in one partition that this process reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPartitionStatus {
    /// The topic at the source.
    pub source_topic: TopicName,
    /// The partition at the source.
    pub partition: u32,
    /// The topic at the target, once it is known.
    pub target_topic: Option<TopicName>,
    /// All before it is at the target.
    pub mirrored_position: u64,
    /// The position that the next record of the source will get.
    pub end_position: u64,
    /// Records that are not mirrored.
    pub lag_messages: u64,
}

/// One link at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkStatus {
    /// Its name.
    pub name: LinkName,
    /// Where it reads.
    pub source_region: RegionName,
    /// The broker there.
    pub source_broker: BrokerName,
    /// Where it appends.
    pub target_region: RegionName,
    /// The broker there.
    pub target_broker: BrokerName,
    /// What it is about.
    pub state: LinkState,
    /// Why, and what to do; empty when there is nothing to say.
    pub reason: String,
    /// Since when it is in this state, in milliseconds since the Unix epoch.
    pub since_ms: i64,
    /// By topic and partition.
    pub partitions: Vec<LinkPartitionStatus>,
    /// Records mirrored since the process began.
    pub mirrored_records: u64,
    /// Records passed over since then, because they have been at the target or at the maximum of regions.
    pub skipped_records: u64,
    /// Records written to the link's dead letters since then.
    pub dead_lettered_records: u64,
    /// Records that are not mirrored.
    pub lag_messages: u64,
    /// The age of the oldest of them; 0 when there is none.
    pub lag_seconds: f64,
}
