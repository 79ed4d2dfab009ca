//! A record as an entry of a stream. Pure.
//!
//! An id is `<epoch>-<sequence>`: the epoch is the topic's, far beyond any time in
//! milliseconds, so that `XADD <epoch>-*` counts the sequence up by one, and so does
//! another client's `XADD *`. A position is the sequence less one, over all epochs.
//! An entry of an older epoch is refused by Redis itself: that is the fence against
//! appenders who do not know yet that a topic has grown or is another one.
//!
//! The fields: `timestamp` in milliseconds, `key`, `data` (the value), and the headers
//! by their names. A header that is called like one of ours, or begins like one of the
//! two prefixes, is written as `header:<name>`; one without a value as
//! `null-header:<name>`.
//!
//! What holds: any record comes back to the byte; any entry at all is some record.

use std::fmt;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use fred::interfaces::Resp3Frame as Frame;
use fred::types::Value;
use meridian_event::binding::known_header_name;
use meridian_event::{Header, Record};

use super::frame::{array, bytes};

const TIMESTAMP: &str = "timestamp";
const KEY: &str = "key";
const DATA: &str = "data";
const HEADER_PREFIX: &str = "header:";
const NULL_HEADER_PREFIX: &str = "null-header:";

/// Fields of one entry at most; a command of Redis takes about a million arguments.
pub(super) const MAX_HEADERS: usize = 10_000;

/// The id of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId {
    pub(super) epoch: u64,
    pub(super) sequence: u64,
}

impl EntryId {
    pub(super) const ZERO: EntryId = EntryId { epoch: 0, sequence: 0 };

    /// The entry at a position; every entry before it has a smaller id.
    pub(super) fn at(epoch: u64, position: u64) -> Self {
        Self {
            epoch,
            sequence: position.saturating_add(1),
        }
    }

    /// The last id before a position: where a group stands that reads it next.
    pub(super) fn before(epoch: u64, position: u64) -> Self {
        Self {
            epoch,
            sequence: position,
        }
    }

    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let (epoch, sequence) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self {
            epoch: epoch.parse().ok()?,
            sequence: sequence.parse().ok()?,
        })
    }

    pub(super) fn of_frame(frame: &Frame) -> Option<Self> {
        Self::parse(bytes(frame)?)
    }

    pub(super) fn position(self) -> u64 {
        self.sequence.saturating_sub(1)
    }

    /// The position after it.
    pub(super) fn next_position(self) -> u64 {
        self.sequence
    }

    pub(super) fn value(self) -> Value {
        Value::Bytes(self.to_string().into())
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.epoch, self.sequence)
    }
}

/// Appends the fields of a record.
pub(super) fn encode(record: &Record, arguments: &mut Vec<Value>) {
    let mut field = |name: Bytes, value: Bytes| {
        arguments.push(Value::Bytes(name));
        arguments.push(Value::Bytes(value));
    };
    let timestamp = record.timestamp_ms.to_string();
    field(Bytes::from_static(TIMESTAMP.as_bytes()), timestamp.into());
    if let Some(key) = &record.key {
        field(Bytes::from_static(KEY.as_bytes()), key.clone());
    }
    for header in &record.headers {
        match &header.value {
            Some(value) if is_plain(&header.name) => field(header.name.as_bytes().clone(), value.clone()),
            Some(value) => field(format!("{HEADER_PREFIX}{}", header.name).into(), value.clone()),
            None => field(format!("{NULL_HEADER_PREFIX}{}", header.name).into(), Bytes::new()),
        }
    }
    if let Some(value) = &record.value {
        field(Bytes::from_static(DATA.as_bytes()), value.clone());
    }
}

fn is_plain(name: &str) -> bool {
    !matches!(name, TIMESTAMP | KEY | DATA) && !name.starts_with(HEADER_PREFIX) && !name.starts_with(NULL_HEADER_PREFIX)
}

/// An entry as a record. `read_ms` is the time of one that tells none. What it holds
/// is copied into one piece, for the reply that it came in may be much larger.
pub(super) fn decode(fields: &[Frame], read_ms: i64) -> Record {
    let total: usize = fields.iter().filter_map(bytes).map(Bytes::len).sum();
    let mut buffer = BytesMut::with_capacity(total);
    let mut copy = |data: &[u8]| {
        buffer.extend_from_slice(data);
        buffer.split().freeze()
    };
    let mut record = Record {
        timestamp_ms: read_ms,
        headers: Vec::with_capacity(fields.len() / 2),
        ..Record::default()
    };
    let mut has_timestamp = false;
    let (pairs, _) = fields.as_chunks::<2>();
    for [name, value] in pairs {
        let (Some(name), Some(value)) = (bytes(name), bytes(value)) else {
            continue;
        };
        match &name[..] {
            b"timestamp" if !has_timestamp => {
                if let Some(time) = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()) {
                    has_timestamp = true;
                    record.timestamp_ms = time;
                    continue;
                }
            }
            b"key" if record.key.is_none() => {
                record.key = Some(copy(value));
                continue;
            }
            b"data" if record.value.is_none() => {
                record.value = Some(copy(value));
                continue;
            }
            _ => {}
        }
        record.headers.push(header(name, value, &mut copy));
    }
    record
}

fn header(name: &[u8], value: &[u8], copy: &mut impl FnMut(&[u8]) -> Bytes) -> Header {
    if let Some(known) = known_header_name(name) {
        return Header {
            name: ByteString::from_static(known),
            value: Some(copy(value)),
        };
    }
    if let Some(name) = name.strip_prefix(NULL_HEADER_PREFIX.as_bytes())
        && value.is_empty()
    {
        return Header {
            name: text(copy(name)),
            value: None,
        };
    }
    let name = name.strip_prefix(HEADER_PREFIX.as_bytes()).unwrap_or(name);
    Header {
        name: text(copy(name)),
        value: Some(copy(value)),
    }
}

/// The name of a header is text; what is none is bent into it.
fn text(name: Bytes) -> ByteString {
    match ByteString::try_from(name.clone()) {
        Ok(text) => text,
        Err(_) => String::from_utf8_lossy(&name).into_owned().into(),
    }
}

/// An entry of a reply: `[id, [field, value, ...]]`.
pub(super) fn entry(frame: &Frame, read_ms: i64) -> Option<(EntryId, Record)> {
    let [id, fields] = array(frame) else { return None };
    Some((EntryId::of_frame(id)?, decode(array(fields), read_ms)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(arguments: Vec<Value>) -> Vec<Frame> {
        let frame = |argument| match argument {
            Value::Bytes(data) => Frame::BlobString { data, attributes: None },
            other => panic!("{other:?}"),
        };
        arguments.into_iter().map(frame).collect()
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("data".to_owned()),
            Just("key".to_owned()),
            Just("timestamp".to_owned()),
            Just("ce_id".to_owned()),
            Just("header:data".to_owned()),
            Just("null-header:".to_owned()),
            ".{0,12}",
        ]
    }

    fn data() -> impl Strategy<Value = Option<Bytes>> {
        prop::option::of(prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from))
    }

    proptest! {
        #[test]
        fn a_record_comes_back_to_the_byte(
            key in data(), value in data(), timestamp_ms in any::<i64>(),
            headers in prop::collection::vec((name(), data()), 0..12),
        ) {
            let headers = headers.into_iter().map(|(name, value)| Header { name: name.into(), value }).collect();
            let record = Record { key, headers, value, timestamp_ms };
            let mut arguments = Vec::new();
            encode(&record, &mut arguments);
            prop_assert_eq!(decode(&frames(arguments), 7), record);
        }

        #[test]
        fn any_entry_is_some_record(fields in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..9)) {
            let frames = frames(fields.into_iter().map(|field| Value::Bytes(field.into())).collect());
            let record = decode(&frames, 7);
            prop_assert!(record.headers.len() <= frames.len() / 2);
        }
    }

    #[test]
    fn an_entry_of_another_client_has_its_data_as_value() {
        let fields = ["data", r#"{"specversion":"1.0"}"#, "metadata", "{}"];
        let fields = fields.map(|text| Value::Bytes(text.into())).to_vec();
        let record = decode(&frames(fields), 42);
        assert_eq!(record.value.as_deref(), Some(br#"{"specversion":"1.0"}"#.as_slice()));
        assert_eq!(record.header("metadata").map(|value| &value[..]), Some(&b"{}"[..]));
        assert_eq!((record.timestamp_ms, record.key), (42, None));
    }

    #[test]
    fn ids_are_in_the_order_of_positions() {
        let id = EntryId::parse(b"1732460000000000000-12").unwrap();
        assert_eq!((id.position(), id.next_position()), (11, 12));
        assert_eq!(EntryId::at(id.epoch, 11), id);
        assert!(EntryId::before(id.epoch, 11) < id && EntryId::at(id.epoch + 1, 12) > id);
        assert_eq!(id.to_string(), "1732460000000000000-12");
        assert_eq!(EntryId::parse(b"12"), None);
    }
}
