//! A3 and R1: order within a partition, and the partition of a key.

use std::collections::BTreeMap;

use futures::future::join_all;

use super::fixture::{Fixture, Settings};
use super::reading::{Reading, numbers};
use super::waiting::{PATIENCE, deadline, within};
use super::writing::{batch, batch_to, new_topic, number_of, numbered, store, unique_group};
use crate::append::Position;
use crate::partitioner::partition_for;
use crate::seam::KeyPlacement;

/// A3: positions and reading follow the order of admission, within a batch and
/// across batches that nobody waited for.
pub async fn order_is_kept_across_batches(fixture: &dyn Fixture) {
    const BATCHES: usize = 60;
    const SIZE: usize = 25;
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "order", 4).await;
    let appender = broker.appender();
    let mut commits = Vec::new();
    for index in 0..BATCHES {
        let numbers = index * SIZE..(index + 1) * SIZE;
        let admission = appender.admit(batch(&topic, numbers, 12), deadline()).await;
        assert!(admission.refused.is_empty(), "{:?}", admission.refused);
        commits.push(admission.commit);
    }
    let outcomes = within(PATIENCE, "the commits", join_all(commits)).await;
    let positions: Result<Vec<Position>, _> = outcomes.into_iter().flatten().collect();
    rising(&positions.unwrap());
    let mut reading = Reading::join(&broker, &unique_group("order"), &topic).await;
    let mut last = BTreeMap::new();
    for record in reading.take(BATCHES * SIZE).await {
        let number = number_of(&record.record);
        if let Some(before) = last.insert(number % 12, number) {
            assert!(before < number, "{number} of a key came after {before}");
        }
    }
}

/// Positions rise within each partition.
fn rising(positions: &[Position]) {
    let mut last = BTreeMap::new();
    for position in positions {
        let before = last.insert(position.partition, position.position);
        assert!(
            before.is_none_or(|before| before < position.position),
            "{position:?} after {before:?}"
        );
    }
}

/// A3: order is kept when one handle ends and another goes on.
pub async fn order_is_kept_across_handles(fixture: &dyn Fixture) {
    let first = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&first, "handles", 1).await;
    let mut positions = store(&first, batch_to(&topic, 0, 0..100)).await;
    first.close(PATIENCE).await;
    drop(first);
    let settings = Settings {
        max_in_flight_records: 500,
        ..Settings::default()
    };
    let second = fixture.connect(&settings).await;
    positions.extend(store(&second, batch_to(&topic, 0, 100..200)).await);
    rising(&positions);
    let mut reading = Reading::join(&second, &unique_group("handles"), &topic).await;
    assert!(numbers(&reading.take(200).await).into_iter().eq(0..200));
}

/// A key's partition is where Kafka's Java client sends it; where shards stand for
/// partitions, where the ring has it.
pub async fn a_key_goes_where_the_java_client_sends_it(fixture: &dyn Fixture) {
    // Hashes from Kafka's UtilsTest.testMurmur2, as signed numbers.
    let vectors = [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("abc", 479_470_107),
    ];
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "murmur", 7).await;
    let mut records: Vec<_> = vectors
        .iter()
        .map(|(key, _)| {
            let mut append = numbered(&topic, 0, 1);
            append.record.key = Some((*key).into());
            append
        })
        .collect();
    records.push(numbered(&topic, 0, 1));
    records[5].record.key = Some(bytes::Bytes::new());
    let positions = store(&broker, records).await;
    let placement = broker.profile().capabilities.key_placement;
    if placement == KeyPlacement::ConsistentHash {
        let keys = vectors.iter().map(|(key, _)| *key).chain([""]);
        for (key, position) in keys.zip(&positions) {
            assert_eq!(position.partition, placement.partition_for(key.as_bytes(), 7), "{key}");
        }
        return;
    }
    for ((key, hash), position) in vectors.iter().zip(&positions) {
        assert_eq!(position.partition, (hash & 0x7fff_ffff) as u32 % 7, "{key}");
    }
    assert_eq!(positions[5].partition, partition_for(b"", 7), "the empty key is a key");
}

/// A partition that is said is the partition, whatever the key.
pub async fn a_partition_that_is_said_is_taken(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "said", 3).await;
    let mut records = Vec::new();
    for partition in [2, 0, 1, 2] {
        records.extend(batch_to(&topic, partition, 0..1));
    }
    let positions = store(&broker, records).await;
    let partitions: Vec<_> = positions.iter().map(|position| position.partition).collect();
    assert_eq!(partitions, [2, 0, 1, 2]);
}

/// Records without a key reach every partition in time.
pub async fn records_without_a_key_are_spread(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "keyless", 2).await;
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let mut records = batch(&topic, 0..500, 1);
        for append in &mut records {
            append.record.key = None;
        }
        let positions = store(&broker, records).await;
        reached.extend(positions.iter().map(|position| position.partition));
        if reached.len() == 2 {
            return;
        }
    }
    panic!("100,000 records without a key all went to {reached:?}");
}
