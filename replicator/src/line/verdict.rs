//! What an append's error means for a line. One table, so that no two places
//! judge the same fault differently.

use meridian_broker::{AppendError, AppendErrorKind};

/// What a line does after a failed append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Try again, for as long as it takes.
    Retry,
    /// The record itself is at fault: no retry helps.
    Refused,
    /// The target topic is gone: it must be looked for, and made, again.
    TopicGone,
    /// The target serves nothing until an operator has mended it.
    Halt,
}

/// The verdict on an error.
pub(crate) fn verdict(error: &AppendError) -> Verdict {
    match error.kind {
        AppendErrorKind::RecordTooLarge => Verdict::Refused,
        AppendErrorKind::TopicNotFound => Verdict::TopicGone,
        AppendErrorKind::StorageDamaged => Verdict::Halt,
        // A grant that is missing is given at the broker, and nobody should have to tell the link.
        AppendErrorKind::NotAuthorized
        | AppendErrorKind::BrokerUnavailable
        | AppendErrorKind::Overloaded
        | AppendErrorKind::DeadlineExceeded
        | AppendErrorKind::StorageFull
        | AppendErrorKind::Closed
        | AppendErrorKind::Internal => Verdict::Retry,
    }
}
