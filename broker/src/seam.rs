//! What a broker is: the trait that gateways and replicators hold.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use meridian_event::Binding;

use crate::admin::Admin;
use crate::append::Appender;
use crate::error::{AdminError, ReadError};
use crate::name::{BrokerName, RegionName};
use crate::partitioner::partition_for;
use crate::read::{Reader, ReaderOptions};
use crate::shards::ShardRing;

/// The kind of a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BrokerKind {
    /// The log inside this process.
    Embedded,
    /// Apache Kafka.
    Kafka,
    /// RabbitMQ, over AMQP 0-9-1.
    RabbitMq,
    /// Redis Streams.
    Redis,
}

impl BrokerKind {
    /// As written in configuration and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            BrokerKind::Embedded => "embedded",
            BrokerKind::Kafka => "kafka",
            BrokerKind::RabbitMq => "rabbitmq",
            BrokerKind::Redis => "redis",
        }
    }

    /// What every broker of this kind can do.
    pub const fn capabilities(self) -> Capabilities {
        Capabilities {
            partitions: true,
            replay: !matches!(self, BrokerKind::RabbitMq),
            ordered: true,
            native_redelivery: matches!(self, BrokerKind::RabbitMq),
            transactions: matches!(self, BrokerKind::Kafka),
            key_placement: match self {
                BrokerKind::Embedded | BrokerKind::Kafka => KeyPlacement::Murmur2,
                BrokerKind::RabbitMq | BrokerKind::Redis => KeyPlacement::ConsistentHash,
            },
        }
    }
}

/// How the key of a record chooses its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyPlacement {
    /// As Kafka's Java client does.
    Murmur2,
    /// On a ring of shards, so that one shard more moves few keys.
    ConsistentHash,
}

impl KeyPlacement {
    /// The partition of a key among `partitions`.
    pub fn partition_for(self, key: &[u8], partitions: u32) -> u32 {
        match self {
            KeyPlacement::Murmur2 => partition_for(key, partitions),
            KeyPlacement::ConsistentHash => ShardRing::new(partitions).shard_for(key),
        }
    }
}

/// How durable a confirmed append is; named in every receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Durability {
    /// In the memory of one broker process.
    Memory,
    /// In the memory of one broker process, which fsyncs every second.
    FsyncedEverySecond,
    /// In the memory of the broker and of as many replicas as were waited for.
    Replicas,
    /// Stored by a majority of the replicas of a queue.
    Quorum,
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
    /// Old records can be read again, and positions name places in a log. Where
    /// they cannot, positions count the deliveries of one claim generation.
    pub replay: bool,
    /// Order is kept within a partition.
    pub ordered: bool,
    /// The broker itself delivers unsettled records again.
    pub native_redelivery: bool,
    /// Positions and records can be written in one transaction.
    pub transactions: bool,
    /// How a key chooses its partition.
    pub key_placement: KeyPlacement,
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
/// embedded store's uuid, the uuid that Meridian keeps in a Redis or RabbitMQ.
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

    /// How often a client of the broker was given up and opened anew, because it
    /// stood still or was dead.
    fn client_rebuilds(&self) -> u64 {
        0
    }

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
