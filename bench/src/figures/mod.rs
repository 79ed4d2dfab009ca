//! The figures, one file for each command.
//!
//! - [`baselines`]: what there is to be compared with.
//! - [`window`]: events and CPU time between two moments.
//! - [`stream`]: publish streams, to Kafka and to the embedded log.
//! - [`backlog`]: a million events and a stuck worker; [`share_groups`]: Kafka's own answer.
//! - [`consume`]: a backlog, with settlement.
//! - [`unary`]: one event a call.
//! - [`publish_latency`]: latencies at half of the greatest rate.
//! - [`end_to_end`]: from a publisher to a worker.
//! - [`idle`]: many sessions and publishers, and what memory does.

pub(crate) mod backlog;
pub(crate) mod baselines;
pub(crate) mod consume;
pub(crate) mod end_to_end;
pub(crate) mod idle;
pub(crate) mod publish_latency;
pub(crate) mod share_groups;
pub(crate) mod stream;
pub(crate) mod unary;
pub(crate) mod window;
