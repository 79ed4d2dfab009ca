//! What becomes of sessions when their reader fails, loses a partition, meets a gap, or cannot read: over real gRPC, on
//! an embedded broker whose readers follow a script.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
mod subscribe_worker;

use harness::{TestGateway, receipt, until};
use meridian_broker::{Gap, ReadErrorKind, ReadEvent, TopicPartition};
use meridian_proto::meridian as wire;
use meridian_proto::meridian::subscribe_response::Response as Heard;
use meridian_proto::meridian::{SettlementAction, SettlementOutcome};
use subscribe_worker::scripted_reader::{Act, Script, start};
use subscribe_worker::{Worker, open, orders};
use tonic::Code;

const QUICK: &str = "subscriptions: { heartbeat_seconds: 1 }\n";

fn partition() -> TopicPartition {
    TopicPartition {
        topic: "orders".parse().unwrap(),
        partition: 0,
    }
}

async fn started(events: usize) -> (TestGateway, Script, Worker) {
    let (here, script) = start(QUICK).await;
    for result in here.publish(orders(events, events, 16)).await {
        receipt(&result);
    }
    let worker = Worker::open(here.channel().await, open("w", 10)).await.unwrap();
    (here, script, worker)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_that_may_heal_opens_another_reader_and_the_sessions_stay() {
    let (_here, script, mut worker) = started(2).await;
    let held = worker.next(2).await;
    worker.accept(&held[0]).await;
    script.act(Act::Fail(ReadErrorKind::Internal));
    let again = worker.one().await;
    assert_eq!((again.position, again.attempt), (held[1].position, 1), "nothing counts");
    assert_eq!(script.opened(), 2);
    let late = worker.settle(&held[1], SettlementAction::Accept).await;
    assert_eq!(late, SettlementOutcome::Stale, "the old claim is over");
    worker.accept(&again).await;
    assert_eq!(script.settled(), [0, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_for_an_operator_ends_the_sessions_with_its_code_and_a_new_one_tries_anew() {
    let (here, script, mut worker) = started(1).await;
    worker.one().await;
    script.act(Act::Fail(ReadErrorKind::PositionMissing));
    let status = worker.end().await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("the script says so"), "{}", status.message());
    let mut next = Worker::open(here.channel().await, open("next", 10)).await.unwrap();
    let delivery = next.one().await;
    assert_eq!(delivery.attempt, 1, "that was not the worker's doing");
    next.accept(&delivery).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_moves_away_makes_settlements_stale_and_counts_nothing() {
    let (_here, script, mut worker) = started(1).await;
    let held = worker.one().await;
    script.act(Act::Tell(ReadEvent::Revoked(vec![partition()])));
    // The answer tells when the event has been seen; the embedded reader itself still holds its claim.
    loop {
        match worker.settle(&held, SettlementAction::Renew).await {
            SettlementOutcome::Applied => {}
            outcome => break assert_eq!(outcome, SettlementOutcome::Stale),
        }
    }
    assert!(script.settled().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_told_to_every_session() {
    let (here, script, mut first) = started(1).await;
    let mut second = Worker::open(here.channel().await, open("second", 10)).await.unwrap();
    let is_open = |other: &Heard| matches!(other, Heard::Opened(_)).then_some(());
    first.other(is_open).await;
    second.other(is_open).await;
    script.act(Act::Tell(ReadEvent::Gap(Gap {
        partition: partition(),
        expected_position: 7,
        resumed_position: 10,
        missing_records: 3,
    })));
    for worker in [&mut first, &mut second] {
        let gap = |other: &Heard| match other {
            Heard::GroupGap(gap) => Some(gap.clone()),
            _ => None,
        };
        let expected = wire::GroupGap {
            topic: "orders".to_owned(),
            partition: 0,
            expected_position: 7,
            resumed_position: 10,
            missing_records: 3,
        };
        assert_eq!(worker.other(gap).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_is_not_read_says_since_when_and_why_everywhere() {
    let (here, script, mut worker) = started(1).await;
    let delivery = worker.one().await;
    worker.accept(&delivery).await;
    script.away(Some("the broker does not answer"));
    let not_reading = |other: &Heard| match other {
        Heard::Heartbeat(heartbeat) if heartbeat.not_reading_since.is_some() => {
            Some(heartbeat.not_reading_reason.clone())
        }
        _ => None,
    };
    assert_eq!(worker.other(not_reading).await, "the broker does not answer");
    assert_eq!(here.metric("meridian_subscription_not_reading"), 1);
    let health = here.gateway.health().snapshot();
    let component = health
        .components
        .iter()
        .find(|component| component.name == "subscriptions")
        .unwrap();
    let told = format!("{:?}", component.state);
    assert!(
        told.contains("main/billing") && told.contains("the broker does not answer"),
        "{told}"
    );
    assert!(health.ready, "publishers are served all the same");
    script.away(None);
    until("it is read again", async || {
        here.metric("meridian_subscription_not_reading") == 0
    })
    .await;
}
