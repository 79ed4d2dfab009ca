//! Listening addresses, peers, rules and topics: small sections of the file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use meridian_broker::RegionName;
use meridian_runtime::{Faults, Mapping, Node};

/// The most addresses of one peer.
const MAX_ADDRESSES: usize = 64;

/// Where to listen, as `host:port`; port 0 takes any free one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Publishers and workers.
    pub data: String,
    /// Operators and probes.
    pub admin: String,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            data: "127.0.0.1:7400".to_owned(),
            admin: "127.0.0.1:7402".to_owned(),
        }
    }
}

impl Listen {
    /// Reads the section.
    pub fn read(root: &Mapping<'_>, faults: &mut Faults) -> Self {
        let default = Self::default();
        let Some(section) = root.section("listen", &["data", "admin"], faults) else {
            return default;
        };
        let mut address = |key: &str, default: String| {
            let address = section.string_or(key, &default, faults);
            if let Err(reason) = check_address(&address) {
                section.fault_at_key(key, faults, reason);
            }
            address
        };
        let data = address("data", default.data);
        let admin = address("admin", default.admin);
        if data == admin && !data.ends_with(":0") {
            section.fault_at_key("admin", faults, "the admin port must differ from the data port");
        }
        Self { data, admin }
    }
}

/// The gateways of another region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// `host:port` each; tried in turn.
    pub addresses: Vec<String>,
}

impl Peer {
    /// Reads `peers`.
    pub fn read_all(root: &Mapping<'_>, own: Option<&RegionName>, faults: &mut Faults) -> BTreeMap<RegionName, Peer> {
        let mut peers = BTreeMap::new();
        let Some(entries) = root.get("peers").and_then(|node| node.entries(faults)) else {
            return peers;
        };
        for (name, node) in entries {
            let region = match RegionName::new(&name) {
                Ok(region) if Some(&region) == own => {
                    node.fault(faults, "this is the gateway's own region; peers are the others");
                    None
                }
                Ok(region) => Some(region),
                Err(error) => {
                    node.fault(faults, error.to_string());
                    None
                }
            };
            if let (Some(peer), Some(region)) = (Self::read(&node, faults), region) {
                peers.insert(region, peer);
            }
        }
        peers
    }

    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let section = node.mapping(&["addresses"], faults)?;
        let list = section.required("addresses", faults)?;
        let addresses = read_addresses(&list, faults)?;
        Some(Self { addresses })
    }
}

/// What metrics tell, besides what they always tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsOptions {
    /// Lag under the name `kafka_consumergroup_lag` as well.
    pub kafka_lag_alias: bool,
    /// From look to look at the lag of groups that this gateway has read and does not read now.
    pub idle_lag_interval: Duration,
}

impl Default for MetricsOptions {
    fn default() -> Self {
        Self {
            kafka_lag_alias: true,
            idle_lag_interval: Duration::from_secs(15),
        }
    }
}

impl MetricsOptions {
    pub(super) const KEYS: &[&str] = &["kafka_lag_alias", "idle_lag_seconds"];

    /// Reads `metrics`.
    pub fn read(root: &Mapping<'_>, faults: &mut Faults) -> Self {
        let default = Self::default();
        let Some(section) = root.section("metrics", Self::KEYS, faults) else {
            return default;
        };
        Self {
            kafka_lag_alias: section.bool_or("kafka_lag_alias", default.kafka_lag_alias, faults),
            idle_lag_interval: section.seconds_or("idle_lag_seconds", default.idle_lag_interval, 1.0..=3_600.0, faults),
        }
    }
}

/// Reads `siblings` or `admin_siblings`: addresses of the other gateways of the region.
pub(super) fn read_siblings(root: &Mapping<'_>, key: &str, faults: &mut Faults) -> Vec<String> {
    let list = root.get(key);
    list.and_then(|list| read_addresses(&list, faults)).unwrap_or_default()
}

fn read_addresses(list: &Node<'_>, faults: &mut Faults) -> Option<Vec<String>> {
    let addresses = list.string_list(faults)?;
    if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
        list.fault(
            faults,
            format!("1 to {MAX_ADDRESSES} addresses are needed, such as [\"gateway.eu-west:7400\"]"),
        );
        return None;
    }
    for address in &addresses {
        if let Err(reason) = check_address(address) {
            list.fault(faults, reason);
        }
    }
    Some(addresses)
}

/// Where rules come from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum RulesSource {
    /// A file that is watched, and written when rules are applied.
    File(PathBuf),
    /// A document given by the program; rules applied later are kept in memory.
    Document(String),
    /// Nowhere yet: an operator applies them, and they are kept in memory.
    #[default]
    Applied,
}

impl RulesSource {
    /// Reads `rules`; a relative file is looked for beside the configuration.
    pub fn read(root: &Mapping<'_>, folder: &Path, faults: &mut Faults) -> Self {
        let section = root.section("rules", &["file"], faults);
        let file = section.and_then(|section| section.required_string("file", faults));
        file.map_or(Self::Applied, |file| Self::File(folder.join(file)))
    }
}

/// How topics of rules are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicDefaults {
    /// Whether they are made at all.
    pub create: bool,
    /// Partitions of each.
    pub partitions: u32,
    /// Kafka only; `None` is the broker's default.
    pub replication_factor: Option<u32>,
}

impl Default for TopicDefaults {
    fn default() -> Self {
        Self {
            create: true,
            partitions: 8,
            replication_factor: None,
        }
    }
}

impl TopicDefaults {
    /// Reads `topics`.
    pub fn read(root: &Mapping<'_>, faults: &mut Faults) -> Self {
        let default = Self::default();
        let Some(section) = root.section("topics", &["create", "partitions", "replication_factor"], faults) else {
            return default;
        };
        let number = |node: Option<Node<'_>>, most, faults: &mut Faults| {
            let number = node.and_then(|node| node.u64(1..=most, faults));
            number.and_then(|number| u32::try_from(number).ok())
        };
        Self {
            create: section.bool_or("create", default.create, faults),
            partitions: number(section.get("partitions"), 10_000, faults).unwrap_or(default.partitions),
            replication_factor: number(section.get("replication_factor"), 15, faults),
        }
    }
}

/// `host:port` by shape; whether it can be reached or bound shows when it is tried.
fn check_address(address: &str) -> Result<(), String> {
    let valid = address.rsplit_once(':').is_some_and(|(host, port)| {
        let host_is_plain = !host.is_empty() && !host.contains('/') && !host.contains(char::is_whitespace);
        host_is_plain && port.parse::<u16>().is_ok()
    });
    if valid {
        return Ok(());
    }
    Err(format!(
        "{address:?} is not host:port; write one such as 127.0.0.1:7400 or [::1]:7400"
    ))
}
