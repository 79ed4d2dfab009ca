//! The embedded broker: a log inside this process, on its own disk.
//!
//! - [`config`]: what an operator says about it.
//! - `broker`: opens it, and is the [`Broker`](crate::Broker).
//! - `core`: what its parts share.
//! - `appender`, `reader`, `admin`: the seam's traits.
//! - `queue`, `writer`, `mending`, `retention`: the one thread that writes.
//! - `groups`, `member`: who reads what, and where it stands; `moving`: groups
//!   without members are moved and forgotten.
//! - `log`: topics and partitions in memory, and the newest blocks.
//! - `block`, `rows`: what is stored, as bytes.
//! - `scan`: looks for records by time.
//! - `store`: fjall; `directory`: the folder around it.

mod admin;
mod appender;
mod block;
mod broker;
pub mod config;
mod core;
mod directory;
mod groups;
mod log;
mod member;
mod mending;
mod moving;
mod queue;
mod reader;
mod retention;
mod rows;
mod scan;
mod store;
mod writer;

pub use broker::connect;
pub use config::EmbeddedConfig;
