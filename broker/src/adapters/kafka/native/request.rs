//! Administrative requests. Each is started on a queue and has its result there
//! as one event; [`wait`] is for those who may block.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::time::Duration;

use rdkafka_sys as sys;
use sys::rd_kafka_admin_op_t as Operation;

use super::client::{c_text, text};
use super::list::{PartitionList, element, elements};
use super::{Code, Event, EventQueue, NativeError, limit_milliseconds};

/// Options of one request.
pub(super) struct Options(*mut sys::rd_kafka_AdminOptions_t);

impl Options {
    pub(super) fn pointer(&self) -> *const sys::rd_kafka_AdminOptions_t {
        self.0
    }

    pub(super) fn new(queue: &EventQueue, operation: Operation, limit: Duration, number: usize) -> Self {
        let mut message = [0 as c_char; 256];
        let milliseconds = limit_milliseconds(limit);
        // SAFETY: the options are ours until dropped. A limit out of range is refused, which
        // leaves the default of 60 s; callers stay within it.
        unsafe {
            let options = sys::rd_kafka_AdminOptions_new(queue.client().pointer(), operation);
            let length = message.len();
            let buffer = message.as_mut_ptr();
            sys::rd_kafka_AdminOptions_set_request_timeout(options, milliseconds, buffer, length);
            if matches!(
                operation,
                Operation::RD_KAFKA_ADMIN_OP_CREATETOPICS
                    | Operation::RD_KAFKA_ADMIN_OP_DELETETOPICS
                    | Operation::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS
            ) {
                // The controller answers when the change has reached the brokers.
                sys::rd_kafka_AdminOptions_set_operation_timeout(options, milliseconds, buffer, length);
            }
            sys::rd_kafka_AdminOptions_set_opaque(options, number as *mut c_void);
            Self(options)
        }
    }
}

impl Drop for Options {
    fn drop(&mut self) {
        // SAFETY: ours, once.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.0) };
    }
}

/// Waits for the result of the one request that was started on `queue`.
pub(in super::super) fn wait(queue: &EventQueue, limit: Duration) -> Result<Event, NativeError> {
    // librdkafka ends the request at its own limit and tells; the second is for its threads.
    let event = queue.poll(limit + Duration::from_secs(1));
    let event = event.ok_or_else(|| NativeError::of(Code::OperationTimedOut))?;
    event.error()?;
    Ok(event)
}

/// Starts to make a topic.
pub(in super::super) fn create_topic(
    queue: &EventQueue,
    name: &str,
    partitions: u32,
    replication_factor: Option<u32>,
    settings: &[(&str, String)],
    limit: Duration,
) -> Result<(), NativeError> {
    let name = c_text(name)?;
    let settings = settings
        .iter()
        .map(|(name, value)| Ok((c_text(name)?, c_text(value)?)))
        .collect::<Result<Vec<(CString, CString)>, NativeError>>()?;
    let count = |number: u32| c_int::try_from(number).unwrap_or(c_int::MAX);
    let mut message = [0 as c_char; 256];
    // SAFETY: the topic is ours and copied by the request.
    unsafe {
        let mut topic = sys::rd_kafka_NewTopic_new(
            name.as_ptr(),
            count(partitions),
            replication_factor.map_or(-1, count),
            message.as_mut_ptr(),
            message.len(),
        );
        if topic.is_null() {
            return Err(NativeError::new(Code::InvalidArgument, text(message.as_ptr())));
        }
        for (name, value) in &settings {
            sys::rd_kafka_NewTopic_set_config(topic, name.as_ptr(), value.as_ptr());
        }
        let options = Options::new(queue, Operation::RD_KAFKA_ADMIN_OP_CREATETOPICS, limit, 0);
        let client = queue.client().pointer();
        sys::rd_kafka_CreateTopics(client, &raw mut topic, 1, options.0, queue.pointer());
        sys::rd_kafka_NewTopic_destroy(topic);
    }
    Ok(())
}

/// Starts to delete a topic.
pub(in super::super) fn delete_topic(queue: &EventQueue, name: &str, limit: Duration) -> Result<(), NativeError> {
    let name = c_text(name)?;
    // SAFETY: the topic is ours and copied by the request.
    unsafe {
        let mut topic = sys::rd_kafka_DeleteTopic_new(name.as_ptr());
        let options = Options::new(queue, Operation::RD_KAFKA_ADMIN_OP_DELETETOPICS, limit, 0);
        let client = queue.client().pointer();
        sys::rd_kafka_DeleteTopics(client, &raw mut topic, 1, options.0, queue.pointer());
        sys::rd_kafka_DeleteTopic_destroy(topic);
    }
    Ok(())
}

/// What became of the one topic of a creation, a growth or a deletion.
pub(in super::super) fn topic_outcome(event: &Event) -> Result<(), NativeError> {
    let mut count = 0;
    // SAFETY: the results live as long as the event.
    unsafe {
        let created = sys::rd_kafka_event_CreateTopics_result(event.pointer());
        let results = if created.is_null() {
            let deleted = sys::rd_kafka_event_DeleteTopics_result(event.pointer());
            let grown = sys::rd_kafka_event_CreatePartitions_result(event.pointer());
            if !deleted.is_null() {
                sys::rd_kafka_DeleteTopics_result_topics(deleted, &raw mut count)
            } else if !grown.is_null() {
                sys::rd_kafka_CreatePartitions_result_topics(grown, &raw mut count)
            } else {
                return Err(NativeError::of(Code::Fail));
            }
        } else {
            sys::rd_kafka_CreateTopics_result_topics(created, &raw mut count)
        };
        for index in 0..count {
            let result = *results.add(index);
            NativeError::check(sys::rd_kafka_topic_result_error(result)).map_err(|error| {
                let message = text(sys::rd_kafka_topic_result_error_string(result));
                if message.is_empty() {
                    error
                } else {
                    NativeError::new(error.code, message)
                }
            })?;
        }
    }
    Ok(())
}

/// A topic with its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct TopicFacts {
    pub(in super::super) name: String,
    /// Base64 of Kafka's topic id.
    pub(in super::super) id: String,
    pub(in super::super) partitions: u32,
    pub(in super::super) error: Option<Code>,
}

/// Starts to describe topics.
pub(in super::super) fn describe_topics(
    queue: &EventQueue,
    names: &[&str],
    limit: Duration,
    number: usize,
) -> Result<(), NativeError> {
    let names = names.iter().map(|name| c_text(name)).collect::<Result<Vec<_>, _>>()?;
    let mut pointers: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
    // SAFETY: the collection copies the names and is copied by the request.
    unsafe {
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = Options::new(queue, Operation::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, limit, number);
        sys::rd_kafka_DescribeTopics(queue.client().pointer(), topics, options.0, queue.pointer());
        sys::rd_kafka_TopicCollection_destroy(topics);
    }
    Ok(())
}

/// The topics of a description; none if the event is of another request.
pub(in super::super) fn described_topics(event: &Event) -> Vec<TopicFacts> {
    let mut count = 0;
    // SAFETY: the results live as long as the event; texts are copied.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.pointer());
        if result.is_null() {
            return Vec::new();
        }
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        let describe = |index| {
            let topic: *const sys::rd_kafka_TopicDescription_t = *topics.add(index);
            let error = sys::rd_kafka_TopicDescription_error(topic);
            let id = sys::rd_kafka_TopicDescription_topic_id(topic);
            let mut partitions = 0;
            sys::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
            TopicFacts {
                name: text(sys::rd_kafka_TopicDescription_name(topic)),
                id: if id.is_null() {
                    String::new()
                } else {
                    text(sys::rd_kafka_Uuid_base64str(id))
                },
                partitions: u32::try_from(partitions).unwrap_or(u32::MAX),
                error: if error.is_null() {
                    None
                } else {
                    NativeError::check(sys::rd_kafka_error_code(error))
                        .err()
                        .map(|error| error.code)
                },
            }
        };
        (0..count).map(describe).collect()
    }
}

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum OffsetOf {
    /// The oldest record.
    First,
    /// The next record to be written.
    End,
    /// The first record that is not older, in milliseconds since the Unix epoch.
    Time(i64),
}

impl OffsetOf {
    /// As an offset of the list that is asked with.
    pub(in super::super) fn as_offset(self) -> i64 {
        match self {
            OffsetOf::First => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST as i64,
            OffsetOf::End => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64,
            OffsetOf::Time(since_ms) => since_ms.max(0), // below are the words above
        }
    }
}

/// Starts to ask for offsets; the list says which by [`OffsetOf::as_offset`].
/// With `committed_only`, the end is where a reader of committed records stops.
pub(in super::super) fn list_offsets(
    queue: &EventQueue,
    partitions: &PartitionList,
    committed_only: bool,
    limit: Duration,
    number: usize,
) -> Result<(), NativeError> {
    let options = Options::new(queue, Operation::RD_KAFKA_ADMIN_OP_LISTOFFSETS, limit, number);
    let level = if committed_only {
        sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED
    } else {
        sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
    };
    // SAFETY: the list is copied by the request; the error is ours.
    unsafe {
        NativeError::take(sys::rd_kafka_AdminOptions_set_isolation_level(options.0, level))?;
        sys::rd_kafka_ListOffsets(
            queue.client().pointer(),
            partitions.pointer(),
            options.0,
            queue.pointer(),
        );
    }
    Ok(())
}

/// An offset that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct ListedOffset {
    pub(in super::super) topic: String,
    pub(in super::super) partition: u32,
    pub(in super::super) offset: Result<u64, Code>,
}

/// The offsets of a result; none if the event is of another request.
pub(in super::super) fn listed_offsets(event: &Event) -> Vec<ListedOffset> {
    let mut count = 0;
    // SAFETY: the results live as long as the event; texts are copied.
    unsafe {
        let result = sys::rd_kafka_event_ListOffsets_result(event.pointer());
        if result.is_null() {
            return Vec::new();
        }
        let infos = sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
        let listed = |index| {
            let info = sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(index));
            let element = element(info.as_ref()?);
            Some(ListedOffset {
                topic: element.topic.to_owned(),
                partition: u32::try_from(element.partition).ok()?,
                offset: match element.error {
                    Some(code) => Err(code),
                    None => u64::try_from(element.offset).map_err(|_| Code::UnknownPartition),
                },
            })
        };
        (0..count).filter_map(listed).collect()
    }
}

/// Starts to list the groups.
pub(in super::super) fn list_groups(queue: &EventQueue, limit: Duration) {
    let options = Options::new(queue, Operation::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS, limit, 0);
    // SAFETY: client, options and queue are alive.
    unsafe {
        sys::rd_kafka_ListConsumerGroups(queue.client().pointer(), options.0, queue.pointer());
    }
}

/// The groups of a result, unless some broker did not answer.
pub(in super::super) fn listed_groups(event: &Event) -> Result<Vec<String>, NativeError> {
    let (mut errors, mut count) = (0, 0);
    // SAFETY: the results live as long as the event; texts are copied.
    unsafe {
        let result = sys::rd_kafka_event_ListConsumerGroups_result(event.pointer());
        if result.is_null() {
            return Err(NativeError::of(Code::Fail));
        }
        let faults = sys::rd_kafka_ListConsumerGroups_result_errors(result, &raw mut errors);
        if errors > 0 {
            let code = sys::rd_kafka_error_code(*faults).into();
            return Err(NativeError::new(code, text(sys::rd_kafka_error_string(*faults))));
        }
        let groups = sys::rd_kafka_ListConsumerGroups_result_valid(result, &raw mut count);
        let name = |index| text(sys::rd_kafka_ConsumerGroupListing_group_id(*groups.add(index)));
        Ok((0..count).map(name).collect())
    }
}

/// Starts to ask for all committed offsets of a group.
pub(in super::super) fn group_offsets(queue: &EventQueue, group: &str, limit: Duration) -> Result<(), NativeError> {
    let group = c_text(group)?;
    // SAFETY: the request copies what it is given.
    unsafe {
        let mut request = sys::rd_kafka_ListConsumerGroupOffsets_new(group.as_ptr(), ptr::null());
        let operation = Operation::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
        let options = Options::new(queue, operation, limit, 0);
        let client = queue.client().pointer();
        sys::rd_kafka_ListConsumerGroupOffsets(client, &raw mut request, 1, options.0, queue.pointer());
        sys::rd_kafka_ListConsumerGroupOffsets_destroy(request);
    }
    Ok(())
}

/// The committed offset and metadata of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct CommittedOffset {
    pub(in super::super) topic: String,
    pub(in super::super) partition: u32,
    pub(in super::super) offset: u64,
    pub(in super::super) metadata: String,
}

/// The committed offsets of a result.
pub(in super::super) fn listed_group_offsets(event: &Event) -> Result<Vec<CommittedOffset>, NativeError> {
    let mut count = 0;
    let mut found = Vec::new();
    // SAFETY: the results live as long as the event; texts are copied.
    unsafe {
        let result = sys::rd_kafka_event_ListConsumerGroupOffsets_result(event.pointer());
        if result.is_null() {
            return Err(NativeError::of(Code::Fail));
        }
        let groups = sys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count);
        for index in 0..count {
            let group = *groups.add(index);
            let error = sys::rd_kafka_group_result_error(group);
            if !error.is_null() {
                let code = sys::rd_kafka_error_code(error).into();
                return Err(NativeError::new(code, text(sys::rd_kafka_error_string(error))));
            }
            for element in elements(sys::rd_kafka_group_result_partitions(group)) {
                if let Some(code) = element.error {
                    return Err(NativeError::of(code));
                }
                let partition = u32::try_from(element.partition);
                let (Ok(partition), Ok(offset)) = (partition, u64::try_from(element.offset)) else {
                    continue; // a partition without a committed offset
                };
                found.push(CommittedOffset {
                    topic: element.topic.to_owned(),
                    partition,
                    offset,
                    metadata: String::from_utf8_lossy(element.metadata).into_owned(),
                });
            }
        }
    }
    Ok(found)
}
