//! Another gateway's refusals in terms of our batch: it counted the events that
//! were forwarded, the publisher counts those that it sent.
//!
//! What holds: only what names an event by its index is rewritten, in the words,
//! in `BadRequest` and in `ErrorInfo`; a status that cannot be read is kept.

use meridian_proto::google_rpc;
use meridian_proto::meridian::PublishResult;
use meridian_proto::meridian::publish_result::Outcome;
use tonic_types::pb;

use prost::Message as _;

const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const BAD_REQUEST: &str = "type.googleapis.com/google.rpc.BadRequest";
const EVENT_INDEX: &str = "eventIndex";

/// The result of the event that was `theirs` in the forwarded batch and is `ours`
/// in the publisher's.
pub fn reindex(mut result: PublishResult, theirs: usize, ours: u32) -> PublishResult {
    if let Some(Outcome::Refusal(status) | Outcome::Unknown(status)) = &mut result.outcome {
        reindex_status(status, theirs, ours);
    }
    result
}

fn reindex_status(status: &mut google_rpc::Status, theirs: usize, ours: u32) {
    let (from, to) = (format!("events[{theirs}]"), format!("events[{ours}]"));
    let renamed = |text: &str| text.strip_prefix(&from).map(|rest| format!("{to}{rest}"));
    if let Some(message) = renamed(&status.message) {
        status.message = message;
    }
    for detail in &mut status.details {
        match detail.type_url.as_str() {
            ERROR_INFO => {
                let Ok(mut info) = pb::ErrorInfo::decode(&detail.value[..]) else {
                    continue;
                };
                if let Some(index) = info.metadata.get_mut(EVENT_INDEX) {
                    *index = ours.to_string();
                    detail.value = info.encode_to_vec();
                }
            }
            BAD_REQUEST => {
                let Ok(mut request) = pb::BadRequest::decode(&detail.value[..]) else {
                    continue;
                };
                for violation in &mut request.field_violations {
                    if let Some(field) = renamed(&violation.field) {
                        violation.field = field;
                    }
                }
                detail.value = request.encode_to_vec();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{FaultCode, Refusal};

    #[test]
    fn words_fields_and_index_name_our_event() {
        let refusal = Refusal::new(FaultCode::MissingAttribute, "id is required")
            .with_field("id", "is required")
            .at_event(1);
        let theirs = PublishResult {
            outcome: Some(Outcome::Refusal(refusal.to_rpc_status())),
        };
        let ours = Refusal::new(FaultCode::MissingAttribute, "id is required")
            .with_field("id", "is required")
            .at_event(12);
        let expected = PublishResult {
            outcome: Some(Outcome::Refusal(ours.to_rpc_status())),
        };
        assert_eq!(reindex(theirs, 1, 12), expected);
    }

    #[test]
    fn a_receipt_and_an_unreadable_detail_are_kept() {
        let receipt = PublishResult {
            outcome: Some(Outcome::Receipt(Default::default())),
        };
        assert_eq!(reindex(receipt.clone(), 0, 3), receipt);
        let detail = prost_types::Any {
            type_url: BAD_REQUEST.to_owned(),
            value: vec![255, 255],
        };
        let status = google_rpc::Status {
            code: 3,
            message: "no".to_owned(),
            details: vec![detail],
        };
        let broken = PublishResult {
            outcome: Some(Outcome::Refusal(status)),
        };
        assert_eq!(reindex(broken.clone(), 0, 3), broken);
    }
}
