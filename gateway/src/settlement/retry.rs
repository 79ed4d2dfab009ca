//! The record of an event that waits in the due-time topics for its group alone, and what it went through before.
//!
//! When it is due it goes to the group's own retry topic, which no other group reads. What holds: headers of these names
//! count only on that topic, where only Meridian writes; what cannot be read of them counts as nothing.

use bytes::Bytes;
use bytestring::ByteString;
use meridian_broker::{GroupName, NameError, TopicName, TopicPartition};
use meridian_event::{Header, Record};

use super::dead_letter::{MAX_ERROR_BYTES, shown_error};
use crate::delay::parked::without_prefix;
use crate::dispatch::{AwayOrder, Prior, RecordPlace};

/// What the headers of such a record begin with.
pub const HEADER_PREFIX: &str = "meridian-retry-";
/// What the topics begin with. Links leave out topics that begin with `meridian.`.
const TOPIC_PREFIX: &str = "meridian.retry.";

/// The retry topic of a group.
///
/// # Errors
/// [`NameError`] when the name would be too long; the group's records then wait with the gateway.
pub fn retry_topic(group: &GroupName) -> Result<TopicName, NameError> {
    TopicName::new(&format!("{TOPIC_PREFIX}{group}"))
}

/// The group that reads a retry topic.
///
/// # Errors
/// [`NameError`], as for [`retry_topic`].
pub fn retry_group(group: &GroupName) -> Result<GroupName, NameError> {
    GroupName::new(&format!("{TOPIC_PREFIX}{group}"))
}

/// The record as it was, with what it went through.
pub(super) fn retry_record(order: &AwayOrder, first_attempt_ms: i64) -> Record {
    let mut record = without_prefix((*order.record).clone(), HEADER_PREFIX);
    let mut add = |name: &str, value: String| {
        let name = ByteString::from(format!("{HEADER_PREFIX}{name}"));
        record.headers.push(Header::new(name, Bytes::from(value)));
    };
    let RecordPlace { partition, position } = &order.source;
    add("topic", partition.topic.to_string());
    add("partition", partition.partition.to_string());
    add("position", position.to_string());
    add("attempts", order.attempts.to_string());
    add("first-attempt-ms", first_attempt_ms.to_string());
    add("error", shown_error(&order.error));
    record
}

/// The record of a retry topic as it was, and what it went through; none for one that somebody else wrote there.
pub(crate) fn read_retry(record: &Record) -> (Record, Option<Box<Prior>>) {
    let prior = read_prior(record).map(Box::new);
    (without_prefix(record.clone(), HEADER_PREFIX), prior)
}

fn read_prior(record: &Record) -> Option<Prior> {
    let text = |name: &str| {
        let value = record.header(&format!("{HEADER_PREFIX}{name}"))?;
        std::str::from_utf8(value).ok()
    };
    let partition = TopicPartition {
        topic: TopicName::new(text("topic")?).ok()?,
        partition: text("partition")?.parse().ok()?,
    };
    let mut error = text("error").unwrap_or_default().to_owned();
    error.truncate(error.floor_char_boundary(MAX_ERROR_BYTES));
    Some(Prior {
        source: RecordPlace {
            partition,
            position: text("position")?.parse().ok()?,
        },
        failures: text("attempts")?.parse().ok()?,
        first_attempt_ms: text("first-attempt-ms")?.parse().ok()?,
        error,
    })
}

#[cfg(test)]
mod tests {
    use super::super::dead_letter::tests::order;
    use super::*;

    #[test]
    fn what_it_went_through_comes_back_with_it() {
        let order = order(2, b"v");
        let (record, prior) = read_retry(&retry_record(&order, 77));
        assert_eq!(record, *order.record);
        let prior = prior.unwrap();
        assert_eq!(
            (prior.source, prior.failures, prior.first_attempt_ms),
            (order.source.clone(), 5, 77)
        );
        assert!(!prior.error.is_empty());
    }

    #[test]
    fn foreign_headers_count_as_nothing() {
        let mut record = (*order(2, b"v").record).clone();
        record.headers.push(Header::new("meridian-retry-topic", "a/b"));
        let (record, prior) = read_retry(&record);
        assert_eq!(prior, None);
        assert_eq!(record.header("meridian-retry-topic"), None);
    }

    #[test]
    fn a_group_with_a_long_name_has_no_retry_topic() {
        let name = |length| GroupName::new(&"g".repeat(length)).unwrap();
        assert_eq!(retry_topic(&name(3)).unwrap().as_str(), "meridian.retry.ggg");
        assert!(retry_topic(&name(200)).is_err() && retry_group(&name(200)).is_err());
    }
}
