//! Replication between regions: links that read from a broker of one region and
//! append to a broker of another.
//!
//! Module map, in the way of the data:
//! - [`spec`]: what a link is told.
//! - [`topics`]: which topics it mirrors, and their names at the target.
//! - `passage`: whether a record may pass, by its stamps; pure.
//! - `line`: one partition on its way, in order; pure.
//! - `link`: one link: its ends checked, its reader open, its lines driven.
//! - [`status`]: what a link says of itself.
//! - [`links`]: the links of one process, started, paused, resumed and closed.
//! - [`metrics`]: every metric of this crate.
//! - [`admin`]: the admin port: `ReplicationService`, health, reflection, probes.
//! - [`config`]: the configuration file of a replicator.
//! - [`replicator`]: a replicator as a process.
//!
//! What holds: a record is settled at the source only after the target has it
//! durably, with all records before it; nothing is appended to where it has been.

pub mod admin;
pub mod config;
mod line;
mod link;
pub mod links;
pub mod metrics;
mod passage;
pub mod replicator;
pub mod spec;
pub mod status;
pub mod topics;

pub use admin::{AdminError, ReplicationApi, RunningAdmin, serve_admin};
pub use config::{End, LinkConfig, ReplicatorConfig};
pub use links::{ControlError, Links, Parts, RunningLinks, StartLinksError};
pub use metrics::ReplicatorMetrics;
pub use passage::SkipReason;
pub use replicator::{Environment, Replicator, RunningReplicator, StartError};
pub use spec::{LinkName, LinkOptions, LinkSpec, OnRefused};
pub use status::{LinkPartitionStatus, LinkState, LinkStatus};
pub use topics::{Naming, PatternError, TopicPattern, TopicSelection};
