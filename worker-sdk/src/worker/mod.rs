//! Handling: a group's events, a handler, a settlement for each.
//!
//! - `handler`: what users implement, and what a handler's result means.
//! - `delivery`: what a handler is given.
//! - `options`: the settings and the builder.
//! - `fleet`: keeps the sessions open over the gateways, and ends them.
//! - `session`: one session: open, handle, settle, renew, drain.
//!
//! What holds: no more handlers run than the concurrency; every delivery is
//! settled by its handler's result or given back; leases are renewed while a
//! handler is at work; a stop finishes what runs, then leaves.

mod delivery;
mod fleet;
mod handler;
mod options;
mod session;

pub use delivery::Delivery;
pub use fleet::{Worker, WorkerReport};
pub use handler::{Handler, IntoSettlement, Settlement, SettlementAnswer};
pub use options::WorkerBuilder;
