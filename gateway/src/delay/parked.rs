//! The record of an event that waits in a bucket, and back.
//!
//! The record's key, value and headers are as they were; what Meridian needs stands in headers that begin with
//! [`HEADER_PREFIX`] and go when the wait is over. What holds: no header that somebody else wrote under these names
//! survives parking, and one that cannot be read is a fault, never a panic.

use bytes::Bytes;
use bytestring::ByteString;
use meridian_broker::TopicName;
use meridian_event::{Header, Record};

use super::bucket::Bucket;

/// What the headers of a parked record begin with.
pub const HEADER_PREFIX: &str = "meridian-delay-";
const DUE: &str = "meridian-delay-due-ms";
const SINCE: &str = "meridian-delay-since-ms";
const TOPIC: &str = "meridian-delay-topic";

/// Where an event goes, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aim {
    /// Not before this moment, in milliseconds since the Unix epoch.
    pub due_ms: i64,
    /// The topic that it is for.
    pub topic: TopicName,
}

/// An event that waits, as it was read from a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Where it goes, and when.
    pub aim: Aim,
    /// When it came into this bucket.
    pub since_ms: i64,
    /// The record as it was before.
    pub record: Record,
}

/// Why a record of a bucket is none that waits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header {header} is missing or wrong; only Meridian writes to this topic")]
pub struct ParkedFault {
    /// Which header.
    pub header: &'static str,
}

/// The record that waits, and the bucket that it waits in.
pub fn park(record: Record, aim: &Aim, now_ms: i64) -> (Bucket, Record) {
    let bucket = Bucket::for_wait(aim.due_ms.saturating_sub(now_ms));
    let mut parked = without_prefix(record, HEADER_PREFIX);
    let mut add = |name: &'static str, value: String| {
        parked
            .headers
            .push(Header::new(ByteString::from_static(name), Bytes::from(value)));
    };
    add(DUE, aim.due_ms.to_string());
    add(SINCE, now_ms.to_string());
    add(TOPIC, aim.topic.to_string());
    // Brokers drop records by their time, so it is that of this step.
    parked.timestamp_ms = now_ms;
    (bucket, parked)
}

impl Parked {
    /// Reads a record of a bucket.
    ///
    /// # Errors
    /// [`ParkedFault`] names the header that is missing or wrong.
    pub fn read(record: Record) -> Result<Self, ParkedFault> {
        let due_ms = number(&record, DUE)?;
        let since_ms = number(&record, SINCE)?;
        let topic = text(&record, TOPIC).and_then(|text| TopicName::new(text).ok());
        let topic = topic.ok_or(ParkedFault { header: TOPIC })?;
        Ok(Self {
            aim: Aim { due_ms, topic },
            since_ms,
            record: without_prefix(record, HEADER_PREFIX),
        })
    }
}

/// The record less the headers that begin so.
pub fn without_prefix(mut record: Record, prefix: &str) -> Record {
    record.headers.retain(|header| !header.name.starts_with(prefix));
    record
}

fn text<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    record.header(name).and_then(|value| std::str::from_utf8(value).ok())
}

fn number(record: &Record, header: &'static str) -> Result<i64, ParkedFault> {
    let parsed = text(record, header).and_then(|text| text.parse().ok());
    parsed.ok_or(ParkedFault { header })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            key: Some(Bytes::from_static(b"k")),
            headers: vec![
                Header::new("ce_id", "1"),
                Header::new("meridian-delay-due-ms", "forged"),
            ],
            value: Some(Bytes::from_static(b"v")),
            timestamp_ms: 12,
        }
    }

    #[test]
    fn what_is_parked_comes_back_as_it_was() {
        let aim = Aim {
            due_ms: 100_000,
            topic: "orders".parse().unwrap(),
        };
        let (bucket, parked) = park(record(), &aim, 20_000);
        assert_eq!((bucket, parked.timestamp_ms), (Bucket::Minute, 20_000));
        let read = Parked::read(parked).unwrap();
        assert_eq!((&read.aim, read.since_ms), (&aim, 20_000));
        assert_eq!(read.record.headers, [Header::new("ce_id", "1")]);
        assert_eq!((&read.record.key, &read.record.value), (&record().key, &record().value));
    }

    #[test]
    fn foreign_records_are_faults() {
        let fault = |name: &'static str, value: &'static str| {
            let aim = Aim {
                due_ms: 1,
                topic: "orders".parse().unwrap(),
            };
            let (_, mut parked) = park(record(), &aim, 0);
            for header in &mut parked.headers {
                if header.name == name {
                    header.value = Some(Bytes::from_static(value.as_bytes()));
                }
            }
            Parked::read(parked).unwrap_err().header
        };
        assert_eq!(Parked::read(record()).unwrap_err().header, DUE);
        assert_eq!(fault(DUE, "9999999999999999999999"), DUE);
        assert_eq!(fault(SINCE, "soon"), SINCE);
        assert_eq!(fault(TOPIC, "a/b"), TOPIC);
    }
}
