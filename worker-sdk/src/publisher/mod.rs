//! Publishing: a pipelined stream to each gateway, an outcome for each event.
//!
//! - `options`: the settings and the builder.
//! - `handle`: [`Publisher`], what users hold, and its back-pressure.
//! - `engine`: the task that owns every event in flight.
//! - `lines`: order per key across retries (pure).
//! - `outcome`: what an answer, or the lack of one, means.
//! - `lane`: one stream to one gateway.
//!
//! What holds: an event given to [`Publisher::send`] ends in exactly one
//! outcome. Events of one partition key are stored in the order of their `send`
//! calls; an event that failed is sent again only while no later event of its
//! key is stored. Memory is bounded by the window of events and bytes.

mod engine;
mod handle;
mod lane;
mod lines;
mod options;
mod outcome;

pub use handle::{Pending, Publisher, PublisherLoad};
pub use options::PublisherBuilder;
