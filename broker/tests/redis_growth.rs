//! A topic gets one shard more while records are written and read: few keys move, and the
//! order of each is kept over the move.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    dead_code,
    reason = "a test that unwraps fails where it should, and may print; the servers are shared with other tests"
)]

mod redis_server;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use meridian_broker::adapters::redis::RedisConfig;
use meridian_broker::conformance::reading::{Reading, numbers};
use meridian_broker::conformance::waiting::{PATIENCE, deadline, eventually, within};
use meridian_broker::conformance::writing::{batch, batch_to, new_topic, number_of, store, unique_group};
use meridian_broker::{AdminErrorKind, GroupReset, ResetTarget};

use self::redis_server::{Server, open_with};

const KEYS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn growing_under_load_moves_few_keys_and_keeps_their_order() {
    let server = Server::start(&[]).await;
    let open = || open_with(RedisConfig::new(vec![server.address()]));
    let (broker, other) = (open().await, open().await);
    let topic = new_topic(&broker, "growth", 4).await;
    // The second handle knows the topic as it was.
    let before = store(&other, batch(&topic, 0..KEYS, KEYS)).await;
    let group = unique_group("growth");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let (writing, written) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(KEYS)));
    let writer = {
        let (writing, written, topic) = (Arc::clone(&writing), Arc::clone(&written), topic.clone());
        let handles = [Arc::clone(&broker), Arc::clone(&other)];
        tokio::spawn(async move {
            let mut commits = Vec::new();
            let mut turn = 0;
            while writing.load(Ordering::SeqCst) {
                let first = written.load(Ordering::SeqCst);
                // Each handle in turn; the next goes on only when the last one's are stored.
                let appender = handles[turn % 2].appender();
                for part in 0..4 {
                    let numbers = first + part * KEYS / 2..first + (part + 1) * KEYS / 2;
                    let admission = appender.admit(batch(&topic, numbers, KEYS), deadline()).await;
                    assert!(admission.refused.is_empty(), "{:?}", admission.refused);
                    commits.push(admission.commit);
                }
                for commit in commits.drain(..) {
                    for outcome in commit.await {
                        outcome.unwrap();
                    }
                }
                written.store(first + 2 * KEYS, Ordering::SeqCst);
                turn += 1;
            }
        })
    };
    let mut seen: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut count = 0;
    let mut take = async |reading: &mut Reading, records: usize| {
        for record in reading.take(records).await {
            let number = number_of(&record.record);
            seen.entry(number % KEYS).or_default().push(number);
            reading.settle_if_held([&record]);
        }
        count += records;
        count
    };
    while take(&mut reading, KEYS).await < 10 * KEYS {}
    let grown = within(PATIENCE, "growing", broker.admin().grow_topic(&topic, 5))
        .await
        .unwrap();
    assert_eq!(grown.partitions, 5);
    let at_growth = written.load(Ordering::SeqCst);
    while written.load(Ordering::SeqCst) < at_growth + 20 * KEYS {
        take(&mut reading, KEYS).await;
    }
    writing.store(false, Ordering::SeqCst);
    writer.await.unwrap();
    let total = written.load(Ordering::SeqCst);
    let had = take(&mut reading, 0).await;
    take(&mut reading, total - had).await;
    for (key, numbers) in &seen {
        assert!(numbers.is_sorted_by(|one, two| one < two), "key {key}: {numbers:?}");
        assert_eq!(numbers.len(), total / KEYS, "key {key}");
    }
    reading.until_partitions(5).await;

    // About a fifth of the keys moved, all of them to the new shard.
    let after = store(&broker, batch(&topic, total..total + KEYS, KEYS)).await;
    let moved: Vec<_> = before
        .iter()
        .zip(&after)
        .filter(|(one, two)| one.partition != two.partition)
        .collect();
    assert!(moved.iter().all(|(_, two)| two.partition == 4), "{moved:?}");
    assert!(
        (KEYS / 10..KEYS / 3).contains(&moved.len()),
        "{} of {KEYS} keys moved",
        moved.len()
    );
    let error = broker.admin().grow_topic(&topic, 3).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::InvalidRequest, "{error}");
    assert_eq!(broker.admin().grow_topic(&topic, 5).await.unwrap().partitions, 5);
}

/// A group that has not settled the old shards does not get the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_shard_waits_for_the_old_ones() {
    let server = Server::start(&[]).await;
    let broker = open_with(RedisConfig::new(vec![server.address()])).await;
    let topic = new_topic(&broker, "held", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let mut reading = Reading::join(&broker, &unique_group("held"), &topic).await;
    let records = reading.take(10).await;
    reading.settle(&records[1..]);
    broker.admin().grow_topic(&topic, 2).await.unwrap();
    store(&broker, batch_to(&topic, 1, 100..110)).await;
    store(&broker, batch_to(&topic, 0, 10..20)).await;
    assert!(numbers(&reading.take(10).await).into_iter().eq(10..20));
    reading.watch(std::time::Duration::from_secs(3)).await;
    assert_eq!(reading.partitions().len(), 1, "the new shard did not wait");
    reading.settle(&records[..1]);
    assert!(numbers(&reading.take(10).await).into_iter().eq(100..110));
}

/// Groups are moved by place and time, only while nobody is a member, and forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_moved_and_forgotten_while_nobody_reads() {
    let server = Server::start(&[]).await;
    let broker = open_with(RedisConfig::new(vec![server.address()])).await;
    let topic = new_topic(&broker, "reset", 1).await;
    let mut records = batch_to(&topic, 0, 0..10);
    for (number, append) in records.iter_mut().enumerate() {
        append.record.timestamp_ms = 1_000_000 + 1_000 * number as i64;
    }
    store(&broker, records).await;
    let group = unique_group("reset");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let records = reading.take(10).await;
    reading.settle(&records);
    reading.commit().await;
    let admin = broker.admin();
    let reset = |target, dry_run| GroupReset {
        topic: topic.clone(),
        target,
        dry_run,
    };
    let error = admin
        .reset_group(&group, &reset(ResetTarget::Earliest, false))
        .await
        .unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::GroupActive, "{error}");
    let error = admin.delete_group(&group).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::GroupActive, "{error}");
    reading.close().await;
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_003_500);
    let position = ResetTarget::Position {
        partition: 0,
        position: 7,
    };
    for (target, expected) in [
        (ResetTarget::Earliest, 0),
        (ResetTarget::Latest, 10),
        (ResetTarget::Time(time), 4),
        (position, 7),
    ] {
        let lags = admin.reset_group(&group, &reset(target, true)).await.unwrap();
        assert_eq!(lags[0].settled_position, expected, "{target:?}");
    }
    let described = admin.describe_group(&group).await.unwrap();
    assert_eq!(described.partitions[0].lag(), 0, "a dry run changed something");
    let beyond = ResetTarget::Position {
        partition: 0,
        position: 11,
    };
    let error = admin.reset_group(&group, &reset(beyond, false)).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::InvalidRequest, "{error}");
    let lags = admin.reset_group(&group, &reset(position, false)).await.unwrap();
    assert_eq!(lags[0].lag(), 3);
    let oldest = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_007_000);
    assert_eq!(lags[0].oldest_unsettled, Some(oldest));
    let mut reading = Reading::join(&broker, &group, &topic).await;
    assert!(numbers(&reading.take(3).await).into_iter().eq(7..10));
    reading.close().await;
    admin.delete_group(&group).await.unwrap();
    let error = admin.describe_group(&group).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::GroupNotFound, "{error}");
}

/// Retention removes what is old, but nothing that a group has not settled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_keeps_what_is_not_settled() {
    let server = Server::start(&[]).await;
    let mut config = RedisConfig::new(vec![server.address()]);
    config.retention_interval = std::time::Duration::from_millis(100);
    let broker = open_with(config).await;
    let admin = broker.admin();
    let mut spec = meridian_broker::TopicSpec::new(meridian_broker::conformance::writing::unique_topic("keep"), 1);
    spec.retention = Some(std::time::Duration::from_secs(60));
    admin.create_topic(&spec).await.unwrap();
    let mut old = batch_to(&spec.name, 0, 0..10);
    for append in &mut old {
        append.record.timestamp_ms -= 3_600_000;
    }
    store(&broker, old).await;
    let group = unique_group("keep");
    let left = async |expected: u64| {
        eventually(PATIENCE, "retention", async || {
            let records = admin.describe_topic(&spec.name).await.unwrap().records;
            if records == expected { Ok(()) } else { Err(records) }
        })
        .await;
    };
    let mut reading = Reading::join(&broker, &group, &spec.name).await;
    let records = reading.take(10).await;
    let unsettled: BTreeSet<_> = [4, 6].into();
    reading.settle(
        records
            .iter()
            .enumerate()
            .filter(|(index, _)| !unsettled.contains(index))
            .map(|(_, record)| record),
    );
    reading.commit().await;
    left(6).await;
    reading.watch(std::time::Duration::from_millis(500)).await;
    left(6).await;
    reading.settle([&records[4]]);
    reading.commit().await;
    left(4).await;
    reading.settle([&records[6]]);
    reading.commit().await;
    left(0).await;
    store(&broker, batch_to(&spec.name, 0, 10..12)).await;
    assert!(numbers(&reading.take(2).await).into_iter().eq(10..12));
    assert!(reading.gaps.is_empty(), "{:?}", reading.gaps);
}
