//! Members of a RabbitMQ group without an order compete for each shard; what a group
//! was made for stays.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    dead_code,
    reason = "a test that unwraps fails where it should, and may print; helpers are shared"
)]

mod rabbitmq_broker;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_broker::conformance::Settings;
use meridian_broker::conformance::reading::{Reading, options};
use meridian_broker::conformance::waiting::{PATIENCE, eventually};
use meridian_broker::conformance::writing::{batch_to, new_topic, number_of, store, unique_group};
use meridian_broker::{Broker, GroupName, ReadErrorKind, ReaderOptions, TopicName};

use self::rabbitmq_broker::{open, running};

const BATCH: usize = 20;

fn unordered(group: &GroupName, topic: &TopicName) -> ReaderOptions {
    let mut options = options(group, topic);
    options.ordered = false;
    options
}

async fn until_lag(broker: &Arc<dyn Broker>, group: &GroupName, lag: u64) {
    eventually(PATIENCE, &format!("a lag of {lag}"), async || {
        let described = broker.admin().describe_group(group).await;
        let told: u64 = described
            .map_err(|error| error.to_string())?
            .partitions
            .iter()
            .map(|partition| partition.lag())
            .sum();
        if told == lag { Ok(()) } else { Err(told.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_without_an_order_share_a_shard() {
    let address = running("MERIDIAN_RABBITMQ_A");
    let broker = open(&address, &Settings::default()).await;
    let other = open(&address, &Settings::default()).await;
    let topic = new_topic(&broker, "competing", 1).await;
    let group = unique_group("competing");
    let mut first = Reading::open(&broker, unordered(&group, &topic)).await;
    first.until_partitions(1).await;
    let mut second = Reading::open(&other, unordered(&group, &topic)).await;
    second.until_partitions(1).await;

    // A member looks at what was parked first, so the other may have the first records alone.
    let (mut of_first, mut of_second) = (Vec::new(), Vec::new());
    let mut stored = 0;
    let end = Instant::now() + PATIENCE;
    while of_first.is_empty() || of_second.is_empty() || of_first.len() + of_second.len() < stored {
        if of_first.len() + of_second.len() == stored {
            store(&broker, batch_to(&topic, 0, stored..stored + BATCH)).await;
            stored += BATCH;
        }
        for (reading, records) in [(&mut first, &mut of_first), (&mut second, &mut of_second)] {
            reading.watch(Duration::from_millis(5)).await;
            records.extend(reading.take_waiting());
        }
        let (of_first, of_second) = (of_first.len(), of_second.len());
        assert!(Instant::now() < end, "{of_first} and {of_second} of {stored}");
    }
    let numbers: BTreeSet<_> = of_first
        .iter()
        .chain(&of_second)
        .map(|record| number_of(&record.record))
        .collect();
    assert_eq!(numbers.len(), stored, "each came to one of them");

    // Both count what they hold, and settle it each for itself.
    until_lag(&broker, &group, stored as u64).await;
    first.settle(&of_first);
    until_lag(&broker, &group, of_second.len() as u64).await;
    // What one leaves behind is the other's.
    second.settle([&of_second[0]]);
    second.close().await;
    let left: BTreeSet<_> = of_second[1..].iter().map(|record| number_of(&record.record)).collect();
    let came = first.take(left.len()).await;
    assert_eq!(
        came.iter()
            .map(|record| number_of(&record.record))
            .collect::<BTreeSet<_>>(),
        left
    );
    first.settle(&came);
    until_lag(&broker, &group, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_group_was_made_for_stays_until_it_is_deleted() {
    let broker = open(&running("MERIDIAN_RABBITMQ_A"), &Settings::default()).await;
    let topic = new_topic(&broker, "competing-order", 1).await;
    // Made in order, it is read in order also by who does not ask for that.
    let ordered = unique_group("made-ordered");
    let mut reading = Reading::open(&broker, options(&ordered, &topic)).await;
    reading.until_partitions(1).await;
    reading.close().await;
    let mut reading = Reading::open(&broker, unordered(&ordered, &topic)).await;
    reading.until_partitions(1).await;
    store(&broker, batch_to(&topic, 0, 0..3)).await;
    let records = reading.take(3).await;
    reading.settle(&records);
    reading.close().await;
    // Made without, it cannot be read in order.
    let group = unique_group("made-unordered");
    let mut reading = Reading::open(&broker, unordered(&group, &topic)).await;
    reading.until_partitions(1).await;
    reading.close().await;
    let mut reading = Reading::open(&broker, options(&group, &topic)).await;
    let end = Instant::now() + PATIENCE;
    let error = loop {
        match reading.event(Duration::from_millis(100)).await {
            Err(error) => break error,
            Ok(Some(event)) => panic!("it was read: {event:?}"),
            Ok(None) => assert!(Instant::now() < end, "the group was not refused"),
        }
    };
    assert_eq!(error.kind, ReadErrorKind::InvalidOptions, "{error}");
    assert!(error.to_string().contains("ordering NONE"), "{error}");
    reading.close().await;
    eventually(PATIENCE, "the group to be deleted", async || {
        broker.admin().delete_group(&group).await
    })
    .await;
    let mut reading = Reading::open(&broker, options(&group, &topic)).await;
    reading.until_partitions(1).await;
    store(&broker, batch_to(&topic, 0, 3..6)).await;
    reading.take(3).await;
}
