//! One seam over every kind of broker.
//!
//! Module map, from the seam to what implements it:
//! - [`name`]: names of regions, brokers, topics and groups, checked once.
//! - [`seam`]: the [`Broker`] trait, what a broker is and can do.
//! - [`append`]: the [`Appender`] trait: admit, then commit.
//! - [`read`]: the [`Reader`] and [`Settler`] traits: claims, settlement, release.
//! - [`admin`]: the [`Admin`] trait: topics, groups, lag.
//! - [`error`]: typed errors of each operation.
//! - [`frontier`]: what is settled in one partition, pure.
//! - [`metadata`]: a frontier as the text that is stored with a group's position.
//! - [`ledger`]: what one reader holds and what became of it, pure.
//! - [`partitioner`]: the partition of a key, as Kafka's Java client has it.
//! - [`shards`]: the shard of a key where the broker has no partitions of its own.
//! - `room`: room for records that are admitted and not committed.
//! - `assignment`: which member of a group has which partition, pure.
//! - [`adapters`]: the only place that names a broker's client library.
//! - `instrument`: the decorator that counts, around any broker.
//! - [`metrics`]: every metric of this crate.
//! - `conformance`: the suite that holds every adapter to the duties of the seam.
//! - [`config`]: what an operator says about one broker.
//! - [`connect`](mod@connect): from configuration to a broker in use.
//!
//! Nothing here knows of gateways, rules or links.

pub mod adapters;
pub mod admin;
pub mod append;
mod assignment;
pub mod config;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod connect;
pub mod error;
pub mod frontier;
pub mod instrument;
pub mod ledger;
pub mod metadata;
pub mod metrics;
pub mod name;
pub mod partitioner;
pub mod read;
mod room;
pub mod seam;
pub mod shards;

pub use admin::{Admin, GroupDescription, GroupReset, PartitionLag, ResetTarget, TopicDescription, TopicSpec};
pub use append::{Admission, AppendOutcome, AppendRecord, Appender, Commit, CommitSender, Position, RefusedRecord};
pub use config::{BrokerConfig, BrokerKindConfig};
pub use connect::{ConnectError, ConnectErrorKind, connect};
pub use error::{
    AdminError, AdminErrorKind, AppendError, AppendErrorKind, ReadError, ReadErrorKind, SettleError, Stored,
};
pub use frontier::Frontier;
pub use instrument::instrument;
pub use ledger::{Ledger, Observed, PendingCommit};
pub use metrics::BrokerMetrics;
pub use name::{BrokerName, GroupName, NameError, RegionName, TopicName, TopicPartition};
pub use read::{
    Assignment, Claim, Gap, MissingPositionPolicy, PartitionPosition, ReadEvent, ReadRecord, Reader, ReaderOptions,
    ReaderState, Settler, StartPosition,
};
pub use seam::{
    Broker, BrokerIdentity, BrokerKind, BrokerProfile, BrokerState, Capabilities, Durability, KeyPlacement,
};
pub use shards::ShardRing;
