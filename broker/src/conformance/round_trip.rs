//! What was appended is what is read, to the byte.

use std::sync::Arc;

use bytes::Bytes;
use meridian_event::{Header, Record};

use super::fixture::{Fixture, Settings};
use super::reading::Reading;
use super::writing::{new_topic, now_ms, store, unique_group};
use crate::append::AppendRecord;
use crate::seam::Broker;

/// Keys, values, headers and times come back as they were given: empty is not
/// null, names repeat, values need be no text, order is kept.
pub async fn a_record_comes_back_to_the_byte(fixture: &dyn Fixture) {
    let header = |name: &'static str, value: &'static [u8]| Header::new(name, Bytes::from_static(value));
    let records = vec![
        record(Some(b"key"), vec![], Some(b"value")),
        record(None, vec![], Some(b"no key")),
        record(Some(b""), vec![], Some(b"")),
        record(Some(b"tombstone"), vec![], None),
        record(
            Some(b"\x00\xff\xfe key"),
            vec![
                header("repeated", b"1"),
                header("other", b"\xc3\x28 no utf-8 \x00"),
                header("repeated", b"2"),
                header("empty", b""),
                Header {
                    name: "null".into(),
                    value: None,
                },
                header("\u{e4}\u{1f980}", b"name beyond ASCII"),
                header("", b"no name"),
            ],
            Some(b"\x00\x01\xff"),
        ),
    ];
    let broker = fixture.connect(&Settings::default()).await;
    comes_back(&broker, records).await;
}

/// Many headers and a value of some size come back.
pub async fn a_large_record_comes_back(fixture: &dyn Fixture) {
    let headers = (0..100)
        .map(|index| Header::new(format!("name-{index}"), vec![index; 32]))
        .collect();
    let value: Vec<u8> = (0..40_000_u32).map(|index| ((index * 31) >> 3) as u8).collect();
    let mut large = record(Some(b"large"), headers, None);
    large.value = Some(value.into());
    let broker = fixture.connect(&Settings::default()).await;
    comes_back(&broker, vec![large]).await;
}

/// The time of a record is kept, not the time of appending.
pub async fn the_time_of_a_record_is_kept(fixture: &dyn Fixture) {
    let mut past = record(Some(b"past"), vec![], Some(b"value"));
    past.timestamp_ms = now_ms() - 3 * 3_600_000 - 123;
    let broker = fixture.connect(&Settings::default()).await;
    comes_back(&broker, vec![past]).await;
}

fn record(key: Option<&'static [u8]>, headers: Vec<Header>, value: Option<&'static [u8]>) -> Record {
    Record {
        key: key.map(Bytes::from_static),
        headers,
        value: value.map(Bytes::from_static),
        timestamp_ms: now_ms(),
    }
}

async fn comes_back(broker: &Arc<dyn Broker>, records: Vec<Record>) {
    let topic = new_topic(broker, "round-trip", 1).await;
    let appends = records.iter().map(|record| AppendRecord {
        topic: topic.clone(),
        partition: Some(0),
        record: record.clone(),
    });
    store(broker, appends.collect()).await;
    let mut reading = Reading::join(broker, &unique_group("round-trip"), &topic).await;
    for (read, given) in reading.take(records.len()).await.into_iter().zip(records) {
        assert_eq!(*read.record, given);
    }
}
