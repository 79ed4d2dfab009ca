//! Finds the parts of an encoded `io.cloudevents.v1.CloudEvent`, in one pass.
//!
//! The outcome is an index of offsets; nothing is copied, and nothing is
//! allocated up to ten attributes. It accepts what prost
//! decodes and sees the same values (the last scalar, map entry and oneof member
//! win; repeated messages merge; unknown fields are skipped), but for the bounds
//! on attributes, which prost lacks. Whether the event makes sense as a
//! CloudEvent is left to `validate`.

use smallvec::SmallVec;

use crate::wire::{Cursor, MAX_DEPTH, Span, length_key, varint_key};

/// The most attributes an event may have besides id, source, specversion and
/// type.
pub const MAX_ATTRIBUTES: usize = 64;

/// The most encoded map entries, those that later ones replace included. Bounds
/// the work of looking for an earlier entry of the same name.
pub const MAX_ATTRIBUTE_ENTRIES: usize = 4 * MAX_ATTRIBUTES;

/// So many attributes are indexed without allocating.
pub(crate) const INLINE_ATTRIBUTES: usize = 10;

/// Field numbers of `CloudEvent` (CloudEvents protobuf format, cloudevents.proto).
pub(crate) mod event_field {
    pub(crate) const ID: u32 = 1;
    pub(crate) const SOURCE: u32 = 2;
    pub(crate) const SPEC_VERSION: u32 = 3;
    pub(crate) const TYPE: u32 = 4;
    pub(crate) const ATTRIBUTES: u32 = 5;
    pub(crate) const BINARY_DATA: u32 = 6;
    pub(crate) const TEXT_DATA: u32 = 7;
    pub(crate) const PROTO_DATA: u32 = 8;
}

/// Field numbers of a map entry: `attributes` as the encoding guide lays it out.
pub(crate) mod entry_field {
    pub(crate) const NAME: u32 = 1;
    pub(crate) const VALUE: u32 = 2;
}

/// Field numbers of `CloudEventAttributeValue`.
pub(crate) mod value_field {
    pub(crate) const BOOLEAN: u32 = 1;
    pub(crate) const INTEGER: u32 = 2;
    pub(crate) const STRING: u32 = 3;
    pub(crate) const BYTES: u32 = 4;
    pub(crate) const URI: u32 = 5;
    pub(crate) const URI_REFERENCE: u32 = 6;
    pub(crate) const TIMESTAMP: u32 = 7;
}

/// Field numbers of `google.protobuf.Timestamp`.
pub(crate) mod timestamp_field {
    pub(crate) const SECONDS: u32 = 1;
    pub(crate) const NANOS: u32 = 2;
}

/// Field numbers of `google.protobuf.Any`.
pub(crate) mod any_field {
    pub(crate) const TYPE_URL: u32 = 1;
    pub(crate) const VALUE: u32 = 2;
}

/// Why bytes are no encoded CloudEvent. Offsets count bytes from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// A length reaches past the end of its message.
    #[error("the encoded event is cut short at byte {at}; send the whole CloudEvent message")]
    Truncated {
        /// Where.
        at: u32,
    },
    /// A varint is unfinished or longer than 64 bits.
    #[error("byte {at} of the encoded event begins no varint; encode it as protobuf CloudEvent")]
    BadVarint {
        /// Where.
        at: u32,
    },
    /// A field key has number 0, an unknown wire type, or more than 32 bits.
    #[error("byte {at} of the encoded event begins no field key; encode it as protobuf CloudEvent")]
    BadKey {
        /// Where.
        at: u32,
    },
    /// A known field has another wire type than the contract says.
    #[error(
        "field {field} before byte {at} of the encoded event has the wrong wire type; \
         use io/cloudevents/v1/cloudevents.proto"
    )]
    WrongWireType {
        /// Where.
        at: u32,
        /// The field's number in the message that holds it.
        field: u32,
    },
    /// A string field holds other bytes than UTF-8.
    #[error("the string at byte {at} of the encoded event is not UTF-8")]
    NotText {
        /// Where.
        at: u32,
    },
    /// A group's end has no beginning, or another number.
    #[error("a group before byte {at} of the encoded event does not end where it should")]
    UnbalancedGroup {
        /// Where.
        at: u32,
    },
    /// Groups nest deeper than 100.
    #[error("groups nest too deep at byte {at} of the encoded event")]
    TooDeep {
        /// Where.
        at: u32,
    },
    /// More attributes than [`MAX_ATTRIBUTES`].
    #[error("the event has more than {MAX_ATTRIBUTES} attributes; put the rest into its data")]
    TooManyAttributes,
    /// More encoded entries than [`MAX_ATTRIBUTE_ENTRIES`].
    #[error(
        "the event encodes more than {MAX_ATTRIBUTE_ENTRIES} attribute entries; \
         write each attribute once"
    )]
    TooManyEntries,
    /// More bytes than 32 bits count.
    #[error("the encoded event has {size_bytes} bytes, more than 4 GiB")]
    TooLarge {
        /// How many.
        size_bytes: usize,
    },
}

/// Where an attribute's value is, or what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueIndex {
    Unset,
    Boolean(bool),
    Integer(i32),
    String(Span),
    Binary(Span),
    Uri(Span),
    UriReference(Span),
    Timestamp { seconds: i64, nanos: i32 },
}

/// One attribute of the map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttributeIndex {
    pub(crate) name: Span,
    pub(crate) value: ValueIndex,
}

/// Where the data is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum DataIndex {
    None,
    Binary(Span),
    Text(Span),
    Protobuf { type_url: Span, value: Span },
}

/// Where everything is. The empty span stands for an absent string, as proto3
/// sees no difference.
#[derive(Clone, Debug)]
pub(crate) struct EventIndex {
    pub(crate) id: Span,
    pub(crate) source: Span,
    pub(crate) spec_version: Span,
    pub(crate) type_name: Span,
    pub(crate) data: DataIndex,
    pub(crate) attributes: SmallVec<[AttributeIndex; INLINE_ATTRIBUTES]>,
}

/// Scans a whole encoded event.
///
/// # Errors
/// A [`ScanError`] for the first fault; prost would refuse the bytes as well,
/// unless it is one of the two attribute bounds.
#[inline]
pub(crate) fn scan(encoded: &[u8]) -> Result<EventIndex, ScanError> {
    const ID: u32 = length_key(event_field::ID);
    const SOURCE: u32 = length_key(event_field::SOURCE);
    const SPEC_VERSION: u32 = length_key(event_field::SPEC_VERSION);
    const TYPE: u32 = length_key(event_field::TYPE);
    const ATTRIBUTES: u32 = length_key(event_field::ATTRIBUTES);
    const BINARY_DATA: u32 = length_key(event_field::BINARY_DATA);
    const TEXT_DATA: u32 = length_key(event_field::TEXT_DATA);
    const PROTO_DATA: u32 = length_key(event_field::PROTO_DATA);

    let mut cursor = Cursor::new(encoded)?;
    let mut index = EventIndex {
        id: Span::default(),
        source: Span::default(),
        spec_version: Span::default(),
        type_name: Span::default(),
        data: DataIndex::None,
        attributes: SmallVec::new(),
    };
    let mut entries = 0;
    while !cursor.at_end() {
        match cursor.key()? {
            ID => index.id = cursor.text()?,
            SOURCE => index.source = cursor.text()?,
            SPEC_VERSION => index.spec_version = cursor.text()?,
            TYPE => index.type_name = cursor.text()?,
            ATTRIBUTES => {
                entries += 1;
                if entries > MAX_ATTRIBUTE_ENTRIES {
                    return Err(ScanError::TooManyEntries);
                }
                let attribute = scan_entry(cursor.nested()?)?;
                insert(encoded, &mut index, attribute)?;
            }
            BINARY_DATA => index.data = DataIndex::Binary(cursor.delimited()?),
            TEXT_DATA => index.data = DataIndex::Text(cursor.text()?),
            PROTO_DATA => index.data = scan_any(cursor.nested()?, index.data)?,
            key => cursor.other_field(key, event_field::PROTO_DATA, MAX_DEPTH)?,
        }
    }
    Ok(index)
}

#[inline]
fn insert(encoded: &[u8], index: &mut EventIndex, attribute: AttributeIndex) -> Result<(), ScanError> {
    let name = attribute.name.of(encoded);
    let earlier = index
        .attributes
        .iter()
        .position(|earlier| earlier.name.of(encoded) == name);
    match earlier {
        Some(place) => index.attributes[place] = attribute,
        None if index.attributes.len() == MAX_ATTRIBUTES => {
            return Err(ScanError::TooManyAttributes);
        }
        None => index.attributes.push(attribute),
    }
    Ok(())
}

#[inline]
fn scan_entry(mut cursor: Cursor<'_>) -> Result<AttributeIndex, ScanError> {
    const NAME: u32 = length_key(entry_field::NAME);
    const VALUE: u32 = length_key(entry_field::VALUE);

    let mut name = Span::default();
    let mut value = ValueIndex::Unset;
    while !cursor.at_end() {
        match cursor.key()? {
            NAME => name = cursor.text()?,
            VALUE => value = scan_value(cursor.nested()?, value)?,
            key => cursor.other_field(key, entry_field::VALUE, MAX_DEPTH - 1)?,
        }
    }
    Ok(AttributeIndex { name, value })
}

/// `value` is what an earlier occurrence within the same entry said.
#[inline]
fn scan_value(mut cursor: Cursor<'_>, mut value: ValueIndex) -> Result<ValueIndex, ScanError> {
    const BOOLEAN: u32 = varint_key(value_field::BOOLEAN);
    const INTEGER: u32 = varint_key(value_field::INTEGER);
    const STRING: u32 = length_key(value_field::STRING);
    const BYTES: u32 = length_key(value_field::BYTES);
    const URI: u32 = length_key(value_field::URI);
    const URI_REFERENCE: u32 = length_key(value_field::URI_REFERENCE);
    const TIMESTAMP: u32 = length_key(value_field::TIMESTAMP);

    while !cursor.at_end() {
        value = match cursor.key()? {
            BOOLEAN => ValueIndex::Boolean(cursor.varint()? != 0),
            // An int32 is encoded as 64 bits; the low half is the value.
            INTEGER => ValueIndex::Integer(cursor.varint()? as i32),
            STRING => ValueIndex::String(cursor.text()?),
            BYTES => ValueIndex::Binary(cursor.delimited()?),
            URI => ValueIndex::Uri(cursor.text()?),
            URI_REFERENCE => ValueIndex::UriReference(cursor.text()?),
            TIMESTAMP => scan_timestamp(cursor.nested()?, value)?,
            key => {
                cursor.other_field(key, value_field::TIMESTAMP, MAX_DEPTH - 2)?;
                value
            }
        };
    }
    Ok(value)
}

/// Messages merge: a timestamp begins from the one before it in the same value.
fn scan_timestamp(mut cursor: Cursor<'_>, before: ValueIndex) -> Result<ValueIndex, ScanError> {
    const SECONDS: u32 = varint_key(timestamp_field::SECONDS);
    const NANOS: u32 = varint_key(timestamp_field::NANOS);

    let (mut seconds, mut nanos) = match before {
        ValueIndex::Timestamp { seconds, nanos } => (seconds, nanos),
        _ => (0, 0),
    };
    while !cursor.at_end() {
        match cursor.key()? {
            SECONDS => seconds = cursor.varint()? as i64,
            NANOS => nanos = cursor.varint()? as i32,
            key => cursor.other_field(key, timestamp_field::NANOS, MAX_DEPTH - 3)?,
        }
    }
    Ok(ValueIndex::Timestamp { seconds, nanos })
}

/// Messages merge: an `Any` begins from the one before it.
fn scan_any(mut cursor: Cursor<'_>, before: DataIndex) -> Result<DataIndex, ScanError> {
    const TYPE_URL: u32 = length_key(any_field::TYPE_URL);
    const VALUE: u32 = length_key(any_field::VALUE);

    let (mut type_url, mut value) = match before {
        DataIndex::Protobuf { type_url, value } => (type_url, value),
        _ => (Span::default(), Span::default()),
    };
    while !cursor.at_end() {
        match cursor.key()? {
            TYPE_URL => type_url = cursor.text()?,
            VALUE => value = cursor.delimited()?,
            key => cursor.other_field(key, any_field::VALUE, MAX_DEPTH - 1)?,
        }
    }
    Ok(DataIndex::Protobuf { type_url, value })
}
