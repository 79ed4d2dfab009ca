//! The raw client of a broker, whichever it is.

use crate::clients::raw_producer::{self, RawProducer};
use crate::clients::raw_rabbit::{self, RawRabbit};
use crate::clients::raw_redis::{self, RawRedis};
use crate::events::EventPool;
use crate::failure::Failure;
use crate::gateway::{BrokerChoice, PARTITIONS};

/// A raw client at work, publishing.
pub(crate) enum RawClient {
    Kafka(RawProducer),
    Redis(RawRedis),
    RabbitMq(Box<RawRabbit>),
}

impl RawClient {
    /// Makes the topic and begins to publish; `None` for the embedded log, which
    /// has no client but the gateway.
    pub(crate) async fn start(broker: &BrokerChoice, topic: &str, pool: &EventPool) -> Result<Option<Self>, Failure> {
        Ok(match broker {
            BrokerChoice::Embedded => None,
            BrokerChoice::Kafka(bootstrap) => {
                raw_producer::make_topic(bootstrap, topic, PARTITIONS).await?;
                Some(Self::Kafka(RawProducer::start(bootstrap, topic, pool)?))
            }
            BrokerChoice::Redis(address) => Some(Self::Redis(RawRedis::start(address, topic, pool).await?)),
            BrokerChoice::RabbitMq(address) => {
                raw_rabbit::make(address, topic).await?;
                let client = RawRabbit::start(address, topic, pool).await?;
                Some(Self::RabbitMq(Box::new(client)))
            }
        })
    }

    /// What the broker has confirmed so far.
    pub(crate) fn confirmed(&self) -> u64 {
        match self {
            Self::Kafka(client) => client.confirmed(),
            Self::Redis(client) => client.confirmed(),
            Self::RabbitMq(client) => client.confirmed(),
        }
    }

    /// Publishes nothing more and waits for what is in flight.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Kafka(client) => client.finish().await,
            Self::Redis(client) => client.finish().await,
            Self::RabbitMq(client) => client.finish().await,
        }
    }
}

/// Removes what [`RawClient::start`] has made.
pub(crate) async fn delete_topic(broker: &BrokerChoice, topic: &str) -> Result<(), Failure> {
    match broker {
        BrokerChoice::Embedded => Ok(()),
        BrokerChoice::Kafka(bootstrap) => raw_producer::delete_topic(bootstrap, topic).await,
        BrokerChoice::Redis(address) => raw_redis::delete(address, topic).await,
        BrokerChoice::RabbitMq(address) => raw_rabbit::delete(address, topic).await,
    }
}
