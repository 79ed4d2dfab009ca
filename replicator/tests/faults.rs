//! What a link does when something is wrong at its target, at its ends, or with
//! itself: nothing is lost, nothing overtakes, and it says what it stands at.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

mod support;

use std::sync::atomic::Ordering;

use meridian_event::{Header, Record};
use meridian_replicator::{LinkState, OnRefused};
use support::faulty::faulty;
use support::*;

/// A record of so many bytes.
fn large_record(number: u64, bytes: usize) -> Record {
    let small = record(number);
    let filler = vec![b'x'; bytes - small.size_bytes()];
    Record {
        value: Some([small.value.as_deref().unwrap_or_default(), &filler].concat().into()),
        ..small
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_whose_ends_are_one_broker_is_refused_and_the_others_live() {
    let (source, target) = (embedded("us-east").await, embedded("eu-west").await);
    make_topic(&source.broker, "orders", 1).await;
    append_numbers(&source.broker, "orders", 0..10).await;
    let (same, _) = faulty(&source.broker);
    let running = start(vec![
        link("to-itself", &source.broker, &same, &["*"]),
        link("us-to-eu", &source.broker, &target.broker, &["*"]),
    ]);
    let refused = running.wait_for("to-itself", LinkState::Stopped).await;
    assert!(
        refused.reason.contains("both ends are one broker"),
        "{}",
        refused.reason
    );
    read_numbers(&target.broker, "us-east.orders", 0..10).await;
    assert_eq!(running.status("to-itself").state, LinkState::Stopped);
    assert_eq!(
        source.broker.admin().list_topics().await.unwrap().len(),
        1,
        "nothing was made at itself"
    );
    let health = format!("{:?}", running.health.snapshot());
    assert!(health.contains("both ends are one broker"), "{health}");
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_away_is_waited_for_and_nothing_is_lost_or_reordered() {
    let (source, site) = (embedded("us-east").await, embedded("eu-west").await);
    let (target, faults) = faulty(&site.broker);
    make_topic(&source.broker, "orders", 2).await;
    faults.away.store(true, Ordering::Relaxed);
    let running = start(vec![link("us-to-eu", &source.broker, &target, &["orders"])]);
    append_numbers(&source.broker, "orders", 0..500).await;
    let waiting = running.wait_for("us-to-eu", LinkState::Retrying).await;
    assert!(
        waiting.reason.contains("told to be away"),
        "absent at start: {}",
        waiting.reason
    );

    faults.away.store(false, Ordering::Relaxed);
    running
        .wait("us-to-eu", "under way", |status| status.mirrored_records >= 500)
        .await;
    running.wait_for("us-to-eu", LinkState::Running).await;

    faults.away.store(true, Ordering::Relaxed);
    append_numbers(&source.broker, "orders", 500..1_500).await;
    let waiting = running.wait_for("us-to-eu", LinkState::Retrying).await;
    assert!(
        waiting.reason.contains("told to be away"),
        "gone while it ran: {}",
        waiting.reason
    );
    let behind = running
        .wait("us-to-eu", "behind", |status| status.lag_messages == 1_000)
        .await;
    assert!(behind.since_ms > 0 && behind.lag_seconds > 0.0, "{behind:?}");

    faults.away.store(false, Ordering::Relaxed);
    let mirrored = read_numbers(&site.broker, "us-east.orders", 0..1_500).await;
    assert_eq!(
        judge(&mirrored),
        Verdict {
            duplicates: 0,
            overtaken: 0
        },
        "what was refused was surely not stored"
    );
    running
        .wait("us-to-eu", "well", |status| {
            status.state == LinkState::Running && status.lag_messages == 0
        })
        .await;
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_confirmations_give_duplicates_and_no_other_order() {
    let (source, site) = (embedded("us-east").await, embedded("eu-west").await);
    let (target, faults) = faulty(&site.broker);
    faults.loses_confirmation_of_every.store(5, Ordering::Relaxed);
    make_topic(&source.broker, "orders", 3).await;
    append_numbers(&source.broker, "orders", 0..3_000).await;
    let mut spec = link("us-to-eu", &source.broker, &target, &["orders"]);
    spec.options.batch_records = 100;
    let running = start(vec![spec]);
    running
        .wait("us-to-eu", "caught up", |status| {
            status.mirrored_records >= 3_000 && status.lag_messages == 0
        })
        .await;
    let mirrored = read_numbers(&site.broker, "us-east.orders", 0..3_000).await;
    let verdict = judge(&mirrored);
    assert!(verdict.duplicates > 0, "the fault was there: {verdict:?}");
    assert_eq!(verdict.overtaken, 0);
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_record_stops_its_topic_alone_until_the_link_is_resumed() {
    let (source, site) = (embedded("us-east").await, embedded("eu-west").await);
    let (target, faults) = faulty(&site.broker);
    *faults.refuses_value.lock().unwrap() = Some(b"50".to_vec());
    for name in ["orders", "payments"] {
        make_topic(&source.broker, name, 1).await;
    }
    append_numbers(&source.broker, "orders", 0..100).await;
    append_numbers(&source.broker, "payments", 100..150).await;
    let running = start(vec![link("us-to-eu", &source.broker, &target, &["*"])]);
    let stopped = running.wait_for("us-to-eu", LinkState::Stopped).await;
    assert!(
        stopped
            .reason
            .contains("topic orders stopped at partition 0, position 50")
            && stopped.reason.contains("RECORD_TOO_LARGE"),
        "{}",
        stopped.reason
    );
    append_numbers(&source.broker, "payments", 150..200).await;
    read_numbers(&site.broker, "us-east.payments", 100..200).await;
    assert_eq!(
        running.status("us-to-eu").state,
        LinkState::Stopped,
        "loudly, for as long as it lasts"
    );

    // Resumed without having been mended, it stops there again.
    running.links.resume("us-to-eu").await.unwrap();
    running
        .wait("us-to-eu", "stopped again", |status| {
            status.state == LinkState::Stopped && status.reason.contains("position 50")
        })
        .await;
    *faults.refuses_value.lock().unwrap() = None;
    running.links.resume("us-to-eu").await.unwrap();
    let mirrored = read_numbers(&site.broker, "us-east.orders", 0..100).await;
    let last_of = |number| mirrored.iter().rposition(|read| number_of(&read.record) == number);
    assert!(
        (1..100).all(|number| last_of(number - 1) < last_of(number)),
        "sent again in order from the refused one"
    );
    running.wait_for("us-to-eu", LinkState::Running).await;
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_over_the_targets_limit_is_dead_lettered_when_told_so_and_nothing_overtakes_it() {
    let (source, target) = (embedded("us-east").await, embedded_with_limit("eu-west", 1024).await);
    make_topic(&source.broker, "orders", 1).await;
    let large = large_record(50, 1024);
    append(&source.broker, "orders", (0..50).map(record)).await;
    append(&source.broker, "orders", [large.clone()]).await;
    let unreadable = Record {
        headers: vec![Header::new("ce_hops", b"US East".to_vec())],
        ..record(1)
    };
    append(&source.broker, "orders", [unreadable]).await;
    append(&source.broker, "orders", (51..100).map(record)).await;
    let mut spec = link("us-to-eu", &source.broker, &target.broker, &["*"]);
    spec.options.on_refused = OnRefused::DeadLetter;
    let running = start(vec![spec]);
    let done = running
        .wait("us-to-eu", "past it", |status| {
            status.mirrored_records == 99 && status.lag_messages == 0
        })
        .await;
    assert_eq!(done.dead_lettered_records, 2);

    let letters = read_until(&source.broker, "meridian.link.us-to-eu.dead-letters", |records| {
        records.len() >= 2
    })
    .await;
    let text =
        |index: usize, name: &str| String::from_utf8(letters[index].record.header(name).unwrap().to_vec()).unwrap();
    assert_eq!(letters[0].record.value, large.value);
    assert_eq!(text(0, "meridian-dead-letter-code"), "RECORD_TOO_LARGE");
    assert_eq!(text(1, "meridian-dead-letter-code"), "HOPS_UNREADABLE");
    assert_eq!(text(0, "meridian-dead-letter-position"), "50");
    assert_eq!(text(0, "meridian-dead-letter-topic"), "orders");
    let arrived = read_until(&target.broker, "us-east.orders", |records| records.len() >= 99).await;
    let numbers: Vec<u64> = arrived.iter().map(|read| number_of(&read.record)).collect();
    assert_eq!(numbers, (0..50).chain(51..100).collect::<Vec<_>>());
    let topics = target.broker.admin().list_topics().await.unwrap();
    assert_eq!(topics.len(), 1, "dead letters are not mirrored: {topics:?}");
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_too_large_for_the_dead_letters_too_stops_its_topic() {
    let (source, target) = (
        embedded_with_limit("us-east", 2048).await,
        embedded_with_limit("eu-west", 2048).await,
    );
    make_topic(&source.broker, "orders", 1).await;
    // At the limit to the byte, so that a hop is too much for the target, and a reason for the source.
    append(&source.broker, "orders", [record(0), large_record(1, 2048), record(2)]).await;
    let mut spec = link("us-to-eu", &source.broker, &target.broker, &["*"]);
    spec.options.on_refused = OnRefused::DeadLetter;
    let running = start(vec![spec]);
    let stopped = running.wait_for("us-to-eu", LinkState::Stopped).await;
    assert!(
        stopped
            .reason
            .contains("position 1: neither the target nor the dead letters take the record"),
        "{}",
        stopped.reason
    );
    assert_eq!((stopped.mirrored_records, stopped.dead_lettered_records), (1, 0));
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_becomes_another_broker_stops_the_link_until_it_is_resumed() {
    let (source, site) = (embedded("us-east").await, embedded("eu-west").await);
    let (target, faults) = faulty(&site.broker);
    make_topic(&source.broker, "orders", 1).await;
    append_numbers(&source.broker, "orders", 0..10).await;
    let running = start(vec![link("us-to-eu", &source.broker, &target, &["orders"])]);
    read_numbers(&site.broker, "us-east.orders", 0..10).await;
    *faults.identity.lock().unwrap() = Some("restored-from-backup".to_owned());
    let stopped = running.wait_for("us-to-eu", LinkState::Stopped).await;
    assert!(
        stopped
            .reason
            .contains("another broker than before (restored-from-backup was"),
        "{}",
        stopped.reason
    );
    append_numbers(&source.broker, "orders", 10..20).await;
    running
        .wait("us-to-eu", "behind", |status| status.lag_messages == 10)
        .await;
    running.links.resume("us-to-eu").await.unwrap();
    read_numbers(&site.broker, "us-east.orders", 0..20).await;
    running.wait_for("us-to-eu", LinkState::Running).await;
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_topic_that_was_made_again_stops_the_link() {
    let (source, target) = (embedded("us-east").await, embedded("eu-west").await);
    make_topic(&source.broker, "orders", 1).await;
    append_numbers(&source.broker, "orders", 0..10).await;
    let running = start(vec![link("us-to-eu", &source.broker, &target.broker, &["orders"])]);
    read_numbers(&target.broker, "us-east.orders", 0..10).await;
    source.broker.admin().delete_topic(&topic("orders")).await.unwrap();
    make_topic(&source.broker, "orders", 1).await;
    running.wait_for("us-to-eu", LinkState::Stopped).await;
    append_numbers(&source.broker, "orders", 10..20).await;
    running.links.resume("us-to-eu").await.unwrap();
    read_numbers(&target.broker, "us-east.orders", 0..20).await;
    running
        .wait("us-to-eu", "caught up", |status| {
            status.state == LinkState::Running && status.lag_messages == 0
        })
        .await;
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_topic_that_is_deleted_is_made_again() {
    let (source, target) = (embedded("us-east").await, embedded("eu-west").await);
    make_topic(&source.broker, "orders", 2).await;
    append_numbers(&source.broker, "orders", 0..10).await;
    let running = start(vec![link("us-to-eu", &source.broker, &target.broker, &["orders"])]);
    read_numbers(&target.broker, "us-east.orders", 0..10).await;
    running
        .wait("us-to-eu", "settled", |status| status.mirrored_records == 10)
        .await;
    target
        .broker
        .admin()
        .delete_topic(&topic("us-east.orders"))
        .await
        .unwrap();
    append_numbers(&source.broker, "orders", 10..20).await;
    read_numbers(&target.broker, "us-east.orders", 10..20).await;
    running.close().await;
}

#[test]
fn a_crash_between_append_and_checkpoint_gives_duplicates_and_no_other_order() {
    let brokers = tokio::runtime::Runtime::new().unwrap();
    let (source, target) = brokers.block_on(async { (embedded("us-east").await, embedded("eu-west").await) });
    brokers.block_on(async {
        make_topic(&source.broker, "orders", 4).await;
        append_numbers(&source.broker, "orders", 0..40_000).await;
    });
    let mut crashes = 0;
    for threshold in [2_000, 9_000, 16_000] {
        // A runtime that is torn down at once: no reader is closed, nothing in flight is waited for.
        let process = tokio::runtime::Runtime::new().unwrap();
        process.block_on(async {
            let mut spec = link("us-to-eu", &source.broker, &target.broker, &["orders"]);
            spec.options.batch_records = 200;
            let running = start(vec![spec]);
            let mirrored = async || {
                let topics = target.broker.admin().list_topics().await.unwrap();
                let mirrored: u64 = topics.iter().map(|topic| topic.records).sum();
                (mirrored >= threshold).then_some(())
            };
            wait_until("so many mirrored records", mirrored).await;
            crashes += usize::from(running.status("us-to-eu").state != LinkState::Stopped);
        });
        process.shutdown_background();
    }
    assert_eq!(crashes, 3);
    brokers.block_on(async {
        let running = start(vec![link("us-to-eu", &source.broker, &target.broker, &["orders"])]);
        let mirrored = read_numbers(&target.broker, "us-east.orders", 0..40_000).await;
        let verdict = judge(&mirrored);
        assert_eq!(verdict.overtaken, 0, "{verdict:?}");
        assert!(
            verdict.duplicates > 0,
            "the crashes came between append and checkpoint: {verdict:?}"
        );
        running
            .wait("us-to-eu", "caught up", |status| status.lag_messages == 0)
            .await;
        running.close().await;
    });
}
