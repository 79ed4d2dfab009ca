//! The bindings by name, and how the binding of a record is told.
//!
//! A record says itself how it is to be read: structured when its content type
//! begins with `application/cloudevents`, binary otherwise (CloudEvents Kafka
//! binding, section 3). So topics may mix them, and a topic's setting may change.

use bytes::Bytes;

use super::error::{UnbindError, shown};
use super::header::content_type;
use super::{json, kafka_binary, protobuf};
use crate::event::Event;
use crate::record::Record;
use crate::stamp::Stamps;
use crate::syntax::{essence, starts_with_ignoring_case};

/// What the content types of structured records begin with.
const STRUCTURED_PREFIX: &str = "application/cloudevents";

/// How events are written as records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Binding {
    /// Attributes as `ce_*` headers, the data as value: any Kafka client reads it.
    #[default]
    KafkaBinary,
    /// The encoded event as value: nothing is copied or translated.
    Protobuf,
}

/// An event as it is handed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedEvent {
    /// The encoded `io.cloudevents.v1.CloudEvent`.
    pub encoded: Bytes,
    /// [`Event::expiry_time_ms`].
    pub expiry_time_ms: Option<i64>,
}

impl EncodedEvent {
    pub(super) fn of(event: &Event) -> Self {
        Self {
            encoded: event.encoded().clone(),
            expiry_time_ms: event.expiry_time_ms(),
        }
    }
}

impl Binding {
    /// The event as a record. `key` and `timestamp_ms` (milliseconds since the
    /// Unix epoch) are the record's; the event keeps its `partitionkey` (CloudEvents
    /// Kafka binding, section 3.1). The stamps win over attributes of their names.
    pub fn bind(self, event: &Event, stamps: &Stamps<'_>, key: Option<Bytes>, timestamp_ms: i64) -> Record {
        match self {
            Self::KafkaBinary => kafka_binary::bind(event, stamps, key, timestamp_ms),
            Self::Protobuf => protobuf::bind(event, stamps, key, timestamp_ms),
        }
    }

    /// The event of a record, whoever wrote it and in whichever binding. What
    /// Meridian sets on records shows as the event's attributes. The event is
    /// well-formed and has the required attributes of its mode, but is not
    /// validated otherwise: it is stored already.
    ///
    /// # Errors
    /// [`UnbindError`] when the record is no CloudEvent, and why.
    pub fn unbind(record: &Record) -> Result<Event, UnbindError> {
        let media_type = content_type(record);
        match structured(media_type) {
            Some(text) => unbind_structured(record, text),
            None => kafka_binary::unbind(record, media_type),
        }
    }

    /// The same event in its encoded form, for whoever only hands it on: where the
    /// binding builds the encoded form, it is not scanned.
    ///
    /// # Errors
    /// As [`Binding::unbind`].
    pub fn unbind_encoded(record: &Record) -> Result<EncodedEvent, UnbindError> {
        let media_type = content_type(record);
        match structured(media_type) {
            Some(text) => unbind_structured(record, text).map(|event| EncodedEvent::of(&event)),
            None => kafka_binary::unbind_encoded(record, media_type),
        }
    }
}

/// The content type of a structured record.
fn structured(content_type: Option<&Bytes>) -> Option<&str> {
    let text = std::str::from_utf8(content_type?).ok()?;
    starts_with_ignoring_case(text, STRUCTURED_PREFIX).then_some(text)
}

fn unbind_structured(record: &Record, content_type: &str) -> Result<Event, UnbindError> {
    let media_type = essence(content_type);
    if media_type.eq_ignore_ascii_case(protobuf::MEDIA_TYPE) {
        return protobuf::unbind(record);
    }
    if media_type.eq_ignore_ascii_case(json::MEDIA_TYPE) {
        let value = record.value.as_ref().ok_or(UnbindError::NoValue)?;
        return protobuf::merge_stamps(record, json::read(value)?);
    }
    Err(UnbindError::UnknownFormat {
        content_type: shown(content_type),
    })
}
