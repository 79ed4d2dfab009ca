//! librdkafka, made safe: the only place of the crate with `unsafe` code over it.
//!
//! - [`client`]: one handle, its properties and its end.
//! - [`event`]: queues of events, and what an event holds.
//! - [`list`]: lists of partitions with offsets and metadata.
//! - [`produce`]: handing a record over, and its delivery report.
//! - [`fetch`]: what a fetch hands over, as a record of ours.
//! - [`metadata`]: topics, partitions and leaders.
//! - [`group`]: what a member of a group does.
//! - [`request`]: administrative requests and their results; [`group_request`]:
//!   those that change groups.
//!
//! The events of librdkafka are used rather than its callbacks, so that all of
//! them arrive in order on a thread of ours. The producers and consumers of the
//! `rdkafka` crate are not used: its consumer drops topic and offset of an
//! end-of-partition event, panics on a header name that is not UTF-8 and polls
//! on in its drop; its delivery reports cost a counted reference each.
//!
//! What holds: a queue, list or event never outlives its client; nothing here
//! panics on what a broker sends; no call blocks longer than the limit it takes.

pub(super) mod client;
pub(super) mod event;
pub(super) mod fetch;
pub(super) mod group;
pub(super) mod group_request;
pub(super) mod list;
pub(super) mod metadata;
pub(super) mod produce;
pub(super) mod request;

pub(super) use client::{NativeClient, NativeError, Properties, Role};
pub(super) use event::{Event, EventQueue};
pub(super) use list::PartitionList;
pub(super) use rdkafka_sys::RDKafkaErrorCode as Code;

use std::ffi::c_int;
use std::time::Duration;

/// A limit as librdkafka takes it: milliseconds, never "for ever".
fn limit_milliseconds(limit: Duration) -> c_int {
    c_int::try_from(limit.as_millis()).unwrap_or(c_int::MAX)
}
