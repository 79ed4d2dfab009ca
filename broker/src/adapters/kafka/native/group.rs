//! What a member of a group does: subscribe, take and give up partitions, pause,
//! seek, commit, leave.

use std::ffi::c_void;
use std::time::Duration;

use rdkafka_sys as sys;

use super::{EventQueue, NativeClient, NativeError, PartitionList, limit_milliseconds};

/// Joins the group for these topics.
pub(in super::super) fn subscribe(client: &NativeClient, topics: &PartitionList) -> Result<(), NativeError> {
    // SAFETY: client and list are alive; the list is copied.
    NativeError::check(unsafe { sys::rd_kafka_subscribe(client.pointer(), topics.pointer()) })
}

/// Takes what a rebalance gave, at the offsets of the list.
pub(in super::super) fn take(client: &NativeClient, partitions: &PartitionList) -> Result<(), NativeError> {
    // SAFETY: as above; the error is ours.
    unsafe { NativeError::take(sys::rd_kafka_incremental_assign(client.pointer(), partitions.pointer())) }
}

/// Gives up what a rebalance took.
pub(in super::super) fn give_up(client: &NativeClient, partitions: &PartitionList) -> Result<(), NativeError> {
    // SAFETY: as above.
    unsafe {
        NativeError::take(sys::rd_kafka_incremental_unassign(
            client.pointer(),
            partitions.pointer(),
        ))
    }
}

/// Whether what is being revoked is another's already.
pub(in super::super) fn is_lost(client: &NativeClient) -> bool {
    // SAFETY: the client is alive.
    unsafe { sys::rd_kafka_assignment_lost(client.pointer()) != 0 }
}

/// The group's committed offsets and metadata, into the list.
pub(in super::super) fn committed(
    client: &NativeClient,
    partitions: &PartitionList,
    limit: Duration,
) -> Result<(), NativeError> {
    // SAFETY: the list is ours and written to by this call only.
    NativeError::check(unsafe {
        sys::rd_kafka_committed(client.pointer(), partitions.pointer(), limit_milliseconds(limit))
    })
}

/// Fetches no more of these partitions, and drops what was fetched.
pub(in super::super) fn pause(client: &NativeClient, partitions: &PartitionList) -> Result<(), NativeError> {
    // SAFETY: as above.
    NativeError::check(unsafe { sys::rd_kafka_pause_partitions(client.pointer(), partitions.pointer()) })
}

/// Fetches on where it stopped.
pub(in super::super) fn resume(client: &NativeClient, partitions: &PartitionList) -> Result<(), NativeError> {
    // SAFETY: as above.
    NativeError::check(unsafe { sys::rd_kafka_resume_partitions(client.pointer(), partitions.pointer()) })
}

/// Goes on at the offsets of the list.
pub(in super::super) fn seek(
    client: &NativeClient,
    partitions: &PartitionList,
    limit: Duration,
) -> Result<(), NativeError> {
    // SAFETY: as above; the error is ours.
    unsafe {
        NativeError::take(sys::rd_kafka_seek_partitions(
            client.pointer(),
            partitions.pointer(),
            limit_milliseconds(limit),
        ))
    }
}

/// Commits offsets and metadata; the result arrives on `queue` with `number`.
pub(in super::super) fn commit(queue: &EventQueue, offsets: &PartitionList, number: usize) -> Result<(), NativeError> {
    // SAFETY: the list is copied; the opaque is a number.
    NativeError::check(unsafe {
        sys::rd_kafka_commit_queue(
            queue.client().pointer(),
            offsets.pointer(),
            queue.pointer(),
            None,
            number as *mut c_void,
        )
    })
}

/// Begins to leave; rebalance events arrive on `queue` until [`is_closed`].
pub(in super::super) fn begin_close(queue: &EventQueue) -> Result<(), NativeError> {
    // SAFETY: client and queue are alive; the error is ours.
    unsafe {
        NativeError::take(sys::rd_kafka_consumer_close_queue(
            queue.client().pointer(),
            queue.pointer(),
        ))
    }
}

/// Whether the consumer has left.
pub(in super::super) fn is_closed(client: &NativeClient) -> bool {
    // SAFETY: the client is alive.
    unsafe { sys::rd_kafka_consumer_closed(client.pointer()) != 0 }
}
