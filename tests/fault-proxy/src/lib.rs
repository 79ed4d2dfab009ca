//! A TCP proxy whose faults are set while it runs. It knows no protocol and no part of
//! Meridian, so that the tests of every crate may use it.
//!
//! - [`script`]: what may be set.
//! - [`proxy`]: the listener, and its connections.
//! - `pump`: one direction of one connection.
//!
//! What holds: what is random follows from the seed, the number of the connection and
//! the direction; a connection of which bytes were swallowed never goes on with a hole
//! in its stream: it is reset; nothing outlives the [`Proxy`].

pub mod proxy;
mod pump;
pub mod script;

pub use proxy::Proxy;
pub use script::{Flow, Pass, Script};
