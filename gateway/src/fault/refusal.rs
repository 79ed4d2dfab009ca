//! A fault with its words: what, where, what to do; and its details as
//! `google.rpc` messages.
//!
//! The same refusal serves a whole call ([`Refusal::to_status`]) and one event of
//! a batch ([`Refusal::to_rpc_status`]). What holds: texts and lists are cut to
//! a bound, for they may repeat what a client sent, and a status travels in
//! headers of 16 KiB.

use std::collections::HashMap;
use std::time::Duration;

use meridian_proto::google_rpc;
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, QuotaViolation, StatusExt as _};

use super::code::FaultCode;

/// The domain of our codes in `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "meridian";

const MAX_MESSAGE_BYTES: usize = 1024;
const MAX_DESCRIPTION_BYTES: usize = 256;
const MAX_FIELDS: usize = 16;
const BRIEF_MESSAGE_BYTES: usize = 128;
/// Type names, code and index.
const FIXED_BYTES: usize = 250;

/// Why something was not done. One pointer, for it travels in many results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    told: Box<Told>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    code: FaultCode,
    message: String,
    fields: Vec<(String, String)>,
    resource: Option<(&'static str, String)>,
    quota: Option<(String, String)>,
    metadata: Vec<(&'static str, String)>,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// A fault in words: what is wrong, where, and what to do next.
    pub fn new(code: FaultCode, message: impl Into<String>) -> Self {
        let mut message = message.into();
        cut(&mut message, MAX_MESSAGE_BYTES);
        let told = Told {
            code,
            message,
            fields: Vec::new(),
            resource: None,
            quota: None,
            metadata: Vec::new(),
            retry_after: code.retry_after(),
        };
        Self { told: Box::new(told) }
    }

    /// Names a field of the request as a dotted path (`google.rpc.BadRequest`).
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        if self.told.fields.len() < MAX_FIELDS {
            let (mut field, mut description) = (field.into(), description.into());
            cut(&mut field, MAX_DESCRIPTION_BYTES);
            cut(&mut description, MAX_DESCRIPTION_BYTES);
            self.told.fields.push((field, description));
        }
        self
    }

    /// Names what the fault is about (`google.rpc.ResourceInfo`): its kind, such
    /// as `topic`, and its name.
    #[must_use]
    pub fn with_resource(mut self, kind: &'static str, name: impl Into<String>) -> Self {
        let mut name = name.into();
        cut(&mut name, MAX_DESCRIPTION_BYTES);
        self.told.resource = Some((kind, name));
        self
    }

    /// Names the limit that was hit (`google.rpc.QuotaFailure`).
    #[must_use]
    pub fn with_quota(mut self, subject: impl Into<String>, description: impl Into<String>) -> Self {
        self.told.quota = Some((subject.into(), description.into()));
        self
    }

    /// Adds a fact for programs (`google.rpc.ErrorInfo.metadata`).
    #[must_use]
    pub fn with_metadata(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.told.metadata.push((key, value.into()));
        self
    }

    /// Says when to try again, where the table's delay does not fit.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.told.retry_after = Some(delay);
        self
    }

    /// Places the fault at one event of the batch: in the words, in the fields and
    /// for programs.
    #[must_use]
    pub fn at_event(mut self, index: usize) -> Self {
        self.told.message = format!("events[{index}]: {}", self.told.message);
        for (field, _) in &mut self.told.fields {
            *field = match field.as_str() {
                "event" => format!("events[{index}]"),
                path => format!("events[{index}].{path}"),
            };
        }
        self.with_metadata("eventIndex", index.to_string())
    }

    /// The same in few words, where many refusals share one message.
    #[must_use]
    pub fn brief(mut self) -> Self {
        cut(&mut self.told.message, BRIEF_MESSAGE_BYTES);
        self.told.fields.truncate(1);
        for (_, description) in &mut self.told.fields {
            description.clear();
        }
        self
    }

    /// About how many bytes it has on the wire.
    pub fn size_bytes(&self) -> usize {
        let fields = self
            .told
            .fields
            .iter()
            .map(|(field, text)| field.len() + text.len() + 8);
        self.told.message.len() + fields.sum::<usize>() + FIXED_BYTES
    }

    /// The code.
    pub fn code(&self) -> FaultCode {
        self.told.code
    }

    /// The words.
    pub fn message(&self) -> &str {
        &self.told.message
    }

    /// As the status of a whole call.
    pub fn to_status(&self) -> Status {
        self.status_with(self.told.code.grpc_code())
    }

    /// As the status of one event, delivery or settlement within an answer.
    pub fn to_rpc_status(&self) -> google_rpc::Status {
        let code = self.told.code.grpc_code();
        let status = self.status_with(code);
        // tonic carries the details as one encoded google.rpc.Status.
        google_rpc::Status::decode(status.details()).unwrap_or_else(|_| google_rpc::Status {
            code: code as i32,
            message: self.told.message.clone(),
            details: Vec::new(),
        })
    }

    fn status_with(&self, code: Code) -> Status {
        let metadata: HashMap<String, String> = self
            .told
            .metadata
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect();
        let mut details = ErrorDetails::new();
        details.set_error_info(self.told.code.as_str(), ERROR_DOMAIN, metadata);
        if !self.told.fields.is_empty() {
            let violations = self
                .told
                .fields
                .iter()
                .map(|(field, description)| FieldViolation::new(field.clone(), description.clone()));
            details.set_bad_request(violations.collect::<Vec<_>>());
        }
        if let Some((kind, name)) = &self.told.resource {
            details.set_resource_info(*kind, name.clone(), "", self.told.message.clone());
        }
        if let Some((subject, description)) = &self.told.quota {
            details.set_quota_failure(vec![QuotaViolation::new(subject.clone(), description.clone())]);
        }
        if let Some(delay) = self.told.retry_after {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(code, self.told.message.clone(), details)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        refusal.to_status()
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} ({})", self.told.message, self.told.code)
    }
}

impl std::error::Error for Refusal {}

/// Cuts a text at a character's border and says so.
fn cut(text: &mut String, max_bytes: usize) {
    if text.len() > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_its_details_in_both_forms() {
        let refusal = Refusal::new(FaultCode::BrokerOverloaded, "the queue is full")
            .with_field("attributes.subject", "subject must not be empty")
            .with_resource("broker", "main")
            .with_quota("broker:main", "64 MiB in flight")
            .at_event(3);
        let status = refusal.to_status();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.message(), "events[3]: the queue is full");
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("BROKER_OVERLOADED", "meridian")
        );
        assert_eq!(info.metadata["eventIndex"], "3");
        let fields = &details.bad_request().unwrap().field_violations;
        assert_eq!(fields[0].field, "events[3].attributes.subject");
        assert_eq!(
            details.retry_info().unwrap().retry_delay,
            Some(Duration::from_millis(250))
        );
        assert_eq!(details.resource_info().unwrap().resource_name, "main");
        assert_eq!(details.quota_failure().unwrap().violations[0].subject, "broker:main");

        let inner = refusal.to_rpc_status();
        assert_eq!(inner.code, Code::ResourceExhausted as i32);
        assert_eq!(inner.message, status.message());
        assert_eq!(inner.details.len(), 5);
    }

    #[test]
    fn what_a_client_sent_cannot_make_a_status_long() {
        let mut refusal = Refusal::new(FaultCode::EventMalformed, "ä".repeat(5_000));
        for _ in 0..100 {
            refusal = refusal.with_field("id", "x".repeat(5_000));
        }
        assert!(refusal.message().len() <= MAX_MESSAGE_BYTES + 4);
        assert!(
            refusal.to_status().details().len() < 8 * 1024,
            "it travels in headers, as base64"
        );
        assert!(refusal.clone().brief().to_rpc_status().encoded_len() < 512);
        assert_eq!(
            refusal
                .to_status()
                .get_error_details()
                .bad_request()
                .unwrap()
                .field_violations
                .len(),
            16
        );
    }
}
