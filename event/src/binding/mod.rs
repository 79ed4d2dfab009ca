//! Events to records and back.
//!
//! Module map:
//! - `choice`: the bindings by name, and how a record's own is told.
//! - `kafka_binary`: attributes as `ce_*` headers, the data as value.
//! - `protobuf`: the encoded event as value.
//! - `json`: reading events in the JSON format.
//! - `header`: writing headers from one buffer a record.
//! - [`rabbitmq`]: how headers are spelt on RabbitMQ.
//! - `provenance`: the stamps of a record, without the event.
//! - `error`: why a record is no event.

mod choice;
mod error;
mod header;
mod json;
mod kafka_binary;
mod protobuf;
mod provenance;
pub mod rabbitmq;

pub use choice::{Binding, EncodedEvent};
pub use error::{JsonFault, UnbindError};
pub use header::{CONTENT_TYPE, HEADER_PREFIX, HOPS_HEADER, known_header_name};
pub use provenance::{Provenance, record_provenance, restamp};
