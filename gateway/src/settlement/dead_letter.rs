//! Names of dead-letter topics, and the record that goes there. Appending it is left to `dead_letter_writer`.
//!
//! What holds: key, value, timestamp and foreign headers are as they were read; what Meridian adds stands in headers
//! that begin with [`HEADER_PREFIX`], each once, also when a dead letter dies a second time.

use std::str::FromStr;

use bytes::Bytes;
use bytestring::ByteString;
use meridian_broker::{GroupName, NameError, TopicName};
use meridian_event::{Header, Record};

use crate::dispatch::{AwayOrder, DeadLetterReason, RecordPlace};

/// What the headers of a dead letter begin with.
pub const HEADER_PREFIX: &str = "meridian-dead-letter-";
/// Stands for the topic in a pattern.
const PLACEHOLDER: &str = "{topic}";
/// Most bytes of the last error that a dead letter repeats.
pub(super) const MAX_ERROR_BYTES: usize = 1_024;

/// How the dead-letter topic of a topic is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterTopicPattern {
    before: String,
    after: String,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no pattern for dead-letter topics: {fault}; write one such as \"{{topic}}.dead-letters\"")]
pub struct DeadLetterTopicPatternError {
    /// The text.
    pub text: String,
    /// What is wrong.
    pub fault: String,
}

impl Default for DeadLetterTopicPattern {
    /// `{topic}.dead-letters`.
    fn default() -> Self {
        Self {
            before: String::new(),
            after: ".dead-letters".to_owned(),
        }
    }
}

impl DeadLetterTopicPattern {
    /// The dead-letter topic of a topic.
    ///
    /// # Errors
    /// [`NameError`] when the name would be too long.
    pub fn topic_of(&self, topic: &TopicName) -> Result<TopicName, NameError> {
        TopicName::new(&format!("{}{topic}{}", self.before, self.after))
    }
}

impl DeadLetterTopicPattern {
    /// Whether a topic is the dead-letter topic of some topic.
    pub fn is_of_pattern(&self, topic: &TopicName) -> bool {
        let text = topic.as_str();
        let around = self.before.len() + self.after.len();
        text.len() > around && text.starts_with(&self.before) && text.ends_with(&self.after)
    }
}

impl FromStr for DeadLetterTopicPattern {
    type Err = DeadLetterTopicPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |fault: &str| DeadLetterTopicPatternError {
            text: text.to_owned(),
            fault: fault.to_owned(),
        };
        let Some((before, after)) = text.split_once(PLACEHOLDER) else {
            return Err(refuse("it does not hold {topic}, so all topics would share one"));
        };
        if after.contains(PLACEHOLDER) {
            return Err(refuse("it holds {topic} twice"));
        }
        if before.is_empty() && after.is_empty() {
            return Err(refuse("a topic cannot be its own dead-letter topic"));
        }
        let pattern = Self {
            before: before.to_owned(),
            after: after.to_owned(),
        };
        match TopicName::new(&format!("{before}t{after}")) {
            Ok(_) => Ok(pattern),
            Err(error) => Err(refuse(error.fault)),
        }
    }
}

impl std::fmt::Display for DeadLetterTopicPattern {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}{PLACEHOLDER}{}", self.before, self.after)
    }
}

/// The record as it was, with headers that say from where, why, how often, for whom and when.
pub(super) fn dead_letter_record(
    order: &AwayOrder,
    reason: DeadLetterReason,
    group: &GroupName,
    times: &AttemptTimes,
) -> Record {
    let is_foreign = |header: &&Header| !header.name.starts_with(HEADER_PREFIX);
    let mut headers: Vec<Header> = order.record.headers.iter().filter(is_foreign).cloned().collect();
    let mut add = |name: &str, value: String| {
        headers.push(Header::new(
            ByteString::from(format!("{HEADER_PREFIX}{name}")),
            Bytes::from(value),
        ));
    };
    let RecordPlace { partition, position } = &order.source;
    add("topic", partition.topic.to_string());
    add("partition", partition.partition.to_string());
    add("position", position.to_string());
    add("reason", reason.code().to_owned());
    add("attempts", order.attempts.to_string());
    add("error", shown_error(&order.error));
    add("group", group.to_string());
    if let Some(worker) = &order.worker {
        add("worker", worker.to_string());
    }
    if let Some((first_ms, last_ms)) = times.attempts {
        add("first-attempt", rfc3339(first_ms));
        add("last-attempt", rfc3339(last_ms));
    }
    add("time", rfc3339(times.now_ms));
    Record {
        key: order.record.key.clone(),
        headers,
        value: order.record.value.clone(),
        timestamp_ms: order.record.timestamp_ms,
    }
}

/// Moments of a dead letter, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct AttemptTimes {
    /// The first and the last hand-over to a worker, if there was one.
    pub(super) attempts: Option<(i64, i64)>,
    /// Now.
    pub(super) now_ms: i64,
}

/// An error that came from a worker, fit for a header and a terminal: control characters escaped, cut to
/// [`MAX_ERROR_BYTES`].
pub(super) fn shown_error(error: &str) -> String {
    let mut shown = String::with_capacity(error.len().min(MAX_ERROR_BYTES));
    for character in error.chars() {
        let before = shown.len();
        match character.is_control() {
            true => shown.extend(character.escape_default()),
            false => shown.push(character),
        }
        if shown.len() > MAX_ERROR_BYTES {
            shown.truncate(before);
            break;
        }
    }
    shown
}

fn rfc3339(wall_millis: i64) -> String {
    let nanos = i32::try_from(wall_millis.rem_euclid(1_000) * 1_000_000).unwrap_or(0);
    prost_types::Timestamp {
        seconds: wall_millis.div_euclid(1_000),
        nanos,
    }
    .to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use meridian_broker::{Claim, TopicPartition};

    use super::*;
    use crate::dispatch::{Destination, ItemId};

    pub(in crate::settlement) fn order(item: u64, value: &'static [u8]) -> AwayOrder {
        let partition = TopicPartition {
            topic: "orders".parse().unwrap(),
            partition: 3,
        };
        let record = Record {
            key: Some(Bytes::from_static(b"k")),
            headers: vec![
                Header::new("ce_id", "1"),
                Header::new("meridian-dead-letter-reason", "OLD"),
            ],
            value: Some(Bytes::from_static(value)),
            timestamp_ms: 12,
        };
        AwayOrder {
            item: ItemId(item),
            source: RecordPlace {
                partition: partition.clone(),
                position: 40 + item,
            },
            handed_over: None,
            first_attempt_ms: None,
            claim: Claim {
                partition,
                generation: 1,
                position: 40 + item,
            },
            record: record.into(),
            destination: Destination::DeadLetters(DeadLetterReason::MaxAttempts),
            attempts: 5,
            worker: Some("w".into()),
            error: "ä".repeat(MAX_ERROR_BYTES),
        }
    }

    #[test]
    fn a_pattern_knows_its_topics() {
        let pattern = DeadLetterTopicPattern::default();
        let is = |topic: &str| pattern.is_of_pattern(&topic.parse().unwrap());
        assert!(is("orders.dead-letters") && !is("orders") && !is(".dead-letters"));
    }

    #[test]
    fn a_pattern_names_another_topic_and_says_what_is_wrong() {
        let topic = "orders".parse().unwrap();
        let name = |pattern: &str| {
            pattern
                .parse::<DeadLetterTopicPattern>()
                .map(|pattern| pattern.topic_of(&topic))
        };
        assert_eq!(name("dlq.{topic}.v1").unwrap().unwrap().as_str(), "dlq.orders.v1");
        assert_eq!(DeadLetterTopicPattern::default().to_string(), "{topic}.dead-letters");
        for (bad, fault) in [
            ("dlq", "does not hold"),
            ("{topic}", "its own"),
            ("{topic}{topic}", "twice"),
            ("{topic}/dlq", "may hold only"),
            ("__{topic}", "must not start with"),
        ] {
            assert!(name(bad).unwrap_err().to_string().contains(fault), "{bad}");
        }
        let long = TopicName::new(&"a".repeat(195)).unwrap();
        assert!(DeadLetterTopicPattern::default().topic_of(&long).is_err());
    }

    #[test]
    fn a_dead_letter_is_the_record_with_our_headers_once() {
        let order = order(2, b"v");
        let times = AttemptTimes {
            attempts: Some((1_700_000_000_000, 1_700_000_000_100)),
            now_ms: 1_700_000_000_250,
        };
        let reason = DeadLetterReason::MaxAttempts;
        let record = dead_letter_record(&order, reason, &"billing".parse().unwrap(), &times);
        assert_eq!(
            (&record.key, &record.value, record.timestamp_ms),
            (&order.record.key, &order.record.value, 12)
        );
        let header = |name: &str| {
            let value = record.header(&format!("{HEADER_PREFIX}{name}")).unwrap();
            String::from_utf8(value.to_vec()).unwrap()
        };
        let names = [
            "topic",
            "partition",
            "position",
            "reason",
            "attempts",
            "group",
            "worker",
            "first-attempt",
            "last-attempt",
            "time",
        ];
        assert_eq!(
            names.map(header),
            [
                "orders",
                "3",
                "42",
                "MAX_ATTEMPTS",
                "5",
                "billing",
                "w",
                "2023-11-14T22:13:20Z",
                "2023-11-14T22:13:20.100Z",
                "2023-11-14T22:13:20.250Z"
            ]
        );
        assert_eq!(header("error").len(), MAX_ERROR_BYTES);
        assert_eq!(record.header("ce_id").unwrap(), "1");
        assert_eq!(record.headers.len(), 12);
    }

    #[test]
    fn errors_are_cut_between_characters_and_hold_no_controls() {
        assert_eq!(shown_error("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        let long = shown_error(&format!("{}\n", "x".repeat(MAX_ERROR_BYTES - 1)));
        assert_eq!(long.len(), MAX_ERROR_BYTES - 1, "an escape is whole or not there");
    }
}
