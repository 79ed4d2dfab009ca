//! Events and attempts that are due later, over real gRPC and the embedded broker: `deliverat`, long delays of retries,
//! backoff, `expirytime`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
mod subscribe_worker;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use harness::{RULES, TestGateway, details, receipt, refusal, until};
use meridian_event::{EventBuilder, attribute::AttributeValue};
use meridian_proto::meridian as wire;
use meridian_proto::meridian::{SettlementAction, SettlementOutcome};
use subscribe_worker::{Worker, open, orders, settlement};

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// An order with moments, each so many milliseconds after now.
fn order(id: &str, moments: &[(&str, i64)]) -> Bytes {
    let event = EventBuilder::new(id, "/shop", "com.acme.order.placed").text_data("12");
    let event = event.build().unwrap();
    let moments: Vec<_> = moments
        .iter()
        .map(|(name, ahead_ms)| (*name, AttributeValue::timestamp_ms(now_ms() + ahead_ms)))
        .collect();
    event.with_attributes(&moments).unwrap().encoded().clone()
}

fn unordered(worker_id: &str, credit: u32) -> wire::OpenSession {
    wire::OpenSession {
        ordering: wire::Ordering::None.into(),
        ..open(worker_id, credit)
    }
}

fn id(delivery: &wire::Delivery) -> String {
    let event = meridian_event::Event::scan(delivery.event.clone()).unwrap();
    event.id().to_owned()
}

async fn worker(here: &TestGateway, open: wire::OpenSession) -> Worker {
    Worker::open(here.channel().await, open).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_for_later_is_delivered_at_its_time_with_a_receipt_that_says_when() {
    let here = TestGateway::start("us-east", RULES, "").await;
    let due_ms = now_ms() + 2_500;
    let events = vec![
        order("later", &[("deliverat", 2_500)]),
        order("now", &[]),
        order("past", &[("deliverat", -5_000)]),
    ];
    let results = here.publish(events).await;
    let later = receipt(&results[0]);
    assert_eq!((later.topic.as_str(), later.partition), ("meridian.delay.1s", 0));
    let told = later.due_at.unwrap();
    assert!((told.seconds * 1_000 + i64::from(told.nanos) / 1_000_000 - due_ms).abs() < 1_000);
    for result in &results[1..] {
        assert_eq!(
            (receipt(result).topic.as_str(), receipt(result).due_at),
            ("orders", None)
        );
    }
    let mut worker = worker(&here, unordered("w", 10)).await;
    let mut first = worker.next(2).await.iter().map(id).collect::<Vec<_>>();
    first.sort();
    assert_eq!(first, ["now", "past"]);
    let later = worker.one().await;
    assert_eq!((id(&later), later.topic.as_str()), ("later".to_owned(), "orders"));
    assert!(now_ms() >= due_ms, "{} ms too early", due_ms - now_ms());
    // Counted once the append was confirmed, which the worker may be ahead of.
    until("the arrival is counted", async || {
        here.metric("meridian_delay_arrived_events_total") == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_for_later_survives_its_gateway() {
    let here = TestGateway::start("us-east", RULES, "").await;
    let due_ms = now_ms() + 3_000;
    receipt(&here.publish(vec![order("later", &[("deliverat", 3_000)])]).await[0]);
    let here = here.restart("us-east", "").await;
    let mut worker = worker(&here, open("w", 1)).await;
    assert_eq!(id(&worker.one().await), "later");
    assert!(now_ms() >= due_ms);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moments_that_make_no_sense_are_refused_with_words() {
    let here = TestGateway::start("us-east", RULES, "limits: { max_deliver_at_seconds: 3600 }\n").await;
    let no_moment = EventBuilder::new("1", "/shop", "com.acme.order.placed")
        .extension("deliverat", "tomorrow")
        .build_unvalidated()
        .unwrap();
    let cases = [
        (
            order("far", &[("deliverat", 3_700_000)]),
            "DELIVER_AT_TOO_FAR",
            "max_deliver_at_seconds",
            "deliverat",
        ),
        (
            order("over", &[("expirytime", -1)]),
            "EVENT_EXPIRED",
            "expirytime is past",
            "expirytime",
        ),
        (
            order("never", &[("expirytime", 1_000), ("deliverat", 2_000)]),
            "EVENT_EXPIRED",
            "not after deliverat",
            "expirytime",
        ),
        (no_moment.encoded().clone(), "BAD_TIMESTAMP", "RFC 3339", "deliverat"),
    ];
    let results = here.publish(cases.iter().map(|case| case.0.clone()).collect()).await;
    for (result, (_, code, words, field)) in results.iter().zip(&cases) {
        let status = refusal(result);
        let details = details(status);
        assert_eq!(details.error_info().unwrap().reason, *code, "{status:?}");
        assert!(status.message.contains(words), "{}", status.message);
        let fields = &details.bad_request().unwrap().field_violations;
        assert!(fields[0].field.ends_with(&format!("attributes.{field}")), "{fields:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_delay_is_spent_on_the_broker_and_attempts_go_on_counting() {
    let more = "subscriptions: { park_after_seconds: 1, idle_group_seconds: 0 }\n";
    let here = TestGateway::start("us-east", RULES, more).await;
    let publish = here.publish(orders(1, 1, 16)).await;
    let first_place = receipt(&publish[0]).clone();
    let terms = wire::OpenSession {
        max_attempts: 3,
        ..unordered("w", 1)
    };
    let mut first = worker(&here, terms.clone()).await;
    let delivery = first.one().await;
    let again = wire::Settlement {
        delay: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
        ..settlement(&delivery, SettlementAction::Release)
    };
    let released = Instant::now();
    assert_eq!(first.settle_all(vec![again]).await, [SettlementOutcome::Applied]);
    until("the record is parked and settled", async || {
        here.metric("meridian_subscription_parked_retries_total") == 1
            && here.metric("meridian_subscription_lag_records") == 0
    })
    .await;
    drop(first);
    let here = here.restart("us-east", more).await;
    let mut second = worker(&here, terms.clone()).await;
    let delivery = second.one().await;
    assert!(released.elapsed() >= Duration::from_secs(3), "{:?}", released.elapsed());
    assert_eq!(delivery.attempt, 2, "it goes on counting in another process");
    assert_eq!(
        (delivery.topic.as_str(), delivery.partition, delivery.position),
        ("orders", first_place.partition, first_place.position)
    );
    let rejected = second.settle(&delivery, SettlementAction::Reject).await;
    assert_eq!(rejected, SettlementOutcome::Applied);
    let letters = letters(
        &here,
        wire::ListDeadLettersRequest {
            topic: "orders".to_owned(),
            ..Default::default()
        },
    )
    .await;
    let letter = &letters[0];
    assert_eq!(
        (letter.source_topic.as_str(), letter.source_position),
        ("orders", first_place.position)
    );
    assert_eq!(
        (letter.attempts, letter.reason.as_str(), letter.error.as_str()),
        (2, "REJECTED", "because")
    );
    let (first, last) = (letter.first_attempt_at.unwrap(), letter.last_attempt_at.unwrap());
    assert!(last.seconds - first.seconds >= 2, "{first} {last}");
    // The group's other sessions never see it again.
    assert_eq!(here.metric("meridian_subscription_dead_letters_total"), 1);
}

/// Lists dead letters once one is there.
async fn letters(here: &TestGateway, request: wire::ListDeadLettersRequest) -> Vec<wire::DeadLetter> {
    let mut client = wire::operations_service_client::OperationsServiceClient::new(here.admin().await);
    until("a dead letter is written", async || {
        here.metric("meridian_subscription_dead_letters_total") > 0
    })
    .await;
    let mut words = client.list_dead_letters(request).await.unwrap().into_inner();
    let mut letters = Vec::new();
    while let Some(word) = words.message().await.unwrap() {
        letters.extend(word.dead_letters);
    }
    letters
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_delayed_stays_in_place_however_long() {
    let here = TestGateway::start("us-east", RULES, "subscriptions: { park_after_seconds: 0 }\n").await;
    for result in here.publish(orders(3, 1, 16)).await {
        receipt(&result);
    }
    let mut worker = worker(&here, open("w", 3)).await;
    let delivery = worker.one().await;
    let again = wire::Settlement {
        delay: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
        ..settlement(&delivery, SettlementAction::Release)
    };
    worker.settle_all(vec![again]).await;
    let mut order = Vec::new();
    for _ in 0..3 {
        let next = worker.one().await;
        order.push((next.position, next.attempt));
        worker.accept(&next).await;
    }
    assert_eq!(order, [(0, 2), (1, 1), (2, 1)]);
    assert_eq!(here.metric("meridian_subscription_parked_retries_total"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_spaced_by_the_sessions_policy() {
    let here = TestGateway::start("us-east", RULES, "").await;
    receipt(&here.publish(orders(1, 1, 16)).await[0]);
    let span = |millis: i32| {
        Some(prost_types::Duration {
            seconds: 0,
            nanos: millis * 1_000_000,
        })
    };
    let policy = |multiplier| wire::RetryPolicy {
        initial_backoff: span(100),
        max_backoff: span(300),
        multiplier,
    };
    for (bad, words) in [
        (policy(0.5), "open.retry_policy.multiplier must be 1 to 10"),
        (
            wire::RetryPolicy {
                initial_backoff: span(400),
                ..policy(2.0)
            },
            "open.retry_policy.initial_backoff must not be over max_backoff",
        ),
        (
            wire::RetryPolicy {
                max_backoff: span(-1),
                ..policy(2.0)
            },
            "open.retry_policy.max_backoff must be a duration",
        ),
    ] {
        let refused = wire::OpenSession {
            retry_policy: Some(bad),
            ..open("w", 1)
        };
        let status = match Worker::open(here.channel().await, refused).await {
            Ok(mut session) => session.end().await.unwrap_err(),
            Err(status) => status,
        };
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains(words), "{}", status.message());
    }
    let terms = wire::OpenSession {
        max_attempts: 100,
        retry_policy: Some(policy(2.0)),
        ..open("w", 1)
    };
    let mut worker = worker(&here, terms).await;
    let began = Instant::now();
    for attempt in 1..=20 {
        let delivery = worker.one().await;
        assert_eq!(delivery.attempt, attempt);
        worker.settle(&delivery, SettlementAction::Release).await;
    }
    // 19 delays, drawn evenly from 0 to at most 300 ms: less than a second in all is as good as impossible.
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert!(took <= Duration::from_secs(15), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_whose_time_is_over_is_not_delivered() {
    for (more, reason) in [
        ("", Some("EXPIRED")),
        ("subscriptions: { expired_events: drop }\n", None),
    ] {
        let here = TestGateway::start("us-east", RULES, more).await;
        let results = here
            .publish(vec![
                order("short", &[("expirytime", 700)]),
                order("long", &[("expirytime", 600_000)]),
            ])
            .await;
        results.iter().for_each(|result| drop(receipt(result).clone()));
        let expiry_ms = now_ms() + 800;
        until("its time is over", async || now_ms() > expiry_ms).await;
        let mut worker = worker(&here, open("w", 10)).await;
        let delivery = worker.one().await;
        assert_eq!(id(&delivery), "long");
        worker.accept(&delivery).await;
        until("both are settled", async || {
            here.metric("meridian_subscription_lag_records") == 0
        })
        .await;
        let dropped = i64::from(reason.is_none());
        assert_eq!(here.metric("meridian_subscription_expired_events_total"), dropped);
        if let Some(reason) = reason {
            let request = wire::ListDeadLettersRequest {
                topic: "orders.dead-letters".to_owned(),
                ..Default::default()
            };
            let letters = letters(&here, request).await;
            assert_eq!((letters.len(), letters[0].reason.as_str()), (1, reason));
            assert_eq!(
                (letters[0].event_id.as_str(), letters[0].first_attempt_at),
                ("short", None)
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_what_waits() {
    const EVENTS: i64 = 3_000;
    const MAX_HELD: i64 = 1_024;
    let here = TestGateway::start("us-east", RULES, "").await;
    let publish = async |ahead_ms: i64| {
        let events = (0..EVENTS).map(|number| order(&number.to_string(), &[("deliverat", ahead_ms)]));
        for result in here.publish(events.collect()).await {
            receipt(&result);
        }
    };
    publish(2 * 3_600_000).await;
    until("nobody reads what is due in two hours", async || {
        here.metric("meridian_delay_naps_total") > 0 && here.metric("meridian_delay_held_events") == 0
    })
    .await;
    assert_eq!(here.metric("meridian_delay_arrived_events_total"), 0);
    publish(8_000).await;
    let mut most = 0;
    until("what is due soon arrives", async || {
        most = most.max(here.metric("meridian_delay_held_events"));
        here.metric("meridian_delay_arrived_events_total") == EVENTS
    })
    .await;
    // One more read may come on top of a window that has a little room left.
    assert!((1..=2 * MAX_HELD).contains(&most), "{most} were held");
}
