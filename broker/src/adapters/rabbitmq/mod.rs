//! RabbitMQ, over AMQP 0-9-1.
//!
//! A topic is a durable topic exchange; a shard of it is, for each group, a quorum
//! queue with a single active consumer. What AMQP cannot list is in a log on the
//! broker. Module map:
//! - [`config`]: what an operator says.
//! - `names`: what exchanges and queues are called.
//! - `topology`: what stands on the broker, and declaring it.
//! - `wire`: a record as a message.
//! - `link`: one connection that is kept up.
//! - `catalog`: topics, groups and identity.
//! - `limits`: whether the broker drops what comes back often.
//! - `core`: what the parts share.
//! - `appender`, `lane`, `in_flight`: publishing.
//! - `reader`: consuming.
//! - `growth`: more shards, with order kept.
//! - `admin`, `broker`: the rest of the seam.
//! - `fault`: errors, sorted.

mod admin;
mod appender;
mod broker;
mod catalog;
pub mod config;
mod core;
mod fault;
mod growth;
mod in_flight;
mod lane;
mod limits;
mod link;
mod names;
mod reader;
mod topology;
mod wire;

pub use broker::connect;
pub use config::RabbitMqConfig;
