//! What a broker is: the trait that gateways and replicators hold.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use meridian_event::Binding;

use crate::admin::Admin;
use crate::append::Appender;
use crate::error::{AdminError, ReadError};
use crate::name::{BrokerName, RegionName};
use crate::read::{Reader, ReaderOptions};

/// The kind of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BrokerKind {
    /// The log inside this process.
    Embedded,
    /// Apache Kafka.
    Kafka,
}

impl BrokerKind {
    /// As written in configuration and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            BrokerKind::Embedded => "embedded",
            BrokerKind::Kafka => "kafka",
        }
    }

    /// What every broker of this kind can do.
    pub const fn capabilities(self) -> Capabilities {
        Capabilities {
            partitions: true,
            replay: true,
            ordered: true,
            native_redelivery: false,
            transactions: match self {
                BrokerKind::Embedded => false,
                BrokerKind::Kafka => true,
            },
        }
    }

    /// What a confirmed append to a broker of this kind means.
    pub const fn durability(self) -> Durability {
        match self {
            BrokerKind::Embedded => Durability::Fsynced,
            BrokerKind::Kafka => Durability::InSyncReplicas,
        }
    }
}

/// How durable a confirmed append is; named in every receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// fsynced by one broker.
    Fsynced,
    /// Acknowledged by all in-sync replicas, in their page caches.
    InSyncReplicas,
}

/// What a kind of broker can do; checked when rules and links are validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Topics have partitions that a key chooses.
    pub partitions: bool,
    /// Old records can be read again.
    pub replay: bool,
    /// Order is kept within a partition.
    pub ordered: bool,
    /// The broker itself delivers unsettled records again.
    pub native_redelivery: bool,
    /// Positions and records can be written in one transaction.
    pub transactions: bool,
}

/// The fixed facts of one broker.
#[derive(Clone, Debug)]
pub struct BrokerProfile {
    /// The region that it belongs to.
    pub region: RegionName,
    /// Its name within the region.
    pub name: BrokerName,
    /// Its kind.
    pub kind: BrokerKind,
    /// What it can do.
    pub capabilities: Capabilities,
    /// How events become its records.
    pub binding: Binding,
    /// What a confirmed append means.
    pub durability: Durability,
    /// The largest record that it takes, in bytes.
    pub max_record_bytes: usize,
}

/// Tells two brokers apart whatever they are called: Kafka's cluster id, the
/// embedded store's uuid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BrokerIdentity(pub String);

/// Whether the broker can be reached, as far as the adapter knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerState {
    /// It answers.
    Available,
    /// It does not.
    Unavailable {
        /// Since when.
        since: SystemTime,
        /// Why, for people.
        reason: String,
    },
}

/// One broker cluster. Cheap to share; all parts are usable at once. Duties:
///
/// B1. Connecting never waits for the broker to be there: a broker that is gone
///     at start is `Unavailable`, and becomes `Available` by itself.
/// B2. `identity` is stable over restarts of the broker and of this process, and
///     differs between any two brokers.
/// B3. After `close`, appends and reads are refused as `Closed`; what was
///     admitted before has its outcome.
#[async_trait]
pub trait Broker: Send + Sync {
    /// The fixed facts.
    fn profile(&self) -> &BrokerProfile;

    /// Whether it can be reached.
    fn state(&self) -> BrokerState;

    /// Which broker this is.
    ///
    /// # Errors
    /// [`AdminError`] when it cannot be reached.
    async fn identity(&self) -> Result<BrokerIdentity, AdminError>;

    /// Appends.
    fn appender(&self) -> Arc<dyn Appender>;

    /// Joins a group. Succeeds also while the broker is away.
    ///
    /// # Errors
    /// [`ReadError`] when the options cannot be served or the broker is closed.
    async fn open_reader(&self, options: ReaderOptions) -> Result<Box<dyn Reader>, ReadError>;

    /// Administers.
    fn admin(&self) -> Arc<dyn Admin>;

    /// Flushes and closes within `limit`.
    async fn close(&self, limit: Duration);
}
