//! What retention and deletion let go leaves the disk too.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

mod embedded_store;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use embedded_store::{PATIENCE, append_all, files, number_of, open, read_all, topic, try_open};
use meridian_broker::adapters::embedded::{EmbeddedConfig, connect};
use meridian_broker::{Broker, BrokerName, ReadErrorKind, ReadRecord, RegionName, TopicSpec};
use meridian_runtime::ManualClock;

/// Bytes of records on disk: the journal apart, which is of a fixed size.
fn stored_bytes(directory: &Path) -> u64 {
    files(&directory.join("store").join("keyspaces"))
        .iter()
        .map(|(_, bytes)| bytes)
        .sum()
}

/// Retention may still be at work, and takes records away from whoever reads them: then a new group begins.
async fn read_what_stays(broker: &Arc<dyn Broker>) -> Vec<ReadRecord> {
    let deadline = Instant::now() + PATIENCE;
    for number in 0.. {
        match read_all(broker, &format!("g-{number}")).await {
            Ok(records) => return records,
            Err(error) if error.kind == ReadErrorKind::PositionMissing && Instant::now() < deadline => {}
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("the deadline ends it")
}

fn config(directory: &Path) -> EmbeddedConfig {
    let mut config = EmbeddedConfig::new(directory);
    config.segment_bytes = 2 * 1024 * 1024;
    config.retention_interval = Duration::from_millis(100);
    config
}

async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        look.tick().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_by_size_bounds_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.retention_bytes = Some(2 * 1024 * 1024);
    let broker = open(config.clone(), 2).await;
    let mut most = 0;
    for round in 0..30u64 {
        append_all(&broker, round * 2000..round * 2000 + 2000, 1000).await;
        most = most.max(stored_bytes(folder.path()));
    }
    assert!(
        most < 40 * 1024 * 1024,
        "60 MB went through, and {most} bytes were on disk at once"
    );
    let first_of = |records: &[meridian_broker::ReadRecord]| records.iter().map(|read| read.claim.position).min();
    let records = read_what_stays(&broker).await;
    assert!(first_of(&records) > Some(0));
    assert_eq!(
        records.iter().map(|read| number_of(&read.record)).max(),
        Some(59_999),
        "the newest are kept"
    );
    broker.close(PATIENCE).await;
    let broker = try_open(config).await.unwrap();
    let again = read_all(&broker, "h").await.unwrap();
    assert!(
        first_of(&again) >= first_of(&records),
        "what was let go does not come back"
    );
    assert_eq!(again.iter().map(|read| number_of(&read.record)).max(), Some(59_999));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_by_age_takes_everything_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(1_700_000_000_000));
    let mut config = config(folder.path());
    config.retention = Some(Duration::from_secs(3600));
    let (region, name) = (RegionName::new("us-east").unwrap(), BrokerName::new("main").unwrap());
    let broker = connect(region, name, config, clock.clone()).await.unwrap();
    let admin = broker.admin();
    admin.create_topic(&TopicSpec::new(topic(), 1)).await.unwrap();
    append_all(&broker, 0..1000, 1000).await;
    clock.advance(Duration::from_secs(3000));
    append_all(&broker, 1000..1100, 1000).await;
    assert_eq!(admin.describe_topic(&topic()).await.unwrap().records, 1100);

    clock.advance(Duration::from_secs(700));
    while admin.describe_topic(&topic()).await.unwrap().records > 100 {
        tokio::task::yield_now().await;
    }
    let numbers: Vec<_> = read_all(&broker, "g")
        .await
        .unwrap()
        .iter()
        .map(|read| number_of(&read.record))
        .collect();
    assert_eq!(numbers, (1000..1100).collect::<Vec<_>>(), "what is young stays whole");

    clock.advance(Duration::from_secs(3600));
    while admin.describe_topic(&topic()).await.unwrap().records > 0 {
        tokio::task::yield_now().await;
    }
    // Positions go on where they were.
    append_all(&broker, 1100..1101, 1000).await;
    let records = read_all(&broker, "h").await.unwrap();
    assert_eq!(
        records.iter().map(|read| read.claim.position).collect::<Vec<_>>(),
        [1100]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_topic_leaves_the_disk_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let broker = open(config(folder.path()), 2).await;
    append_all(&broker, 0..20_000, 1000).await;
    wait_until("nothing was written out", || stored_bytes(folder.path()) > 10_000_000).await;
    broker.admin().delete_topic(&topic()).await.unwrap();
    broker.close(PATIENCE).await;

    let broker = open(config(folder.path()), 2).await;
    assert!(
        read_all(&broker, "g").await.unwrap().is_empty(),
        "a topic made anew is empty"
    );
    // Space comes back as the store tidies up, which it does as it is written.
    let deadline = Instant::now() + PATIENCE;
    let mut number = 0;
    while stored_bytes(folder.path()) > 12_000_000 {
        assert!(
            Instant::now() < deadline,
            "{} bytes are on disk",
            stored_bytes(folder.path())
        );
        append_all(&broker, number..number + 500, 1000).await;
        number += 500;
        if number >= 8000 {
            broker.admin().delete_topic(&topic()).await.unwrap();
            broker.admin().create_topic(&TopicSpec::new(topic(), 2)).await.unwrap();
            number = 0;
        }
    }
}
