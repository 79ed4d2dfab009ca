//! The whole file of a gateway, and checking it without starting anything.
//!
//! What holds: a file that reads without a fault starts, unless the world
//! differs: a port taken, a folder not writable.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use meridian_broker::{BrokerConfig, BrokerName, RegionName};
use meridian_runtime::{Document, Faults, Mapping, SecretSources};

use super::limits::{self, Limits};
use super::sections::{Listen, MetricsOptions, Peer, RulesSource, TopicDefaults, read_siblings};
use crate::idempotence::IdempotenceOptions;
use crate::routing::{RuleContext, document};
use crate::subscription::SubscriptionOptions;

/// The prefix of variables that override keys: `MERIDIAN__LISTEN__DATA`.
pub const OVERRIDE_PREFIX: &str = "MERIDIAN";

const KEYS: &[&str] = &[
    "region",
    "listen",
    "brokers",
    "default_broker",
    "peers",
    "siblings",
    "admin_siblings",
    "metrics",
    "rules",
    "topics",
    "limits",
    "subscriptions",
    "idempotence",
    "shutdown_seconds",
];

/// The most brokers of one region.
const MAX_BROKERS: usize = 16;

/// Everything that a gateway is told.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayConfig {
    /// The region that it serves.
    pub region: RegionName,
    /// Where it listens.
    pub listen: Listen,
    /// The region's brokers.
    pub brokers: Vec<BrokerConfig>,
    /// The broker where a rule or a worker names none.
    pub default_broker: BrokerName,
    /// The gateways of other regions.
    pub peers: BTreeMap<RegionName, Peer>,
    /// The admin addresses of the region's other gateways: they are told of pauses.
    pub admin_siblings: Vec<String>,
    /// What metrics tell.
    pub metrics: MetricsOptions,
    /// Where rules come from.
    pub rules: RulesSource,
    /// How topics of rules are made.
    pub topics: TopicDefaults,
    /// Bounds.
    pub limits: Limits,
    /// How workers are served.
    pub subscriptions: SubscriptionOptions,
    /// Windows in which an event that is published again is told its first receipt.
    pub idempotence: IdempotenceOptions,
    /// How long an orderly stop may take.
    pub shutdown_deadline: Duration,
}

impl GatewayConfig {
    /// Reads a file with its overrides, and the rules file that it names.
    ///
    /// # Errors
    /// Every fault of both.
    pub fn load(path: &Path, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, Faults> {
        let variables: Vec<(String, String)> = variables.into_iter().collect();
        let folder = path.parent().unwrap_or(Path::new(""));
        let secrets = SecretSources::new(variables.iter().cloned(), folder);
        let document = Document::load(path)?.with_overrides(OVERRIDE_PREFIX, variables)?;
        let config = Self::read(&document, folder, &secrets)?;
        config.check_rules()?;
        Ok(config)
    }

    /// Reads a document; files that it names are looked for in `folder`.
    ///
    /// # Errors
    /// Every fault.
    pub fn read(document: &Document, folder: &Path, secrets: &SecretSources) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let config = Self::read_root(document, folder, secrets, &mut faults);
        faults.into_result_of(config)
    }

    fn read_root(document: &Document, folder: &Path, secrets: &SecretSources, faults: &mut Faults) -> Option<Self> {
        let root = document.root().mapping(KEYS, faults)?;
        let region = root
            .required("region", faults)
            .and_then(|node| node.parsed::<RegionName>(faults));
        let listen = Listen::read(&root, faults);
        let brokers = read_brokers(&root, region.as_ref(), secrets, faults);
        let default_broker = read_default(&root, &brokers, faults);
        let peers = Peer::read_all(&root, region.as_ref(), faults);
        let rules = RulesSource::read(&root, folder, faults);
        let topics = TopicDefaults::read(&root, faults);
        let limits = root.section("limits", limits::KEYS, faults);
        let limits = limits.map(|section| Limits::read(&section, faults)).unwrap_or_default();
        let subscriptions = root
            .get("subscriptions")
            .map(|node| SubscriptionOptions::read(&node, faults));
        let subscriptions = SubscriptionOptions {
            siblings: read_siblings(&root, "siblings", faults),
            ..subscriptions.unwrap_or_default()
        };
        let idempotence = IdempotenceOptions::read(&root, secrets, faults);
        let shutdown_deadline = root.seconds_or("shutdown_seconds", Duration::from_secs(30), 1.0..=3600.0, faults);
        let admin_siblings = read_siblings(&root, "admin_siblings", faults);
        let metrics = MetricsOptions::read(&root, faults);
        Some(Self {
            region: region?,
            listen,
            brokers,
            default_broker: default_broker?,
            peers,
            admin_siblings,
            metrics,
            rules,
            topics,
            limits,
            subscriptions,
            idempotence,
            shutdown_deadline,
        })
    }

    /// What rules are checked against, known without a broker.
    pub fn rule_context(&self) -> RuleContext {
        RuleContext::of_config(
            &self.region,
            self.peers.keys().cloned(),
            &self.brokers,
            &self.default_broker,
        )
    }

    /// Reads the rules that the file names.
    ///
    /// # Errors
    /// Every fault of them; a file that is not there yet is none.
    pub fn check_rules(&self) -> Result<(), Faults> {
        let context = self.rule_context();
        match &self.rules {
            RulesSource::Applied => Ok(()),
            RulesSource::Document(text) => document::parse("rules", text, &context).map(drop),
            RulesSource::File(path) if !path.exists() => Ok(()),
            RulesSource::File(path) => {
                // Loading checks size and encoding with words of its own.
                let name = path.display().to_string();
                Document::load(path)?;
                let text = std::fs::read_to_string(path).unwrap_or_default();
                document::parse(&name, &text, &context).map(drop)
            }
        }
    }
}

fn read_brokers(
    root: &Mapping<'_>,
    region: Option<&RegionName>,
    secrets: &SecretSources,
    faults: &mut Faults,
) -> Vec<BrokerConfig> {
    let Some(node) = root.required("brokers", faults) else {
        return Vec::new();
    };
    let entries = node.entries(faults).unwrap_or_default();
    if entries.is_empty() || entries.len() > MAX_BROKERS {
        node.fault(
            faults,
            format!(
                "1 to {MAX_BROKERS} brokers are needed, such as main: {{ kafka: {{ bootstrap: \"kafka:9092\" }} }}"
            ),
        );
        return Vec::new();
    }
    let mut brokers = Vec::with_capacity(entries.len());
    for (name, node) in entries {
        match BrokerName::new(&name) {
            Err(error) => node.fault(faults, error.to_string()),
            Ok(name) => {
                // Its faults are told even where the region's name is one.
                let stand_in = || RegionName::new("unnamed").ok();
                let of_region = region.cloned().or_else(stand_in);
                brokers.extend(of_region.and_then(|region| BrokerConfig::read(region, &name, &node, secrets, faults)));
            }
        }
    }
    brokers
}

/// The default broker: the only one, or the one that is named.
fn read_default(root: &Mapping<'_>, brokers: &[BrokerConfig], faults: &mut Faults) -> Option<BrokerName> {
    let known: Vec<&str> = brokers.iter().map(|broker| broker.name.as_str()).collect();
    let known = known.join(", ");
    match (root.get("default_broker"), brokers) {
        (None, [only]) => Some(only.name.clone()),
        (None, []) => None,
        (None, _) => {
            root.node().fault(
                faults,
                format!("default_broker is needed where there are several brokers: {known}"),
            );
            None
        }
        (Some(node), _) => {
            let name = node.parsed::<BrokerName>(faults)?;
            if !brokers.is_empty() && !brokers.iter().any(|broker| broker.name == name) {
                node.fault(faults, format!("there is no broker {name}; known: {known}"));
            }
            Some(name)
        }
    }
}

#[cfg(test)]
mod tests {
    use meridian_broker::adapters::embedded::EmbeddedConfig;
    use meridian_broker::adapters::kafka::KafkaConfig;
    use meridian_broker::adapters::rabbitmq::RabbitMqConfig;
    use meridian_broker::adapters::redis::RedisConfig;

    use super::*;

    fn read(text: &str) -> Result<GatewayConfig, Faults> {
        let document = Document::parse("gateway.yaml", text)?;
        GatewayConfig::read(&document, Path::new("/etc/meridian"), &SecretSources::default())
    }

    const SMALL: &str = "region: us-east\nbrokers: { main: { embedded: { directory: data } } }\n";

    #[test]
    fn the_smallest_file_has_safe_defaults() {
        let config = read(SMALL).unwrap();
        assert_eq!(config.default_broker.as_str(), "main");
        assert_eq!(config.listen.data, "127.0.0.1:7400");
        assert_eq!(config.rules, RulesSource::Applied);
        assert!(config.subscriptions.siblings.is_empty());
        assert_eq!(config.shutdown_deadline, Duration::from_secs(30));
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        let text = "
region: US_East
listen: { data: here, admin: 127.0.0.1:7402 }
brokers:
  main: { kafka: { bootstrap: k:9092 } }
  fast: { embedded: { directory: d } }
default_broker: slow
peers: { eu-west: { addresses: [] } }
siblings: [next-door]
admin_siblings: [next-door]
metrics: { kafka_lag_alias: perhaps }
limits: { max_event_bytes: 0 }
colour: blue
";
        let faults = read(text).unwrap_err();
        let told: Vec<String> = faults
            .iter()
            .map(|fault| format!("{}:{}", fault.line, fault.path))
            .collect();
        for place in [
            "2:region",
            "3:listen.data",
            "8:peers.eu-west.addresses",
            "9:siblings",
            "10:admin_siblings",
            "11:metrics.kafka_lag_alias",
            "12:limits.max_event_bytes",
            "13:colour",
        ] {
            assert!(told.iter().any(|told| told == place), "{place} is not among {told:?}");
        }
    }

    #[test]
    fn several_brokers_need_a_default_that_is_one_of_them() {
        let two =
            "region: us-east\nbrokers:\n  a: { embedded: { directory: a } }\n  b: { embedded: { directory: b } }\n";
        assert!(read(two).unwrap_err().to_string().contains("default_broker is needed"));
        let wrong = format!("{two}default_broker: c\n");
        assert!(
            read(&wrong)
                .unwrap_err()
                .to_string()
                .contains("there is no broker c; known: a, b")
        );
    }

    #[test]
    fn faulty_rules_are_faults_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        std::fs::write(&path, format!("{SMALL}rules: {{ file: rules.yaml }}\n")).unwrap();
        assert!(GatewayConfig::load(&path, []).is_ok(), "rules may come later");
        std::fs::write(
            folder.path().join("rules.yaml"),
            "rules:\n  - name: a\n    send: { topic: t, region: mars }\n",
        )
        .unwrap();
        let faults = GatewayConfig::load(&path, []).unwrap_err().to_string();
        assert!(faults.contains("rules.yaml:3") && faults.contains("mars"), "{faults}");
    }

    #[test]
    fn every_key_is_in_the_documentation() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
        let page = std::fs::read_to_string(path).unwrap();
        let keys = KEYS
            .iter()
            .chain(limits::KEYS)
            .chain(crate::subscription::options::KEYS)
            .chain(crate::idempotence::options::KEYS);
        for key in MetricsOptions::KEYS {
            assert!(page.contains(&format!("`metrics.{key}`")), "metrics.{key}");
        }
        let of_brokers = [
            EmbeddedConfig::KEYS,
            KafkaConfig::KEYS,
            RabbitMqConfig::KEYS,
            RedisConfig::KEYS,
        ];
        for key in keys.chain(of_brokers.into_iter().flatten()) {
            let shown = [format!("`{key}`"), format!("`{key}."), format!("`{key}:")];
            assert!(
                shown.iter().any(|shown| page.contains(shown)),
                "docs/configuration.md does not explain {key}"
            );
        }
    }
}
