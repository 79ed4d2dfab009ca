//! A RabbitMQ topic grows while it is written and read: the new shard gets its share
//! of the keys, and each key stays in order.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    dead_code,
    reason = "a test that unwraps fails where it should, and may print; helpers are shared"
)]

mod rabbitmq_broker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meridian_broker::conformance::Settings;
use meridian_broker::conformance::reading::Reading;
use meridian_broker::conformance::waiting::{PATIENCE, deadline, last as last_for, within};
use meridian_broker::conformance::writing::{new_topic, number_of, numbered, store, unique_group};
use meridian_broker::{AdminErrorKind, Broker, TopicName};

use self::rabbitmq_broker::{open, running};

const KEYS: usize = 400;
const BEFORE: u32 = 4;

/// Writes record after record, in turn over the keys; a batch that was refused is
/// given again before any other, so that numbers rise within a key.
async fn write(broker: Arc<dyn Broker>, topic: TopicName, writing: Arc<AtomicBool>) -> BTreeMap<usize, u32> {
    let mut shard_of = BTreeMap::new();
    let mut next = 0;
    while writing.load(Ordering::SeqCst) {
        let mut batch: Vec<_> = (next..next + 40).map(|number| numbered(&topic, number, KEYS)).collect();
        let mut numbers: Vec<_> = (next..next + 40).collect();
        while !batch.is_empty() {
            let admission = within(PATIENCE, "admit", broker.appender().admit(batch, deadline())).await;
            let refused: BTreeSet<_> = admission.refused.iter().map(|refused| refused.index).collect();
            let outcomes = within(PATIENCE, "commit", admission.commit).await;
            let (again, taken): (Vec<_>, Vec<_>) =
                (numbers.iter().enumerate()).partition(|(index, _)| refused.contains(index));
            let mut again: Vec<_> = again.into_iter().map(|(_, number)| *number).collect();
            for ((_, number), outcome) in taken.into_iter().zip(outcomes) {
                match outcome {
                    Ok(position) => drop(shard_of.insert(*number, position.partition)),
                    Err(error) => {
                        assert_eq!(error.stored, meridian_broker::Stored::No, "{error}");
                        again.push(*number);
                    }
                }
            }
            again.sort_unstable();
            batch = again.iter().map(|number| numbered(&topic, *number, KEYS)).collect();
            numbers = again;
        }
        next += 40;
    }
    shard_of
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_grows_under_load_and_keys_stay_in_order() {
    let address = running("MERIDIAN_RABBITMQ_A");
    let broker = open(&address, &Settings::default()).await;
    let topic = new_topic(&broker, "growth", BEFORE).await;
    let group = unique_group("growth");
    let mut first = Reading::join(&broker, &group, &topic).await;
    let other = open(&address, &Settings::default()).await;
    let mut second = Reading::join(&other, &group, &topic).await;
    tokio::join!(first.until_partitions(2), second.until_partitions(2));

    let writing = Arc::new(AtomicBool::new(true));
    // The writer has a handle of its own, which learns of the growth from the catalog alone.
    let writer = open(&address, &Settings::default()).await;
    let writer = tokio::spawn(write(writer, topic.clone(), Arc::clone(&writing)));
    let growing = {
        let (broker, topic, writing) = (Arc::clone(&broker), topic.clone(), Arc::clone(&writing));
        tokio::spawn(async move {
            last_for(Duration::from_secs(1)).await; // load, for a while
            let grown = broker.admin().grow_topic(&topic, BEFORE + 1).await.unwrap();
            assert_eq!(grown.partitions, BEFORE + 1);
            last_for(Duration::from_secs(1)).await;
            writing.store(false, Ordering::SeqCst);
        })
    };
    let mut seen = BTreeSet::new();
    let mut last = BTreeMap::new();
    let mut shard_of = None;
    let mut writer = Some(writer);
    let end = Instant::now() + PATIENCE;
    loop {
        for reading in [&mut first, &mut second] {
            reading.watch(Duration::from_millis(5)).await;
            let mut held = Vec::new();
            for record in reading.take_waiting() {
                let number = number_of(&record.record);
                if seen.insert(number) {
                    let before = last.insert(number % KEYS, number);
                    assert!(
                        before.is_none_or(|before| before < number),
                        "{number} came after {before:?}"
                    );
                }
                held.push(record);
            }
            reading.settle_if_held(&held);
        }
        if let Some(ended) = writer.take_if(|writer| writer.is_finished()) {
            shard_of = Some(ended.await.unwrap());
        }
        if shard_of
            .as_ref()
            .is_some_and(|shards: &BTreeMap<_, _>| seen.len() >= shards.len())
        {
            break;
        }
        assert!(
            Instant::now() < end,
            "{} were read of {:?}",
            seen.len(),
            shard_of.map(|shards| shards.len())
        );
    }
    growing.await.unwrap();
    let shard_of = shard_of.unwrap();
    assert!(
        shard_of.keys().all(|number| seen.contains(number)),
        "a confirmed record was not read"
    );
    // What moved is about the new shard's fair share, and nothing else moved.
    let mut history: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
    for (number, shard) in &shard_of {
        let shards = history.entry(number % KEYS).or_default();
        if shards.last() != Some(shard) {
            shards.push(*shard);
        }
    }
    let moved = history.values().filter(|shards| shards.len() > 1).count();
    assert!(
        history
            .values()
            .all(|shards| shards.len() <= 2 && shards[1..].iter().all(|shard| *shard == BEFORE))
    );
    let fair = KEYS / (BEFORE as usize + 1);
    assert!(
        (fair / 2..fair * 2).contains(&moved),
        "{moved} keys of {KEYS} moved, {fair} would be fair"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_only_grows_and_parked_records_stay_in_order() {
    let broker = open(&running("MERIDIAN_RABBITMQ_A"), &Settings::default()).await;
    let admin = broker.admin();
    let topic = new_topic(&broker, "growth-parked", 2).await;
    let batch = |numbers: std::ops::Range<usize>| numbers.map(|number| numbered(&topic, number, 30)).collect();
    store(&broker, batch(0..90)).await;
    assert_eq!(admin.grow_topic(&topic, 2).await.unwrap().partitions, 2);
    let error = admin.grow_topic(&topic, 1).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::InvalidRequest, "{error}");
    assert_eq!(admin.grow_topic(&topic, 3).await.unwrap().partitions, 3);
    store(&broker, batch(90..180)).await;
    let mut reading = Reading::join(&broker, &unique_group("growth-parked"), &topic).await;
    let mut last = BTreeMap::new();
    for _ in 0..180 {
        let record = reading.take(1).await.remove(0);
        let number = number_of(&record.record);
        let before = last.insert(number % 30, number);
        assert!(
            before.is_none_or(|before| before < number),
            "{number} came after {before:?}"
        );
        reading.settle([&record]);
    }
}
