//! Which topics have a window, and where it is kept: `idempotence` of the file.
//!
//! ```yaml
//! idempotence:
//!   topics: [{ topic: "orders*", window_seconds: 600 }]
//!   redis: { address: "redis:6379" }
//! ```

use std::time::Duration;

use meridian_runtime::config::{Faults, Mapping, SecretSources};
use meridian_runtime::{Node, Secret};

use crate::routing::glob::Glob;

/// The keys of the section.
pub(crate) const KEYS: &[&str] = &["topics", "max_ids", "redis"];
const TOPIC_KEYS: &[&str] = &["topic", "window_seconds"];
const REDIS_KEYS: &[&str] = &["address", "username", "password", "database", "tls", "key_prefix"];

/// The most patterns.
const MAX_TOPICS: usize = 256;
const WINDOW_SECONDS: std::ops::RangeInclusive<f64> = 1.0..=30.0 * 86_400.0;
const DEFAULT_WINDOW: Duration = Duration::from_secs(600);

/// What is remembered of published events, and where.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct IdempotenceOptions {
    /// Topics with a window; the first pattern that matches a topic counts.
    pub topics: Vec<TopicWindow>,
    /// Ids that a gateway remembers at most, where it keeps the windows itself.
    pub max_ids: usize,
    /// The Redis that the gateways share; `None` is the memory of each.
    pub redis: Option<RedisAddress>,
}

/// A window of the topics that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicWindow {
    /// Topics, `*` standing for any characters.
    pub topic: Glob,
    /// How long an event is remembered.
    pub window: Duration,
}

/// Where the shared windows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisAddress {
    /// `host:port`.
    pub address: String,
    /// The user; `None` is the default one.
    pub username: Option<String>,
    /// The password, where one is needed.
    pub password: Option<Secret>,
    /// The number of the database.
    pub database: u8,
    /// TLS with the system's authorities.
    pub tls: bool,
    /// What the names of the keys begin with.
    pub key_prefix: String,
}

impl IdempotenceOptions {
    /// Reads the section of the root mapping, if it is there.
    pub fn read(root: &Mapping<'_>, secrets: &SecretSources, faults: &mut Faults) -> Self {
        let Some(section) = root.section("idempotence", KEYS, faults) else {
            return Self::default();
        };
        let nodes = section.required("topics", faults).and_then(|node| node.list(faults));
        let nodes = nodes.unwrap_or_default();
        if nodes.len() > MAX_TOPICS {
            section.fault_at_key("topics", faults, format!("at most {MAX_TOPICS} patterns are allowed"));
        }
        Self {
            topics: nodes
                .iter()
                .filter_map(|node| TopicWindow::read(node, faults))
                .collect(),
            max_ids: section.usize_or("max_ids", 1_000_000, 1_000..=100_000_000, faults),
            redis: RedisAddress::read(&section, secrets, faults),
        }
    }
}

impl TopicWindow {
    fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let mapping = node.mapping(TOPIC_KEYS, faults)?;
        let window = mapping.seconds_or("window_seconds", DEFAULT_WINDOW, WINDOW_SECONDS, faults);
        let pattern = mapping.required_string("topic", faults)?;
        match Glob::new(&pattern) {
            Ok(topic) => Some(Self { topic, window }),
            Err(error) => {
                mapping.fault_at_key("topic", faults, error.to_string());
                None
            }
        }
    }
}

impl RedisAddress {
    fn read(section: &Mapping<'_>, secrets: &SecretSources, faults: &mut Faults) -> Option<Self> {
        let redis = section.section("redis", REDIS_KEYS, faults)?;
        let address = redis.required_string("address", faults)?;
        let is_server = address
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0));
        if !is_server {
            redis.fault_at_key("address", faults, format!("must be `host:port`, got {address:?}"));
        }
        let username = redis.string_or("username", "", faults);
        Some(Self {
            address,
            username: (!username.is_empty()).then_some(username),
            password: redis.secret("password", secrets, faults),
            database: u8::try_from(redis.u64_or("database", 0, 0..=15, faults)).unwrap_or_default(),
            tls: redis.bool_or("tls", false, faults),
            key_prefix: redis.string_or("key_prefix", "meridian:window:", faults),
        })
    }
}

#[cfg(test)]
mod tests {
    use meridian_runtime::Document;

    use super::*;

    fn read(text: &str) -> Result<IdempotenceOptions, Faults> {
        let document = Document::parse("gateway.yaml", text)?;
        let mut faults = Faults::new();
        let root = document.root().mapping(&["idempotence"], &mut faults);
        let read = root.map(|root| IdempotenceOptions::read(&root, &SecretSources::default(), &mut faults));
        faults.into_result_of(read)
    }

    #[test]
    fn what_is_absent_has_its_default() {
        assert_eq!(read("{}\n").unwrap(), IdempotenceOptions::default());
        let options = read("idempotence: { topics: [{ topic: 'orders*' }], redis: { address: 'r:6379' } }\n").unwrap();
        assert_eq!(options.topics[0].window, DEFAULT_WINDOW);
        assert_eq!(options.max_ids, 1_000_000);
        assert_eq!(options.redis.unwrap().key_prefix, "meridian:window:");
    }

    #[test]
    fn every_fault_is_told_with_its_key() {
        let text = "
idempotence:
  topics: [{ topic: '' }, { window_seconds: 0 }, { topic: a, colour: blue }]
  max_ids: 1
  redis: { address: here, database: 99 }
";
        let faults = read(text).unwrap_err().to_string();
        for expected in [
            "topics[0].topic: an empty pattern",
            "topics[1].window_seconds",
            "topics[1].topic",
            "topics[2].colour",
            "max_ids",
            "redis.address: must be `host:port`, got \"here\"",
            "redis.database",
        ] {
            assert!(faults.contains(expected), "{expected:?} is not in\n{faults}");
        }
        assert!(read("idempotence: {}\n").unwrap_err().to_string().contains("topics"));
    }
}
