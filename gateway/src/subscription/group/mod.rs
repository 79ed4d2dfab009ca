//! The one task of a group: everything that happens to the group happens here, one thing after another.
//!
//! Module map:
//! - `command`: what sessions and the gateway say to the task.
//! - `owner`: the task: waits for the next thing, applies it, hands over, flushes.
//! - `lifetime`: draining, being idle, the end.
//! - `settling`: settlements of workers, and dead letters that are done.
//! - `pausing`: an operator's pause, and its end.
//! - `reading`: the reader: opened, followed, opened again after a fault.
//! - `retries`: the reader of the group's own retry topic.
//! - `looking`: views, gauges, health and heartbeats.
//! - `members`: the sessions' streams: what waits for them, and who is stalled.
//! - `view`: what the gateway sees of the group, refreshed a few times a second.

mod command;
mod lifetime;
mod looking;
mod members;
mod owner;
mod pausing;
mod reading;
mod retries;
mod settling;
mod view;

pub(super) use command::{Command, Join};
pub(super) use owner::{Owner, OwnerParts};
pub(super) use pausing::PauseWatch;
pub(super) use view::SharedView;
