//! Who gets which record next: pure state machines without I/O, tasks or clocks.
//!
//! Module map, from the whole to its parts:
//! - [`dispatcher`]: the [`Dispatcher`] of one group: inputs, states of a held record, the dispatch pass.
//! - `item`, `transitions`: a held record, and its steps from state to state.
//! - [`work`]: the words of its interface: records in, hand-overs and dead letters out.
//! - [`sessions`]: credit, load, and the choice of a session.
//! - [`key_locks`]: one holder for each key or partition, the others behind it in order.
//! - [`deadlines`]: when a lease, a delay or a grace ends.
//! - `oldest`: how old what is held is.
//! - [`attempts`]: failed attempts of records that this gateway does not hold at the moment.

pub mod attempts;
pub mod deadlines;
pub mod dispatcher;
mod item;
pub mod key_locks;
mod oldest;
pub mod sessions;
mod transitions;
pub mod work;

#[cfg(test)]
mod simulation;

pub use attempts::AttemptMemory;
pub use dispatcher::{DispatchOptions, Dispatcher};
pub use item::Held;
pub use sessions::{PassLimits, SessionEnd, SessionLoad, SessionTerms};
pub use work::{
    AwayOrder, DeadLetterReason, DeliveryOrdering, Destination, Handover, ItemId, Output, Prior, RecordPlace, Refusal,
    SessionId, Settled, Work,
};
