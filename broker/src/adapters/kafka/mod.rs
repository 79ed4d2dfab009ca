//! Apache Kafka, through librdkafka.
//!
//! - [`config`]: what an operator says of a cluster.
//! - `settings`: what librdkafka is told of it.
//! - `native`: librdkafka made safe, the only unsafe code.
//! - `error`: its codes, and what they mean at the seam.
//! - `broker`: the parts tied together.
//! - `cluster`, `health`: one cluster: is it there, how many partitions have topics.
//! - `appender`, `placement`, `session`, `in_flight`: admitting
//!   records, in the order in which a record meets them.
//! - `standstill`: partitions that take nothing although they could.
//! - `reader`: a member of a group.
//! - `admin`, `group_admin`: topics and groups.

mod admin;
mod appender;
mod broker;
mod cluster;
pub mod config;
mod error;
mod group_admin;
mod health;
mod in_flight;
#[cfg(test)]
mod mock_faults;
mod native;
mod placement;
mod reader;
mod session;
mod settings;
mod standstill;
#[cfg(test)]
mod tests;

pub use broker::connect;
pub use config::KafkaConfig;
