//! What an operator says about one broker: its kind, and what that kind needs.
//!
//! ```yaml
//! main: {kafka: {bootstrap: "kafka-1:9092"}}
//! fast: {embedded: {directory: ./data}}
//! work: {rabbitmq: {addresses: ["rabbit-1:5672"]}}
//! cache: {redis: {addresses: ["redis-1:6379"]}}
//! ```
//!
//! What holds: exactly one kind is named, and it is one that there is.

use meridian_runtime::config::{Faults, Node, SecretSources};

use crate::adapters::embedded::EmbeddedConfig;
use crate::adapters::kafka::config::KafkaConfig;
use crate::adapters::rabbitmq::RabbitMqConfig;
use crate::adapters::redis::RedisConfig;
use crate::name::{BrokerName, RegionName};
use crate::seam::{BrokerKind, Durability};

/// The kinds that configuration may name, as text for faults.
const KINDS: &str = "embedded, kafka, rabbitmq, redis";

/// One broker of a region.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    /// The region that it belongs to.
    pub region: RegionName,
    /// Its name within the region.
    pub name: BrokerName,
    /// Its kind, and what that kind needs.
    pub kind: BrokerKindConfig,
}

/// A kind of broker and what it needs.
#[derive(Clone, Debug, PartialEq)]
pub enum BrokerKindConfig {
    /// The log inside this process.
    Embedded(EmbeddedConfig),
    /// Apache Kafka.
    Kafka(KafkaConfig),
    /// RabbitMQ.
    RabbitMq(RabbitMqConfig),
    /// Redis Streams.
    Redis(RedisConfig),
}

impl BrokerKindConfig {
    /// The kind.
    pub fn kind(&self) -> BrokerKind {
        match self {
            BrokerKindConfig::Embedded(_) => BrokerKind::Embedded,
            BrokerKindConfig::Kafka(_) => BrokerKind::Kafka,
            BrokerKindConfig::RabbitMq(_) => BrokerKind::RabbitMq,
            BrokerKindConfig::Redis(_) => BrokerKind::Redis,
        }
    }

    /// What a confirmed append to this broker means.
    pub fn durability(&self) -> Durability {
        match self {
            BrokerKindConfig::Embedded(_) => Durability::Fsynced,
            BrokerKindConfig::Kafka(_) => Durability::InSyncReplicas,
            BrokerKindConfig::RabbitMq(config) => config.durability(),
            BrokerKindConfig::Redis(config) => config.durability(),
        }
    }
}

impl BrokerConfig {
    /// Reads the value under the broker's name: a mapping of one key, the kind.
    pub fn read(
        region: RegionName,
        name: &BrokerName,
        node: &Node<'_>,
        secrets: &SecretSources,
        faults: &mut Faults,
    ) -> Option<Self> {
        let entries = node.entries(faults)?;
        let [(kind, settings)] = entries.as_slice() else {
            let message = match entries.len() {
                0 => format!("must name the kind of the broker, one of: {KINDS}"),
                count => format!("must name exactly one kind, and names {count}; the kinds are: {KINDS}"),
            };
            node.fault(faults, message);
            return None;
        };
        let kind = match kind.as_str() {
            "embedded" => BrokerKindConfig::Embedded(EmbeddedConfig::read(settings, faults)?),
            "kafka" => {
                let mapping = settings.mapping(KafkaConfig::KEYS, faults)?;
                BrokerKindConfig::Kafka(KafkaConfig::read(&mapping, secrets, faults)?)
            }
            "rabbitmq" => {
                let mapping = settings.mapping(RabbitMqConfig::KEYS, faults)?;
                BrokerKindConfig::RabbitMq(RabbitMqConfig::read(&mapping, secrets, faults)?)
            }
            "redis" => {
                let mapping = settings.mapping(RedisConfig::KEYS, faults)?;
                BrokerKindConfig::Redis(RedisConfig::read(&mapping, secrets, faults)?)
            }
            _ => {
                settings.fault(faults, format!("is no kind of broker; the kinds are: {KINDS}"));
                return None;
            }
        };
        Some(Self {
            region,
            name: name.clone(),
            kind,
        })
    }
}

#[cfg(test)]
mod tests {
    use meridian_runtime::config::Document;

    use super::*;

    fn read(text: &str) -> Result<BrokerConfig, Faults> {
        let document = Document::parse("gateway.yaml", text)?;
        let mut faults = Faults::new();
        let (region, name) = (RegionName::new("us-east").unwrap(), BrokerName::new("main").unwrap());
        let config = BrokerConfig::read(region, &name, &document.root(), &SecretSources::default(), &mut faults);
        faults.into_result_of(config)
    }

    #[test]
    fn each_kind_is_read() {
        let kafka = read("kafka: {bootstrap: 'k:9092'}\n").unwrap();
        assert_eq!(
            kafka.kind,
            BrokerKindConfig::Kafka(KafkaConfig::new(vec!["k:9092".into()]))
        );
        assert_eq!(kafka.kind.kind(), BrokerKind::Kafka);
        let embedded = read("embedded: {directory: ./data}\n").unwrap();
        assert_eq!(embedded.kind, BrokerKindConfig::Embedded(EmbeddedConfig::new("./data")));
        assert_eq!(embedded.kind.kind(), BrokerKind::Embedded);
        assert_eq!((embedded.region.as_str(), embedded.name.as_str()), ("us-east", "main"));
    }

    #[test]
    fn a_broker_has_exactly_one_kind_that_there_is() {
        for (text, fault) in [
            (
                "{}\n",
                "must name the kind of the broker, one of: embedded, kafka, rabbitmq, redis",
            ),
            (
                "pulsar: {}\n",
                "pulsar: is no kind of broker; the kinds are: embedded, kafka, rabbitmq, redis",
            ),
            ("kafka: {bootstrap: 'k:9092'}\nembedded: {directory: d}\n", "names 2"),
            ("kafka: {}\n", "bootstrap"),
            ("kafka: {bootstrap: 'k:9092', acks: 1}\n", "acks"),
            ("embedded: {folder: d}\n", "folder"),
        ] {
            let faults = read(text).unwrap_err().to_string();
            assert!(faults.contains(fault), "{fault:?} is not in {faults}");
        }
    }
}
