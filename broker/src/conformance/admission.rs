//! A2 to A4: refusals come back whole, and admission is bounded.

use std::time::{Duration, Instant};

use super::fixture::{Fixture, Settings};
use super::reading::{Reading, numbers};
use super::waiting::{PATIENCE, within};
use super::writing::{append, batch, batch_to, new_topic, numbered, store_one, unique_group, unique_topic};
use crate::append::{Admission, AppendRecord};
use crate::error::{AppendErrorKind, Stored};

/// A2: a record to a topic that is not there is refused as such, before or at
/// commit; its neighbours are stored.
pub async fn an_unknown_topic_is_refused(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "unknown-topic", 1).await;
    let nowhere = unique_topic("nowhere");
    let mut records = batch_to(&topic, 0, 0..5);
    records.insert(2, numbered(&nowhere, 99, 1));
    let mut appended = append(&broker, records).await;
    let error = if let Some(refused) = appended.refused.pop() {
        assert_eq!((refused.index, &refused.record.topic), (2, &nowhere));
        refused.error
    } else {
        appended
            .outcomes
            .remove(2)
            .expect_err("stored in a topic that is not there")
    };
    assert_eq!(
        (error.kind, error.stored),
        (AppendErrorKind::TopicNotFound, Stored::No),
        "{error}"
    );
    assert!(
        error.message.contains(nowhere.as_str()),
        "the text does not name the topic: {error}"
    );
    let stored = appended.all_stored();
    assert_eq!(stored.len(), 5);
}

/// A2: a record to a partition that is not there is refused.
pub async fn an_unknown_partition_is_refused(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "unknown-partition", 2).await;
    let appended = append(&broker, batch_to(&topic, 2, 0..1)).await;
    let errors = appended.refused.into_iter().map(|refused| refused.error);
    let errors = errors.chain(appended.outcomes.into_iter().filter_map(Result::err));
    let stored: Vec<_> = errors.map(|error| error.stored).collect();
    assert_eq!(stored, [Stored::No]);
}

/// A2, A3: a record that is too large is refused alone and comes back whole, and
/// its neighbours are stored in order.
pub async fn a_record_too_large_is_refused_alone(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let limit = broker.profile().max_record_bytes;
    let topic = new_topic(&broker, "too-large", 1).await;
    let mut records = batch_to(&topic, 0, 0..20);
    for index in [0, 7, 19] {
        records[index].record.value = Some(vec![b'x'; limit + 1].into());
    }
    let given = records.clone();
    let appended = append(&broker, records).await;
    let refused: Vec<_> = appended.refused.iter().map(|refused| refused.index).collect();
    assert_eq!(refused, [0, 7, 19], "outcomes of the others: {:?}", appended.outcomes);
    for refused in &appended.refused {
        assert_eq!(refused.error.kind, AppendErrorKind::RecordTooLarge);
        assert_eq!(refused.error.stored, Stored::No);
        assert_same(&refused.record, &given[refused.index]);
    }
    let mut reading = Reading::join(&broker, &unique_group("too-large"), &topic).await;
    let kept: Vec<_> = (0..20).filter(|number| ![0, 7, 19].contains(number)).collect();
    assert_eq!(numbers(&reading.take(17).await), kept);
}

/// A4: a record of exactly the largest size is taken.
pub async fn the_largest_record_is_taken(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "largest", 1).await;
    let mut records = batch_to(&topic, 0, 0..1);
    let key = records[0].record.key.as_ref().map_or(0, bytes::Bytes::len);
    records[0].record.value = Some(vec![b'x'; broker.profile().max_record_bytes - key].into());
    let appended = append(&broker, records).await;
    assert_eq!(appended.all_stored().len(), 1);
}

/// A2, A3, A4: what does not fit until the deadline comes back whole, in order and
/// from one record on, as `Overloaded`; what was taken is stored in order.
pub async fn what_does_not_fit_comes_back_whole(fixture: &dyn Fixture) {
    const RECORDS: usize = 20_000;
    let settings = Settings {
        max_in_flight_records: 100,
        ..Settings::default()
    };
    let broker = fixture.connect(&settings).await;
    let topic = new_topic(&broker, "overload", 1).await;
    let given = batch_to(&topic, 0, 0..RECORDS);
    let admit = broker.appender();
    let admit = admit.admit(given.clone(), Instant::now());
    let Admission { refused, commit } = within(Duration::from_secs(10), "a late admit", admit).await;
    let taken = commit.admitted();
    assert!(!refused.is_empty(), "{RECORDS} records passed a limit of 100 at once");
    assert_eq!(taken + refused.len(), RECORDS);
    for (refused, index) in refused.iter().zip(taken..) {
        assert_eq!(refused.index, index, "the line did not stop at the first refusal");
        assert_eq!(refused.error.kind, AppendErrorKind::Overloaded, "{}", refused.error);
        assert_eq!(refused.error.stored, Stored::No);
        assert_same(&refused.record, &given[index]);
    }
    let outcomes = within(PATIENCE, "commit", commit).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    // A refused record was surely not stored: after what was taken comes this one.
    store_one(&broker, &topic, 0, RECORDS).await;
    let mut reading = Reading::join(&broker, &unique_group("overload"), &topic).await;
    let mut expected: Vec<_> = (0..taken).collect();
    expected.push(RECORDS);
    assert_eq!(numbers(&reading.take(taken + 1).await), expected);
}

/// A4: `admit` waits for room in records, and lets all through in the end.
pub async fn admission_waits_for_room_in_records(fixture: &dyn Fixture) {
    let settings = Settings {
        max_in_flight_records: 16,
        ..Settings::default()
    };
    waits_for_room(fixture, &settings, "room-records").await;
}

/// A4: `admit` waits for room in bytes, and lets all through in the end.
pub async fn admission_waits_for_room_in_bytes(fixture: &dyn Fixture) {
    let settings = Settings {
        max_in_flight_bytes: 2_000,
        max_record_bytes: 1_024,
        ..Settings::default()
    };
    waits_for_room(fixture, &settings, "room-bytes").await;
}

async fn waits_for_room(fixture: &dyn Fixture, settings: &Settings, theme: &str) {
    const RECORDS: usize = 600;
    let broker = fixture.connect(settings).await;
    let topic = new_topic(&broker, theme, 1).await;
    let appended = append(&broker, batch_to(&topic, 0, 0..RECORDS)).await;
    assert_eq!(appended.all_stored().len(), RECORDS);
    let mut reading = Reading::join(&broker, &unique_group(theme), &topic).await;
    assert!(numbers(&reading.take(RECORDS).await).into_iter().eq(0..RECORDS));
}

/// A6: a dropped commit and a dropped `admit` block nobody; what was admitted
/// is on its way, and `flush` waits for it.
pub async fn dropped_futures_leave_admitted_records_on_their_way(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "dropped", 1).await;
    let appender = broker.appender();
    let deadline = super::waiting::deadline();
    let admission = appender.admit(batch_to(&topic, 0, 0..50), deadline).await;
    assert!(admission.refused.is_empty());
    drop(admission);
    assert!(appender.flush(deadline).await, "flush did not see the end");
    drop(appender.admit(batch_to(&topic, 0, 900..910), deadline)); // never polled
    store_one(&broker, &topic, 0, 50).await;
    let mut reading = Reading::join(&broker, &unique_group("dropped"), &topic).await;
    assert!(numbers(&reading.take(51).await).into_iter().eq(0..51));
}

/// An empty batch is no fault.
pub async fn an_empty_batch_is_taken(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "empty", 1).await;
    let appended = append(&broker, batch(&topic, 0..0, 1)).await;
    assert!(appended.all_stored().is_empty());
}

fn assert_same(back: &AppendRecord, given: &AppendRecord) {
    let parts = |append: &AppendRecord| (append.topic.clone(), append.partition, append.record.clone());
    assert!(parts(back) == parts(given), "a refused record came back changed");
}
