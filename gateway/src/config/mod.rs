//! The gateway's one configuration file, read into valid options.
//!
//! - [`limits`]: bounds on events, batches, and what is in flight.
//! - [`sections`]: listening addresses, peers, rules, topics.
//! - [`gateway`]: the whole file.
//!
//! What holds: reading is pure but for files that the configuration names; every
//! fault is found, with file, line and path; nothing starts on a faulty file.

pub mod gateway;
pub mod limits;
pub mod sections;

pub use gateway::GatewayConfig;
pub use limits::Limits;
pub use sections::{Listen, MetricsOptions, Peer, RulesSource, TopicDefaults};
