//! A record as an AMQP message, and back.
//!
//! Headers that AMQP can carry are headers of the message, spelt as the CloudEvents
//! binding wants it, so that native clients read them. All that AMQP has no place
//! for (the key, whether there is a value, milliseconds, the order of headers, and
//! headers that repeat or are no text) goes into one header of our own,
//! `meridian_record`, as bytes.
//!
//! What holds: what is written comes back to the byte. A message without our header,
//! or with one that is damaged, is read as a foreign one: headers by name, every
//! type of AMQP as its canonical text, tables and lists left out.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};
use bytestring::ByteString;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, ByteArray, FieldTable, LongString, ShortString};
use meridian_event::binding::CONTENT_TYPE;
use meridian_event::binding::rabbitmq::{OWN_PREFIX, record_name, wire_name};
use meridian_event::{AttributeValue, Header, Record};

/// The header of ours.
pub(super) const RECORD_HEADER: &str = "meridian_record";

/// The layout of our header.
const VERSION: u8 = 1;
/// Written to disk.
const PERSISTENT: u8 = 2;
const HAS_KEY: u8 = 1;
const HAS_VALUE: u8 = 2;

/// Where a header of the record is.
const AS_HEADER: u8 = 0;
const AS_CONTENT_TYPE: u8 = 1;
const INLINE: u8 = 2;
const INLINE_NULL: u8 = 3;

/// The properties of a record's message; its payload is the value, or nothing.
pub(super) fn encode(record: &Record) -> BasicProperties {
    let mut plain = Vec::with_capacity(record.headers.len() + 1);
    let mut content_type = None;
    let mut places = Vec::with_capacity(record.headers.len());
    for (index, header) in record.headers.iter().enumerate() {
        let text = header
            .value
            .as_deref()
            .and_then(|value| std::str::from_utf8(value).ok());
        let repeats = || record.headers[..index].iter().any(|before| before.name == header.name);
        let place = match text {
            Some(text) if header.name == CONTENT_TYPE && text.len() <= 255 && content_type.is_none() => {
                content_type = Some(ShortString::from(text));
                Place::ContentType
            }
            Some(text) if header.name != CONTENT_TYPE && !repeats() => match wire_name(&header.name) {
                Some(name) => {
                    let name = ShortString::from(name.into_owned());
                    plain.push((name, AMQPValue::LongString(LongString::from(text)), index));
                    Place::Header
                }
                None => Place::Inline,
            },
            _ => Place::Inline,
        };
        places.push(place);
    }
    // The order of headers on the wire is that of their names.
    plain.sort_unstable_by(|(left, ..), (right, ..)| left.cmp(right));
    let mut order = vec![u16::MAX; places.len()];
    for ((_, _, index), number) in plain.iter().zip(0..) {
        order[*index] = number;
    }
    let mut own = Vec::with_capacity(32 + 3 * places.len());
    own.put_u8(VERSION);
    own.put_u8(if record.key.is_some() { HAS_KEY } else { 0 } | if record.value.is_some() { HAS_VALUE } else { 0 });
    own.put_i64(record.timestamp_ms);
    if let Some(key) = &record.key {
        put_bytes(&mut own, key);
    }
    own.put_u16(plain.len().min(usize::from(u16::MAX)) as u16);
    for ((place, header), number) in places.iter().zip(&record.headers).zip(order) {
        match place {
            Place::Header => {
                own.put_u8(AS_HEADER);
                own.put_u16(number);
            }
            Place::ContentType => own.put_u8(AS_CONTENT_TYPE),
            Place::Inline => {
                own.put_u8(if header.value.is_some() { INLINE } else { INLINE_NULL });
                put_bytes(&mut own, header.name.as_bytes());
                if let Some(value) = &header.value {
                    put_bytes(&mut own, value);
                }
            }
        }
    }
    let own = (RECORD_HEADER.into(), AMQPValue::ByteArray(ByteArray::from(own)));
    let plain = plain.into_iter().map(|(name, value, _)| (name, value));
    let table: BTreeMap<_, _> = plain.chain([own]).collect();
    let seconds = u64::try_from(record.timestamp_ms / 1000).unwrap_or(0);
    let mut properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_timestamp(seconds)
        .with_headers(FieldTable::from(table));
    if let Some(content_type) = content_type {
        properties = properties.with_content_type(content_type);
    }
    if let Some(id) = message_id(record) {
        properties = properties.with_message_id(id);
    }
    properties
}

enum Place {
    Header,
    ContentType,
    Inline,
}

/// The event's id, by which a message that comes back is known.
fn message_id(record: &Record) -> Option<ShortString> {
    let id = std::str::from_utf8(record.header("ce_id")?).ok()?;
    (id.len() <= 255).then(|| ShortString::from(id))
}

fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.put_u32(bytes.len() as u32); // a record is far below 4 GiB
    buffer.put_slice(bytes);
}

/// The record of a message; `now_ms` is the time of one that does not say its own.
pub(super) fn decode(properties: &BasicProperties, payload: Vec<u8>, now_ms: i64) -> Record {
    let payload = Bytes::from(payload);
    if let Some(AMQPValue::ByteArray(own)) = headers(properties).and_then(|table| table.get(RECORD_HEADER))
        && let Some(record) = decode_own(Bytes::copy_from_slice(own.as_slice()), properties, &payload)
    {
        return record;
    }
    decode_foreign(properties, payload, now_ms)
}

fn headers(properties: &BasicProperties) -> Option<&BTreeMap<ShortString, AMQPValue>> {
    properties.headers().as_ref().map(FieldTable::inner)
}

fn is_ours_to_read(name: &str) -> bool {
    !name.starts_with("x-") && !name.starts_with(OWN_PREFIX)
}

fn decode_own(mut own: Bytes, properties: &BasicProperties, payload: &Bytes) -> Option<Record> {
    if own.remaining() < 10 || own.get_u8() != VERSION {
        return None;
    }
    let flags = own.get_u8();
    let timestamp_ms = own.get_i64();
    let key = if flags & HAS_KEY != 0 {
        Some(get_bytes(&mut own)?)
    } else {
        None
    };
    let plain: Vec<_> = headers(properties)
        .into_iter()
        .flatten()
        .filter(|(name, _)| is_ours_to_read(name.as_str()))
        .collect();
    if own.remaining() < 2 || usize::from(own.get_u16()) != plain.len() {
        return None;
    }
    let mut found = Vec::with_capacity(plain.len() + 1);
    // All values of the table together, so that a record has one allocation for them.
    let mut values = Vec::with_capacity(plain.iter().map(|(_, value)| text_bytes(value)).sum());
    while own.has_remaining() {
        found.push(match own.get_u8() {
            AS_HEADER if own.remaining() >= 2 => {
                let (name, value) = plain.get(usize::from(own.get_u16()))?;
                let AMQPValue::LongString(value) = value else {
                    return None;
                };
                let start = values.len();
                values.extend_from_slice(value.as_bytes());
                (record_name(name.as_str()), Found::Together(start..values.len()))
            }
            AS_CONTENT_TYPE => {
                let content_type = properties.content_type().as_ref()?;
                let start = values.len();
                values.extend_from_slice(content_type.as_str().as_bytes());
                (
                    ByteString::from_static(CONTENT_TYPE),
                    Found::Together(start..values.len()),
                )
            }
            place @ (INLINE | INLINE_NULL) => {
                let name = ByteString::try_from(get_bytes(&mut own)?).ok()?;
                let value = match place {
                    INLINE => Some(get_bytes(&mut own)?),
                    _ => None,
                };
                (name, Found::Own(value))
            }
            _ => return None,
        });
    }
    let values = Bytes::from(values);
    let headers = found.into_iter().map(|(name, value)| Header {
        name,
        value: match value {
            Found::Together(range) => Some(values.slice(range)),
            Found::Own(value) => value,
        },
    });
    Some(Record {
        key,
        headers: headers.collect(),
        value: (flags & HAS_VALUE != 0).then(|| payload.clone()),
        timestamp_ms,
    })
}

/// Where the value of a header is.
enum Found {
    /// In the buffer of all values of the table.
    Together(Range<usize>),
    /// In our header.
    Own(Option<Bytes>),
}

fn text_bytes(value: &AMQPValue) -> usize {
    match value {
        AMQPValue::LongString(text) => text.as_bytes().len(),
        _ => 0,
    }
}

fn get_bytes(buffer: &mut Bytes) -> Option<Bytes> {
    if buffer.remaining() < 4 {
        return None;
    }
    let length = buffer.get_u32() as usize;
    (buffer.remaining() >= length).then(|| buffer.split_to(length))
}

fn decode_foreign(properties: &BasicProperties, payload: Bytes, now_ms: i64) -> Record {
    let mut found = Vec::new();
    for (name, value) in headers(properties).into_iter().flatten() {
        if is_ours_to_read(name.as_str())
            && let Some(value) = canonical(value)
        {
            found.push(Header {
                name: record_name(name.as_str()),
                value,
            });
        }
    }
    if let Some(content_type) = properties.content_type() {
        found.push(Header::new(CONTENT_TYPE, content_type.as_str().as_bytes().to_vec()));
    }
    let seconds = properties.timestamp().and_then(|seconds| i64::try_from(seconds).ok());
    let mut record = Record {
        key: None,
        headers: found,
        value: Some(payload),
        timestamp_ms: seconds.and_then(|seconds| seconds.checked_mul(1000)).unwrap_or(now_ms),
    };
    record.key = record.header("ce_partitionkey").cloned();
    record
}

/// The text of a value as CloudEvents spells it; `None` for what has none.
fn canonical(value: &AMQPValue) -> Option<Option<Bytes>> {
    let text = match value {
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Float(value) => value.to_string(),
        AMQPValue::Double(value) => value.to_string(),
        AMQPValue::DecimalValue(value) => format!("{}e-{}", value.value, value.scale),
        AMQPValue::ShortString(value) => value.to_string(),
        AMQPValue::LongString(value) => return Some(Some(value.as_bytes().to_vec().into())),
        AMQPValue::Timestamp(seconds) => {
            let millis = i64::try_from(*seconds).ok()?.checked_mul(1000)?;
            AttributeValue::timestamp_ms(millis).to_string()
        }
        AMQPValue::ByteArray(bytes) => AttributeValue::Binary(bytes.as_slice()).to_string(),
        AMQPValue::Void => return Some(None),
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => return None,
    };
    Some(Some(text.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn there_and_back(record: &Record) -> Record {
        let payload = record.value.as_deref().unwrap_or_default().to_vec();
        decode(&encode(record), payload, 0)
    }

    #[test]
    fn attributes_are_headers_that_native_clients_know() {
        let record = Record {
            key: Some("k".into()),
            headers: vec![
                Header::new("ce_type", "a.b"),
                Header::new("ce_id", "7"),
                Header::new("content-type", "text/plain"),
            ],
            value: Some("v".into()),
            timestamp_ms: 1_700_000_000_123,
        };
        let properties = encode(&record);
        let table = headers(&properties).unwrap();
        assert_eq!(table["cloudEvents_type"], AMQPValue::LongString("a.b".into()));
        assert!(table.keys().all(|name| !name.as_str().starts_with("x-")));
        assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "text/plain");
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "7");
        assert_eq!(properties.timestamp(), &Some(1_700_000_000));
        assert_eq!(there_and_back(&record), record);
    }

    #[test]
    fn a_foreign_message_is_read_in_every_spelling_and_type() {
        let mut table = FieldTable::default();
        table.insert("cloudEvents:type".into(), AMQPValue::LongString("t".into()));
        table.insert("ce-id".into(), AMQPValue::ShortString("1".into()));
        table.insert("cloudEvents_time".into(), AMQPValue::Timestamp(0));
        table.insert("ce-flag".into(), AMQPValue::Boolean(true));
        table.insert("ce-partitionkey".into(), AMQPValue::LongLongInt(-5));
        table.insert(
            "ce-bin".into(),
            AMQPValue::ByteArray(ByteArray::from(vec![0xfb, 0xff, 0])),
        );
        table.insert("x-death".into(), AMQPValue::FieldTable(FieldTable::default()));
        let properties = BasicProperties::default()
            .with_headers(table)
            .with_content_type("a/b".into());
        let record = decode(&properties, b"body".to_vec(), 9);
        let text = |name: &str| {
            let value = record.header(name).unwrap_or_else(|| panic!("no {name}"));
            std::str::from_utf8(value).unwrap().to_owned()
        };
        assert_eq!(text("ce_type"), "t");
        assert_eq!(text("ce_id"), "1");
        assert_eq!(text("ce_time"), "1970-01-01T00:00:00Z");
        assert_eq!(text("ce_flag"), "true");
        assert_eq!(text("ce_bin"), "+/8A");
        assert_eq!(text("content-type"), "a/b");
        assert_eq!(record.key.as_deref(), Some(b"-5".as_slice()));
        assert_eq!(record.timestamp_ms, 9);
        assert!(record.header("x-death").is_none());
    }

    #[test]
    fn our_header_damaged_is_no_panic() {
        let record = Record {
            headers: vec![Header::new("a", "1")],
            ..Record::default()
        };
        let own = match &headers(&encode(&record)).unwrap()[RECORD_HEADER] {
            AMQPValue::ByteArray(own) => own.as_slice().to_vec(),
            other => panic!("{other:?}"),
        };
        for length in 0..own.len() {
            let mut table = FieldTable::default();
            let cut = AMQPValue::ByteArray(ByteArray::from(own[..length].to_vec()));
            table.insert(RECORD_HEADER.into(), cut);
            decode(&BasicProperties::default().with_headers(table), Vec::new(), 0);
        }
    }

    fn header() -> impl Strategy<Value = Header> {
        let name = prop_oneof!["ce_[a-c]", "[a-c]", "x-[a-c]", "ce-[a-c]", "content-type", "\\PC{0,5}"];
        let value = prop::option::of(prop_oneof!["[a-z]{0,4}".prop_map(String::into_bytes), any::<Vec<u8>>()]);
        (name, value).prop_map(|(name, value)| Header {
            name: name.into(),
            value: value.map(Bytes::from),
        })
    }

    proptest! {
        #[test]
        fn every_record_comes_back_to_the_byte(
            key in prop::option::of(any::<Vec<u8>>()),
            value in prop::option::of(any::<Vec<u8>>()),
            headers in prop::collection::vec(header(), 0..8),
            timestamp_ms in any::<i64>(),
        ) {
            let record = Record { key: key.map(Bytes::from), headers, value: value.map(Bytes::from), timestamp_ms };
            prop_assert_eq!(there_and_back(&record), record);
        }
    }
}
