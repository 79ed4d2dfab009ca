//! Stopping: the order, what is in flight, what clients may hold open, the deadline.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::time::{Duration, Instant};

use harness::scripted::Act;
use harness::{RULES, SOON, TestGateway, event, receipt, until};
use meridian_proto::meridian as proto;
use meridian_runtime::PhaseOutcome;
use tokio::time::timeout;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

fn request() -> proto::PublishRequest {
    proto::PublishRequest {
        events: vec![event("1", "com.acme.order.placed", "k")],
        forwarded_by: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_has_its_receipt_before_brokers_are_flushed() {
    let (here, script) = TestGateway::start_scripted("us-east", RULES, "").await;
    let data = here.gateway.data_address();
    let mut publisher = here.publisher().await;
    let mut probe = HealthClient::new(here.admin().await);
    script.set(Act::Hold);
    let publishing = tokio::spawn(async move { publisher.publish(request()).await });
    until("the event is in flight", async || {
        here.metric("meridian_gateway_publish_requests_in_flight") == 1
    })
    .await;
    let TestGateway { gateway, folder, .. } = here;
    let stopping = tokio::spawn(gateway.shutdown());
    until("the probe says so", async || {
        let answer = probe.check(HealthCheckRequest::default()).await.unwrap().into_inner();
        answer.status() == ServingStatus::NotServing
    })
    .await;
    until("nobody can connect any more", async || {
        tokio::net::TcpStream::connect(data).await.is_err()
    })
    .await;
    assert!(
        !script.calls().contains(&"flush"),
        "flushed while an event is in flight"
    );
    script.set(Act::Pass);
    let results = timeout(SOON, publishing)
        .await
        .unwrap()
        .unwrap()
        .unwrap()
        .into_inner()
        .results;
    receipt(&results[0]);
    let report = timeout(SOON, stopping).await.unwrap().unwrap();
    let phases: Vec<&str> = report.phases.iter().map(|phase| phase.name.as_str()).collect();
    assert_eq!(
        phases,
        [
            "take no more",
            "drain sessions",
            "settle and leave groups",
            "finish publishes",
            "flush brokers",
            "close brokers",
            "close the admin port",
        ]
    );
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(
        script.calls(),
        ["admit", "flush"],
        "brokers that were handed in are their owner's to close"
    );
    drop(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hold_something_open_do_not_hold_up_the_end() {
    let here = TestGateway::start("us-east", RULES, "shutdown_seconds: 4\n").await;
    let mut watching = Vec::new();
    for channel in [here.channel().await, here.admin().await] {
        let watch = HealthClient::new(channel)
            .watch(HealthCheckRequest::default())
            .await
            .unwrap();
        watching.push(watch.into_inner());
    }
    let idle = tokio::net::TcpStream::connect(here.gateway.data_address())
        .await
        .unwrap();
    let began = Instant::now();
    let report = here.gateway.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(4), "{report:?}");
    assert!(report.is_clean(), "{report:?}");
    drop((watching, idle));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_never_confirms_does_not_keep_the_gateway() {
    let (here, script) = TestGateway::start_scripted("us-east", RULES, "shutdown_seconds: 2\n").await;
    script.set(Act::Hold);
    let mut publisher = here.publisher().await;
    let publishing = tokio::spawn(async move { publisher.publish(request()).await });
    until("the event is in flight", async || {
        here.metric("meridian_gateway_publish_requests_in_flight") == 1
    })
    .await;
    let began = Instant::now();
    let report = here.gateway.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(4), "{report:?}");
    let flush = report
        .phases
        .iter()
        .find(|phase| phase.name == "flush brokers")
        .unwrap();
    assert_eq!(
        flush.outcome,
        PhaseOutcome::Finished,
        "what comes after has its time: {report:?}"
    );
    assert!(script.calls().contains(&"flush"));
    // Its connection was cut, so its publisher knows that it does not know.
    publishing.await.unwrap().unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_starts_again_on_what_it_left() {
    let mut here = TestGateway::start("us-east", RULES, "").await;
    let first = receipt(&here.publish(request().events).await[0]).clone();
    here = here.restart("us-east", "").await;
    let second = receipt(&here.publish(request().events).await[0]).clone();
    assert_eq!(
        (second.partition, second.position),
        (first.partition, first.position + 1)
    );
}
