//! The words of the dispatcher's interface: what goes in and what comes out.
//!
//! Data only. What a session may say is [`crate::settlement::Word`]; how these become messages on the wire is the
//! business of `subscription`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use meridian_broker::{Claim, TopicPartition};
use meridian_event::Record;

/// What must not overtake what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOrdering {
    /// Deliveries of one record key are in order and one at a time, whatever their topic; records without a key are free.
    Key,
    /// Deliveries of one partition are in order and one at a time.
    Partition,
    /// Anything may overtake anything.
    Unordered,
}

impl DeliveryOrdering {
    /// The word of the wire contract, for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            DeliveryOrdering::Key => "KEY",
            DeliveryOrdering::Partition => "PARTITION",
            DeliveryOrdering::Unordered => "NONE",
        }
    }
}

/// Names a record that the dispatcher holds; rises with arrival, never comes twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemId(pub u64);

/// Names a session within its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// A record to be worked on.
#[derive(Clone, Debug)]
pub struct Work {
    /// The right to settle it.
    pub claim: Claim,
    /// The record as it was read, for the dead letter.
    pub record: Arc<Record>,
    /// The encoded event, or why the record is none.
    pub event: Result<Bytes, String>,
    /// After this the event is of no use to anybody.
    pub expires_at: Option<Instant>,
    /// What was of the record before it waited in the due-time topics.
    pub prior: Option<Box<Prior>>,
}

/// What a record went through before it waited in the due-time topics for its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prior {
    /// Where it stood first.
    pub source: RecordPlace,
    /// Deliveries that failed.
    pub failures: u32,
    /// When it was first handed over, in milliseconds since the Unix epoch.
    pub first_attempt_ms: i64,
    /// The last error.
    pub error: String,
}

/// Where a record stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPlace {
    /// The partition.
    pub partition: TopicPartition,
    /// The position.
    pub position: u64,
}

impl Work {
    /// Where the record stood first.
    pub fn source(&self) -> RecordPlace {
        match &self.prior {
            Some(prior) => prior.source.clone(),
            None => RecordPlace {
                partition: self.claim.partition.clone(),
                position: self.claim.position,
            },
        }
    }

    /// The size that credit counts: that of the encoded event.
    pub fn size_bytes(&self) -> u64 {
        self.event.as_ref().map_or(0, |event| event.len() as u64)
    }
}

/// What a dispatch pass wants done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Hand this to its session.
    Deliver(Handover),
    /// Tell the session that a record was too large for it.
    TooLarge {
        /// The session.
        session: SessionId,
        /// The record.
        claim: Claim,
        /// Its size in bytes.
        size_bytes: u64,
        /// The largest event that the session can take.
        limit_bytes: u64,
    },
    /// The event's time is over, and such events are dropped: settle this claim on the broker.
    Expired(Claim),
}

/// One delivery to one session.
#[derive(Clone, Debug)]
pub struct Handover {
    /// To whom.
    pub session: SessionId,
    /// Names the delivery within the session.
    pub delivery_id: u64,
    /// The encoded event.
    pub event: Bytes,
    /// Where the record stood first.
    pub source: RecordPlace,
    /// 1 for the first.
    pub attempt: u32,
    /// When the lease ends.
    pub lease_expires_at: Instant,
    /// The record's timestamp, in milliseconds since the Unix epoch.
    pub recorded_ms: i64,
}

/// Why a record goes to the dead-letter topic: closed, so that it can label metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeadLetterReason {
    /// Delivered as often as allowed, and never accepted.
    MaxAttempts,
    /// A worker rejected it.
    Rejected,
    /// It cannot be read as a CloudEvent.
    NotACloudEvent,
    /// No session of the group can take an event of this size.
    TooLarge,
    /// Its `expirytime` is past.
    Expired,
}

impl DeadLetterReason {
    /// Every reason, for tables and metrics.
    pub const ALL: [DeadLetterReason; 5] = [
        DeadLetterReason::MaxAttempts,
        DeadLetterReason::Rejected,
        DeadLetterReason::NotACloudEvent,
        DeadLetterReason::TooLarge,
        DeadLetterReason::Expired,
    ];

    /// Stable code, as it stands in the dead letter's headers.
    pub fn code(self) -> &'static str {
        match self {
            DeadLetterReason::MaxAttempts => "MAX_ATTEMPTS",
            DeadLetterReason::Rejected => "REJECTED",
            DeadLetterReason::NotACloudEvent => "NOT_A_CLOUDEVENT",
            DeadLetterReason::TooLarge => "TOO_LARGE",
            DeadLetterReason::Expired => "EXPIRED",
        }
    }
}

/// Where a record goes that its group gives away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the dead-letter topic.
    DeadLetters(DeadLetterReason),
    /// To the due-time topics, to come back to this group then.
    Park {
        /// The next delivery is not before this.
        until: Instant,
    },
}

/// A record that shall go to another topic. Until that is done it is held, and so is its key.
#[derive(Clone, Debug)]
pub struct AwayOrder {
    /// Names it in the answer.
    pub item: ItemId,
    /// Which record.
    pub claim: Claim,
    /// The record as it was read.
    pub record: Arc<Record>,
    /// Where the record stood first.
    pub source: RecordPlace,
    /// Where to, and why.
    pub destination: Destination,
    /// How many deliveries failed.
    pub attempts: u32,
    /// When it was first handed over by this gateway, and last.
    pub handed_over: Option<(Instant, Instant)>,
    /// When it was first handed over before it waited in the due-time topics.
    pub first_attempt_ms: Option<i64>,
    /// The worker that had it last.
    pub worker: Option<Arc<str>>,
    /// The last error.
    pub error: String,
}

/// What a settlement led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The record is done: settle this claim on the broker.
    Done(Claim),
    /// The record will be delivered again.
    Released,
    /// The record will go to the dead-letter topic.
    DeadLettered,
    /// The lease now ends later.
    Renewed,
}

/// Why a settlement changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The lease had ended, or the partition had moved.
    #[error("the lease had ended or the partition had moved; the event is, or will be, delivered again")]
    Stale,
    /// The session has no such delivery.
    #[error("the session has no such delivery, or has settled it already")]
    UnknownDelivery,
}
