//! Where a group begins, and what happens when its position is gone.

use std::sync::Arc;

use super::fixture::{Fixture, Settings};
use super::reading::{Reading, numbers, options};
use super::waiting::{PATIENCE, within};
use super::writing::{batch_to, make_topic, new_topic, store, store_one, unique_group, unique_topic};
use crate::admin::TopicSpec;
use crate::append::Position;
use crate::error::ReadErrorKind;
use crate::name::{GroupName, TopicName, TopicPartition};
use crate::read::{MissingPositionPolicy, StartPosition};
use crate::seam::Broker;

/// A new group that starts at the earliest record has all of them.
pub async fn a_new_group_starts_at_the_earliest_record(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "earliest", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let mut reading = Reading::join(&broker, &unique_group("earliest"), &topic).await;
    assert!(numbers(&reading.take(10).await).into_iter().eq(0..10));
}

/// A new group that starts at the latest has what is appended after it joined, and
/// goes on from its position when it comes again.
pub async fn a_new_group_starts_at_the_latest_record(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "latest", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let group = unique_group("latest");
    let mut options = options(&group, &topic);
    options.start = StartPosition::Latest;
    let mut reading = Reading::open(&broker, options.clone()).await;
    reading.until_partitions(1).await;
    store(&broker, batch_to(&topic, 0, 10..13)).await;
    let records = reading.take(3).await;
    assert!(numbers(&records).into_iter().eq(10..13));
    reading.settle(&records[..1]);
    reading.close().await;
    store_one(&broker, &topic, 0, 13).await;
    let mut reading = Reading::open(&broker, options).await;
    assert!(numbers(&reading.take(3).await).into_iter().eq(11..14));
}

/// A group that started at the latest and settled nothing has its place all the
/// same: what was appended while it was away is not skipped.
pub async fn a_start_at_the_latest_is_remembered(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "remembered", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let mut options = options(&unique_group("remembered"), &topic);
    options.start = StartPosition::Latest;
    let mut reading = Reading::open(&broker, options.clone()).await;
    reading.until_partitions(1).await;
    reading.commit().await;
    reading.close().await;
    store(&broker, batch_to(&topic, 0, 10..12)).await;
    let mut reading = Reading::open(&broker, options).await;
    assert!(numbers(&reading.take(2).await).into_iter().eq(10..12));
}

/// The position is gone and the policy is `Earliest`: the gap is told, with the
/// number of missing records, and reading goes on at the oldest one.
pub async fn a_gap_is_told_and_reading_goes_on_at_the_earliest(fixture: &dyn Fixture) {
    let gone = Gone::make(fixture).await;
    let mut options = options(&gone.group, &gone.topic);
    options.missing_position = MissingPositionPolicy::Earliest;
    let mut reading = Reading::open(&gone.broker, options).await;
    let first = reading.take(1).await.remove(0);
    assert_eq!(reading.gaps.len(), 1, "{:?}", reading.gaps);
    let gap = reading.gaps[0].clone();
    assert_eq!(gap.partition, gone.partition());
    assert_eq!(gap.expected_position, gone.expected);
    assert!(gap.resumed_position > gone.positions[4].position, "{gap:?}");
    assert_eq!(
        gap.missing_records,
        gap.resumed_position - gap.expected_position,
        "{gap:?}"
    );
    assert!(
        first.claim.position >= gap.resumed_position,
        "{gap:?}, {:?}",
        first.claim
    );
}

/// The position is gone and the policy is `Latest`: the gap is told, and reading
/// goes on with what is appended from then on.
pub async fn a_gap_is_told_and_reading_goes_on_at_the_latest(fixture: &dyn Fixture) {
    let gone = Gone::make(fixture).await;
    let mut options = options(&gone.group, &gone.topic);
    options.missing_position = MissingPositionPolicy::Latest;
    let mut reading = Reading::open(&gone.broker, options).await;
    let told = async {
        while reading.gaps.is_empty() {
            reading.watch(std::time::Duration::from_millis(50)).await;
        }
    };
    within(PATIENCE, "the gap", told).await;
    let gap = reading.gaps[0].clone();
    assert_eq!(gap.expected_position, gone.expected);
    assert!(reading.take_waiting().is_empty(), "an old record came");
    let position = store_one(&gone.broker, &gone.topic, 0, 7_000).await;
    assert!(position.position >= gap.resumed_position, "{gap:?}");
    assert_eq!(numbers(&reading.take(1).await), [7_000]);
}

/// The position is gone and the policy is `Fail`: the reader ends with
/// `PositionMissing`, and its text says how many records are missing.
pub async fn a_gap_ends_a_reader_that_must_not_skip(fixture: &dyn Fixture) {
    let gone = Gone::make(fixture).await;
    let mut reading = Reading::open(&gone.broker, options(&gone.group, &gone.topic)).await;
    let end = async {
        loop {
            match reading.event(PATIENCE).await {
                Ok(Some(crate::read::ReadEvent::Records(records))) => panic!("it read on: {records:?}"),
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    };
    let error = within(PATIENCE, "the end of the reader", end).await;
    assert_eq!(error.kind, ReadErrorKind::PositionMissing, "{error}");
    let text = error.to_string();
    assert!(
        text.contains(gone.topic.as_str()),
        "the text does not name the topic: {text}"
    );
    assert!(
        text.contains(&gone.expected.to_string()),
        "the text does not name the position: {text}"
    );
}

/// A topic whose records from 2 to 4 at least are gone, and a group that stands at 2.
struct Gone {
    broker: Arc<dyn Broker>,
    topic: TopicName,
    group: GroupName,
    positions: Vec<Position>,
    expected: u64,
}

impl Gone {
    async fn make(fixture: &dyn Fixture) -> Self {
        let broker = fixture.connect(&Settings::default()).await;
        let spec = fixture.forgetful(TopicSpec::new(unique_topic("gap"), 1));
        let topic = make_topic(&broker, spec).await;
        let mut positions = Vec::new();
        for number in 0..10 {
            positions.push(store_one(&broker, &topic, 0, number).await);
        }
        let group = unique_group("gap");
        let mut options = options(&group, &topic);
        options.max_unsettled_records = 2;
        let mut reading = Reading::open(&broker, options).await;
        let records = reading.take(2).await;
        reading.settle(&records);
        reading.close().await;
        let expected = positions[1].position + 1;
        let gone = Self {
            broker,
            topic,
            group,
            positions,
            expected,
        };
        fixture
            .forget(&gone.broker, &gone.partition(), gone.positions[5].position)
            .await;
        gone
    }

    fn partition(&self) -> TopicPartition {
        TopicPartition {
            topic: self.topic.clone(),
            partition: 0,
        }
    }
}
