//! What a fetch hands over, copied into a record of ours.
//!
//! What holds: one allocation for all bytes of a record, so that a record that is
//! kept keeps nothing else alive (librdkafka's messages are slices of a whole
//! fetch response, up to a megabyte); no byte of a foreign record can stop the
//! reader.

use std::collections::hash_map::Entry;
use std::ffi::{CStr, c_char, c_void};
use std::{ptr, slice};

use bytes::Bytes;
use bytestring::ByteString;
use meridian_event::binding::known_header_name;
use meridian_event::{Header, Record};
use rdkafka_sys as sys;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use sys::rd_kafka_resp_err_t as Response;

use super::{Code, Event, NativeError};
use crate::name::{TopicName, TopicPartition};

/// Records with so many headers are copied without a list of them on the heap.
const USUAL_HEADERS: usize = 16;

/// Names of topics by librdkafka's handle, so that a record costs no copy of a
/// name. A handle means one topic only while its partitions are assigned:
/// whoever keeps this clears it at each rebalance.
#[derive(Debug, Default)]
pub(in super::super) struct TopicNames(FxHashMap<usize, TopicName>);

impl TopicNames {
    pub(in super::super) fn clear(&mut self) {
        self.0.clear();
    }

    /// # Safety
    /// `handle` is null or a topic handle that is alive.
    unsafe fn partition(&mut self, handle: *mut sys::rd_kafka_topic_t, partition: i32) -> Option<TopicPartition> {
        if handle.is_null() {
            return None;
        }
        let partition = u32::try_from(partition).ok()?;
        let topic = match self.0.entry(handle as usize) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => {
                // SAFETY: the name lives as long as its handle.
                let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(handle)) };
                entry.insert(TopicName::new(name.to_str().ok()?).ok()?).clone()
            }
        };
        Some(TopicPartition { topic, partition })
    }
}

/// One thing that a fetch hands over.
#[derive(Debug)]
pub(in super::super) enum Fetched {
    Record {
        partition: TopicPartition,
        position: u64,
        record: Record,
    },
    /// All before `position` was handed over, and there is nothing at it yet.
    End { partition: TopicPartition, position: u64 },
    /// Of one partition, or of the consumer as a whole.
    Fault {
        partition: Option<TopicPartition>,
        error: NativeError,
    },
}

impl Fetched {
    /// # Safety
    /// `message` is of a fetch event that is alive.
    pub(super) unsafe fn of(message: &sys::rd_kafka_message_t, names: &mut TopicNames) -> Option<Self> {
        // SAFETY: the message is alive throughout.
        unsafe {
            let partition = names.partition(message.rkt, message.partition)?;
            let position = u64::try_from(message.offset).ok()?;
            Some(Fetched::Record {
                partition,
                position,
                record: record(message),
            })
        }
    }

    /// The fault that an event tells, if it tells one.
    pub(in super::super) fn fault(event: &Event) -> Option<Self> {
        let error = event.error().err()?;
        let of = event.fault_partition(|element| {
            let topic = TopicName::new(element.topic).ok()?;
            let partition = u32::try_from(element.partition).ok()?;
            Some((TopicPartition { topic, partition }, u64::try_from(element.offset).ok()))
        });
        Some(match (error.code, of) {
            (Code::PartitionEOF, Some((partition, Some(position)))) => Fetched::End { partition, position },
            (_, of) => Fetched::Fault {
                partition: of.map(|(partition, _)| partition),
                error,
            },
        })
    }
}

/// # Safety
/// As [`Fetched::of`].
unsafe fn record(message: &sys::rd_kafka_message_t) -> Record {
    // SAFETY: lengths are those that librdkafka gives.
    unsafe {
        let key = bytes_of(message.key, message.key_len);
        let value = bytes_of(message.payload, message.len);
        let mut headers = ptr::null_mut();
        let found = sys::rd_kafka_message_headers(message, &raw mut headers);
        let count = match found {
            Response::RD_KAFKA_RESP_ERR_NO_ERROR => sys::rd_kafka_header_cnt(headers),
            _ => 0, // none, or headers that cannot be parsed
        };
        let mut parts = SmallVec::<[_; USUAL_HEADERS]>::new();
        let mut total = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        for index in 0..count {
            let Some((name, value)) = header(headers, index) else {
                break;
            };
            let known = known_header_name(name);
            let kept = if known.is_some() { &[] } else { name };
            total += kept.len() + value.map_or(0, <[u8]>::len);
            parts.push((known, kept, value));
        }
        let mut store = Vec::with_capacity(total);
        for (_, name, value) in &parts {
            store.extend_from_slice(name);
            store.extend_from_slice(value.unwrap_or_default());
        }
        store.extend_from_slice(key.unwrap_or_default());
        store.extend_from_slice(value.unwrap_or_default());
        let store = Bytes::from(store);
        let mut at = 0;
        let mut next = |length: usize| {
            at += length;
            store.slice(at - length..at)
        };
        let headers = parts
            .iter()
            .map(|(known, name, value)| Header {
                name: known.map_or_else(|| text_of(next(name.len())), ByteString::from_static),
                value: value.map(|value| next(value.len())),
            })
            .collect();
        let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        Record {
            headers,
            key: key.map(|key| next(key.len())),
            value: value.map(|value| next(value.len())),
            timestamp_ms: sys::rd_kafka_message_timestamp(message, &raw mut kind),
        }
    }
}

/// The bytes of a part; null is Kafka's null.
///
/// # Safety
/// `pointer` is null or points to `length` bytes that live for `'a`.
unsafe fn bytes_of<'a>(pointer: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: as above.
    (!pointer.is_null()).then(|| unsafe { slice::from_raw_parts(pointer.cast(), length) })
}

/// # Safety
/// `headers` are of a message that lives for `'a`.
unsafe fn header<'a>(headers: *const sys::rd_kafka_headers_t, index: usize) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let mut name: *const c_char = ptr::null();
    let mut value: *const c_void = ptr::null();
    let mut length = 0;
    // SAFETY: the three are written before they are read; librdkafka ends names with NUL.
    unsafe {
        let found = sys::rd_kafka_header_get_all(headers, index, &raw mut name, &raw mut value, &raw mut length);
        NativeError::check(found).ok()?;
        Some((CStr::from_ptr(name).to_bytes(), bytes_of(value, length)))
    }
}

/// A header's name; where a foreign one is not UTF-8, with replacement characters.
fn text_of(bytes: Bytes) -> ByteString {
    ByteString::try_from(bytes.clone())
        .unwrap_or_else(|_| ByteString::from(String::from_utf8_lossy(&bytes).into_owned()))
}
