//! Makes events, straight into their encoded form.
//!
//! Each call appends a field to one buffer, so an attribute that is set twice has
//! the later value, as everywhere in protobuf. The bindings build what they read
//! with it, without validation; [`EventBuilder::build`] validates as for a client.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};

use crate::attribute::{
    AttributeValue, DATA_CONTENT_TYPE, DATA_SCHEMA, PARTITION_KEY, REGION, SPEC_VERSION_1_0, SUBJECT, TIME,
};
use crate::event::Event;
use crate::scan::{MAX_ATTRIBUTES, ScanError, any_field, entry_field, event_field, timestamp_field, value_field};
use crate::validate::{EventLimits, ValidationSource};
use crate::violation::{Violation, ViolationReason, Violations};
use crate::wire::{delimited_length, length_key, put_delimited, put_varint, varint_key, varint_length};

/// Builds one event.
///
/// ```
/// use meridian_event::EventBuilder;
///
/// let event = EventBuilder::new("order-7", "/shop/eu", "shop.order.placed")
///     .subject("order/7")
///     .partition_key("customer-3")
///     .data_content_type("application/json")
///     .text_data("{\"total\": 12}")
///     .build()?;
/// assert_eq!(event.partition_key(), Some("customer-3"));
/// # Ok::<(), meridian_event::Violations>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "call build to get the event"]
pub struct EventBuilder {
    encoded: BytesMut,
    has_protobuf_data: bool,
}

impl EventBuilder {
    /// An event of specversion 1.0 with the other three required attributes.
    pub fn new(id: &str, source: &str, type_name: &str) -> Self {
        // Room for the usual attributes; large data grows it once.
        let capacity = 256 + id.len() + source.len() + type_name.len();
        Self::with_spec_version(id, source, SPEC_VERSION_1_0, type_name, capacity)
    }

    /// `capacity` is in bytes.
    pub(crate) fn with_spec_version(
        id: &str,
        source: &str,
        spec_version: &str,
        type_name: &str,
        capacity: usize,
    ) -> Self {
        let mut encoded = BytesMut::with_capacity(capacity);
        put_delimited(&mut encoded, event_field::ID, id.as_bytes());
        put_delimited(&mut encoded, event_field::SOURCE, source.as_bytes());
        put_delimited(&mut encoded, event_field::SPEC_VERSION, spec_version.as_bytes());
        put_delimited(&mut encoded, event_field::TYPE, type_name.as_bytes());
        Self {
            encoded,
            has_protobuf_data: false,
        }
    }

    /// What the event is about, within its source.
    pub fn subject(self, subject: &str) -> Self {
        self.extension(SUBJECT, subject)
    }

    /// When it happened.
    pub fn time(self, time: SystemTime) -> Self {
        let value = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => AttributeValue::Timestamp {
                seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
                nanos: after.subsec_nanos() as i32,
            },
            Err(error) => {
                let before = error.duration();
                let seconds = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => AttributeValue::Timestamp {
                        seconds: -seconds,
                        nanos: 0,
                    },
                    nanos => AttributeValue::Timestamp {
                        seconds: -seconds - 1,
                        nanos: 1_000_000_000 - nanos as i32,
                    },
                }
            }
        };
        self.extension(TIME, value)
    }

    /// When it happened, in milliseconds since the Unix epoch.
    pub fn time_ms(self, unix_ms: i64) -> Self {
        self.extension(TIME, AttributeValue::timestamp_ms(unix_ms))
    }

    /// The media type of the data.
    pub fn data_content_type(self, media_type: &str) -> Self {
        self.extension(DATA_CONTENT_TYPE, media_type)
    }

    /// The schema that the data follows: an absolute URI.
    pub fn data_schema(self, uri: &str) -> Self {
        self.extension(DATA_SCHEMA, AttributeValue::Uri(uri))
    }

    /// The ordering key: events with one key are delivered in order.
    pub fn partition_key(self, key: &str) -> Self {
        self.extension(PARTITION_KEY, key)
    }

    /// The event's home region.
    pub fn region(self, region: &str) -> Self {
        self.extension(REGION, region)
    }

    /// Any other attribute.
    pub fn extension<'a>(mut self, name: &str, value: impl Into<AttributeValue<'a>>) -> Self {
        put_attribute(&mut self.encoded, name, &value.into());
        self
    }

    /// The data, as bytes.
    pub fn binary_data(mut self, data: impl AsRef<[u8]>) -> Self {
        put_delimited(&mut self.encoded, event_field::BINARY_DATA, data.as_ref());
        self
    }

    /// The data, as text.
    pub fn text_data(mut self, data: impl AsRef<str>) -> Self {
        let data = data.as_ref().as_bytes();
        put_delimited(&mut self.encoded, event_field::TEXT_DATA, data);
        self
    }

    /// The data, as an encoded protobuf message and its type.
    pub fn protobuf_data(mut self, type_url: &str, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        let length = delimited_length(type_url.len()) + delimited_length(value.len());
        // Two messages in a row would merge; an empty text between them ends the first.
        if self.has_protobuf_data {
            put_delimited(&mut self.encoded, event_field::TEXT_DATA, &[]);
        }
        self.has_protobuf_data = true;
        put_varint(&mut self.encoded, u64::from(length_key(event_field::PROTO_DATA)));
        put_varint(&mut self.encoded, length as u64);
        put_delimited(&mut self.encoded, any_field::TYPE_URL, type_url.as_bytes());
        put_delimited(&mut self.encoded, any_field::VALUE, value);
        self
    }

    /// The event, validated as one that a client publishes under the default
    /// [`EventLimits`].
    ///
    /// # Errors
    /// Every [`Violation`] at once.
    pub fn build(self) -> Result<Event, Violations> {
        let event = self.build_unvalidated().map_err(|error| Violation {
            field: String::from("event"),
            reason: match error {
                ScanError::TooLarge { .. } => ViolationReason::EventTooLarge,
                _ => ViolationReason::TooManyAttributes,
            },
            description: error.to_string(),
        })?;
        event.validate(&EventLimits::default(), ValidationSource::Client)?;
        Ok(event)
    }

    /// The encoded event, when its attributes are so few that nothing can be wrong with it.
    ///
    /// # Errors
    /// The builder, when `entries` attributes or its size are for a scan to judge.
    pub(crate) fn encoded_if_small(self, entries: usize) -> Result<Bytes, Self> {
        if entries <= MAX_ATTRIBUTES && u32::try_from(self.encoded.len()).is_ok() {
            Ok(self.encoded.freeze())
        } else {
            Err(self)
        }
    }

    /// The event as it is.
    ///
    /// # Errors
    /// [`ScanError`] when it has too many attributes or bytes.
    pub fn build_unvalidated(self) -> Result<Event, ScanError> {
        Event::scan(self.encoded.freeze())
    }
}

/// The encoded length of a value message's content.
fn value_length(value: &AttributeValue<'_>) -> usize {
    match *value {
        AttributeValue::Boolean(_) => 2,
        AttributeValue::Integer(value) => 1 + varint_length(sign_extended(value)),
        AttributeValue::String(text) | AttributeValue::Uri(text) | AttributeValue::UriReference(text) => {
            delimited_length(text.len())
        }
        AttributeValue::Binary(bytes) => delimited_length(bytes.len()),
        AttributeValue::Timestamp { seconds, nanos } => delimited_length(timestamp_length(seconds, nanos)),
    }
}

fn timestamp_length(seconds: i64, nanos: i32) -> usize {
    2 + varint_length(seconds as u64) + varint_length(sign_extended(nanos))
}

/// An int32 is encoded as the 64-bit varint of its sign extension.
fn sign_extended(value: i32) -> u64 {
    i64::from(value) as u64
}

fn entry_length(name: &str, value: &AttributeValue<'_>) -> usize {
    delimited_length(name.len()) + delimited_length(value_length(value))
}

/// What [`put_attribute`] appends, in bytes.
pub(crate) fn attribute_length(name: &str, value: &AttributeValue<'_>) -> usize {
    delimited_length(entry_length(name, value))
}

/// Appends one entry of the attribute map.
pub(crate) fn put_attribute(out: &mut BytesMut, name: &str, value: &AttributeValue<'_>) {
    put_varint(out, u64::from(length_key(event_field::ATTRIBUTES)));
    put_varint(out, entry_length(name, value) as u64);
    put_delimited(out, entry_field::NAME, name.as_bytes());
    put_varint(out, u64::from(length_key(entry_field::VALUE)));
    put_varint(out, value_length(value) as u64);
    match *value {
        AttributeValue::Boolean(value) => {
            put_varint(out, u64::from(varint_key(value_field::BOOLEAN)));
            put_varint(out, u64::from(value));
        }
        AttributeValue::Integer(value) => {
            put_varint(out, u64::from(varint_key(value_field::INTEGER)));
            put_varint(out, sign_extended(value));
        }
        AttributeValue::String(text) => put_delimited(out, value_field::STRING, text.as_bytes()),
        AttributeValue::Binary(bytes) => put_delimited(out, value_field::BYTES, bytes),
        AttributeValue::Uri(text) => put_delimited(out, value_field::URI, text.as_bytes()),
        AttributeValue::UriReference(text) => {
            put_delimited(out, value_field::URI_REFERENCE, text.as_bytes());
        }
        AttributeValue::Timestamp { seconds, nanos } => {
            put_varint(out, u64::from(length_key(value_field::TIMESTAMP)));
            put_varint(out, timestamp_length(seconds, nanos) as u64);
            put_varint(out, u64::from(varint_key(timestamp_field::SECONDS)));
            put_varint(out, seconds as u64);
            put_varint(out, u64::from(varint_key(timestamp_field::NANOS)));
            put_varint(out, sign_extended(nanos));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventData;
    use std::time::Duration;

    #[test]
    fn every_fault_is_told_at_once() {
        let violations = EventBuilder::new("", "a b", "t")
            .extension("Tenant", "x")
            .build()
            .unwrap_err();
        let reasons: Vec<_> = violations.iter().map(|v| v.reason.code()).collect();
        assert_eq!(
            reasons,
            ["MISSING_ATTRIBUTE", "BAD_URI_REFERENCE", "BAD_ATTRIBUTE_NAME"]
        );
    }

    #[test]
    fn times_before_the_epoch_count_forward_in_nanoseconds() {
        for (time, text) in [
            (UNIX_EPOCH, "1970-01-01T00:00:00Z"),
            (UNIX_EPOCH - Duration::from_secs(1), "1969-12-31T23:59:59Z"),
            (UNIX_EPOCH - Duration::from_millis(1), "1969-12-31T23:59:59.999Z"),
            (UNIX_EPOCH + Duration::from_millis(1), "1970-01-01T00:00:00.001Z"),
        ] {
            let event = EventBuilder::new("1", "/s", "t").time(time).build().unwrap();
            assert_eq!(event.attribute(TIME).unwrap().canonical(), text);
        }
    }

    #[test]
    fn the_last_data_wins_and_does_not_merge() {
        let event = EventBuilder::new("1", "/s", "t")
            .protobuf_data("type.googleapis.com/a", b"long")
            .protobuf_data("", b"x")
            .build_unvalidated()
            .unwrap();
        assert_eq!(
            event.data(),
            EventData::Protobuf {
                type_url: "",
                value: b"x"
            }
        );
    }
}
