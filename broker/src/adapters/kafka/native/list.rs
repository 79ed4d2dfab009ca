//! Lists of partitions with an offset and metadata each, as librdkafka passes them.

use std::ffi::CStr;
use std::ptr::NonNull;
use std::slice;

use rdkafka_sys as sys;

use super::client::{NativeError, c_text};
use super::{Code, NativeClient};

/// An offset that means "none".
pub(in super::super) const NO_OFFSET: i64 = sys::RD_KAFKA_OFFSET_INVALID as i64;

/// One partition of a list.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Element<'a> {
    pub(in super::super) topic: &'a str,
    pub(in super::super) partition: i32,
    pub(in super::super) offset: i64,
    pub(in super::super) metadata: &'a [u8],
    pub(in super::super) error: Option<Code>,
}

/// A list that is ours.
#[derive(Debug)]
pub(in super::super) struct PartitionList(NonNull<sys::rd_kafka_topic_partition_list_t>);

// SAFETY: a plain structure without ties to a thread.
unsafe impl Send for PartitionList {}

impl PartitionList {
    pub(in super::super) fn new() -> Self {
        // SAFETY: librdkafka ends the process rather than return null.
        unsafe { Self(NonNull::new_unchecked(sys::rd_kafka_topic_partition_list_new(8))) }
    }

    /// Takes a list over.
    ///
    /// # Safety
    /// `pointer` is null or a list that nobody else destroys.
    pub(super) unsafe fn take(pointer: *mut sys::rd_kafka_topic_partition_list_t) -> Self {
        NonNull::new(pointer).map_or_else(Self::new, Self)
    }

    pub(super) fn pointer(&self) -> *mut sys::rd_kafka_topic_partition_list_t {
        self.0.as_ptr()
    }

    /// Adds a partition at an offset.
    pub(in super::super) fn add(&mut self, topic: &str, partition: u32, offset: i64) -> Result<(), NativeError> {
        self.add_element(topic, partition, offset).map(|_| ())
    }

    /// Adds a topic to subscribe to.
    pub(in super::super) fn add_topic(&mut self, topic: &str) -> Result<(), NativeError> {
        let topic = c_text(topic)?;
        let any = -1; // RD_KAFKA_PARTITION_UA, a macro
        // SAFETY: the list is alive; librdkafka copies the topic.
        unsafe { sys::rd_kafka_topic_partition_list_add(self.pointer(), topic.as_ptr(), any) };
        Ok(())
    }

    /// Adds a partition at an offset with metadata to commit.
    pub(in super::super) fn add_with_metadata(
        &mut self,
        client: &NativeClient,
        topic: &str,
        partition: u32,
        offset: i64,
        metadata: &str,
    ) -> Result<(), NativeError> {
        let element = self.add_element(topic, partition, offset)?;
        if metadata.is_empty() {
            return Ok(());
        }
        // SAFETY: the element lives until the list grows; the list frees the metadata with
        // the allocator that it came from.
        unsafe {
            let copy = sys::rd_kafka_mem_malloc(client.pointer(), metadata.len());
            if copy.is_null() {
                return Err(NativeError::of(Code::Fail));
            }
            copy.cast::<u8>()
                .copy_from_nonoverlapping(metadata.as_ptr(), metadata.len());
            (*element).metadata = copy;
            (*element).metadata_size = metadata.len();
        }
        Ok(())
    }

    fn add_element(
        &mut self,
        topic: &str,
        partition: u32,
        offset: i64,
    ) -> Result<*mut sys::rd_kafka_topic_partition_t, NativeError> {
        let topic = c_text(topic)?;
        let partition = i32::try_from(partition).map_err(|_| NativeError::of(Code::UnknownPartition))?;
        // SAFETY: the list is alive; librdkafka copies the topic.
        unsafe {
            let element = sys::rd_kafka_topic_partition_list_add(self.pointer(), topic.as_ptr(), partition);
            (*element).offset = offset;
            Ok(element)
        }
    }

    pub(in super::super) fn elements(&self) -> impl Iterator<Item = Element<'_>> {
        // SAFETY: the list lives as long as the borrow.
        unsafe { elements(self.pointer()) }
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: ours, once.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.pointer()) };
    }
}

/// The elements of a list that may be another's.
///
/// # Safety
/// `pointer` is null or a list that lives for `'a` and does not change meanwhile.
pub(super) unsafe fn elements<'a>(
    pointer: *const sys::rd_kafka_topic_partition_list_t,
) -> impl Iterator<Item = Element<'a>> {
    // SAFETY: the list says how long it is; an empty one may have no array.
    let raw: &'a [sys::rd_kafka_topic_partition_t] = unsafe {
        match pointer.as_ref() {
            Some(list) if list.cnt > 0 && !list.elems.is_null() => {
                slice::from_raw_parts(list.elems, usize::try_from(list.cnt).unwrap_or(0))
            }
            _ => &[],
        }
    };
    // SAFETY: elements of a list that is alive.
    raw.iter().map(|raw| unsafe { element(raw) })
}

/// # Safety
/// `raw` is an element of a list that lives for `'a`.
pub(super) unsafe fn element<'a>(raw: &'a sys::rd_kafka_topic_partition_t) -> Element<'a> {
    // SAFETY: the topic ends with NUL, the metadata is as long as it says.
    unsafe {
        Element {
            topic: CStr::from_ptr(raw.topic).to_str().unwrap_or_default(),
            partition: raw.partition,
            offset: raw.offset,
            metadata: if raw.metadata.is_null() {
                &[]
            } else {
                slice::from_raw_parts(raw.metadata.cast(), raw.metadata_size)
            },
            error: NativeError::check(raw.err).err().map(|error| error.code),
        }
    }
}
