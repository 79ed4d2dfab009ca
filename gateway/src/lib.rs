//! The gateway of one region: takes events in over gRPC, routes them by the
//! operator's rules onto the region's brokers, and serves fleets of workers.
//!
//! Module map, in the way of the data:
//! - [`ingress`]: PublisherService, unary and streamed.
//! - [`admission`]: bounds on requests and bytes in flight.
//! - [`routing`]: the operator's rules: read, compiled, swapped whole, explained.
//! - [`publishing`]: one batch from encoded events to outcomes; forwarding to
//!   the gateway of another region.
//! - [`delay`]: events that are due later wait on the broker.
//! - [`subscription`], [`dispatch`], [`settlement`]: deliveries to workers.
//! - [`dead_letters`]: dead letters as an operator works on them.
//! - [`admin`]: RoutingService, OperationsService, health.
//!
//! Beside the way of the data:
//! - [`config`]: the process's one file.
//! - [`brokers`]: the region's brokers by name.
//! - [`fault`]: the one table of fault codes and what they become on the wire.
//! - [`metrics`]: the metrics of publishing.
//! - [`server`]: listeners and connections of both ports.
//! - `assembly`: everything put together; [`app`]: start to shutdown.

pub mod admin;
pub mod admission;
pub mod app;
mod assembly;
pub mod brokers;
pub mod config;
pub mod dead_letters;
pub mod delay;
pub mod dispatch;
pub mod fault;
pub mod idempotence;
pub mod ingress;
pub mod metrics;
pub mod publishing;
pub mod routing;
pub mod server;
pub mod settlement;
pub mod subscription;

pub use app::{Environment, Gateway, RunningGateway, StartError};
pub use brokers::Brokers;
pub use config::GatewayConfig;
pub use fault::{FaultCode, Refusal};
