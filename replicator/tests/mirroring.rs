//! What a link does when nothing is wrong, on embedded brokers: records arrive as
//! they were, once, in order; loops end; topics join; lag is told.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

mod support;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Instant;

use meridian_event::{Header, Record};
use meridian_replicator::{LinkState, Naming};
use support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_arrives_as_it_was_in_its_partition_with_the_source_as_a_hop() {
    let (source, target) = (embedded("us-east").await, embedded("eu-west").await);
    make_topic(&source.broker, "orders", 4).await;
    append_numbers(&source.broker, "orders", 0..2_000).await;
    let running = start(vec![link("us-to-eu", &source.broker, &target.broker, &["orders"])]);

    let mirrored = read_numbers(&target.broker, "us-east.orders", 0..2_000).await;
    assert_eq!(
        judge(&mirrored),
        Verdict {
            duplicates: 0,
            overtaken: 0
        }
    );
    let made = target
        .broker
        .admin()
        .describe_topic(&topic("us-east.orders"))
        .await
        .unwrap();
    assert_eq!(made.partitions, 4, "made with the source's partitions");

    let originals = read_numbers(&source.broker, "orders", 0..2_000).await;
    let partitions: BTreeMap<u64, u32> = originals
        .iter()
        .map(|read| (number_of(&read.record), read.claim.partition.partition))
        .collect();
    for read in &mirrored {
        let number = number_of(&read.record);
        let mut expected = record(number);
        expected
            .headers
            .push(Header::new("ce_hops", "us-east".as_bytes().to_vec()));
        assert_eq!(*read.record, expected);
        assert_eq!(read.claim.partition.partition, partitions[&number], "record {number}");
    }

    let status = running
        .wait("us-to-eu", "caught up", |status| status.lag_messages == 0)
        .await;
    assert_eq!(
        (status.state, status.mirrored_records, status.lag_seconds),
        (LinkState::Running, 2_000, 0.0)
    );
    assert_eq!(status.partitions.len(), 4);
    assert_eq!(
        status
            .partitions
            .iter()
            .map(|partition| partition.mirrored_position)
            .sum::<u64>(),
        2_000
    );
    assert!(
        status
            .partitions
            .iter()
            .all(|p| p.target_topic.as_ref() == Some(&topic("us-east.orders")))
    );
    running.close().await;

    // What was settled does not come again.
    append_numbers(&source.broker, "orders", 2_000..2_100).await;
    let again = start(vec![link("us-to-eu", &source.broker, &target.broker, &["orders"])]);
    let mirrored = read_numbers(&target.broker, "us-east.orders", 0..2_100).await;
    assert_eq!(
        judge(&mirrored),
        Verdict {
            duplicates: 0,
            overtaken: 0
        }
    );
    again.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_each_way_under_one_name_do_not_loop() {
    let (east, west) = (embedded("us-east").await, embedded("eu-west").await);
    for site in [&east, &west] {
        make_topic(&site.broker, "orders", 2).await;
    }
    let mut there = link("us-to-eu", &east.broker, &west.broker, &["*"]);
    let mut back = link("eu-to-us", &west.broker, &east.broker, &["*"]);
    there.options.naming = Naming::Same;
    back.options.naming = Naming::Same;
    append_numbers(&east.broker, "orders", 0..100).await;
    append_numbers(&west.broker, "orders", 100..200).await;
    let running = start(vec![there, back]);
    for (site, skipping) in [(&west, "eu-to-us"), (&east, "us-to-eu")] {
        let records = read_numbers(&site.broker, "orders", 0..200).await;
        assert_eq!(records.len(), 200, "each once");
        let status = running
            .wait(skipping, "done with both", |status| status.skipped_records >= 100)
            .await;
        assert_eq!((status.skipped_records, status.mirrored_records), (100, 100));
    }
    for link in ["us-to-eu", "eu-to-us"] {
        let status = running.wait(link, "caught up", |status| status.lag_messages == 0).await;
        assert_eq!((status.mirrored_records, status.skipped_records), (100, 100));
    }
    assert!(running.metrics.encode().unwrap().contains("reason=\"visited\"} 100"));
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixed_mirrors_and_records_that_were_there_are_not_mirrored_back() {
    let (east, west) = (embedded("us-east").await, embedded("eu-west").await);
    make_topic(&east.broker, "orders", 1).await;
    let came_from_west = Record {
        headers: vec![Header::new("ce_hops", "eu-west".as_bytes().to_vec())],
        ..record(0)
    };
    append(&east.broker, "orders", [came_from_west, record(1)]).await;
    let running = start(vec![
        link("us-to-eu", &east.broker, &west.broker, &["*"]),
        link("eu-to-us", &west.broker, &east.broker, &["*"]),
    ]);
    let mirrored = read_numbers(&west.broker, "us-east.orders", 1..2).await;
    assert_eq!(mirrored.len(), 1);
    let status = running
        .wait("us-to-eu", "past both", |status| status.lag_messages == 0)
        .await;
    assert_eq!((status.mirrored_records, status.skipped_records), (1, 1));
    let status = running
        .wait("eu-to-us", "idle", |status| status.state == LinkState::Running)
        .await;
    assert_eq!(status.reason, "no topic of the source matches yet");
    let topics = east.broker.admin().list_topics().await.unwrap();
    assert_eq!(topics.len(), 1, "{topics:?}");
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_topic_joins_while_others_flow() {
    let (source, target) = (embedded("us-east").await, embedded("eu-west").await);
    make_topic(&source.broker, "orders.one", 2).await;
    let running = start(vec![link(
        "us-to-eu",
        &source.broker,
        &target.broker,
        &["orders.*", "!orders.secret"],
    )]);
    running.wait_for("us-to-eu", LinkState::Running).await;
    let flowing = append_numbers(&source.broker, "orders.one", 0..5_000);
    let joining = async {
        for name in ["orders.two", "orders.secret", "payments"] {
            make_topic(&source.broker, name, 3).await;
            append_numbers(&source.broker, name, 0..300).await;
        }
    };
    tokio::join!(flowing, joining);
    running
        .wait("us-to-eu", "past both", |status| status.mirrored_records >= 5_300)
        .await;
    let two = read_numbers(&target.broker, "us-east.orders.two", 0..300).await;
    assert_eq!(judge(&two).overtaken, 0);
    let one = read_numbers(&target.broker, "us-east.orders.one", 0..5_000).await;
    assert_eq!(judge(&one).overtaken, 0);
    let topics = target.broker.admin().list_topics().await.unwrap();
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(
        names,
        ["us-east.orders.one", "us-east.orders.two"],
        "neither what is excluded nor what is not named"
    );
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_of_other_partitions_is_keyed_and_said_so() {
    let (source, target) = (embedded("us-east").await, embedded("eu-west").await);
    make_topic(&source.broker, "orders", 4).await;
    make_topic(&target.broker, "us-east.orders", 3).await;
    append_numbers(&source.broker, "orders", 0..1_000).await;
    let mut spec = link("us-to-eu", &source.broker, &target.broker, &["orders"]);
    spec.options.replication_factor = NonZeroU32::new(1);
    let running = start(vec![spec]);
    let mirrored = read_numbers(&target.broker, "us-east.orders", 0..1_000).await;
    assert_eq!(
        judge(&mirrored),
        Verdict {
            duplicates: 0,
            overtaken: 0
        }
    );
    let mut partitions: BTreeMap<Vec<u8>, Vec<u32>> = BTreeMap::new();
    for read in &mirrored {
        let key = read.record.key.as_ref().unwrap().to_vec();
        let of_key = partitions.entry(key).or_default();
        of_key.push(read.claim.partition.partition);
        of_key.dedup();
    }
    assert!(
        partitions.values().all(|of_key| of_key.len() == 1),
        "one key, one partition: {partitions:?}"
    );
    let status = running
        .wait("us-to-eu", "running with a note", |status| !status.reason.is_empty())
        .await;
    assert_eq!(status.state, LinkState::Running);
    assert!(
        status
            .reason
            .contains("orders has 4 partitions and us-east.orders has 3"),
        "{}",
        status.reason
    );
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_link_reads_nothing_and_its_lag_grows_until_it_is_resumed() {
    let (source, target) = (embedded("us-east").await, embedded("eu-west").await);
    make_topic(&source.broker, "orders", 2).await;
    append_numbers(&source.broker, "orders", 0..100).await;
    let running = start(vec![link("us-to-eu", &source.broker, &target.broker, &["orders"])]);
    running
        .wait("us-to-eu", "caught up", |status| {
            status.mirrored_records == 100 && status.lag_messages == 0
        })
        .await;

    let paused = running.links.pause("us-to-eu").await.unwrap();
    assert_eq!(paused.state, LinkState::Paused);
    append_numbers(&source.broker, "orders", 100..150).await;
    let status = running
        .wait("us-to-eu", "behind", |status| status.lag_messages == 50)
        .await;
    assert_eq!((status.state, status.mirrored_records), (LinkState::Paused, 100));
    let behind = running
        .wait("us-to-eu", "older", |status| status.lag_seconds > 0.05)
        .await;
    assert!(
        behind.lag_seconds < 60.0,
        "since the pause, not since the records' timestamps of long ago: {behind:?}"
    );
    assert!(running.metrics.encode().unwrap().contains("meridian_link_lag_records{"));

    let resumed = running.links.resume("us-to-eu").await.unwrap();
    assert_ne!(resumed.state, LinkState::Paused);
    let mirrored = read_numbers(&target.broker, "us-east.orders", 0..150).await;
    assert_eq!(
        judge(&mirrored),
        Verdict {
            duplicates: 0,
            overtaken: 0
        }
    );
    running
        .wait("us-to-eu", "caught up", |status| {
            status.lag_messages == 0 && status.lag_seconds == 0.0
        })
        .await;
    assert!(
        running
            .links
            .pause("no-such")
            .await
            .unwrap_err()
            .to_string()
            .contains("us-to-eu")
    );
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_a_link_and_closing_one_hands_over() {
    let (source, target) = (embedded("us-east").await, embedded("eu-west").await);
    make_topic(&source.broker, "orders", 4).await;
    let spec = || link("us-to-eu", &source.broker, &target.broker, &["orders"]);
    let (first, second) = (start(vec![spec()]), start(vec![spec()]));
    for running in [&first, &second] {
        running
            .wait("us-to-eu", "sharing", |status| status.partitions.len() == 2)
            .await;
    }
    append_numbers(&source.broker, "orders", 0..4_000).await;
    first.close().await;
    append_numbers(&source.broker, "orders", 4_000..5_000).await;
    let mirrored = read_numbers(&target.broker, "us-east.orders", 0..5_000).await;
    assert_eq!(judge(&mirrored).overtaken, 0);
    second
        .wait("us-to-eu", "alone", |status| status.partitions.len() == 4)
        .await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_is_quick_when_nothing_is_in_flight() {
    let (source, target) = (embedded("us-east").await, embedded("eu-west").await);
    make_topic(&source.broker, "orders", 1).await;
    let running = start(vec![link("us-to-eu", &source.broker, &target.broker, &["orders"])]);
    running.wait_for("us-to-eu", LinkState::Running).await;
    let began = Instant::now();
    running.close().await;
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}
