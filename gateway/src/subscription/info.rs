//! Sessions and groups as people and the admin service see them: copies, a moment old.

use std::time::SystemTime;

use meridian_broker::{BrokerName, GroupName, PartitionPosition, TopicName};

/// Whether a group is being read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupState {
    /// All is well; there may be nothing to read.
    Reading,
    /// It tries for ever, and cannot.
    NotReading {
        /// Since when.
        since: SystemTime,
        /// Why, for people.
        reason: String,
    },
    /// An operator has paused it: nothing is handed out, and nothing read once what is out is settled.
    Paused {
        /// Since when.
        since: SystemTime,
        /// Until when, if it ends by itself.
        until: Option<SystemTime>,
        /// In words.
        reason: String,
    },
    /// The gateway gives it up: nothing is handed out any more.
    Draining,
}

/// A group that this gateway reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// On which broker.
    pub broker: BrokerName,
    /// Its name.
    pub group: GroupName,
    /// Its topics, by name.
    pub topics: Vec<TopicName>,
    /// Sessions on this gateway.
    pub sessions: usize,
    /// Deliveries in flight.
    pub in_flight: usize,
    /// Records that are read and not settled.
    pub unsettled_records: usize,
    /// Records on their way to a dead-letter topic or to the due-time topics.
    pub leaving: usize,
    /// Whether it is being read.
    pub state: GroupState,
    /// Why dead letters cannot be written, while they cannot.
    pub dead_letter_fault: Option<String>,
    /// Where it stands, for the partitions that this gateway has.
    pub positions: Vec<PartitionPosition>,
}

impl GroupInfo {
    /// Records that are not settled, in the partitions that this gateway has.
    pub fn lag(&self) -> u64 {
        self.positions.iter().map(lag).sum()
    }
}

pub(super) fn lag(position: &PartitionPosition) -> u64 {
    position
        .end_position
        .saturating_sub(position.settled_position)
        .saturating_sub(position.settled_beyond)
}

/// A session that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// As told to the worker.
    pub session_id: String,
    /// The broker of its group.
    pub broker: BrokerName,
    /// Its group.
    pub group: GroupName,
    /// As the worker named itself.
    pub worker_id: String,
    /// Deliveries in flight.
    pub in_flight_messages: u32,
    /// Bytes of events in flight.
    pub in_flight_bytes: u64,
    /// Most deliveries in flight.
    pub credit_messages: u32,
    /// Most bytes in flight.
    pub credit_bytes: u64,
    /// Since when.
    pub opened_at: SystemTime,
}
