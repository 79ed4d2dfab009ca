//! Attributes as `ce_*` headers, the data as value: CloudEvents Kafka binding,
//! section 3.2 (binary content mode).
//!
//! What the mode has no place for is decided here:
//! - Protobuf data (an `Any`) becomes its value; the type URL becomes
//!   `ce_dataschema` and the content type `application/protobuf`, unless the event
//!   has its own. A record of a protobuf content type whose schema is a type URL,
//!   not an absolute URI, is read as protobuf data again.
//! - Text and bytes look alike in a record. Data is read as text when its content
//!   type is `text/*` or JSON and it is UTF-8, as bytes otherwise.
//! - Headers whose name is `ce_` and then no attribute name (`[a-z0-9]+`) stay
//!   headers of the record; they are no attributes of the event.
//! - `ce_datacontenttype`, which producers must not write, is read when there is
//!   no `content-type`.

use bytes::Bytes;

use super::choice::EncodedEvent;
use super::error::{UnbindError, shown};
use super::header::{CONTENT_TYPE, HEADER_PREFIX, HeaderWriter, last_header};
use crate::attribute::{AttributeValue, DATA_CONTENT_TYPE, DATA_SCHEMA, EXPIRY_TIME, REQUIRED, SPEC_VERSION_1_0};
use crate::builder::EventBuilder;
use crate::event::{Event, EventData};
use crate::record::{Header, Record};
use crate::stamp::{MERIDIAN_ONLY, Stamps};
use crate::syntax::{is_attribute_name, is_json_media_type, is_media_type_of, is_text_media_type, is_uri};

/// What is written (protobuf format, section 1.2), and the older spellings that
/// producers use as well.
const PROTOBUF_MEDIA_TYPES: [&str; 3] = [
    "application/protobuf",
    "application/x-protobuf",
    "application/vnd.google.protobuf",
];
const DATA_SCHEMA_HEADER: &str = "ce_dataschema";
const REQUIRED_HEADERS: [&str; 4] = ["ce_id", "ce_source", "ce_specversion", "ce_type"];

/// What a header adds to an encoded event besides its own bytes: the keys and
/// lengths of an entry, its name and its value.
const ENTRY_OVERHEAD_BYTES: usize = 16;

pub(super) fn bind(event: &Event, stamps: &Stamps<'_>, key: Option<Bytes>, timestamp_ms: i64) -> Record {
    // Four required, three stamps, and content type and schema of protobuf data.
    let mut headers = HeaderWriter::with_capacity(event.attribute_count() + 9);
    headers.push("ce_id", event.slice_of(event.id()));
    headers.push("ce_source", event.slice_of(event.source()));
    headers.push(
        "ce_specversion",
        match event.spec_version() {
            SPEC_VERSION_1_0 => Bytes::from_static(SPEC_VERSION_1_0.as_bytes()),
            other => event.slice_of(other),
        },
    );
    headers.push("ce_type", event.slice_of(event.type_name()));

    let mut has_content_type = false;
    let mut has_schema = false;
    for (name, value) in event.attributes() {
        match name {
            DATA_CONTENT_TYPE => {
                has_content_type = true;
                headers.push(CONTENT_TYPE, canonical_bytes(event, value));
                continue;
            }
            DATA_SCHEMA => has_schema = true,
            // A map entry cannot speak for a field, nor a sender for Meridian.
            _ if REQUIRED.contains(&name) || MERIDIAN_ONLY.contains(&name) => continue,
            _ => {}
        }
        headers.push_attribute(event, name, value);
    }
    if let EventData::Protobuf { type_url, .. } = event.data() {
        if !has_content_type {
            headers.push(CONTENT_TYPE, Bytes::from_static(PROTOBUF_MEDIA_TYPES[0].as_bytes()));
        }
        if !has_schema && !type_url.is_empty() {
            headers.push(DATA_SCHEMA_HEADER, event.slice_of(type_url));
        }
    }
    headers.push_stamps(stamps);
    Record {
        key,
        headers: headers.finish(),
        value: event.data_bytes(),
        timestamp_ms,
    }
}

fn canonical_bytes(event: &Event, value: AttributeValue<'_>) -> Bytes {
    match value.as_text() {
        Some(text) => event.slice_of(text),
        None => Bytes::from(value.canonical().into_owned()),
    }
}

pub(super) fn unbind(record: &Record, content_type: Option<&Bytes>) -> Result<Event, UnbindError> {
    let (builder, _) = build(record, content_type)?;
    Ok(builder.build_unvalidated()?)
}

pub(super) fn unbind_encoded(record: &Record, content_type: Option<&Bytes>) -> Result<EncodedEvent, UnbindError> {
    let (builder, expiry_time_ms) = build(record, content_type)?;
    match builder.encoded_if_small(record.headers.len()) {
        Ok(encoded) => Ok(EncodedEvent {
            encoded,
            expiry_time_ms,
        }),
        Err(builder) => Ok(EncodedEvent::of(&builder.build_unvalidated()?)),
    }
}

/// The event, and its `expirytime` as [`Event::expiry_time_ms`] has it.
fn build(record: &Record, content_type: Option<&Bytes>) -> Result<(EventBuilder, Option<i64>), UnbindError> {
    let ([id, source, spec_version, type_name], size_bytes) = required(record)?;
    let mut expiry_time_ms = None;
    let capacity = size_bytes + ENTRY_OVERHEAD_BYTES * (record.headers.len() + 1);
    let mut builder = EventBuilder::with_spec_version(id, source, spec_version, type_name, capacity);
    for header in &record.headers {
        let Some((name, value)) = attribute_of(header) else {
            continue;
        };
        let text = header_text(&header.name, value)?;
        let value = AttributeValue::from_canonical(name, text);
        if name == EXPIRY_TIME {
            expiry_time_ms = value.moment_ms();
        }
        builder = builder.extension(name, value);
    }
    let media_type = match content_type {
        Some(value) => header_text(CONTENT_TYPE, value)?,
        None => match last_header(record, "ce_datacontenttype") {
            Some(value) => header_text("ce_datacontenttype", value)?,
            None => "",
        },
    };
    if !media_type.is_empty() {
        builder = builder.data_content_type(media_type);
    }
    if let Some(data) = &record.value {
        builder = put_data(builder, record, media_type, data);
    }
    Ok((builder, expiry_time_ms))
}

/// The four required attributes, in the order of the fields, and the record's size, which the same walk finds.
fn required(record: &Record) -> Result<([&str; 4], usize), UnbindError> {
    let mut found = [""; 4];
    let mut size_bytes = record.value.as_ref().map_or(0, Bytes::len);
    for header in &record.headers {
        size_bytes += header.name.len() + header.value.as_ref().map_or(0, Bytes::len);
        let place = REQUIRED_HEADERS.iter().position(|name| header.name == *name);
        if let (Some(place), Some(value)) = (place, &header.value) {
            found[place] = header_text(&header.name, value)?;
        }
    }
    if found.iter().any(|text| text.is_empty()) {
        let missing = REQUIRED_HEADERS
            .into_iter()
            .zip(found)
            .filter_map(|(name, text)| text.is_empty().then_some(name))
            .collect();
        return Err(UnbindError::NotAnEvent { missing });
    }
    Ok((found, size_bytes))
}

/// The attribute that a header carries, besides those with a place of their own.
fn attribute_of(header: &Header) -> Option<(&str, &Bytes)> {
    let value = header.value.as_ref()?;
    let name = header.name.strip_prefix(HEADER_PREFIX)?;
    let has_own_place = REQUIRED.contains(&name) || name == DATA_CONTENT_TYPE || name == "data";
    (is_attribute_name(name) && !has_own_place).then_some((name, value))
}

fn put_data(builder: EventBuilder, record: &Record, media_type: &str, data: &Bytes) -> EventBuilder {
    let says_protobuf = PROTOBUF_MEDIA_TYPES
        .iter()
        .any(|expected| is_media_type_of(media_type, expected));
    if says_protobuf
        && let Some(schema) = last_header(record, DATA_SCHEMA_HEADER)
        && let Ok(type_url) = std::str::from_utf8(schema)
        && type_url.contains('/')
        && !is_uri(type_url)
    {
        return builder.protobuf_data(type_url, data);
    }
    if (is_text_media_type(media_type) || is_json_media_type(media_type))
        && let Ok(text) = std::str::from_utf8(data)
    {
        return builder.text_data(text);
    }
    builder.binary_data(data)
}

fn header_text<'a>(name: &str, value: &'a Bytes) -> Result<&'a str, UnbindError> {
    std::str::from_utf8(value).map_err(|_| UnbindError::NotText { header: shown(name) })
}
