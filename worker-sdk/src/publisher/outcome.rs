//! What an answer, or the lack of one, means for an event.

use meridian_proto::meridian::PublishResult;
use meridian_proto::meridian::publish_result::Outcome as WireOutcome;
use tonic::{Code, Status};

use crate::error::PublishError;
use crate::publisher::handle::Outcome;

/// The outcome that a result says; a missing result leaves it unknown.
pub(crate) fn outcome_of(result: Option<PublishResult>) -> Outcome {
    match result.and_then(|result| result.outcome) {
        Some(WireOutcome::Receipt(receipt)) => Ok(receipt),
        Some(WireOutcome::Refusal(status)) => Err(PublishError::refusal(status)),
        Some(WireOutcome::Unknown(status)) => Err(PublishError::unknown(status)),
        None => Err(PublishError::Unknown {
            code: Code::Internal,
            message: "the gateway answered the batch without this event".to_owned(),
        }),
    }
}

/// The stream ended with the event on it.
pub(crate) fn lost(status: &Status) -> PublishError {
    PublishError::Unknown {
        code: Code::Unavailable,
        message: format!("the stream ended before the outcome was known: {}", status.message()),
    }
}

/// The event never was on a stream.
pub(crate) fn not_sent(status: &Status) -> PublishError {
    PublishError::Refused {
        code: Code::Unavailable,
        message: format!("no gateway took the event: {}", status.message()),
    }
}

/// Nobody took the event in time.
pub(crate) fn timed_out() -> PublishError {
    PublishError::Refused {
        code: Code::DeadlineExceeded,
        message: "the delivery time-out passed before a gateway could take the event".to_owned(),
    }
}
