//! One dead letter, read from its record, and the record that is replayed.
//!
//! What holds: a header that is missing or wrong leaves its field empty, for anybody may write to a topic; a replayed
//! record is the event as it was, with one header that counts its replays.

use std::sync::Arc;

use bytes::Bytes;
use meridian_broker::{Claim, ReadRecord, TopicName};
use meridian_event::{Binding, Event, Header, Record};
use prost_types::Timestamp;

use crate::delay::parked::{self, without_prefix};
use crate::settlement::{dead_letter, retry};

/// Counts how often the event was replayed.
pub const REPLAYS_HEADER: &str = "meridian-replays";
/// The reason of a record that says none.
const NO_REASON: &str = "UNKNOWN";

/// One dead letter.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The right to settle it.
    pub claim: Claim,
    /// The record as it was read.
    pub record: Arc<Record>,
    /// The event, if it is one.
    pub event: Option<Event>,
    /// The topic from which it came.
    pub source_topic: Option<TopicName>,
    /// Where it stood there.
    pub source_partition: u32,
    /// Where it stood there.
    pub source_position: u64,
    /// The code of the reason.
    pub reason: String,
    /// How often it was delivered.
    pub attempts: u32,
    /// The last error.
    pub error: String,
    /// The group for which it died.
    pub group: String,
    /// The worker that had it last.
    pub worker: String,
    /// When it died.
    pub died_at: Option<Timestamp>,
    /// When it was first handed to a worker.
    pub first_attempt_at: Option<Timestamp>,
    /// When it was last handed to a worker.
    pub last_attempt_at: Option<Timestamp>,
    /// How often it was replayed.
    pub replays: u32,
}

impl Letter {
    /// Reads a record of a dead-letter topic.
    pub fn read(read: ReadRecord) -> Self {
        let ReadRecord { claim, record, .. } = read;
        let whole = |name: &str| record.header(name).and_then(|value| std::str::from_utf8(value).ok());
        let text = |name: &str| whole(&format!("{}{name}", dead_letter::HEADER_PREFIX));
        let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        let small = |name: &str| u32::try_from(number(name)).unwrap_or(u32::MAX);
        let owned = |name: &str| text(name).unwrap_or_default().to_owned();
        let moment = |name: &str| text(name).and_then(|text| text.parse::<Timestamp>().ok());
        Self {
            event: Binding::unbind(&record).ok(),
            source_topic: text("topic").and_then(|name| TopicName::new(name).ok()),
            source_partition: small("partition"),
            source_position: number("position"),
            reason: text("reason").unwrap_or(NO_REASON).to_owned(),
            attempts: small("attempts"),
            error: owned("error"),
            group: owned("group"),
            worker: owned("worker"),
            died_at: moment("time"),
            first_attempt_at: moment("first-attempt"),
            last_attempt_at: moment("last-attempt"),
            replays: whole(REPLAYS_HEADER).and_then(|text| text.parse().ok()).unwrap_or(0),
            claim,
            record,
        }
    }

    /// The event's type; empty when the record is no event.
    pub fn type_name(&self) -> &str {
        self.event.as_ref().map_or("", Event::type_name)
    }

    /// The event as it was, to be appended at `now_ms`.
    pub fn replayed(&self, now_ms: i64) -> Record {
        let mut record = (*self.record).clone();
        for prefix in [
            dead_letter::HEADER_PREFIX,
            retry::HEADER_PREFIX,
            parked::HEADER_PREFIX,
            REPLAYS_HEADER,
        ] {
            record = without_prefix(record, prefix);
        }
        let replays = self.replays.saturating_add(1).to_string();
        record.headers.push(Header::new(REPLAYS_HEADER, Bytes::from(replays)));
        // Brokers drop records by their time, and its own may be long ago.
        record.timestamp_ms = now_ms;
        record
    }
}

#[cfg(test)]
pub(super) mod tests {
    use meridian_broker::TopicPartition;

    use super::*;

    pub(in crate::dead_letters) fn letter(position: u64, headers: &[(&'static str, &'static str)]) -> Letter {
        let partition = TopicPartition {
            topic: "orders.dead-letters".parse().unwrap(),
            partition: 1,
        };
        let headers = headers.iter().map(|(name, value)| Header::new(*name, *value));
        let event = [
            ("ce_specversion", "1.0"),
            ("ce_id", "7"),
            ("ce_source", "/s"),
            ("ce_type", "a.b"),
        ];
        let event = event.map(|(name, value)| Header::new(name, value));
        let claim = Claim {
            partition,
            generation: 1,
            position,
        };
        let record = Record {
            key: Some(Bytes::from_static(b"k")),
            headers: event.into_iter().chain(headers).collect(),
            value: Some(Bytes::from_static(b"v")),
            timestamp_ms: 5,
        };
        Letter::read(ReadRecord::new(claim, record))
    }

    #[test]
    fn a_replayed_record_is_the_event_with_its_replays_counted() {
        let letter = letter(
            3,
            &[
                ("meridian-replays", "1"),
                ("meridian-dead-letter-reason", "REJECTED"),
                ("meridian-dead-letter-topic", "orders"),
                ("x-own", "1"),
            ],
        );
        assert_eq!(
            (letter.replays, letter.reason.as_str(), letter.type_name()),
            (1, "REJECTED", "a.b")
        );
        assert_eq!(letter.source_topic.as_ref().unwrap().as_str(), "orders");
        let record = letter.replayed(99);
        assert_eq!(record.timestamp_ms, 99);
        assert_eq!((&record.key, &record.value), (&letter.record.key, &letter.record.value));
        let names: Vec<&str> = record.headers.iter().map(|header| &*header.name).collect();
        assert_eq!(
            names,
            [
                "ce_specversion",
                "ce_id",
                "ce_source",
                "ce_type",
                "x-own",
                "meridian-replays"
            ]
        );
        assert_eq!(record.headers[5].value.as_deref(), Some(&b"2"[..]));
    }

    #[test]
    fn foreign_records_have_empty_fields() {
        let letter = letter(
            3,
            &[
                ("meridian-dead-letter-attempts", "many"),
                ("meridian-dead-letter-topic", "a/b"),
                ("meridian-dead-letter-time", "yesterday"),
            ],
        );
        assert_eq!(
            (letter.reason.as_str(), letter.attempts, letter.died_at),
            ("UNKNOWN", 0, None)
        );
        assert_eq!(letter.source_topic, None);
    }
}
