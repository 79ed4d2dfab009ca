//! Reading for one member of a group.
//!
//! Every shard has a queue for the group, whose single active consumer is the broker's
//! own fence: two members never have one shard at once. As that mechanism does not
//! balance, the members tell each other that they are there ([`gossip`]), each works
//! out the same shares, and consumes only its own; a list of members that is out of
//! date costs a consumer that stands by for a moment, never an order.
//!
//! A shard is given up by closing its channel: what is unsettled goes back to its
//! place, and only then the next consumer becomes active. (Cancelling the consumer
//! first would hand later records on before the unsettled ones are back.)
//!
//! - [`handle`]: the reader and its settler.
//! - [`shared`]: what handle and tasks share; records from shards to `next`.
//! - [`member`]: the task that takes part in the group.
//! - [`join`]: what a group needs on the broker.
//! - [`voice`]: how members are spoken to.
//! - [`shard`]: the task that consumes one shard and acknowledges.
//! - [`acks`]: which deliveries are to be acknowledged, pure.
//! - [`gossip`]: what members say, and who has what, pure.

mod acks;
pub(super) mod gossip;
mod handle;
mod join;
mod member;
mod shard;
mod shared;
mod voice;

pub(super) use handle::open;
pub(super) use voice::Voice;
