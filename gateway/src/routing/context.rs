//! What rules are checked against: this region, the regions that can be reached,
//! and this region's brokers with what they can do.
//!
//! Fixed from start to shutdown, so that rules which passed stay right.

use std::collections::BTreeSet;

use meridian_broker::{BrokerConfig, BrokerName, Capabilities, Durability, RegionName};

use crate::brokers::Brokers;

/// What a rule may refer to.
#[derive(Clone, Debug)]
pub struct RuleContext {
    /// The region of this gateway.
    pub region: RegionName,
    /// Regions that events can be forwarded to.
    pub peers: BTreeSet<RegionName>,
    /// The brokers of this region, by name.
    pub brokers: Vec<BrokerFacts>,
    /// Index of the default broker.
    pub default_broker: usize,
}

/// What matters about a broker.
#[derive(Clone, Debug)]
pub struct BrokerFacts {
    /// Its name.
    pub name: BrokerName,
    /// What it can do.
    pub capabilities: Capabilities,
    /// What a confirmed append means.
    pub durability: Durability,
}

impl RuleContext {
    /// The facts of the brokers that are there, and the peers.
    pub fn new(brokers: &Brokers, peers: impl IntoIterator<Item = RegionName>) -> Self {
        let facts = brokers.iter().map(|(name, broker)| {
            let profile = broker.profile();
            BrokerFacts {
                name: name.clone(),
                capabilities: profile.capabilities,
                durability: profile.durability,
            }
        });
        let default_broker = brokers.iter().position(|(name, _)| name == brokers.default_name());
        Self {
            region: brokers.region().clone(),
            peers: peers.into_iter().collect(),
            brokers: facts.collect(),
            default_broker: default_broker.unwrap_or_default(), // Brokers::new has checked that it is there
        }
    }

    /// The same from configuration alone, for checking rules without a broker.
    pub fn of_config(
        region: &RegionName,
        peers: impl IntoIterator<Item = RegionName>,
        brokers: &[BrokerConfig],
        default_broker: &BrokerName,
    ) -> Self {
        let facts = |config: &BrokerConfig| BrokerFacts {
            name: config.name.clone(),
            capabilities: config.kind.kind().capabilities(),
            durability: config.kind.durability(),
        };
        let mut brokers: Vec<BrokerFacts> = brokers.iter().map(facts).collect();
        brokers.sort_by(|one, other| one.name.cmp(&other.name));
        let default = brokers.iter().position(|broker| broker.name == *default_broker);
        Self {
            region: region.clone(),
            peers: peers.into_iter().collect(),
            brokers,
            default_broker: default.unwrap_or_default(), // the configuration has checked that it is there
        }
    }

    /// Whether a region is this one or a peer.
    pub fn knows_region(&self, region: &str) -> bool {
        self.region.as_str() == region || self.peers.contains(region)
    }

    /// The regions, for messages.
    pub fn known_regions(&self) -> String {
        let peers = self.peers.iter().map(RegionName::as_str);
        let known: Vec<&str> = std::iter::once(self.region.as_str()).chain(peers).collect();
        known.join(", ")
    }

    /// The brokers, for messages.
    pub fn known_brokers(&self) -> String {
        let known: Vec<&str> = self.brokers.iter().map(|broker| broker.name.as_str()).collect();
        known.join(", ")
    }

    /// Where a broker stands in the list.
    pub fn broker_index(&self, name: &str) -> Option<usize> {
        self.brokers.iter().position(|broker| broker.name.as_str() == name)
    }
}
