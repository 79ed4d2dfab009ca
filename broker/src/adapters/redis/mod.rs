//! Redis.

mod broker;
pub mod config;

pub use broker::connect;
pub use config::RedisConfig;
