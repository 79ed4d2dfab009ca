//! The encoded event as value: CloudEvents Kafka binding, section 3.3
//! (structured content mode), in the protobuf format.
//!
//! The value is the event's own bytes, uncopied. What Meridian sets stands in
//! headers beside it, so that a replicator reads and changes hops without
//! touching the value; reading merges the headers over the event.

use bytes::Bytes;
use smallvec::SmallVec;

use super::error::UnbindError;
use super::header::{CONTENT_TYPE, HEADER_PREFIX, HeaderWriter, last_header};
use crate::attribute::AttributeValue;
use crate::event::Event;
use crate::record::Record;
use crate::stamp::{MERIDIAN_ONLY, Stamps};

pub(super) const MEDIA_TYPE: &str = "application/cloudevents+protobuf";

pub(super) fn bind(event: &Event, stamps: &Stamps<'_>, key: Option<Bytes>, timestamp_ms: i64) -> Record {
    // The content type and three stamps.
    let mut headers = HeaderWriter::with_capacity(4);
    headers.push(CONTENT_TYPE, Bytes::from_static(MEDIA_TYPE.as_bytes()));
    headers.push_stamps(stamps);
    Record {
        key,
        headers: headers.finish(),
        value: Some(event.encoded().clone()),
        timestamp_ms,
    }
}

pub(super) fn unbind(record: &Record) -> Result<Event, UnbindError> {
    let value = record.value.clone().ok_or(UnbindError::NoValue)?;
    merge_stamps(record, Event::scan(value)?)
}

/// The event with the stamps of the record's headers set; they win over its own.
pub(super) fn merge_stamps(record: &Record, event: Event) -> Result<Event, UnbindError> {
    let mut stamps: SmallVec<[(&str, AttributeValue<'_>); 3]> = SmallVec::new();
    for name in MERIDIAN_ONLY {
        let header = record
            .headers
            .iter()
            .rev()
            .find(|header| header.name.strip_prefix(HEADER_PREFIX) == Some(name));
        let Some(value) = header.and_then(|header| last_header(record, &header.name)) else {
            continue;
        };
        let text = std::str::from_utf8(value).map_err(|_| UnbindError::NotText {
            header: format!("{HEADER_PREFIX}{name}"),
        })?;
        stamps.push((name, AttributeValue::from_canonical(name, text)));
    }
    Ok(event.with_attributes(&stamps)?)
}
