//! The kinds of broker that a run may have. One more is a line in each function.

use std::time::Duration;

use meridian_tests::harness::{Brokers, Scratch, Service, ServiceKind};

/// A kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BrokerKind {
    /// In the gateway's process: one gateway, and its end is the broker's.
    Embedded,
    /// A node of Apache Kafka.
    Kafka,
    /// A Redis server.
    Redis,
    /// A RabbitMQ node.
    Rabbitmq,
}

impl BrokerKind {
    /// Its process, not started yet; none where it has no process of its own.
    pub fn service(self, scratch: &Scratch) -> Option<Service> {
        let kind = match self {
            BrokerKind::Embedded => return None,
            BrokerKind::Kafka => ServiceKind::Kafka,
            BrokerKind::Redis => ServiceKind::Redis,
            BrokerKind::Rabbitmq => ServiceKind::RabbitMq,
        };
        Some(Service::absent(kind, scratch))
    }

    /// How many gateways share its topics.
    pub fn gateways(self) -> usize {
        match self {
            BrokerKind::Embedded => 1,
            BrokerKind::Kafka | BrokerKind::Redis | BrokerKind::Rabbitmq => 3,
        }
    }

    /// How long after a blow commits may still wait. On Kafka a commit queues behind the member's own
    /// request to rejoin, which waits until the session of a member that is gone has ended: 15 s.
    pub fn commit_slack(self) -> Duration {
        Duration::from_secs(match self {
            BrokerKind::Embedded => 2,
            BrokerKind::Redis | BrokerKind::Rabbitmq => 5,
            BrokerKind::Kafka => 20,
        })
    }

    /// How many processes it is.
    pub fn processes(self) -> usize {
        usize::from(self != BrokerKind::Embedded)
    }
}

/// What gateways are told of it.
pub fn brokers(service: Option<&Service>) -> Brokers {
    service.map_or(Brokers::Embedded, Service::brokers)
}
