//! The configuration file of a replicator, read into valid settings.
//!
//! What holds: every fault is found, with file, line and path; a link's ends are
//! brokers that the file describes, and are not one and the same.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use meridian_broker::config::BrokerKindConfig;
use meridian_broker::{BrokerConfig, BrokerName, MissingPositionPolicy, RegionName};
use meridian_runtime::{Document, Faults, Mapping, Node, SecretSources};

use crate::spec::{LinkName, LinkOptions, OnRefused};
use crate::topics::{Naming, TopicPattern};

/// The prefix of variables that override keys: `MERIDIAN__LISTEN__ADMIN`.
pub const OVERRIDE_PREFIX: &str = "MERIDIAN";

const KEYS: &[&str] = &["listen", "regions", "links", "shutdown_seconds"];
const LINK_KEYS: &[&str] = &[
    "name",
    "source",
    "target",
    "topics",
    "naming",
    "refresh_topics_seconds",
    "max_hops",
    "on_refused",
    "missing_position",
    "create_topics",
    "replication_factor",
    "window_records",
    "window_bytes",
    "batch_records",
];
const MAX_LINKS: usize = 256;
const MAX_PATTERNS: usize = 256;
const DEFAULT_ADMIN: &str = "127.0.0.1:7602";
const MIB: usize = 1024 * 1024;

/// One end of a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// The region.
    pub region: RegionName,
    /// The broker of the region.
    pub broker: BrokerName,
}

/// One link, its ends by name.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// Its name.
    pub name: LinkName,
    /// Where it reads.
    pub source: End,
    /// Where it appends.
    pub target: End,
    /// How.
    pub options: LinkOptions,
}

/// Everything that a replicator is told.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicatorConfig {
    /// Where operators and probes connect.
    pub listen_admin: String,
    /// Every broker that a link may name.
    pub brokers: BTreeMap<End, BrokerConfig>,
    /// The links.
    pub links: Vec<LinkConfig>,
    /// How long an orderly stop may take.
    pub shutdown_deadline: Duration,
}

impl ReplicatorConfig {
    /// Reads a file with its overrides.
    ///
    /// # Errors
    /// Every fault.
    pub fn load(path: &Path, variables: impl IntoIterator<Item = (String, String)>) -> Result<Self, Faults> {
        let variables: Vec<(String, String)> = variables.into_iter().collect();
        let folder = path.parent().unwrap_or(Path::new(""));
        let secrets = SecretSources::new(variables.iter().cloned(), folder);
        let document = Document::load(path)?.with_overrides(OVERRIDE_PREFIX, variables)?;
        Self::read(&document, &secrets)
    }

    /// Reads a document.
    ///
    /// # Errors
    /// Every fault.
    pub fn read(document: &Document, secrets: &SecretSources) -> Result<Self, Faults> {
        let mut faults = Faults::new();
        let config = Self::read_root(document, secrets, &mut faults);
        faults.into_result_of(config)
    }

    fn read_root(document: &Document, secrets: &SecretSources, faults: &mut Faults) -> Option<Self> {
        let root = document.root().mapping(KEYS, faults)?;
        let listen = root.section("listen", &["admin"], faults);
        let listen_admin = listen.map(|listen| read_admin(&listen, faults));
        let brokers = read_regions(&root, secrets, faults);
        let links = read_links(&root, &brokers, faults);
        let shutdown_deadline = root.seconds_or("shutdown_seconds", Duration::from_secs(20), 1.0..=3600.0, faults);
        Some(Self {
            listen_admin: listen_admin.unwrap_or_else(|| DEFAULT_ADMIN.to_owned()),
            brokers: as_targets(brokers, &links),
            links,
            shutdown_deadline,
        })
    }
}

/// Checks a file with its overrides, and starts nothing.
///
/// # Errors
/// Every fault, with file, line and path.
pub fn check(path: &Path, variables: impl IntoIterator<Item = (String, String)>) -> Result<(), Faults> {
    ReplicatorConfig::load(path, variables).map(drop)
}

/// A mirror never gives a record up for want of time: what a target could not
/// confirm is tried for ever.
fn as_targets(mut brokers: BTreeMap<End, BrokerConfig>, links: &[LinkConfig]) -> BTreeMap<End, BrokerConfig> {
    for (end, broker) in &mut brokers {
        let is_target = links.iter().any(|link| link.target == *end);
        if let (BrokerKindConfig::Kafka(kafka), true) = (&mut broker.kind, is_target) {
            kafka.delivery_timeout = None;
        }
    }
    brokers
}

/// `host:port` by shape; whether it can be bound shows when it is tried.
fn read_admin(listen: &Mapping<'_>, faults: &mut Faults) -> String {
    let address = listen.string_or("admin", DEFAULT_ADMIN, faults);
    let valid = address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && !host.contains(['/', ' ']) && port.parse::<u16>().is_ok());
    if !valid {
        let what = format!("{address:?} is not host:port; write one such as {DEFAULT_ADMIN} or [::1]:7602");
        listen.fault_at_key("admin", faults, what);
    }
    address
}

fn read_regions(root: &Mapping<'_>, secrets: &SecretSources, faults: &mut Faults) -> BTreeMap<End, BrokerConfig> {
    let mut brokers = BTreeMap::new();
    let Some(regions) = root.required("regions", faults).and_then(|node| node.entries(faults)) else {
        return brokers;
    };
    for (name, node) in regions {
        let region = match RegionName::new(&name) {
            Ok(region) => region,
            Err(error) => {
                node.fault(faults, error.to_string());
                continue;
            }
        };
        let section = node.mapping(&["brokers"], faults);
        let entries = section
            .and_then(|section| section.required("brokers", faults))
            .and_then(|node| node.entries(faults));
        for (name, node) in entries.unwrap_or_default() {
            match BrokerName::new(&name) {
                Err(error) => node.fault(faults, error.to_string()),
                Ok(broker) => {
                    if let Some(config) = BrokerConfig::read(region.clone(), &broker, &node, secrets, faults) {
                        brokers.insert(
                            End {
                                region: region.clone(),
                                broker,
                            },
                            config,
                        );
                    }
                }
            }
        }
    }
    brokers
}

fn read_links(root: &Mapping<'_>, brokers: &BTreeMap<End, BrokerConfig>, faults: &mut Faults) -> Vec<LinkConfig> {
    let Some(list) = root.required("links", faults) else {
        return Vec::new();
    };
    let items = list.list(faults).unwrap_or_default();
    if items.is_empty() || items.len() > MAX_LINKS {
        list.fault(faults, format!("1 to {MAX_LINKS} links are needed"));
        return Vec::new();
    }
    let mut links: Vec<LinkConfig> = Vec::with_capacity(items.len());
    for item in items {
        let Some(link) = read_link(&item, brokers, faults) else {
            continue;
        };
        if links.iter().any(|other| other.name == link.name) {
            item.fault(
                faults,
                format!(
                    "another link is called {} too; a link's name names its group",
                    link.name
                ),
            );
        }
        links.push(link);
    }
    links
}

fn read_link(item: &Node<'_>, brokers: &BTreeMap<End, BrokerConfig>, faults: &mut Faults) -> Option<LinkConfig> {
    let link = item.mapping(LINK_KEYS, faults)?;
    let name = link.required("name", faults).and_then(|node| {
        let text = node.string(faults)?;
        LinkName::new(&text)
            .map_err(|error| node.fault(faults, error.to_string()))
            .ok()
    });
    let source = read_end(&link, "source", brokers, faults);
    let target = read_end(&link, "target", brokers, faults);
    if let (Some(source), Some(target)) = (&source, &target)
        && source == target
    {
        link.fault_at_key(
            "target",
            faults,
            "a link's two ends are one broker; it would mirror a topic into itself",
        );
    }
    let options = read_options(&link, faults);
    Some(LinkConfig {
        name: name?,
        source: source?,
        target: target?,
        options: options?,
    })
}

fn read_end(link: &Mapping<'_>, key: &str, brokers: &BTreeMap<End, BrokerConfig>, faults: &mut Faults) -> Option<End> {
    let node = link.required(key, faults)?;
    let section = node.mapping(&["region", "broker"], faults)?;
    let region = section
        .required("region", faults)
        .and_then(|node| node.parsed::<RegionName>(faults));
    let broker = section
        .required("broker", faults)
        .and_then(|node| node.parsed::<BrokerName>(faults));
    let end = End {
        region: region?,
        broker: broker?,
    };
    if !brokers.contains_key(&end) {
        let known: Vec<String> = brokers
            .keys()
            .map(|end| format!("{}/{}", end.region, end.broker))
            .collect();
        node.fault(
            faults,
            format!(
                "`regions` has no broker {}/{}; it has: {}",
                end.region,
                end.broker,
                known.join(", ")
            ),
        );
    }
    Some(end)
}

fn read_options(link: &Mapping<'_>, faults: &mut Faults) -> Option<LinkOptions> {
    let topics = read_patterns(link, faults)?;
    let default = LinkOptions::new(topics);
    let naming = [("prefix", Naming::Prefix), ("same", Naming::Same)];
    let refused = [("stop", OnRefused::Stop), ("dead_letter", OnRefused::DeadLetter)];
    let missing = [
        ("fail", MissingPositionPolicy::Fail),
        ("earliest", MissingPositionPolicy::Earliest),
        ("latest", MissingPositionPolicy::Latest),
    ];
    let replication_factor = link.get("replication_factor").and_then(|node| node.u64(1..=15, faults));
    Some(LinkOptions {
        naming: link.choice_or("naming", default.naming, &naming, faults),
        refresh_topics: link.seconds_or("refresh_topics_seconds", default.refresh_topics, 0.5..=3600.0, faults),
        max_hops: link.usize_or("max_hops", default.max_hops, 1..=16, faults),
        on_refused: link.choice_or("on_refused", default.on_refused, &refused, faults),
        missing_position: link.choice_or("missing_position", default.missing_position, &missing, faults),
        create_topics: link.bool_or("create_topics", default.create_topics, faults),
        replication_factor: replication_factor.and_then(|factor| NonZeroU32::new(u32::try_from(factor).ok()?)),
        window_records: link.usize_or("window_records", default.window_records, 1..=1_000_000, faults),
        window_bytes: link.usize_or("window_bytes", default.window_bytes, MIB..=4096 * MIB, faults),
        batch_records: link.usize_or("batch_records", default.batch_records, 1..=100_000, faults),
        topics: default.topics,
    })
}

fn read_patterns(link: &Mapping<'_>, faults: &mut Faults) -> Option<Vec<TopicPattern>> {
    let list = link.required("topics", faults)?;
    let items = list.list(faults)?;
    let mut patterns = Vec::with_capacity(items.len());
    for item in &items {
        patterns.extend(item.parsed::<TopicPattern>(faults));
    }
    if items.len() > MAX_PATTERNS || !patterns.iter().any(|pattern| !pattern.excludes()) {
        list.fault(
            faults,
            format!("1 to {MAX_PATTERNS} topics are needed, of which one does not begin with `!`"),
        );
    }
    Some(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGIONS: &str = "
regions:
  us-east: { brokers: { main: { kafka: { bootstrap: 'a:9092' } } } }
  eu-west: { brokers: { main: { kafka: { bootstrap: 'b:9092' } } } }
";

    fn read(links: &str) -> Result<ReplicatorConfig, Faults> {
        let document = Document::parse("replicator.yaml", &format!("{REGIONS}{links}"))?;
        ReplicatorConfig::read(&document, &SecretSources::default())
    }

    const ENDS: &str = "source: { region: us-east, broker: main }, target: { region: eu-west, broker: main }";

    #[test]
    fn a_link_has_safe_defaults_and_its_target_never_gives_up() {
        let config = read(&format!(
            "links: [{{ name: us-to-eu, {ENDS}, topics: ['orders.*', '!*.private'] }}]"
        ))
        .unwrap();
        let link = &config.links[0];
        assert_eq!(
            (link.options.naming, link.options.on_refused),
            (Naming::Prefix, OnRefused::Stop)
        );
        assert_eq!(config.listen_admin, "127.0.0.1:7602");
        let delivery = |end: &End| match &config.brokers[end].kind {
            BrokerKindConfig::Kafka(kafka) => kafka.delivery_timeout,
            other => panic!("the test has Kafka alone, not {other:?}"),
        };
        assert_eq!(delivery(&link.target), None);
        assert!(delivery(&link.source).is_some());
    }

    #[test]
    fn every_fault_is_told_with_its_place() {
        let links = "
links:
  - { name: a, source: { region: us-east, broker: main }, target: { region: us-east, broker: main }, topics: [x] }
  - { name: B, source: { region: mars, broker: main }, target: { region: eu-west, broker: main }, topics: ['!x'], naming: odd }
";
        let faults = read(links).unwrap_err().to_string();
        for expected in [
            "a link's two ends are one broker",
            "`regions` has no broker mars/main; it has: eu-west/main, us-east/main",
            "of which one does not begin with `!`",
            "naming",
            "links[1].name",
        ] {
            assert!(faults.contains(expected), "{expected:?} is not in\n{faults}");
        }
    }

    #[test]
    fn link_names_are_unique() {
        let link = format!("{{ name: a, {ENDS}, topics: [x] }}");
        let faults = read(&format!("links: [{link}, {link}]")).unwrap_err().to_string();
        assert!(faults.contains("another link is called a too"), "{faults}");
    }
}
