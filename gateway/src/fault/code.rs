//! The table of fault codes: the only place where a fault becomes a gRPC code,
//! an HTTP status and a delay before the next try.
//!
//! Codes are stable and never used for something else; `docs/errors.md` explains
//! each one, and a test holds it to that. The codes of events, records and
//! brokers are those crates' own and stand here too, so that every code that can
//! leave the process has its row.

use std::time::Duration;

use tonic::Code;

macro_rules! fault_codes {
    ($($variant:ident => $text:literal, $grpc:ident, $http:literal, $retry_ms:expr;)*) => {
        /// A stable code; `docs/errors.md` says what each means and what to do.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum FaultCode {
            $(#[doc = concat!("`", $text, "`")] $variant,)*
        }

        impl FaultCode {
            /// Every code.
            pub const ALL: &'static [FaultCode] = &[$(FaultCode::$variant,)*];

            /// The code as text, in the form of `google.rpc.ErrorInfo.reason`.
            pub const fn as_str(self) -> &'static str {
                match self { $(FaultCode::$variant => $text,)* }
            }

            /// The row of a code that another crate spells.
            pub fn from_text(text: &str) -> Option<FaultCode> {
                match text { $($text => Some(FaultCode::$variant),)* _ => None }
            }

            /// What gRPC says.
            pub const fn grpc_code(self) -> Code {
                match self { $(FaultCode::$variant => Code::$grpc,)* }
            }

            /// What HTTP says.
            pub const fn http_status(self) -> u16 {
                match self { $(FaultCode::$variant => $http,)* }
            }

            /// How long to wait before the same call may succeed; `None` when it
            /// will not without somebody's doing.
            pub const fn retry_after(self) -> Option<Duration> {
                let milliseconds: Option<u64> = match self { $(FaultCode::$variant => $retry_ms,)* };
                match milliseconds {
                    Some(milliseconds) => Some(Duration::from_millis(milliseconds)),
                    None => None,
                }
            }
        }
    };
}

const NEVER: Option<u64> = None;
/// Queues of ours empty within a few commits.
const SHORT: Option<u64> = Some(250);
/// A broker, a peer or another gateway needs a moment.
const SOON: Option<u64> = Some(1_000);
/// Somebody is likely to be at work on it.
const LATER: Option<u64> = Some(10_000);

fault_codes! {
    // The event itself: the publisher mends it.
    EventMalformed => "EVENT_MALFORMED", InvalidArgument, 400, NEVER;
    MissingAttribute => "MISSING_ATTRIBUTE", InvalidArgument, 400, NEVER;
    EmptyAttribute => "EMPTY_ATTRIBUTE", InvalidArgument, 400, NEVER;
    BadAttributeName => "BAD_ATTRIBUTE_NAME", InvalidArgument, 400, NEVER;
    ReservedAttribute => "RESERVED_ATTRIBUTE", InvalidArgument, 400, NEVER;
    BadAttributeType => "BAD_ATTRIBUTE_TYPE", InvalidArgument, 400, NEVER;
    BadSpecVersion => "BAD_SPEC_VERSION", InvalidArgument, 400, NEVER;
    ControlCharacter => "CONTROL_CHARACTER", InvalidArgument, 400, NEVER;
    BadUriReference => "BAD_URI_REFERENCE", InvalidArgument, 400, NEVER;
    BadUri => "BAD_URI", InvalidArgument, 400, NEVER;
    BadTimestamp => "BAD_TIMESTAMP", InvalidArgument, 400, NEVER;
    BadMediaType => "BAD_MEDIA_TYPE", InvalidArgument, 400, NEVER;
    BadRegionName => "BAD_REGION_NAME", InvalidArgument, 400, NEVER;
    BadHops => "BAD_HOPS", InvalidArgument, 400, NEVER;
    EventTooLarge => "EVENT_TOO_LARGE", InvalidArgument, 413, NEVER;
    AttributeTooLarge => "ATTRIBUTE_TOO_LARGE", InvalidArgument, 413, NEVER;
    TooManyAttributes => "TOO_MANY_ATTRIBUTES", InvalidArgument, 400, NEVER;
    DeliverAtTooFar => "DELIVER_AT_TOO_FAR", InvalidArgument, 400, NEVER;
    EventExpired => "EVENT_EXPIRED", InvalidArgument, 400, NEVER;
    UnknownRegion => "UNKNOWN_REGION", InvalidArgument, 400, NEVER;
    NoRoute => "NO_ROUTE", NotFound, 404, NEVER;

    // The request around the events.
    BatchTooLarge => "BATCH_TOO_LARGE", ResourceExhausted, 413, NEVER;
    BatchOutOfOrder => "BATCH_OUT_OF_ORDER", InvalidArgument, 400, NEVER;
    InvalidRequest => "INVALID_REQUEST", InvalidArgument, 400, NEVER;
    ForwardedByUnknown => "FORWARDED_BY_UNKNOWN", PermissionDenied, 403, NEVER;
    ForwardLoop => "FORWARD_LOOP", FailedPrecondition, 508, NEVER;

    // The gateway.
    GatewayOverloaded => "GATEWAY_OVERLOADED", ResourceExhausted, 429, SHORT;
    Draining => "DRAINING", Unavailable, 503, SOON;
    PublishDeadlineExceeded => "PUBLISH_DEADLINE_EXCEEDED", DeadlineExceeded, 504, SOON;
    DuplicateNotStored => "DUPLICATE_NOT_STORED", Unavailable, 503, SHORT;
    EventIdReused => "EVENT_ID_REUSED", AlreadyExists, 409, NEVER;
    WindowStoreUnavailable => "WINDOW_STORE_UNAVAILABLE", Unavailable, 503, SOON;
    TopicNotReady => "TOPIC_NOT_READY", Unavailable, 503, SOON;

    // The gateway of another region.
    PeerUnavailable => "PEER_UNAVAILABLE", Unavailable, 503, SOON;
    PeerUnconfirmed => "PEER_UNCONFIRMED", Unavailable, 502, SOON;

    // The brokers of this region.
    TopicNotFound => "TOPIC_NOT_FOUND", NotFound, 404, NEVER;
    RecordTooLarge => "RECORD_TOO_LARGE", InvalidArgument, 413, NEVER;
    BrokerUnavailable => "BROKER_UNAVAILABLE", Unavailable, 503, SOON;
    BrokerOverloaded => "BROKER_OVERLOADED", ResourceExhausted, 429, SHORT;
    AppendDeadlineExceeded => "APPEND_DEADLINE_EXCEEDED", DeadlineExceeded, 504, SOON;
    BrokerNotAuthorized => "BROKER_NOT_AUTHORIZED", FailedPrecondition, 503, NEVER;
    BrokerStorageFull => "BROKER_STORAGE_FULL", ResourceExhausted, 507, LATER;
    BrokerStorageDamaged => "BROKER_STORAGE_DAMAGED", DataLoss, 500, NEVER;
    BrokerClosed => "BROKER_CLOSED", Unavailable, 503, SOON;
    BrokerInternal => "BROKER_INTERNAL", Unavailable, 503, SOON;
    AdminDeadlineExceeded => "ADMIN_DEADLINE_EXCEEDED", DeadlineExceeded, 504, SOON;

    // Operating.
    UnknownBroker => "UNKNOWN_BROKER", NotFound, 404, NEVER;
    GroupNotFound => "GROUP_NOT_FOUND", NotFound, 404, NEVER;
    TooManyPauses => "TOO_MANY_PAUSES", ResourceExhausted, 429, NEVER;
    GroupActive => "GROUP_ACTIVE", FailedPrecondition, 409, LATER;
    UnsupportedByBroker => "UNSUPPORTED_BY_BROKER", FailedPrecondition, 501, NEVER;
    TopicAlreadyExists => "TOPIC_ALREADY_EXISTS", AlreadyExists, 409, NEVER;
    RulesStale => "RULES_STALE", Aborted, 409, NEVER;
    RulesNotSaved => "RULES_NOT_SAVED", FailedPrecondition, 500, NEVER;

    // Reading for a group.
    PositionMissing => "POSITION_MISSING", OutOfRange, 410, NEVER;
    ContinuityBroken => "CONTINUITY_BROKEN", DataLoss, 500, NEVER;
    InvalidReaderOptions => "INVALID_READER_OPTIONS", InvalidArgument, 400, NEVER;

    // Records that are no events; told to workers, one delivery at a time.
    RecordNotAnEvent => "RECORD_NOT_AN_EVENT", FailedPrecondition, 422, NEVER;
    RecordHeaderNotText => "RECORD_HEADER_NOT_TEXT", FailedPrecondition, 422, NEVER;
    RecordWithoutValue => "RECORD_WITHOUT_VALUE", FailedPrecondition, 422, NEVER;
    RecordFormatUnknown => "RECORD_FORMAT_UNKNOWN", FailedPrecondition, 422, NEVER;
    RecordJsonMalformed => "RECORD_JSON_MALFORMED", FailedPrecondition, 422, NEVER;
    RecordEventMalformed => "RECORD_EVENT_MALFORMED", FailedPrecondition, 422, NEVER;

    // Sessions of workers.
    InvalidSession => "INVALID_SESSION", InvalidArgument, 400, NEVER;
    SessionConflict => "SESSION_CONFLICT", FailedPrecondition, 409, NEVER;
    TooManySessions => "TOO_MANY_SESSIONS", ResourceExhausted, 429, SOON;
    SlowWorker => "SLOW_WORKER", ResourceExhausted, 429, SOON;
    DeliveryTooLarge => "DELIVERY_TOO_LARGE", ResourceExhausted, 413, NEVER;
    LeaseOver => "LEASE_OVER", FailedPrecondition, 409, NEVER;
    UnknownDelivery => "UNKNOWN_DELIVERY", NotFound, 404, NEVER;
    InvalidSettlement => "INVALID_SETTLEMENT", InvalidArgument, 400, NEVER;
    DeadLetterFailed => "DEAD_LETTER_FAILED", Unavailable, 503, SOON;
}

impl std::fmt::Display for FaultCode {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_formed_as_error_info_asks() {
        let mut seen = std::collections::HashSet::new();
        for code in FaultCode::ALL {
            let text = code.as_str();
            assert!(seen.insert(text), "{text} stands twice");
            assert_eq!(FaultCode::from_text(text), Some(*code));
            let inner = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
            assert!(text.len() <= 63 && text.bytes().all(inner), "{text}");
            assert!(
                text.as_bytes()[0].is_ascii_uppercase() && !text.ends_with('_'),
                "{text}"
            );
        }
    }

    #[test]
    fn what_says_try_again_says_when() {
        for code in FaultCode::ALL {
            if code.grpc_code() == Code::Unavailable {
                assert!(code.retry_after().is_some(), "{code} is UNAVAILABLE without a delay");
            }
            if code.grpc_code() == Code::InvalidArgument {
                assert!(code.retry_after().is_none(), "{code} cannot succeed by waiting");
            }
        }
    }

    #[test]
    fn every_code_is_explained() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
        let page = std::fs::read_to_string(path).unwrap();
        for code in FaultCode::ALL {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{code}` |")));
            let row = row.unwrap_or_else(|| panic!("docs/errors.md does not explain {code}"));
            let grpc = format!("{:?}", code.grpc_code());
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            assert_eq!(cells[2].replace('_', "").to_lowercase(), grpc.to_lowercase(), "{code}");
            assert_eq!(cells[3], code.http_status().to_string(), "{code}");
            assert!(cells[4].len() > 20 && cells[5].len() > 10, "{code} is hardly explained");
        }
        for line in page.lines().filter_map(|line| line.strip_prefix("| `")) {
            let code = line.split('`').next().unwrap();
            assert!(
                FaultCode::from_text(code).is_some(),
                "docs/errors.md explains {code}, which is gone"
            );
        }
    }
}
