//! What an operator says about a RabbitMQ broker, read and checked.

use meridian_runtime::config::{Faults, Mapping, SecretSources};

use crate::seam::Durability;

/// One RabbitMQ broker.
#[derive(Clone, Debug, PartialEq)]
pub struct RabbitMqConfig {
    /// Where it listens: `host:port` each.
    pub addresses: Vec<String>,
}

impl RabbitMqConfig {
    /// The keys that [`RabbitMqConfig::read`] knows.
    pub const KEYS: &'static [&'static str] = &["addresses"];

    /// The defaults for these addresses.
    pub fn new(addresses: Vec<String>) -> Self {
        Self { addresses }
    }

    /// Reads a mapping whose keys are checked to be among the known ones.
    pub fn read(mapping: &Mapping<'_>, _secrets: &SecretSources, faults: &mut Faults) -> Option<Self> {
        Some(Self::new(mapping.required("addresses", faults)?.string_list(faults)?))
    }

    /// What a confirmed append means.
    pub fn durability(&self) -> Durability {
        Durability::Memory
    }
}
