//! Handing a record to a producer, and the report of what became of it.
//!
//! What holds: librdkafka copies the record, so that nothing of ours is tied up
//! while it is on its way; a record that is not taken leaves nothing behind.

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use meridian_event::Record;
use rdkafka_sys as sys;
use sys::rd_kafka_vtype_t as Tag;

use super::client::c_text;
use super::{Code, NativeClient, NativeError};

/// A topic as a producer knows it: spares a look-up by name for every record.
#[derive(Debug)]
pub(in super::super) struct TopicHandle {
    pointer: NonNull<sys::rd_kafka_topic_t>,
    client: Arc<NativeClient>,
}

// SAFETY: librdkafka's topic handles may be used from any thread.
unsafe impl Send for TopicHandle {}
// SAFETY: as above.
unsafe impl Sync for TopicHandle {}

impl TopicHandle {
    pub(in super::super) fn new(client: &Arc<NativeClient>, name: &str) -> Result<Self, NativeError> {
        let name = c_text(name)?;
        // SAFETY: the client is alive; no configuration of its own.
        let pointer = unsafe { sys::rd_kafka_topic_new(client.pointer(), name.as_ptr(), ptr::null_mut()) };
        let pointer = NonNull::new(pointer).ok_or_else(|| NativeError::of(Code::InvalidTopic))?;
        Ok(Self {
            pointer,
            client: Arc::clone(client),
        })
    }

    /// Queues a copy of the record. `number` comes back in its delivery report.
    pub(in super::super) fn produce(&self, partition: i32, record: &Record, number: usize) -> Result<(), Code> {
        let (value, value_length) = part(record.value.as_deref());
        let (key, key_length) = part(record.key.as_deref());
        let headers = headers(record);
        // SAFETY: tags and values are in pairs of the types that librdkafka documents;
        // key and value are copied before the call returns (MSG_F_COPY).
        let response = unsafe {
            sys::rd_kafka_producev(
                self.client.pointer(),
                Tag::RD_KAFKA_VTYPE_RKT,
                self.pointer.as_ptr(),
                Tag::RD_KAFKA_VTYPE_PARTITION,
                partition,
                Tag::RD_KAFKA_VTYPE_MSGFLAGS,
                sys::RD_KAFKA_MSG_F_COPY as c_int,
                Tag::RD_KAFKA_VTYPE_VALUE,
                value.cast_mut(),
                value_length,
                Tag::RD_KAFKA_VTYPE_KEY,
                key,
                key_length,
                Tag::RD_KAFKA_VTYPE_TIMESTAMP,
                record.timestamp_ms,
                Tag::RD_KAFKA_VTYPE_OPAQUE,
                number as *mut c_void,
                Tag::RD_KAFKA_VTYPE_HEADERS,
                headers,
                Tag::RD_KAFKA_VTYPE_END,
            )
        };
        NativeError::check(response).map_err(|error| {
            if !headers.is_null() {
                // SAFETY: a message that is not taken does not own its headers.
                unsafe { sys::rd_kafka_headers_destroy(headers) };
            }
            error.code
        })
    }
}

impl Drop for TopicHandle {
    fn drop(&mut self) {
        // SAFETY: a counted reference of ours; the client is still alive.
        unsafe { sys::rd_kafka_topic_destroy(self.pointer.as_ptr()) };
    }
}

/// Pointer and length; null is Kafka's null, which is not the empty value.
fn part(bytes: Option<&[u8]>) -> (*const c_void, usize) {
    bytes.map_or((ptr::null(), 0), |bytes| (bytes.as_ptr().cast(), bytes.len()))
}

fn headers(record: &Record) -> *mut sys::rd_kafka_headers_t {
    if record.headers.is_empty() {
        return ptr::null_mut();
    }
    // SAFETY: librdkafka copies names and values, whose lengths are given.
    unsafe {
        let headers = sys::rd_kafka_headers_new(record.headers.len());
        for header in &record.headers {
            let (value, length) = part(header.value.as_deref());
            sys::rd_kafka_header_add(
                headers,
                header.name.as_ptr().cast(),
                header.name.len() as isize, // a str is never longer than isize::MAX
                value,
                length as isize,
            );
        }
        headers
    }
}

/// Whether a record is on the broker's disk, as far as the producer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Persisted {
    No,
    Maybe,
    Yes,
}

/// What became of one record.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Delivery {
    pub(in super::super) number: usize,
    pub(in super::super) partition: i32,
    pub(in super::super) offset: i64,
    pub(in super::super) error: Option<Code>,
    pub(in super::super) persisted: Persisted,
}

impl Delivery {
    /// # Safety
    /// `message` is of a delivery report that is alive.
    pub(super) unsafe fn of(message: &sys::rd_kafka_message_t) -> Self {
        // SAFETY: as above.
        let status = unsafe { sys::rd_kafka_message_status(message) };
        Self {
            number: message._private as usize,
            partition: message.partition,
            offset: message.offset,
            error: NativeError::check(message.err).err().map(|error| error.code),
            persisted: match status {
                sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED => Persisted::No,
                sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_POSSIBLY_PERSISTED => Persisted::Maybe,
                sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_PERSISTED => Persisted::Yes,
            },
        }
    }
}

/// The partition that librdkafka's own murmur2 partitioner gives a key, for tests.
#[cfg(test)]
pub(in super::super) fn librdkafka_partition(key: &[u8], partitions: i32) -> i32 {
    // SAFETY: the partitioner looks at key and count only.
    unsafe {
        sys::rd_kafka_msg_partitioner_murmur2(
            ptr::null(),
            key.as_ptr().cast(),
            key.len(),
            partitions,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    }
}

/// Gives up what is queued and in flight; the reports of it follow.
pub(in super::super) fn purge(client: &NativeClient) {
    let flags = sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT;
    // SAFETY: the client is alive.
    let response = unsafe { sys::rd_kafka_purge(client.pointer(), flags) };
    if let Err(error) = NativeError::check(response) {
        tracing::warn!(%error, "a Kafka producer could not be purged");
    }
}
