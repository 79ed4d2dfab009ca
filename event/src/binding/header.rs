//! Writing the headers of a record: static names, slices of the event, and one
//! buffer for all text that is neither.
//!
//! Knows how headers are spelt (CloudEvents Kafka binding, section 3.2.3), not
//! which attributes a binding writes.

use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;
use smallvec::SmallVec;

use crate::attribute::{
    AttributeValue, DATA_REF, DATA_SCHEMA, EXPIRY_TIME, PARTITION_KEY, REGION, SUBJECT, TIME, TRACE_PARENT, TRACE_STATE,
};
use crate::event::Event;
use crate::record::{Header, Record};
use crate::stamp::Stamps;

/// The header of the data's media type, or of the whole event's.
pub const CONTENT_TYPE: &str = "content-type";
/// What the headers of attributes begin with.
pub const HEADER_PREFIX: &str = "ce_";
/// The header of the hops.
pub const HOPS_HEADER: &str = "ce_hops";
pub(crate) const ORIGIN_REGION_HEADER: &str = "ce_originregion";
pub(crate) const RECORDED_TIME_HEADER: &str = "ce_recordedtime";

/// Collects headers in order.
pub(crate) struct HeaderWriter {
    headers: Vec<Header>,
    buffer: String,
    /// Names and values that are parts of the buffer, once it is whole.
    patches: SmallVec<[Patch; 8]>,
}

struct Patch {
    header: usize,
    part: Part,
    range: Range<usize>,
}

enum Part {
    Name,
    Value,
}

impl HeaderWriter {
    /// `count` headers are expected.
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self {
            headers: Vec::with_capacity(count),
            buffer: String::with_capacity(96),
            patches: SmallVec::new(),
        }
    }

    /// A header whose parts are at hand.
    pub(crate) fn push(&mut self, name: &'static str, value: Bytes) {
        self.headers.push(Header {
            name: ByteString::from_static(name),
            value: Some(value),
        });
    }

    /// A header whose value is written into the buffer.
    fn push_written(&mut self, name: &'static str, write: impl FnOnce(&mut String)) {
        self.push(name, Bytes::new());
        self.write(Part::Value, write);
    }

    /// The header of an attribute of `event`, in canonical form.
    pub(crate) fn push_attribute(&mut self, event: &Event, name: &str, value: AttributeValue<'_>) {
        let known = known_header(name);
        self.headers.push(Header {
            name: ByteString::from_static(known.unwrap_or_default()),
            value: Some(match value {
                AttributeValue::Boolean(true) => Bytes::from_static(b"true"),
                AttributeValue::Boolean(false) => Bytes::from_static(b"false"),
                value => value.as_text().map_or_else(Bytes::new, |text| event.slice_of(text)),
            }),
        });
        if known.is_none() {
            self.write(Part::Name, |buffer| {
                buffer.push_str(HEADER_PREFIX);
                buffer.push_str(name);
            });
        }
        if matches!(
            value,
            AttributeValue::Integer(_) | AttributeValue::Binary(_) | AttributeValue::Timestamp { .. }
        ) {
            self.write(Part::Value, |buffer| value.write_canonical(buffer));
        }
    }

    /// The headers of what Meridian sets; empty hops are left out.
    pub(crate) fn push_stamps(&mut self, stamps: &Stamps<'_>) {
        self.push_written(ORIGIN_REGION_HEADER, |buffer| {
            buffer.push_str(stamps.origin_region);
        });
        if !stamps.hops.is_empty() {
            self.push(HOPS_HEADER, stamps.hops.as_bytes().clone());
        }
        self.push_written(RECORDED_TIME_HEADER, |buffer| {
            AttributeValue::timestamp_ms(stamps.recorded_time_ms).write_canonical(buffer);
        });
    }

    /// Appends to the buffer what becomes a part of the last header.
    fn write(&mut self, part: Part, write: impl FnOnce(&mut String)) {
        let start = self.buffer.len();
        write(&mut self.buffer);
        self.patches.push(Patch {
            header: self.headers.len() - 1,
            part,
            range: start..self.buffer.len(),
        });
    }

    /// The headers, all text of the buffer in place.
    pub(crate) fn finish(mut self) -> Vec<Header> {
        let buffer = ByteString::from(self.buffer);
        for patch in self.patches {
            let header = &mut self.headers[patch.header];
            match patch.part {
                Part::Name => header.name = buffer.slice_ref(&buffer[patch.range]),
                Part::Value => header.value = Some(buffer.as_bytes().slice(patch.range)),
            }
        }
        self.headers
    }
}

/// The header of an attribute that has a name of its own here.
fn known_header(attribute: &str) -> Option<&'static str> {
    Some(match attribute {
        SUBJECT => "ce_subject",
        TIME => "ce_time",
        DATA_SCHEMA => "ce_dataschema",
        PARTITION_KEY => "ce_partitionkey",
        TRACE_PARENT => "ce_traceparent",
        TRACE_STATE => "ce_tracestate",
        EXPIRY_TIME => "ce_expirytime",
        REGION => "ce_region",
        DATA_REF => "ce_dataref",
        "sequence" => "ce_sequence",
        "correlationid" => "ce_correlationid",
        "causationid" => "ce_causationid",
        _ => return None,
    })
}

/// A header's name as a static text, when Meridian or the bindings write it: such a
/// name need not be kept with the record that has it.
pub fn known_header_name(name: &[u8]) -> Option<&'static str> {
    if name == CONTENT_TYPE.as_bytes() {
        return Some(CONTENT_TYPE);
    }
    let attribute = name.strip_prefix(HEADER_PREFIX.as_bytes())?;
    known_attribute_header(std::str::from_utf8(attribute).ok()?)
}

/// The same by the attribute's name.
pub(super) fn known_attribute_header(attribute: &str) -> Option<&'static str> {
    Some(match attribute {
        "id" => "ce_id",
        "source" => "ce_source",
        "specversion" => "ce_specversion",
        "type" => "ce_type",
        "originregion" => ORIGIN_REGION_HEADER,
        "recordedtime" => RECORDED_TIME_HEADER,
        "hops" => HOPS_HEADER,
        other => return known_header(other),
    })
}

/// The value of the last header of this name, as protobuf maps and the other
/// CloudEvents SDKs have it when a name is written twice; null counts as absent.
pub(crate) fn last_header<'a>(record: &'a Record, name: &str) -> Option<&'a Bytes> {
    record
        .headers
        .iter()
        .rev()
        .find(|header| header.name == name)
        .and_then(|header| header.value.as_ref())
}

/// The record's content type; the name is compared case-insensitively, since
/// some producers write it as HTTP does.
pub(crate) fn content_type(record: &Record) -> Option<&Bytes> {
    record
        .headers
        .iter()
        .rev()
        .find(|header| header.name.eq_ignore_ascii_case(CONTENT_TYPE))
        .and_then(|header| header.value.as_ref())
}
