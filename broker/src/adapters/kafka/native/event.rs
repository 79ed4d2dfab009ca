//! Queues of events and the events themselves.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::thread::Thread;
use std::time::Duration;

use rdkafka_sys as sys;

use super::client::{c_text, text};
use super::fetch::{Fetched, TopicNames};
use super::list::{PartitionList, elements};
use super::produce::Delivery;
use super::{Code, NativeClient, NativeError, limit_milliseconds};

/// A queue of a client's events.
pub(in super::super) struct EventQueue {
    pointer: NonNull<sys::rd_kafka_queue_t>,
    client: Arc<NativeClient>,
    /// Whom the queue wakes; lives as long as the queue calls it.
    sleeper: Option<Box<Thread>>,
}

/// Called by librdkafka, with the queue locked, when the queue is no longer empty.
unsafe extern "C" fn wake_sleeper(_client: *mut sys::rd_kafka_t, sleeper: *mut c_void) {
    // SAFETY: the box that `wakes` made; it is freed after this callback was taken away.
    unsafe { &*sleeper.cast::<Thread>() }.unpark();
}

// SAFETY: librdkafka's queues are locked.
unsafe impl Send for EventQueue {}
// SAFETY: as above.
unsafe impl Sync for EventQueue {}

impl EventQueue {
    /// The client's main queue: delivery reports and faults of a producer.
    pub(in super::super) fn main(client: &Arc<NativeClient>) -> Option<Self> {
        // SAFETY: the client is alive; the queue is a counted reference.
        Self::wrap(client, unsafe { sys::rd_kafka_queue_get_main(client.pointer()) })
    }

    /// A consumer's queue, to which its main queue is joined.
    pub(in super::super) fn consumer(client: &Arc<NativeClient>) -> Option<Self> {
        // SAFETY: as above.
        unsafe {
            sys::rd_kafka_poll_set_consumer(client.pointer());
            Self::wrap(client, sys::rd_kafka_queue_get_consumer(client.pointer()))
        }
    }

    /// A queue of one's own, for the results of requests.
    pub(in super::super) fn own(client: &Arc<NativeClient>) -> Option<Self> {
        // SAFETY: as above.
        Self::wrap(client, unsafe { sys::rd_kafka_queue_new(client.pointer()) })
    }

    fn wrap(client: &Arc<NativeClient>, pointer: *mut sys::rd_kafka_queue_t) -> Option<Self> {
        Some(Self {
            pointer: NonNull::new(pointer)?,
            client: Arc::clone(client),
            sleeper: None,
        })
    }

    pub(super) fn pointer(&self) -> *mut sys::rd_kafka_queue_t {
        self.pointer.as_ptr()
    }

    pub(in super::super) fn client(&self) -> &Arc<NativeClient> {
        &self.client
    }

    /// The next event, waiting up to `limit`.
    pub(in super::super) fn poll(&self, limit: Duration) -> Option<Event> {
        // SAFETY: the queue is alive.
        let pointer = unsafe { sys::rd_kafka_queue_poll(self.pointer(), limit_milliseconds(limit)) };
        Some(Event {
            pointer: NonNull::new(pointer)?,
            _client: Arc::clone(&self.client),
        })
    }

    /// The queue unparks `thread` whenever it stops being empty.
    #[must_use]
    pub(in super::super) fn wakes(mut self, thread: Thread) -> Self {
        let sleeper = Box::new(thread);
        let opaque = ptr::from_ref(&*sleeper).cast_mut().cast();
        // SAFETY: the box stays where it is until the callback is taken away in `drop`.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.pointer(), Some(wake_sleeper), opaque);
        }
        self.sleeper = Some(sleeper);
        self
    }

    /// What is fetched of a partition comes to this queue from now on, rather than to the
    /// consumer's, so that rebalances are seen while nobody takes records. To be said at
    /// each assignment, before it is taken.
    pub(in super::super) fn take_partition(&self, topic: &str, partition: i32) -> Result<(), NativeError> {
        let topic = c_text(topic)?;
        // SAFETY: client and queue are alive; the partition's queue is a counted reference.
        unsafe {
            let queue = sys::rd_kafka_queue_get_partition(self.client.pointer(), topic.as_ptr(), partition);
            if queue.is_null() {
                return Err(NativeError::of(Code::UnknownPartition));
            }
            sys::rd_kafka_queue_forward(queue, self.pointer());
            sys::rd_kafka_queue_destroy(queue);
        }
        Ok(())
    }
}

impl Drop for EventQueue {
    fn drop(&mut self) {
        // SAFETY: a counted reference of ours; the client is still alive. Taking the callback
        // away waits for one that is running.
        unsafe {
            if self.sleeper.is_some() {
                sys::rd_kafka_queue_cb_event_enable(self.pointer(), None, ptr::null_mut());
            }
            sys::rd_kafka_queue_destroy(self.pointer());
        }
    }
}

impl fmt::Debug for EventQueue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EventQueue").finish_non_exhaustive()
    }
}

/// What happened.
pub(in super::super) struct Event {
    pointer: NonNull<sys::rd_kafka_event_t>,
    _client: Arc<NativeClient>,
}

/// The kinds of events that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum EventKind {
    Deliveries,
    Fetched,
    Rebalance,
    Committed,
    Fault,
    /// A result of a request, or of no interest.
    Other,
}

impl EventKind {
    /// These kinds as librdkafka's mask.
    pub(in super::super) fn mask(kinds: &[EventKind]) -> c_int {
        kinds.iter().fold(0, |mask, kind| {
            mask | match kind {
                EventKind::Deliveries => sys::RD_KAFKA_EVENT_DR,
                EventKind::Fetched => sys::RD_KAFKA_EVENT_FETCH,
                EventKind::Rebalance => sys::RD_KAFKA_EVENT_REBALANCE,
                EventKind::Committed => sys::RD_KAFKA_EVENT_OFFSET_COMMIT,
                EventKind::Fault => sys::RD_KAFKA_EVENT_ERROR,
                EventKind::Other => 0,
            }
        })
    }
}

impl Event {
    pub(super) fn pointer(&self) -> *mut sys::rd_kafka_event_t {
        self.pointer.as_ptr()
    }

    pub(in super::super) fn kind(&self) -> EventKind {
        // SAFETY: the event is alive.
        match unsafe { sys::rd_kafka_event_type(self.pointer()) } {
            sys::RD_KAFKA_EVENT_DR => EventKind::Deliveries,
            sys::RD_KAFKA_EVENT_FETCH => EventKind::Fetched,
            sys::RD_KAFKA_EVENT_REBALANCE => EventKind::Rebalance,
            sys::RD_KAFKA_EVENT_OFFSET_COMMIT => EventKind::Committed,
            sys::RD_KAFKA_EVENT_ERROR => EventKind::Fault,
            _ => EventKind::Other,
        }
    }

    /// The event's error, if it has one.
    pub(in super::super) fn error(&self) -> Result<(), NativeError> {
        // SAFETY: the event is alive; the text is copied.
        unsafe {
            let code = NativeError::check(sys::rd_kafka_event_error(self.pointer()));
            code.map_err(|error| {
                let message = text(sys::rd_kafka_event_error_string(self.pointer()));
                if message.is_empty() {
                    error
                } else {
                    NativeError::new(error.code, message)
                }
            })
        }
    }

    pub(in super::super) fn error_code(&self) -> Option<Code> {
        self.error().err().map(|error| error.code)
    }

    /// Whether the client is dead after this.
    pub(in super::super) fn is_fatal(&self) -> bool {
        // SAFETY: the event is alive.
        unsafe { sys::rd_kafka_event_error_is_fatal(self.pointer()) != 0 }
    }

    /// The number that was given with the request of this result.
    pub(in super::super) fn number(&self) -> usize {
        // SAFETY: the event is alive; the opaque is a number, not a pointer.
        unsafe { sys::rd_kafka_event_opaque(self.pointer()) as usize }
    }

    /// The partitions of a rebalance or a commit, as a list of our own.
    pub(in super::super) fn partitions(&self) -> PartitionList {
        // SAFETY: the event is alive and keeps its list; the copy is ours.
        unsafe {
            let list = sys::rd_kafka_event_topic_partition_list(self.pointer());
            if list.is_null() {
                return PartitionList::new();
            }
            PartitionList::take(sys::rd_kafka_topic_partition_list_copy(list))
        }
    }

    /// Looks at the partitions of a rebalance or a commit.
    pub(in super::super) fn each_partition(&self, mut look: impl FnMut(super::list::Element<'_>)) {
        // SAFETY: the event keeps its list as long as it lives.
        unsafe { elements(sys::rd_kafka_event_topic_partition_list(self.pointer())).for_each(&mut look) };
    }

    /// Looks at the delivery reports, in order within each partition.
    pub(in super::super) fn each_delivery(&mut self, mut look: impl FnMut(Delivery)) {
        // SAFETY: the messages live as long as the event.
        unsafe {
            while let Some(message) = sys::rd_kafka_event_message_next(self.pointer()).as_ref() {
                look(Delivery::of(message));
            }
        }
    }

    /// What was fetched, or what stands in the way of fetching.
    pub(in super::super) fn fetched(&mut self, names: &mut TopicNames) -> Option<Fetched> {
        // SAFETY: the message lives as long as the event, and is copied.
        unsafe {
            match sys::rd_kafka_event_message_next(self.pointer()).as_ref() {
                Some(message) => Fetched::of(message, names),
                None => Fetched::fault(self),
            }
        }
    }

    /// Looks at the partition that a fault is of, if it is of one.
    pub(super) fn fault_partition<T>(&self, look: impl FnOnce(super::list::Element<'_>) -> Option<T>) -> Option<T> {
        // SAFETY: the element is ours to destroy, after it was looked at.
        unsafe {
            let pointer = sys::rd_kafka_event_topic_partition(self.pointer());
            let found = look(super::list::element(pointer.as_ref()?));
            sys::rd_kafka_topic_partition_destroy(pointer);
            found
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: ours, once; the client is still alive.
        unsafe { sys::rd_kafka_event_destroy(self.pointer()) };
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Event").field(&self.kind()).finish()
    }
}
