//! Worker sessions: the SubscriberService, the groups that they belong to, and what holds both in bounds.
//!
//! Module map, in the way of a session:
//! - [`options`]: `subscriptions` of the configuration.
//! - `service`: one stream is one session; what the worker says becomes commands of its group.
//! - `terms`: the first message, read into terms or a refusal that names its fields.
//! - [`registry`]: the [`Subscriptions`] of a gateway: finds or starts the group, drains, closes.
//! - `group`: the one task of a group: its reader, its dispatcher, its sessions.
//! - `outbound`: the stream to a worker, bounded, with its end.
//! - `wire`: answers as messages.
//!
//! Beside the way: [`metrics`], `lag` (gauges by partition), `info` (sessions and groups for people), `board` (health),
//! `pauses` (what operators have stopped), `operating` (what operators ask of groups).

mod board;
mod group;
mod info;
pub mod lag;
pub mod metrics;
mod operating;
pub mod options;
mod outbound;
mod pauses;
pub mod registry;
mod service;
mod terms;
mod wire;

pub use info::{GroupInfo, GroupState, SessionInfo};
pub use metrics::SubscriptionMetrics;
pub use operating::Departure;
pub use options::SubscriptionOptions;
pub use pauses::Pause;
pub use registry::{CloseReport, Parts, Subscriptions};
