//! One CloudEvent, read in place from its encoded protobuf bytes.
//!
//! The encoded bytes are the event; beside them is only an index of where the
//! parts are, so passing an event on copies nothing. Bytes that `scan` took are
//! well-formed protobuf; whether they are a valid CloudEvent is what
//! [`Event::validate`] says.

use bytes::{Bytes, BytesMut};

use crate::attribute::{
    AttributeValue, DATA_CONTENT_TYPE, DELIVER_AT, EXPIRY_TIME, PARTITION_KEY, REGION, SUBJECT, TIME,
};
use crate::builder::{attribute_length, put_attribute};
use crate::scan::{DataIndex, EventIndex, ScanError, ValueIndex, scan};
use crate::wire::Span;

/// A CloudEvent over its encoded bytes (`io.cloudevents.v1.CloudEvent`).
///
/// A clone shares the bytes and copies the index: some 350 bytes, without
/// allocation up to ten attributes.
#[derive(Clone)]
pub struct Event {
    encoded: Bytes,
    index: EventIndex,
}

/// The data of an event, borrowed from it (CloudEvents protobuf format, "Data").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventData<'a> {
    /// The event has no data.
    None,
    /// `binary_data`.
    Binary(&'a [u8]),
    /// `text_data`.
    Text(&'a str),
    /// `proto_data`: a `google.protobuf.Any`.
    Protobuf {
        /// Names the message's type.
        type_url: &'a str,
        /// The encoded message.
        value: &'a [u8],
    },
}

impl Event {
    /// Reads the encoded bytes of one `io.cloudevents.v1.CloudEvent`.
    ///
    /// # Errors
    /// [`ScanError`] when prost could not decode them either, or when the event
    /// has more than [`crate::MAX_ATTRIBUTES`] attributes.
    pub fn scan(encoded: Bytes) -> Result<Self, ScanError> {
        let index = scan(&encoded)?;
        Ok(Self { encoded, index })
    }

    /// The `id` attribute; empty when the publisher left it out.
    pub fn id(&self) -> &str {
        self.text(self.index.id)
    }

    /// The `source` attribute; empty when the publisher left it out.
    pub fn source(&self) -> &str {
        self.text(self.index.source)
    }

    /// The `specversion` attribute; empty when the publisher left it out.
    pub fn spec_version(&self) -> &str {
        self.text(self.index.spec_version)
    }

    /// The `type` attribute; empty when the publisher left it out.
    pub fn type_name(&self) -> &str {
        self.text(self.index.type_name)
    }

    /// An optional or extension attribute. The four required ones are not among
    /// them; a map entry without a value counts as absent.
    pub fn attribute(&self, name: &str) -> Option<AttributeValue<'_>> {
        self.index
            .attributes
            .iter()
            .find(|attribute| attribute.name.of(&self.encoded) == name.as_bytes())
            .and_then(|attribute| self.value(attribute.value))
    }

    /// All optional and extension attributes, in the order of their first entry.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, AttributeValue<'_>)> {
        self.entries()
            .filter_map(|(name, value)| value.map(|value| (name, value)))
    }

    /// All entries of the attribute map, also those without a value.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&str, Option<AttributeValue<'_>>)> {
        self.index
            .attributes
            .iter()
            .map(|attribute| (self.text(attribute.name), self.value(attribute.value)))
    }

    /// How many entries the attribute map has.
    pub fn attribute_count(&self) -> usize {
        self.index.attributes.len()
    }

    /// An attribute that is a string, URI or URI reference; `None` for other kinds.
    pub fn text_attribute(&self, name: &str) -> Option<&str> {
        self.attribute(name).and_then(|value| value.as_text())
    }

    /// The ordering key (CloudEvents partitioning extension).
    pub fn partition_key(&self) -> Option<&str> {
        self.text_attribute(PARTITION_KEY)
    }

    /// The home region, when the publisher named one.
    pub fn region(&self) -> Option<&str> {
        self.text_attribute(REGION)
    }

    /// What the event is about.
    pub fn subject(&self) -> Option<&str> {
        self.text_attribute(SUBJECT)
    }

    /// The media type of the data.
    pub fn data_content_type(&self) -> Option<&str> {
        self.text_attribute(DATA_CONTENT_TYPE)
    }

    /// When it happened, in milliseconds since the Unix epoch, rounded down;
    /// `None` when `time` is absent or no valid moment.
    pub fn time_ms(&self) -> Option<i64> {
        self.moment_ms(TIME)
    }

    /// The moment after which the event is of no use, in milliseconds since the
    /// Unix epoch; `None` when `expirytime` is absent or no valid moment.
    pub fn expiry_time_ms(&self) -> Option<i64> {
        self.moment_ms(EXPIRY_TIME)
    }

    /// The moment before which the event is not to be delivered, in milliseconds
    /// since the Unix epoch; `None` when `deliverat` is absent or no valid moment.
    pub fn deliver_at_ms(&self) -> Option<i64> {
        self.moment_ms(DELIVER_AT)
    }

    fn moment_ms(&self, name: &str) -> Option<i64> {
        self.attribute(name)?.moment_ms()
    }

    /// The data.
    pub fn data(&self) -> EventData<'_> {
        match self.index.data {
            DataIndex::None => EventData::None,
            DataIndex::Binary(span) => EventData::Binary(span.of(&self.encoded)),
            DataIndex::Text(span) => EventData::Text(self.text(span)),
            DataIndex::Protobuf { type_url, value } => EventData::Protobuf {
                type_url: self.text(type_url),
                value: value.of(&self.encoded),
            },
        }
    }

    /// The data's bytes, whatever its kind: a slice of the encoded bytes.
    pub fn data_bytes(&self) -> Option<Bytes> {
        match self.index.data {
            DataIndex::None => None,
            DataIndex::Binary(span) | DataIndex::Text(span) | DataIndex::Protobuf { value: span, .. } => {
                Some(self.encoded.slice(span.start as usize..span.end as usize))
            }
        }
    }

    /// The encoded event.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The size of the encoded event in bytes: what limits and budgets count.
    pub fn size_bytes(&self) -> usize {
        self.encoded.len()
    }

    /// A text that was borrowed from this event, as a slice of the encoded bytes;
    /// any other text is copied.
    pub fn slice_of(&self, part: &str) -> Bytes {
        let bytes = part.as_bytes();
        let inside = self.encoded.as_ptr_range();
        let part = bytes.as_ptr_range();
        if inside.start <= part.start && part.end <= inside.end {
            self.encoded.slice_ref(bytes)
        } else {
            Bytes::copy_from_slice(bytes)
        }
    }

    /// The same event with these attributes set: one copy of the encoded bytes,
    /// with an entry for each appended. An attribute that is there already is
    /// replaced.
    ///
    /// # Errors
    /// [`ScanError::TooManyAttributes`] when there would be more than
    /// [`crate::MAX_ATTRIBUTES`].
    pub fn with_attributes(&self, attributes: &[(&str, AttributeValue<'_>)]) -> Result<Self, ScanError> {
        if attributes.is_empty() {
            return Ok(self.clone());
        }
        let added: usize = attributes
            .iter()
            .map(|(name, value)| attribute_length(name, value))
            .sum();
        let mut encoded = BytesMut::with_capacity(self.encoded.len() + added);
        encoded.extend_from_slice(&self.encoded);
        for (name, value) in attributes {
            put_attribute(&mut encoded, name, value);
        }
        Self::scan(encoded.freeze())
    }

    fn value(&self, value: ValueIndex) -> Option<AttributeValue<'_>> {
        Some(match value {
            ValueIndex::Unset => return None,
            ValueIndex::Boolean(value) => AttributeValue::Boolean(value),
            ValueIndex::Integer(value) => AttributeValue::Integer(value),
            ValueIndex::String(span) => AttributeValue::String(self.text(span)),
            ValueIndex::Binary(span) => AttributeValue::Binary(span.of(&self.encoded)),
            ValueIndex::Uri(span) => AttributeValue::Uri(self.text(span)),
            ValueIndex::UriReference(span) => AttributeValue::UriReference(self.text(span)),
            ValueIndex::Timestamp { seconds, nanos } => AttributeValue::Timestamp { seconds, nanos },
        })
    }

    /// `span` is one that the scanner took with `Cursor::text`, or the empty one.
    fn text(&self, span: Span) -> &str {
        let bytes = span.of(&self.encoded);
        debug_assert!(std::str::from_utf8(bytes).is_ok());
        // SAFETY: the scanner checked these very bytes to be UTF-8, index and
        // bytes are only ever set together, and `Bytes` are immutable.
        unsafe { std::str::from_utf8_unchecked(bytes) }
    }
}

impl std::fmt::Debug for Event {
    /// The attributes, but not the data: it may be secret, and large.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut fields = out.debug_struct("Event");
        fields
            .field("id", &self.id())
            .field("source", &self.source())
            .field("type", &self.type_name());
        for (name, value) in self.attributes() {
            fields.field(name, &value);
        }
        fields.field("size_bytes", &self.size_bytes()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventBuilder;

    fn event() -> Event {
        EventBuilder::new("1", "/shop", "shop.order.placed")
            .subject("order/7")
            .extension("tenant", "acme")
            .binary_data(&b"payload"[..])
            .build()
            .unwrap()
    }

    #[test]
    fn slices_share_the_encoded_bytes() {
        let event = event();
        let range = event.encoded().as_ptr_range();
        assert!(range.contains(&event.slice_of(event.id()).as_ptr()));
        assert!(range.contains(&event.data_bytes().unwrap().as_ptr()));
        let foreign = String::from("order/7");
        assert_eq!(event.slice_of(&foreign), "order/7");
        assert_eq!(event.slice_of(""), "");
    }

    #[test]
    fn a_set_attribute_replaces_and_the_rest_stays() {
        let event = event();
        let changed = event
            .with_attributes(&[
                ("tenant", AttributeValue::String("umbrella")),
                ("hops", AttributeValue::String("us-east")),
            ])
            .unwrap();
        assert_eq!(changed.text_attribute("tenant"), Some("umbrella"));
        assert_eq!(changed.text_attribute("hops"), Some("us-east"));
        assert_eq!(changed.subject(), Some("order/7"));
        assert_eq!(changed.data(), EventData::Binary(b"payload"));
        assert_eq!(changed.attribute_count(), 3);
        assert_eq!(event.text_attribute("tenant"), Some("acme"));
    }

    #[test]
    fn attributes_past_the_bound_are_refused() {
        let names: Vec<String> = (0..65).map(|number| format!("a{number}")).collect();
        let attributes: Vec<_> = names
            .iter()
            .map(|name| (name.as_str(), AttributeValue::Boolean(true)))
            .collect();
        let event = EventBuilder::new("1", "/s", "t").build().unwrap();
        assert_eq!(event.with_attributes(&attributes[..64]).unwrap().attribute_count(), 64);
        assert_eq!(
            event.with_attributes(&attributes).unwrap_err(),
            ScanError::TooManyAttributes
        );
    }

    #[test]
    fn debug_text_shows_no_data() {
        let text = format!("{:?}", event());
        assert!(text.contains("shop.order.placed") && text.contains("acme"), "{text}");
        assert!(!text.contains("payload") && !text.contains("112"), "{text}");
    }
}
