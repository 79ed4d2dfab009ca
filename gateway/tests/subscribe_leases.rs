//! Leases and words over real gRPC: expiry, late settlements, renewals, releases, attempts, dead letters, drains.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
mod subscribe_worker;

use std::time::{Duration, Instant};

use harness::{RULES, TestGateway, receipt, until};
use meridian_proto::meridian as wire;
use meridian_proto::meridian::subscribe_request::Request as Said;
use meridian_proto::meridian::{SettlementAction, SettlementOutcome};
use subscribe_worker::{Worker, open, orders, settlement};

async fn started(events: usize, keys: usize, more: &str) -> TestGateway {
    let here = TestGateway::start("us-east", RULES, more).await;
    for result in here.publish(orders(events, keys, 16)).await {
        receipt(&result);
    }
    here
}

async fn worker(here: &TestGateway, open: wire::OpenSession) -> Worker {
    Worker::open(here.channel().await, open).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_ends_gives_the_event_to_another_and_makes_the_settlement_stale() {
    let here = started(1, 1, "").await;
    let short = |name| wire::OpenSession {
        lease_seconds: 1,
        ..open(name, 1)
    };
    let mut slow = worker(&here, short("slow")).await;
    let late = slow.one().await;
    let mut other = worker(&here, short("other")).await;
    let again = other.one().await;
    assert_eq!((late.attempt, again.attempt), (1, 2));
    assert_eq!(late.event, again.event);
    assert_eq!(
        slow.settle(&late, SettlementAction::Accept).await,
        SettlementOutcome::Stale
    );
    other.accept(&again).await;
    assert_eq!(here.metric("meridian_subscription_leases_expired_total"), 1);
    assert_eq!(here.metric("meridian_subscription_redeliveries_total"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_renewed_does_not_end() {
    let here = started(1, 1, "").await;
    let terms = wire::OpenSession {
        lease_seconds: 2,
        ..open("w", 2)
    };
    let mut busy = worker(&here, terms).await;
    let delivery = busy.one().await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(4) {
        let renewed = busy.settle(&delivery, SettlementAction::Renew).await;
        assert_eq!(renewed, SettlementOutcome::Applied);
        busy.hear_for(Duration::from_millis(300)).await;
    }
    assert!(busy.deliveries.is_empty(), "it came again: {:?}", busy.deliveries);
    busy.accept(&delivery).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_release_parks_its_own_key_until_the_delay_is_over() {
    // Two keys in turn: k0 at 0, 2; k1 at 1, 3.
    let here = started(4, 2, "topics: { partitions: 1 }\n").await;
    let mut worker = worker(&here, open("w", 10)).await;
    let first = worker.next(2).await;
    let released = wire::Settlement {
        delay: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..settlement(&first[0], SettlementAction::Release)
    };
    let begun = Instant::now();
    assert_eq!(worker.settle_all(vec![released]).await, [SettlementOutcome::Applied]);
    worker.accept(&first[1]).await;
    let other_key = worker.one().await;
    assert_eq!(other_key.position, 3, "the other key goes on");
    let again = worker.one().await;
    assert_eq!((again.position, again.attempt), (0, 2));
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    worker.accept(&again).await;
    assert_eq!(worker.one().await.position, 2, "the key's next one follows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_its_last_attempt_an_event_is_a_dead_letter_that_says_why() {
    let here = started(2, 1, "").await;
    let terms = wire::OpenSession {
        max_attempts: 2,
        ..open("w-7", 1)
    };
    let mut worker = worker(&here, terms).await;
    let mut seen = Vec::new();
    for attempt in 1..=2 {
        let delivery = worker.one().await;
        assert_eq!((delivery.position, delivery.attempt), (0, attempt));
        let now = wire::Settlement {
            delay: Some(prost_types::Duration::default()),
            ..settlement(&delivery, SettlementAction::Release)
        };
        assert_eq!(worker.settle_all(vec![now]).await, [SettlementOutcome::Applied]);
        seen.push(delivery);
    }
    let next = worker.one().await;
    assert_eq!((next.position, next.attempt), (1, 1));
    worker.accept(&next).await;
    let admin = here.gateway.health().clone();
    let dead = wire::OpenSession {
        group: "undertaker".to_owned(),
        topics: vec!["orders.dead-letters".to_owned()],
        ..open("u", 1)
    };
    let mut undertaker = Worker::open(here.channel().await, dead).await.unwrap();
    let dead = undertaker.one().await;
    assert_eq!(dead.event, seen[0].event, "as it was");
    assert!(admin.is_ready());
    assert_eq!(here.metric("meridian_subscription_dead_letters_total"), 1);
    until("both are settled", async || {
        here.metric("meridian_subscription_lag_records") == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_drains_gives_back_without_an_attempt_and_its_stream_ends() {
    let here = started(3, 3, "").await;
    let mut leaver = worker(&here, open("leaver", 3)).await;
    let held = leaver.next(3).await;
    leaver.accept(&held[0]).await;
    let drain = wire::DrainSession {
        release_in_flight: true,
    };
    leaver.say(Said::Drain(drain)).await;
    leaver.end().await.unwrap();
    let mut other = worker(&here, open("other", 3)).await;
    let again = other.next(2).await;
    assert!(again.iter().all(|delivery| delivery.attempt == 1), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_drains_may_settle_what_it_holds_and_is_handed_nothing_more() {
    let here = started(4, 4, "").await;
    let mut leaver = worker(&here, open("leaver", 2)).await;
    let held = leaver.next(2).await;
    leaver.say(Said::Drain(wire::DrainSession::default())).await;
    let accepted = held
        .iter()
        .map(|delivery| settlement(delivery, SettlementAction::Accept));
    let outcomes = leaver.settle_all(accepted.collect()).await;
    assert_eq!(outcomes, [SettlementOutcome::Applied; 2]);
    leaver.end().await.unwrap();
    assert!(leaver.deliveries.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_while_its_session_opens_leaves_nothing_behind() {
    let here = started(20, 20, "").await;
    // A session that was open for a moment had deliveries, and its end counts an attempt.
    let patient = |name| wire::OpenSession {
        max_attempts: 1_000,
        ..open(name, 20)
    };
    // Another session keeps the group busy, so that opening takes a while.
    let mut busy = worker(
        &here,
        wire::OpenSession {
            credit_bytes: 0,
            ..open("busy", 0)
        },
    )
    .await;
    let busy = tokio::spawn(async move {
        let nonsense = wire::Settlement {
            delivery_id: 1_000_000,
            action: SettlementAction::Accept.into(),
            ..Default::default()
        };
        loop {
            busy.settle_all(vec![nonsense.clone(); 5_000]).await;
        }
    });
    let channel = here.channel().await;
    for microseconds in (0..20_000).step_by(100) {
        let opening = tokio::spawn(Worker::open(channel.clone(), patient("hasty")));
        // Cut at any moment of the opening; a timer would be too coarse to find them.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(microseconds) {
            tokio::task::yield_now().await;
        }
        opening.abort();
    }
    busy.abort();
    let mut stays = worker(&here, patient("stays")).await;
    until("only one session is left", async || {
        here.metric("meridian_subscription_sessions") == 1
    })
    .await;
    let mut seen = 0;
    while seen < 20 {
        let delivery = stays.one().await;
        stays.accept(&delivery).await;
        seen += 1;
    }
}
