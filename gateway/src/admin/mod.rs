//! What operators and probes ask of a gateway.
//!
//! - [`routing`]: RoutingService: get, validate, apply, explain.
//! - [`operations`]: OperationsService: topics, groups, sessions, drain, dead letters.
//!   `groups`: its part about groups; `moves`: a group is reset; [`fleet`]: the region's other gateways;
//!   [`dead_letters`]: its calls on dead letters.
//! - [`health`]: `grpc.health.v1` that follows the process's health.
//! - [`reflection`]: both versions of server reflection.

pub mod dead_letters;
pub mod fleet;
mod groups;
pub mod health;
mod moves;
pub mod operations;
pub mod reflection;
pub mod routing;

pub use dead_letters::DeadLetters;
pub use fleet::Fleet;
pub use operations::Operations;
pub use routing::Routing;
