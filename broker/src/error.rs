//! Typed errors, one for each operation of the seam.
//!
//! An error answers three questions: what kind, was anything stored, is the same
//! call worth another try. How an error becomes a gRPC status is the gateway's
//! business.

use std::error::Error as StdError;
use std::fmt;

/// An adapter's own error, kept as the source.
pub type Source = Box<dyn StdError + Send + Sync + 'static>;

/// Whether a failed append may have stored its record all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stored {
    /// Surely not stored: a refusal.
    No,
    /// May be stored: a time-out, a dead channel, a lost reply.
    Unknown,
}

macro_rules! error_type {
    ($(#[$doc:meta])* $name:ident, $kind:ident { $($(#[$variant_doc:meta])* $variant:ident => $retryable:literal, $code:literal;)* }) => {
        #[doc = concat!("What kind of fault a [`", stringify!($name), "`] is: closed, so that it can label metrics.")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $kind {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $kind {
            /// Every kind, for tables and metrics.
            pub const ALL: &'static [$kind] = &[$($kind::$variant,)*];

            /// Whether the same call may succeed later without anyone's doing.
            pub fn retryable(self) -> bool {
                match self { $($kind::$variant => $retryable,)* }
            }

            /// Stable code, explained in `docs/errors.md`.
            pub fn code(self) -> &'static str {
                match self { $($kind::$variant => $code,)* }
            }
        }
    };
}

error_type!(AppendError, AppendErrorKind {
    /// The topic is not there.
    TopicNotFound => false, "TOPIC_NOT_FOUND";
    /// The record is over the broker's or topic's limit.
    RecordTooLarge => false, "RECORD_TOO_LARGE";
    /// The broker cannot be reached.
    BrokerUnavailable => true, "BROKER_UNAVAILABLE";
    /// The appender's own queue is full.
    Overloaded => true, "BROKER_OVERLOADED";
    /// The broker did not confirm in time.
    DeadlineExceeded => true, "APPEND_DEADLINE_EXCEEDED";
    /// The broker refuses these credentials or this topic.
    NotAuthorized => false, "BROKER_NOT_AUTHORIZED";
    /// The broker's disk or memory is full.
    StorageFull => true, "BROKER_STORAGE_FULL";
    /// The store is damaged and serves nothing.
    StorageDamaged => false, "BROKER_STORAGE_DAMAGED";
    /// The appender is closed or closing.
    Closed => true, "BROKER_CLOSED";
    /// Any other fault of the broker or its client.
    Internal => true, "BROKER_INTERNAL";
});

error_type!(ReadError, ReadErrorKind {
    /// The group's position is gone and the policy is to fail.
    PositionMissing => false, "POSITION_MISSING";
    /// The topic was deleted and made again, or the broker is another one.
    ContinuityBroken => false, "CONTINUITY_BROKEN";
    /// The store is damaged.
    StorageDamaged => false, "BROKER_STORAGE_DAMAGED";
    /// The options cannot be served, such as a topic named twice.
    InvalidOptions => false, "INVALID_READER_OPTIONS";
    /// The reader or its broker is closed.
    Closed => false, "BROKER_CLOSED";
    /// Any other fault.
    Internal => true, "BROKER_INTERNAL";
});

error_type!(AdminError, AdminErrorKind {
    /// No such topic.
    TopicNotFound => false, "TOPIC_NOT_FOUND";
    /// No such group.
    GroupNotFound => false, "GROUP_NOT_FOUND";
    /// The group has members, and the request needs one without.
    GroupActive => true, "GROUP_ACTIVE";
    /// This kind of broker cannot do it.
    Unsupported => false, "UNSUPPORTED_BY_BROKER";
    /// The topic is there already, with other settings.
    AlreadyExists => false, "TOPIC_ALREADY_EXISTS";
    /// The request itself is wrong, such as no partitions.
    InvalidRequest => false, "INVALID_REQUEST";
    /// The broker cannot be reached.
    BrokerUnavailable => true, "BROKER_UNAVAILABLE";
    /// The broker did not answer in time.
    DeadlineExceeded => true, "ADMIN_DEADLINE_EXCEEDED";
    /// The broker refuses these credentials.
    NotAuthorized => false, "BROKER_NOT_AUTHORIZED";
    /// The store is damaged.
    StorageDamaged => false, "BROKER_STORAGE_DAMAGED";
    /// The broker is closed.
    Closed => false, "BROKER_CLOSED";
    /// Any other fault.
    Internal => true, "BROKER_INTERNAL";
});

/// Why a record was not appended, or may not be.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct AppendError {
    /// What kind.
    pub kind: AppendErrorKind,
    /// Whether the record may be stored all the same.
    pub stored: Stored,
    /// What, where, and what to do next.
    pub message: String,
    /// The client library's error.
    #[source]
    pub source: Option<Source>,
}

impl AppendError {
    /// A refusal: surely not stored.
    pub fn refused(kind: AppendErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            stored: Stored::No,
            message: message.into(),
            source: None,
        }
    }

    /// An outcome that nobody knows: may be stored.
    pub fn unknown(kind: AppendErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            stored: Stored::Unknown,
            message: message.into(),
            source: None,
        }
    }

    /// The same error with its source.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// Why a reader cannot go on. Faults that heal are not errors: the reader
/// retries by itself and tells them in its state.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ReadError {
    /// What kind.
    pub kind: ReadErrorKind,
    /// What, where, and what to do next.
    pub message: String,
    /// The client library's error.
    #[source]
    pub source: Option<Source>,
}

impl ReadError {
    /// An error without a source.
    pub fn new(kind: ReadErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same error with its source.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// Why an administrative call failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct AdminError {
    /// What kind.
    pub kind: AdminErrorKind,
    /// What, where, and what to do next.
    pub message: String,
    /// The client library's error.
    #[source]
    pub source: Option<Source>,
}

impl AdminError {
    /// An error without a source.
    pub fn new(kind: AdminErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// The same error with its source.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// Why a settlement or a release did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The claim's generation is over: the partition was revoked or the reader
    /// lost its session. The record comes again to whoever has it now.
    #[error("the claim is over: the partition has moved or the session was lost")]
    Stale,
    /// The record was never claimed under this generation, or is settled already.
    #[error("no such claim")]
    NotClaimed,
    /// The reader is closed.
    #[error("the reader is closed")]
    Closed,
}

impl fmt::Display for Stored {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Stored::No => "not stored",
            Stored::Unknown => "may be stored",
        })
    }
}
