//! What holds a session in bounds, over real gRPC: credit in messages and bytes, orderings, large events, slow workers,
//! limits, and what the worker is told meanwhile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
mod subscribe_worker;

use std::collections::HashMap;
use std::time::Duration;

use harness::{RULES, TestGateway, receipt, until};
use meridian_proto::meridian as wire;
use meridian_proto::meridian::subscribe_request::Request as Said;
use meridian_proto::meridian::subscribe_response::Response as Heard;
use meridian_proto::meridian::{SettlementAction, SettlementOutcome};
use subscribe_worker::{Worker, open, orders, settlement};
use tonic::Code;

const ONE_PARTITION: &str = "topics: { partitions: 1 }\n";

async fn started(events: usize, keys: usize, bytes: usize, more: &str) -> TestGateway {
    let here = TestGateway::start("us-east", RULES, more).await;
    for result in here.publish(orders(events, keys, bytes)).await {
        receipt(&result);
    }
    here
}

async fn worker(here: &TestGateway, open: wire::OpenSession) -> Worker {
    Worker::open(here.channel().await, open).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credit_in_bytes_binds_and_grows() {
    let here = started(20, 20, 1_000, ONE_PARTITION).await;
    let terms = wire::OpenSession {
        credit_bytes: 3_500,
        ..open("w", 100)
    };
    let mut worker = worker(&here, terms).await;
    let held = worker.next(3).await;
    worker.hear_for(Duration::from_millis(500)).await;
    assert!(worker.deliveries.is_empty(), "more bytes in flight than credit");
    let bytes = held[0].event.len() as i64;
    worker
        .say(Said::AddCredit(wire::AddCredit { messages: 0, bytes }))
        .await;
    worker.next(1).await;
    let sessions = |name| here.metric(name);
    until("4 are in flight", async || {
        sessions("meridian_subscription_in_flight") == 4
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_without_credit_waits_for_some() {
    let here = started(2, 2, 16, "").await;
    let terms = wire::OpenSession {
        credit_bytes: 0,
        ..open("w", 0)
    };
    let mut worker = worker(&here, terms).await;
    worker.hear_for(Duration::from_millis(500)).await;
    assert!(worker.deliveries.is_empty());
    let credit = wire::AddCredit {
        messages: 1,
        bytes: 10_000,
    };
    worker.say(Said::AddCredit(credit)).await;
    let delivery = worker.one().await;
    worker.accept(&delivery).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_key_more_workers_than_partitions_share_one_partition() {
    let here = started(60, 6, 16, ONE_PARTITION).await;
    let mut workers = Vec::new();
    for number in 0..6 {
        workers.push(worker(&here, open(&format!("w{number}"), 1)).await);
    }
    let mut positions: HashMap<u64, Vec<u64>> = HashMap::new();
    for _ in 0..10 {
        // Each of the six workers holds one event, of six different keys.
        let mut held = Vec::new();
        for worker in &mut workers {
            held.push(worker.one().await);
        }
        let mut keys: Vec<_> = held.iter().map(|delivery| delivery.position % 6).collect();
        keys.sort_unstable();
        assert_eq!(keys, [0, 1, 2, 3, 4, 5], "one worker a key");
        for (worker, delivery) in workers.iter_mut().zip(&held) {
            positions
                .entry(delivery.position % 6)
                .or_default()
                .push(delivery.position);
            worker.accept(delivery).await;
        }
    }
    for positions in positions.values() {
        assert!(positions.is_sorted(), "out of order: {positions:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_partition_one_at_a_time_and_unordered_all_at_once() {
    let here = started(6, 6, 16, ONE_PARTITION).await;
    let terms = |ordering: wire::Ordering, group: &str| wire::OpenSession {
        ordering: ordering.into(),
        group: group.to_owned(),
        ..open("w", 10)
    };
    let mut strict = worker(&here, terms(wire::Ordering::Partition, "strict")).await;
    for position in 0..6 {
        let delivery = strict.one().await;
        assert_eq!(delivery.position, position);
        assert!(strict.deliveries.is_empty());
        strict.accept(&delivery).await;
    }
    let mut loose = worker(&here, terms(wire::Ordering::None, "loose")).await;
    assert_eq!(loose.next(6).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_too_large_for_one_session_fails_alone_and_goes_to_another() {
    let here = TestGateway::start("us-east", RULES, ONE_PARTITION).await;
    let mut events = orders(3, 3, 16);
    events[0] = orders(1, 1, 5_000).remove(0);
    for result in here.publish(events).await {
        receipt(&result);
    }
    let small = |name| wire::OpenSession {
        credit_bytes: 2_000,
        ..open(name, 10)
    };
    let mut first = worker(&here, small("small")).await;
    let failed = first
        .other(|other| match other {
            Heard::DeliveryFailed(failed) => Some(failed.clone()),
            _ => None,
        })
        .await;
    assert_eq!(failed.position, 0);
    let error = failed.error.unwrap();
    assert_eq!(error.code, Code::ResourceExhausted as i32);
    assert!(error.message.contains("raise credit_bytes"), "{}", error.message);
    let others = first.next(2).await;
    assert_eq!((others[0].position, others[1].position), (1, 2), "the stream lives on");
    let mut large = worker(&here, open("large", 10)).await;
    let delivery = large.one().await;
    assert_eq!((delivery.position, delivery.attempt), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_too_large_for_everybody_is_a_dead_letter() {
    let more = format!("{ONE_PARTITION}subscriptions: {{ too_large_grace_seconds: 0.2 }}\n");
    let here = started(1, 1, 5_000, &more).await;
    let small = wire::OpenSession {
        credit_bytes: 2_000,
        ..open("small", 10)
    };
    let mut worker = worker(&here, small).await;
    let dead = async || here.metric("meridian_subscription_dead_letters_total") == 1;
    until("it is a dead letter", dead).await;
    worker.hear_for(Duration::from_millis(100)).await;
    assert!(worker.deliveries.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_does_not_read_keeps_nothing_back_from_others() {
    let here = started(400, 400, 8_000, "").await;
    let terms = wire::OpenSession {
        credit_bytes: 1 << 30,
        lease_seconds: 2,
        max_attempts: 100,
        ..open("asleep", 10_000)
    };
    // It opens its session and never reads its stream.
    let asleep = worker(&here, terms).await;
    let handed = async || here.metric("meridian_subscription_deliveries_total") > 0;
    until("it was handed some", handed).await;
    let mut awake = worker(&here, open("awake", 50)).await;
    let mut seen = std::collections::HashSet::new();
    while seen.len() < 400 {
        let delivery = awake.one().await;
        let outcome = awake.settle(&delivery, SettlementAction::Accept).await;
        if outcome == SettlementOutcome::Applied {
            seen.insert((delivery.partition, delivery.position));
        }
    }
    drop(asleep);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_not_read_are_bounded() {
    let here = started(1, 1, 16, "").await;
    let worker = worker(&here, open("deaf", 1)).await;
    let nonsense = wire::Settlement {
        delivery_id: 99,
        action: SettlementAction::Accept.into(),
        ..Default::default()
    };
    // Nobody reads the answers, so at some time the group does not keep them any more.
    let is_open = async || here.metric("meridian_subscription_sessions") == 1;
    until("it is open", is_open).await;
    let begun = tokio::time::Instant::now();
    while is_open().await {
        assert!(begun.elapsed() < 3 * harness::SOON, "the session is not ended");
        let settlements = vec![nonsense.clone(); 5_000];
        worker.say(Said::Settle(wire::Settle { settlements })).await;
    }
    let text = here.metrics.encode().unwrap();
    assert!(text.contains("how=\"slow\"} 1"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_over_the_limit_is_refused_and_a_place_is_free_when_one_ends() {
    let here = started(0, 1, 16, "subscriptions: { max_sessions: 1 }\n").await;
    let first = worker(&here, open("first", 1)).await;
    let refused = Worker::open(here.channel().await, open("second", 1))
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    drop(first);
    let free = async || Worker::open(here.channel().await, open("second", 1)).await.is_ok();
    until("the place is free", free).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_tell_where_the_group_stands() {
    let here = started(
        5,
        5,
        16,
        &format!("{ONE_PARTITION}subscriptions: {{ heartbeat_seconds: 1 }}\n"),
    )
    .await;
    let mut worker = worker(&here, open("w", 5)).await;
    let held = worker.next(5).await;
    let accepted = held[..3]
        .iter()
        .map(|delivery| settlement(delivery, SettlementAction::Accept));
    worker.settle_all(accepted.collect()).await;
    let stands = |other: &Heard| match other {
        Heard::Heartbeat(heartbeat) => heartbeat
            .positions
            .first()
            .map(|at| (at.settled_position, at.end_position)),
        _ => None,
    };
    while worker.other(stands).await != (3, 5) {}
}
