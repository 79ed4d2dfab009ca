//! The kinds of brokers. Only files below this one name a broker's client
//! library or store; everything else goes through the seam.
//!
//! - [`embedded`]: a log inside this process, on its disk.
//! - [`kafka`]: Apache Kafka.
//! - [`rabbitmq`]: RabbitMQ, over AMQP 0-9-1.
//! - [`redis`]: Redis Streams.

pub mod embedded;
pub mod kafka;
pub mod rabbitmq;
pub mod redis;
