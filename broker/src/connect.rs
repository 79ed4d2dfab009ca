//! From configuration to a broker in use: picks the adapter, then wraps what it
//! gives with metrics and spans. Only this file names every kind.
//!
//! What holds: connecting waits for no broker (duty B1); an error here is for an
//! operator to mend, never one that heals by itself.

use std::sync::Arc;

use meridian_runtime::clock::SharedClock;

use crate::adapters::{embedded, kafka, rabbitmq, redis};
use crate::config::{BrokerConfig, BrokerKindConfig};
use crate::error::Source;
use crate::instrument::instrument;
use crate::metrics::BrokerMetrics;
use crate::name::{BrokerName, RegionName};
use crate::seam::Broker;

/// Connects one broker and has it counted for as long as it is held.
///
/// # Errors
/// [`ConnectError`] when an operator is needed; a broker that is away is none.
pub async fn connect(
    config: BrokerConfig,
    clock: SharedClock,
    metrics: &BrokerMetrics,
) -> Result<Arc<dyn Broker>, ConnectError> {
    let BrokerConfig { region, name, kind } = config;
    let broker = match kind {
        BrokerKindConfig::Embedded(config) => embedded::connect(region, name, config, Arc::clone(&clock)).await?,
        BrokerKindConfig::Kafka(config) => kafka::connect(region, name, config, Arc::clone(&clock)).await?,
        BrokerKindConfig::RabbitMq(config) => rabbitmq::connect(region, name, config, Arc::clone(&clock)).await?,
        BrokerKindConfig::Redis(config) => redis::connect(region, name, config, Arc::clone(&clock)).await?,
    };
    Ok(instrument(broker, metrics, clock))
}

/// What kind of fault a [`ConnectError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectErrorKind {
    /// The settings are refused by the client library or contradict one another.
    InvalidConfig,
    /// The store's folder cannot be made, read or written.
    StorageUnavailable,
    /// Another process or handle has the store open.
    StorageLocked,
    /// The store is damaged, or of a later format.
    StorageDamaged,
    /// Any other fault of the adapter.
    Internal,
}

impl ConnectErrorKind {
    /// Every kind, for tables.
    pub const ALL: &'static [ConnectErrorKind] = &[
        ConnectErrorKind::InvalidConfig,
        ConnectErrorKind::StorageUnavailable,
        ConnectErrorKind::StorageLocked,
        ConnectErrorKind::StorageDamaged,
        ConnectErrorKind::Internal,
    ];

    /// Stable code, explained in `docs/errors.md`.
    pub fn code(self) -> &'static str {
        match self {
            ConnectErrorKind::InvalidConfig => "BROKER_CONFIG_INVALID",
            ConnectErrorKind::StorageUnavailable => "BROKER_STORAGE_UNAVAILABLE",
            ConnectErrorKind::StorageLocked => "BROKER_STORAGE_LOCKED",
            ConnectErrorKind::StorageDamaged => "BROKER_STORAGE_DAMAGED",
            ConnectErrorKind::Internal => "BROKER_INTERNAL",
        }
    }
}

/// Why a broker could not be connected at all. A broker that is merely away is
/// no error: it is connected, and unavailable.
#[derive(Debug, thiserror::Error)]
#[error("broker {name} of region {region} cannot be used: {message}")]
pub struct ConnectError {
    /// What kind.
    pub kind: ConnectErrorKind,
    /// The region.
    pub region: RegionName,
    /// The broker.
    pub name: BrokerName,
    /// What, where, and what to do next.
    pub message: String,
    /// The client library's or the system's error.
    #[source]
    pub source: Option<Source>,
}

impl ConnectError {
    /// An error without a source.
    pub fn new(kind: ConnectErrorKind, region: &RegionName, name: &BrokerName, message: impl Into<String>) -> Self {
        Self {
            kind,
            region: region.clone(),
            name: name.clone(),
            message: message.into(),
            source: None,
        }
    }

    /// The same error with its source.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }
}
