//! One batch, from encoded events to outcomes.
//!
//! - [`receipt`]: what a stored event is told, but for partition and position.
//! - [`plan`]: the table in force with each rule's receipt and counter.
//! - [`outcome`]: receipt, refusal or unknown, and their wire form.
//! - [`source`]: who hands events in: a publisher, or a gateway of another region.
//! - [`prepare`]: one event: scan, validate, route, bind.
//! - `windowed`: the events of a batch that may have been stored before.
//! - [`pipeline`]: the batch: prepare each, append by broker, forward by region.
//! - [`part`]: the share of a batch that one broker or region answers for.
//! - [`forward`]: the share of another region, in order.
//! - [`peer`]: the connections to other regions' gateways.
//! - [`reindex`]: another gateway's refusals in terms of our batch.

pub mod forward;
pub mod outcome;
pub mod part;
pub mod peer;
pub mod pipeline;
pub mod plan;
pub mod prepare;
pub mod receipt;
pub mod reindex;
pub mod source;
mod windowed;

pub use forward::Lane;
pub use outcome::{EventResult, Outcome, Results};
pub use part::{InFlight, Part};
pub use peer::Peers;
pub use pipeline::{Publishing, PublishingParts};
pub use source::Source;
