//! Administrative requests that change a group or a topic's partitions, and their
//! results.

use std::ffi::c_char;
use std::time::Duration;

use rdkafka_sys as sys;
use sys::rd_kafka_admin_op_t as Operation;
use sys::rd_kafka_consumer_group_state_t as State;

use super::client::{c_text, text};
use super::request::Options;
use super::{Code, Event, EventQueue, NativeClient, NativeError, PartitionList};

/// Starts to give a topic more partitions.
pub(in super::super) fn grow_topic(
    queue: &EventQueue,
    name: &str,
    partitions: u32,
    limit: Duration,
) -> Result<(), NativeError> {
    let name = c_text(name)?;
    let mut message = [0 as c_char; 256];
    // SAFETY: the wish is ours and copied by the request.
    unsafe {
        let buffer = message.as_mut_ptr();
        let mut wish = sys::rd_kafka_NewPartitions_new(name.as_ptr(), partitions as usize, buffer, message.len());
        if wish.is_null() {
            return Err(NativeError::new(Code::InvalidArgument, text(message.as_ptr())));
        }
        let options = Options::new(queue, Operation::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS, limit, 0);
        let client = queue.client().pointer();
        sys::rd_kafka_CreatePartitions(client, &raw mut wish, 1, options.pointer(), queue.pointer());
        sys::rd_kafka_NewPartitions_destroy(wish);
    }
    Ok(())
}

/// Starts to describe a group.
pub(in super::super) fn describe_group(queue: &EventQueue, group: &str, limit: Duration) -> Result<(), NativeError> {
    let group = c_text(group)?;
    let mut names = [group.as_ptr()];
    let operation = Operation::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
    let options = Options::new(queue, operation, limit, 0);
    // SAFETY: names are copied by the request.
    unsafe {
        let client = queue.client().pointer();
        let names = names.as_mut_ptr();
        sys::rd_kafka_DescribeConsumerGroups(client, names, 1, options.pointer(), queue.pointer());
    }
    Ok(())
}

/// Whether the group of a description has members; one that is not there has none.
pub(in super::super) fn has_members(event: &Event) -> Result<bool, NativeError> {
    let mut count = 0;
    // SAFETY: the results live as long as the event.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.pointer());
        if result.is_null() {
            return Err(NativeError::of(Code::Fail));
        }
        let groups = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
        if count != 1 {
            return Err(NativeError::of(Code::Fail));
        }
        let group = *groups;
        let error = sys::rd_kafka_ConsumerGroupDescription_error(group);
        if !error.is_null() {
            NativeError::check(sys::rd_kafka_error_code(error))
                .map_err(|fault| NativeError::new(fault.code, text(sys::rd_kafka_error_string(error))))?;
        }
        let is_idle = matches!(
            sys::rd_kafka_ConsumerGroupDescription_state(group),
            State::RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY | State::RD_KAFKA_CONSUMER_GROUP_STATE_DEAD
        );
        Ok(!is_idle || sys::rd_kafka_ConsumerGroupDescription_member_count(group) > 0)
    }
}

/// Starts to have a group stand at the offsets of a list.
pub(in super::super) fn move_group(
    queue: &EventQueue,
    group: &str,
    offsets: &PartitionList,
    limit: Duration,
) -> Result<(), NativeError> {
    let group = c_text(group)?;
    // SAFETY: the request copies what it is given.
    unsafe {
        let mut wish = sys::rd_kafka_AlterConsumerGroupOffsets_new(group.as_ptr(), offsets.pointer());
        let operation = Operation::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS;
        let options = Options::new(queue, operation, limit, 0);
        let client = queue.client().pointer();
        sys::rd_kafka_AlterConsumerGroupOffsets(client, &raw mut wish, 1, options.pointer(), queue.pointer());
        sys::rd_kafka_AlterConsumerGroupOffsets_destroy(wish);
    }
    Ok(())
}

/// Starts to delete a group.
pub(in super::super) fn delete_group(queue: &EventQueue, group: &str, limit: Duration) -> Result<(), NativeError> {
    let group = c_text(group)?;
    // SAFETY: as above.
    unsafe {
        let mut wish = sys::rd_kafka_DeleteGroup_new(group.as_ptr());
        let options = Options::new(queue, Operation::RD_KAFKA_ADMIN_OP_DELETEGROUPS, limit, 0);
        let client = queue.client().pointer();
        sys::rd_kafka_DeleteGroups(client, &raw mut wish, 1, options.pointer(), queue.pointer());
        sys::rd_kafka_DeleteGroup_destroy(wish);
    }
    Ok(())
}

/// What became of the one group of a move or a deletion.
pub(in super::super) fn group_outcome(event: &Event) -> Result<(), NativeError> {
    let mut count = 0;
    // SAFETY: the results live as long as the event.
    unsafe {
        let moved = sys::rd_kafka_event_AlterConsumerGroupOffsets_result(event.pointer());
        let groups = if moved.is_null() {
            let deleted = sys::rd_kafka_event_DeleteGroups_result(event.pointer());
            if deleted.is_null() {
                return Err(NativeError::of(Code::Fail));
            }
            sys::rd_kafka_DeleteGroups_result_groups(deleted, &raw mut count)
        } else {
            sys::rd_kafka_AlterConsumerGroupOffsets_result_groups(moved, &raw mut count)
        };
        for index in 0..count {
            let group = *groups.add(index);
            let error = sys::rd_kafka_group_result_error(group);
            if !error.is_null() {
                NativeError::check(sys::rd_kafka_error_code(error))
                    .map_err(|fault| NativeError::new(fault.code, text(sys::rd_kafka_error_string(error))))?;
            }
            for element in super::list::elements(sys::rd_kafka_group_result_partitions(group)) {
                if let Some(code) = element.error {
                    return Err(NativeError::of(code));
                }
            }
        }
    }
    Ok(())
}

/// Has a client fetch from the offsets of a list, without being a member of a group.
pub(in super::super) fn assign(client: &NativeClient, partitions: &PartitionList) -> Result<(), NativeError> {
    // SAFETY: client and list are alive; the list is copied.
    NativeError::check(unsafe { sys::rd_kafka_assign(client.pointer(), partitions.pointer()) })
}
