//! Redis Streams, through fred: RESP3, rustls.
//!
//! A topic is N streams, its shards; a key's shard is found on a ring
//! ([`ShardRing`](crate::ShardRing)). Entry ids are `<epoch>-<sequence>`, see `entry`.
//!
//! - [`config`]: what an operator says of a Redis.
//! - `settings`: what fred is told of it.
//! - `session`: one connection that ends for good; a link keeps one alive.
//! - `error`: Redis's replies, and what they mean at the seam.
//! - `keys`, `entry`, `frame`, `script`: names, records, replies and Lua.
//! - `broker`, `core`, `health`, `verify`: the parts tied together; is it there, and is it
//!   as durable as was said.
//! - `topics`: what a topic is, as the Redis has it.
//! - `appender`, `queue`, `line`, `replicas`: admitting records, and sending them in order.
//! - `reader`: a member of a group.
//! - `admin`, `groups`, `growth`, `retention`: topics, groups, more shards, fewer records.

mod admin;
mod appender;
mod broker;
pub mod config;
mod core;
mod entry;
mod error;
mod frame;
mod groups;
mod growth;
mod health;
mod keys;
mod line;
mod queue;
mod reader;
mod replicas;
mod retention;
mod script;
mod session;
mod settings;
mod topics;
mod verify;

pub use broker::connect;
pub use config::RedisConfig;
