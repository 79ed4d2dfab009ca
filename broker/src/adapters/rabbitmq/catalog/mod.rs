//! What AMQP cannot list: which topics and groups there are, how many shards a topic
//! has, and who this broker is.
//!
//! A log on the broker itself (a stream queue) that every handle reads from its
//! beginning and follows. [`state`] is what the log means, [`follower`] reads and
//! writes it.
//!
//! What holds: all handles see the same entries in the same order, and of two that
//! contradict one another the first one counts; a handle that changes something acts
//! on the state after its own entry.

pub(super) mod follower;
pub(super) mod state;

pub(super) use follower::Catalog;
pub(super) use state::{CatalogState, Change, Topic};
