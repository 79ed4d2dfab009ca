//! Topics, partitions and leaders, as a broker tells them.

use std::ffi::c_int;
use std::sync::Arc;
use std::time::Duration;
use std::{ptr, slice};

use rdkafka_sys as sys;

use super::client::{c_text, text};
use super::{Code, NativeClient, NativeError, limit_milliseconds};

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct PartitionMetadata {
    pub(in super::super) partition: i32,
    pub(in super::super) has_leader: bool,
}

/// One topic.
#[derive(Clone, Debug)]
pub(in super::super) struct TopicMetadata {
    pub(in super::super) name: String,
    pub(in super::super) partitions: Vec<PartitionMetadata>,
    pub(in super::super) error: Option<Code>,
}

impl TopicMetadata {
    /// Whether somebody leads a partition.
    pub(in super::super) fn has_leader(&self, partition: i32) -> bool {
        let mut partitions = self.partitions.iter();
        partitions.any(|found| found.partition == partition && found.has_leader)
    }
}

/// All topics.
pub(in super::super) fn all_topics(client: &NativeClient, limit: Duration) -> Result<Vec<TopicMetadata>, NativeError> {
    // SAFETY: no topic handle is passed.
    unsafe { fetch(client, true, ptr::null_mut(), limit) }
}

/// One topic, which may not be there.
pub(in super::super) fn topic(
    client: &Arc<NativeClient>,
    name: &str,
    limit: Duration,
) -> Result<TopicMetadata, NativeError> {
    let c_name = c_text(name)?;
    // SAFETY: the handle is released when the call is over.
    let topics = unsafe {
        let handle = sys::rd_kafka_topic_new(client.pointer(), c_name.as_ptr(), ptr::null_mut());
        if handle.is_null() {
            return Err(NativeError::of(Code::InvalidTopic));
        }
        let topics = fetch(client, false, handle, limit);
        sys::rd_kafka_topic_destroy(handle);
        topics?
    };
    let found = topics.into_iter().find(|topic| topic.name == name);
    found.ok_or_else(|| NativeError::of(Code::UnknownTopicOrPartition))
}

/// The cluster's id.
pub(in super::super) fn cluster_id(client: &NativeClient, limit: Duration) -> Option<String> {
    // SAFETY: the text is copied, then freed by the allocator that it came from.
    unsafe {
        let pointer = sys::rd_kafka_clusterid(client.pointer(), limit_milliseconds(limit));
        if pointer.is_null() {
            return None;
        }
        let id = text(pointer);
        sys::rd_kafka_mem_free(client.pointer(), pointer.cast());
        Some(id)
    }
}

/// # Safety
/// `only` is null or a topic handle of `client` that is alive.
unsafe fn fetch(
    client: &NativeClient,
    all: bool,
    only: *mut sys::rd_kafka_topic_t,
    limit: Duration,
) -> Result<Vec<TopicMetadata>, NativeError> {
    let mut answer: *const sys::rd_kafka_metadata = ptr::null();
    // SAFETY: the answer is ours to destroy, after the copies are made.
    unsafe {
        NativeError::check(sys::rd_kafka_metadata(
            client.pointer(),
            c_int::from(all),
            only,
            &raw mut answer,
            limit_milliseconds(limit),
        ))?;
        let Some(metadata) = answer.as_ref() else {
            return Err(NativeError::of(Code::Fail));
        };
        let topics = array(metadata.topics, metadata.topic_cnt)
            .iter()
            .map(|topic| TopicMetadata {
                name: text(topic.topic),
                partitions: array(topic.partitions, topic.partition_cnt)
                    .iter()
                    .map(|partition| PartitionMetadata {
                        partition: partition.id,
                        has_leader: partition.leader >= 0,
                    })
                    .collect(),
                error: NativeError::check(topic.err).err().map(|error| error.code),
            });
        let topics = topics.collect();
        sys::rd_kafka_metadata_destroy(answer);
        Ok(topics)
    }
}

/// # Safety
/// `pointer` points to `count` elements that live for `'a`, or is null.
pub(super) unsafe fn array<'a, T>(pointer: *const T, count: c_int) -> &'a [T] {
    if pointer.is_null() || count <= 0 {
        return &[];
    }
    // SAFETY: as above.
    unsafe { slice::from_raw_parts(pointer, usize::try_from(count).unwrap_or(0)) }
}
