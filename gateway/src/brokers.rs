//! The region's brokers by name, and the default one.
//!
//! Fixed from start to shutdown: rules and workers name brokers, and a name that
//! was there when they were checked stays. Opening and closing brokers is left to
//! the composition root.

use std::collections::BTreeMap;
use std::sync::Arc;

use meridian_broker::{Broker, BrokerName, RegionName};

/// The brokers that one gateway may write to and read from. Cheap to clone.
#[derive(Clone)]
pub struct Brokers {
    shared: Arc<Shared>,
}

struct Shared {
    region: RegionName,
    default_name: BrokerName,
    default_broker: Arc<dyn Broker>,
    by_name: BTreeMap<BrokerName, Arc<dyn Broker>>,
}

/// The default broker is none of the brokers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the default broker {name} is not among the brokers of region {region}; name one of: {known}")]
pub struct UnknownDefaultBroker {
    /// What was named.
    pub name: BrokerName,
    /// The region.
    pub region: RegionName,
    /// The brokers that there are, by comma.
    pub known: String,
}

impl Brokers {
    /// The brokers of `region`.
    ///
    /// # Errors
    /// [`UnknownDefaultBroker`] when `default` is none of them.
    pub fn new(
        region: RegionName,
        default: BrokerName,
        by_name: BTreeMap<BrokerName, Arc<dyn Broker>>,
    ) -> Result<Self, UnknownDefaultBroker> {
        let Some(default_broker) = by_name.get(&default).cloned() else {
            let known: Vec<&str> = by_name.keys().map(BrokerName::as_str).collect();
            return Err(UnknownDefaultBroker {
                name: default,
                region,
                known: known.join(", "),
            });
        };
        Ok(Self {
            shared: Arc::new(Shared {
                region,
                default_name: default,
                default_broker,
                by_name,
            }),
        })
    }

    /// The region that they belong to.
    pub fn region(&self) -> &RegionName {
        &self.shared.region
    }

    /// The broker that is meant where none is named.
    pub fn default_broker(&self) -> &Arc<dyn Broker> {
        &self.shared.default_broker
    }

    /// The name of the default broker.
    pub fn default_name(&self) -> &BrokerName {
        &self.shared.default_name
    }

    /// A broker by name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Broker>> {
        self.shared.by_name.get(name)
    }

    /// All brokers, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&BrokerName, &Arc<dyn Broker>)> {
        self.shared.by_name.iter()
    }
}

impl std::fmt::Debug for Brokers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Brokers")
            .field("region", &self.shared.region)
            .field("default", &self.shared.default_name)
            .field("names", &self.shared.by_name.keys().collect::<Vec<_>>())
            .finish()
    }
}
