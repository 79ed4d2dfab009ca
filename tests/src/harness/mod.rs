//! Real processes for tests, each a value that ends what it started.
//!
//! - [`wait`]: until a condition holds, or a deadline passes.
//! - [`scratch`]: the programs under test, a folder for each test, free ports.
//! - [`process`]: one process: its signals, its output, the end of its log.
//! - [`command`]: programs that run to their end: `meridian` and foreign ones.
//! - [`http`]: one GET.
//! - [`gateway`], [`replicator`], [`dev`]: `meridian` in its three long-running forms.
//! - [`service`]: brokers of one test, by the scripts of `deploy/local`.
//! - [`kafka`]: the shared clusters, and clusters to kill.
//! - [`door`]: a fixed address in front of a moving one.
//! - [`namespace`]: a network namespace whose link loses one direction.
//! - [`wire`]: raw gRPC clients.
//! - [`heavy`]: one heavy test at a time, in its short or full form.

pub mod command;
pub mod dev;
pub mod door;
pub mod gateway;
pub mod heavy;
pub mod http;
pub mod kafka;
pub mod namespace;
pub mod process;
pub mod replicator;
pub mod scratch;
pub mod service;
pub mod wait;
pub mod wire;

pub use command::{Finished, foreign, meridian};
pub use dev::Dev;
pub use door::Door;
pub use gateway::{Brokers, Gateway, GatewayPlan};
pub use heavy::{alone, short_or_full};
pub use kafka::{KafkaCluster, shared_kafka};
pub use namespace::{Lost, Namespace};
pub use process::Process;
pub use replicator::{LinkPlan, Replicator};
pub use scratch::{Scratch, free_port};
pub use service::{Service, ServiceKind, shared_broker};
pub use wait::{eventually, eventually_some};
