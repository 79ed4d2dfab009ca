//! Refusal or unknown: what a publisher is told when the broker does not store its
//! events, or does not say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::time::{Duration, Instant};

use harness::scripted::Act;
use harness::{RULES, TestGateway, details, event, receipt, refusal, unknown};
use meridian_broker::AppendErrorKind;
use meridian_proto::meridian as proto;
use tonic::{Code, Request};

fn placed(id: &str) -> bytes::Bytes {
    event(id, "com.acme.order.placed", "k")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_down_is_unavailable_with_a_delay_and_publishing_resumes() {
    let (here, script) = TestGateway::start_scripted("us-east", RULES, "").await;
    script.set(Act::Refuse(AppendErrorKind::BrokerUnavailable));
    let results = here.publish(vec![placed("1"), placed("2")]).await;
    for (index, result) in results.iter().enumerate() {
        let status = refusal(result);
        assert_eq!(status.code, Code::Unavailable as i32);
        assert!(
            status.message.starts_with(&format!("events[{index}]: ")),
            "{}",
            status.message
        );
        let details = details(status);
        assert_eq!(details.error_info().unwrap().reason, "BROKER_UNAVAILABLE");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(1)));
    }
    script.set(Act::Pass);
    receipt(&here.publish(vec![placed("1")]).await[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_stored_is_unknown_and_its_neighbours_keep_their_own_outcome() {
    let (here, script) = TestGateway::start_scripted("us-east", RULES, "").await;
    script.set(Act::Unknown(AppendErrorKind::DeadlineExceeded));
    let results = here
        .publish(vec![placed("1"), event("2", "com.acme.nobody.asked", "k")])
        .await;
    let status = unknown(&results[0]);
    assert_eq!(status.code, Code::DeadlineExceeded as i32);
    assert_eq!(details(status).error_info().unwrap().reason, "APPEND_DEADLINE_EXCEEDED");
    assert_eq!(refusal(&results[1]).code, Code::NotFound as i32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_deadline_ends_the_wait_and_the_event_is_unknown() {
    let (here, script) = TestGateway::start_scripted("us-east", RULES, "").await;
    script.set(Act::Hold);
    let mut request = Request::new(proto::PublishRequest {
        events: vec![placed("1")],
        forwarded_by: Vec::new(),
    });
    request.set_timeout(Duration::from_secs(2));
    let began = Instant::now();
    let results = here
        .publisher()
        .await
        .publish(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let status = unknown(&results[0]);
    assert_eq!(
        details(status).error_info().unwrap().reason,
        "PUBLISH_DEADLINE_EXCEEDED"
    );
    assert!(status.message.contains("may be stored"), "{}", status.message);
    script.set(Act::Pass);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_full_of_requests_refuses_at_once_and_names_the_limit() {
    let more = "limits: { max_requests_in_flight: 1 }\n";
    let (here, script) = TestGateway::start_scripted("us-east", RULES, more).await;
    script.set(Act::Hold);
    let first = tokio::spawn({
        let mut publisher = here.publisher().await;
        let request = proto::PublishRequest {
            events: vec![placed("1")],
            forwarded_by: Vec::new(),
        };
        async move { publisher.publish(request).await }
    });
    harness::until("one request is in flight", async || {
        here.metric("meridian_gateway_publish_requests_in_flight") == 1
    })
    .await;
    let request = proto::PublishRequest {
        events: vec![placed("2")],
        forwarded_by: Vec::new(),
    };
    let status = here.publisher().await.publish(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let details = tonic_types::StatusExt::get_error_details(&status);
    assert_eq!(details.error_info().unwrap().reason, "GATEWAY_OVERLOADED");
    assert_eq!(
        details.quota_failure().unwrap().violations[0].subject,
        "max_requests_in_flight"
    );
    assert_eq!(
        details.retry_info().unwrap().retry_delay,
        Some(Duration::from_millis(250))
    );
    script.set(Act::Pass);
    receipt(&first.await.unwrap().unwrap().into_inner().results[0]);
}
