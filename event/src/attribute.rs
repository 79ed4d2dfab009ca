//! The values of attributes, and the attribute names that have a meaning here.
//!
//! Values follow the CloudEvents type system (spec 1.0.2, "Type System"), each
//! with its canonical string form, which every binding can carry. Which values an
//! attribute may take is left to `validate`.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::timestamp::{self, TimestampText};

/// The required attributes: fields of their own in protobuf, never map entries.
pub const REQUIRED: [&str; 4] = [ID, SOURCE, SPEC_VERSION, TYPE];
/// Identifies the event within its source (spec 1.0.2, "id").
pub const ID: &str = "id";
/// The context in which the event happened (spec 1.0.2, "source").
pub const SOURCE: &str = "source";
/// The version of the specification (spec 1.0.2, "specversion").
pub const SPEC_VERSION: &str = "specversion";
/// What happened (spec 1.0.2, "type").
pub const TYPE: &str = "type";
/// The media type of the data (spec 1.0.2, "datacontenttype").
pub const DATA_CONTENT_TYPE: &str = "datacontenttype";
/// The schema of the data (spec 1.0.2, "dataschema").
pub const DATA_SCHEMA: &str = "dataschema";
/// What the event is about, within its source (spec 1.0.2, "subject").
pub const SUBJECT: &str = "subject";
/// When it happened (spec 1.0.2, "time").
pub const TIME: &str = "time";
/// The ordering key (CloudEvents partitioning extension).
pub const PARTITION_KEY: &str = "partitionkey";
/// The starting trace (CloudEvents distributed tracing extension).
pub const TRACE_PARENT: &str = "traceparent";
/// Vendor state of the starting trace (the same extension).
pub const TRACE_STATE: &str = "tracestate";
/// After this moment the event is of no use (CloudEvents expiry time extension).
pub const EXPIRY_TIME: &str = "expirytime";
/// Not to be delivered before this moment; a client may set it (Meridian).
pub const DELIVER_AT: &str = "deliverat";
/// Where the data may be fetched (CloudEvents dataref extension).
pub const DATA_REF: &str = "dataref";
/// The event's home region; a client may set it (Meridian).
pub const REGION: &str = "region";

/// The version of the specification that all this follows.
pub const SPEC_VERSION_1_0: &str = "1.0";

/// The value of one attribute, borrowed from its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeValue<'a> {
    /// `ce_boolean`.
    Boolean(bool),
    /// `ce_integer`: 32 bits, signed.
    Integer(i32),
    /// `ce_string`.
    String(&'a str),
    /// `ce_bytes`.
    Binary(&'a [u8]),
    /// `ce_uri`: an absolute URI.
    Uri(&'a str),
    /// `ce_uri_ref`: a URI or a relative reference.
    UriReference(&'a str),
    /// `ce_timestamp`.
    Timestamp {
        /// Seconds since the Unix epoch.
        seconds: i64,
        /// Nanoseconds after `seconds`, 0 to 999,999,999 when valid.
        nanos: i32,
    },
}

impl<'a> AttributeValue<'a> {
    /// A timestamp from milliseconds since the Unix epoch.
    pub fn timestamp_ms(unix_ms: i64) -> AttributeValue<'static> {
        AttributeValue::Timestamp {
            seconds: unix_ms.div_euclid(1000),
            nanos: unix_ms.rem_euclid(1000) as i32 * 1_000_000,
        }
    }

    /// The text of a string, URI or URI reference; `None` for other kinds.
    pub fn as_text(&self) -> Option<&'a str> {
        match *self {
            Self::String(text) | Self::Uri(text) | Self::UriReference(text) => Some(text),
            _ => None,
        }
    }

    /// The canonical string form (spec 1.0.2, "Type System"): `true` or `false`,
    /// decimal, RFC 3339 in UTC, base64 with padding, or the text itself.
    ///
    /// A timestamp out of range, which validation refuses, is written as the
    /// nearest moment in range.
    pub fn canonical(&self) -> Cow<'a, str> {
        match *self {
            Self::Boolean(true) => Cow::Borrowed("true"),
            Self::Boolean(false) => Cow::Borrowed("false"),
            Self::String(text) | Self::Uri(text) | Self::UriReference(text) => Cow::Borrowed(text),
            _ => {
                let mut text = String::new();
                self.write_canonical(&mut text);
                Cow::Owned(text)
            }
        }
    }

    /// Appends the canonical string form.
    pub(crate) fn write_canonical(&self, out: &mut String) {
        use std::fmt::Write as _;

        match *self {
            Self::Boolean(value) => out.push_str(if value { "true" } else { "false" }),
            Self::Integer(value) => {
                write!(out, "{value}").expect("a String takes every write");
            }
            Self::String(text) | Self::Uri(text) | Self::UriReference(text) => out.push_str(text),
            Self::Binary(bytes) => STANDARD.encode_string(bytes, out),
            Self::Timestamp { seconds, nanos } => {
                out.push_str(TimestampText::new(seconds, nanos).as_str());
            }
        }
    }

    /// The moment that it names, in milliseconds since the Unix epoch, rounded down.
    pub(crate) fn moment_ms(&self) -> Option<i64> {
        let (seconds, nanos) = match *self {
            Self::Timestamp { seconds, nanos } => (seconds, nanos),
            other => timestamp::parse(other.as_text()?)?,
        };
        timestamp::in_range(seconds, nanos).then(|| seconds * 1000 + i64::from(nanos) / 1_000_000)
    }

    /// The value of the attribute `name` whose canonical form is `text`, as a
    /// binding without types carries it. The kind is the one that the
    /// specification gives the attribute, and `String` for all others. A moment
    /// that is not written canonically stays a `String`: no text ever changes by
    /// being carried.
    pub(crate) fn from_canonical(name: &str, text: &'a str) -> Self {
        match name {
            DATA_SCHEMA => Self::Uri(text),
            DATA_REF => Self::UriReference(text),
            TIME | EXPIRY_TIME | DELIVER_AT | crate::stamp::RECORDED_TIME => match timestamp::parse(text) {
                Some((seconds, nanos)) if TimestampText::new(seconds, nanos).as_str() == text => {
                    Self::Timestamp { seconds, nanos }
                }
                _ => Self::String(text),
            },
            _ => Self::String(text),
        }
    }
}

impl From<bool> for AttributeValue<'static> {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i32> for AttributeValue<'static> {
    fn from(value: i32) -> Self {
        Self::Integer(value)
    }
}

impl<'a> From<&'a str> for AttributeValue<'a> {
    fn from(value: &'a str) -> Self {
        Self::String(value)
    }
}

impl<'a> From<&'a [u8]> for AttributeValue<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Binary(value)
    }
}

impl std::fmt::Display for AttributeValue<'_> {
    /// Writes the canonical string form.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.canonical())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms_are_those_of_the_specification() {
        for (value, text) in [
            (AttributeValue::Boolean(true), "true"),
            (AttributeValue::Boolean(false), "false"),
            (AttributeValue::Integer(i32::MIN), "-2147483648"),
            (AttributeValue::String("a b"), "a b"),
            (AttributeValue::Binary(&[0xFB, 0xFF, 0]), "+/8A"),
            (AttributeValue::Binary(&[1]), "AQ=="),
            (AttributeValue::Uri("http://a/b"), "http://a/b"),
            (AttributeValue::UriReference("/b?c"), "/b?c"),
            (AttributeValue::timestamp_ms(-1), "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(value.canonical(), text);
            let mut written = String::from("before ");
            value.write_canonical(&mut written);
            assert_eq!(written, format!("before {text}"));
        }
    }

    #[test]
    fn a_time_keeps_its_text_when_it_is_not_canonical() {
        let local = "2018-04-05T19:31:00+02:00";
        assert_eq!(
            AttributeValue::from_canonical(TIME, local),
            AttributeValue::String(local)
        );
        assert_eq!(
            AttributeValue::from_canonical(TIME, "2018-04-05T17:31:00Z"),
            AttributeValue::Timestamp {
                seconds: 1_522_949_460,
                nanos: 0
            }
        );
    }
}
