//! Faults of the crates below as refusals: events, brokers.
//!
//! What holds: every code that those crates can give has its row in the table,
//! which a test checks; a code without one would become `BROKER_INTERNAL`.

use meridian_broker::{AdminError, AppendError, ReadError};
use meridian_event::{ScanError, UnbindError, Violations};

use super::code::FaultCode;
use super::refusal::Refusal;

impl From<&ScanError> for Refusal {
    fn from(error: &ScanError) -> Self {
        let code = match error {
            ScanError::TooManyAttributes => FaultCode::TooManyAttributes,
            _ => FaultCode::EventMalformed,
        };
        let words = error.to_string();
        Refusal::new(code, format!("the event cannot be read: {words}")).with_field("event", words)
    }
}

impl From<&Violations> for Refusal {
    /// The first violation gives code and words; all of them are listed.
    fn from(violations: &Violations) -> Self {
        let first = violations.first();
        let code = row(first.reason.code());
        let others = violations.iter().count() - 1;
        let message = match others {
            0 => first.description.clone(),
            _ => format!("{} (and {others} more)", first.description),
        };
        violations
            .iter()
            .fold(Refusal::new(code, message), |refusal, violation| {
                refusal.with_field(violation.field.clone(), violation.description.clone())
            })
    }
}

impl From<&AppendError> for Refusal {
    fn from(error: &AppendError) -> Self {
        Refusal::new(row(error.kind.code()), error.message.clone())
    }
}

impl From<&AdminError> for Refusal {
    fn from(error: &AdminError) -> Self {
        Refusal::new(row(error.kind.code()), error.message.clone())
    }
}

impl From<&ReadError> for Refusal {
    fn from(error: &ReadError) -> Self {
        Refusal::new(row(error.kind.code()), error.message.clone())
    }
}

impl From<&UnbindError> for Refusal {
    fn from(error: &UnbindError) -> Self {
        Refusal::new(row(error.code()), error.to_string())
    }
}

fn row(code: &str) -> FaultCode {
    FaultCode::from_text(code).unwrap_or(FaultCode::BrokerInternal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_broker::{AdminErrorKind, AppendErrorKind, ReadErrorKind};
    use meridian_event::{EventBuilder, EventLimits, ValidationSource};

    #[test]
    fn every_code_of_the_broker_seam_has_a_row_that_agrees_on_retrying() {
        let append = AppendErrorKind::ALL.iter().map(|kind| (kind.code(), kind.retryable()));
        let admin = AdminErrorKind::ALL.iter().map(|kind| (kind.code(), kind.retryable()));
        for (text, retryable) in append.chain(admin) {
            let code = FaultCode::from_text(text).unwrap_or_else(|| panic!("{text} has no row"));
            // Closed is final for an administrator's call, and passing for a publisher,
            // who finds another gateway.
            if code != FaultCode::BrokerClosed {
                assert_eq!(code.retry_after().is_some(), retryable, "{text}");
            }
        }
        for kind in ReadErrorKind::ALL {
            assert!(
                FaultCode::from_text(kind.code()).is_some(),
                "{} has no row",
                kind.code()
            );
        }
    }

    #[test]
    fn violations_are_all_listed_under_the_code_of_the_first() {
        let event = EventBuilder::new("", "a b", "t").build_unvalidated().unwrap();
        let violations = event
            .validate(&EventLimits::default(), ValidationSource::Client)
            .unwrap_err();
        let refusal = Refusal::from(&violations).at_event(7);
        assert_eq!(refusal.code(), FaultCode::MissingAttribute);
        assert_eq!(
            refusal.message(),
            "events[7]: id is required and must not be empty; set it on the event (and 1 more)"
        );
        let details = tonic_types::StatusExt::get_error_details(&refusal.to_status());
        let fields: Vec<_> = details
            .bad_request()
            .unwrap()
            .field_violations
            .iter()
            .map(|each| each.field.clone())
            .collect();
        assert_eq!(fields, ["events[7].id", "events[7].source"]);
    }
}
