//! Events of other regions: whose receipt it is, what is told when the other side is
//! gone or drains, order, and circles.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::net::SocketAddr;
use std::time::Duration;

use harness::{TestGateway, details, event, receipt, refusal, unknown};
use meridian_proto::meridian as proto;
use meridian_proto::meridian::publisher_service_client::PublisherServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tonic::Code;

/// Orders belong to eu-west, wherever they come from.
const TO_EUROPE: &str = "
rules:
  - { name: orders, when: { type: com.acme.order.* }, send: { topic: orders, region: eu-west } }
  - { name: here, when: { type: com.acme.local.* }, send: { topic: local } }
";

fn placed(id: &str) -> bytes::Bytes {
    event(id, "com.acme.order.placed", "k")
}

fn peers(region: &str, addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(|address| format!("'{address}'")).collect();
    format!("peers: {{ {region}: {{ addresses: [{}] }} }}\n", addresses.join(", "))
}

fn nowhere() -> SocketAddr {
    "127.0.0.1:1".parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_that_the_owner_tells_name_the_publishers_event() {
    let strict = format!(
        "{}limits: {{ max_event_bytes: 1024 }}\n",
        peers("us-east", &[nowhere()])
    );
    let there = TestGateway::start("eu-west", TO_EUROPE, &strict).await;
    let here = TestGateway::start("us-east", TO_EUROPE, &peers("eu-west", &[there.gateway.data_address()])).await;
    let large = meridian_event::EventBuilder::new("large", "/shop", "com.acme.order.placed")
        .text_data("x".repeat(4_000))
        .build()
        .unwrap();
    let local = || event("1", "com.acme.local.thing", "k");
    let results = here
        .publish(vec![local(), placed("2"), local(), large.encoded().clone()])
        .await;
    assert_eq!(receipt(&results[0]).region, "us-east");
    assert_eq!(receipt(&results[1]).region, "eu-west");
    assert_eq!(receipt(&results[2]).region, "us-east");
    let status = refusal(&results[3]);
    assert!(status.message.starts_with("events[3]: "), "{}", status.message);
    let details = details(status);
    let info = details.error_info().unwrap();
    assert_eq!(
        (info.reason.as_str(), info.metadata["eventIndex"].as_str()),
        ("EVENT_TOO_LARGE", "3")
    );
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "events[3]");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_keeps_order_across_the_regions() {
    let there = TestGateway::start("eu-west", TO_EUROPE, &peers("us-east", &[nowhere()])).await;
    let here = TestGateway::start("us-east", TO_EUROPE, &peers("eu-west", &[there.gateway.data_address()])).await;
    let batch = |batch_number: u64| proto::PublishStreamRequest {
        batch_number,
        events: (0..3).map(|index| placed(&format!("{batch_number}-{index}"))).collect(),
    };
    let requests = tokio_stream::iter((1..=50).map(batch));
    let mut answers = here
        .publisher()
        .await
        .publish_stream(requests)
        .await
        .unwrap()
        .into_inner();
    let mut positions = std::collections::BTreeMap::new();
    while let Some(answer) = answers.message().await.unwrap() {
        for each in answer.results {
            let receipt = receipt(each.result.as_ref().unwrap()).clone();
            assert_eq!(receipt.region, "eu-west");
            positions.insert((answer.batch_number, each.event_index), receipt.position);
        }
    }
    assert_eq!(positions.len(), 150);
    assert!(
        positions.into_values().is_sorted(),
        "one key: stored in the order of the stream"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_drains_or_is_gone_is_passed_over_for_another() {
    let no_peer = peers("us-east", &[nowhere()]);
    let drains = TestGateway::start("eu-west", TO_EUROPE, &no_peer).await;
    let serves = TestGateway::start("eu-west", TO_EUROPE, &no_peer).await;
    let addresses = [nowhere(), drains.gateway.data_address(), serves.gateway.data_address()];
    let here = TestGateway::start("us-east", TO_EUROPE, &peers("eu-west", &addresses)).await;
    drains.gateway.drain("a test").await;
    receipt(&here.publish(vec![placed("1")]).await[0]);
    serves.gateway.drain("a test").await;
    let results = here.publish(vec![placed("2")]).await;
    let status = refusal(&results[0]);
    assert_eq!(status.code, Code::Unavailable as i32);
    let details = details(status);
    assert_eq!(details.error_info().unwrap().reason, "DRAINING");
    assert!(details.retry_info().is_some());
}

/// Takes connections and the first bytes of a request, and ends them.
async fn dies_in_between() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // Empty SETTINGS, as a server begins with.
                stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
                let mut seen = Vec::new();
                let mut buffer = [0; 4096];
                // The event's type travels in plain bytes of a DATA frame.
                while !seen.windows(14).any(|window| window == b"com.acme.order") {
                    let count = stream.read(&mut buffer).await.unwrap();
                    if count == 0 {
                        return;
                    }
                    seen.extend_from_slice(&buffer[..count]);
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_dies_in_between_leaves_its_events_unknown_and_no_others() {
    let address = dies_in_between().await;
    let here = TestGateway::start("us-east", TO_EUROPE, &peers("eu-west", &[address])).await;
    let results = here
        .publish(vec![placed("1"), event("2", "com.acme.local.thing", "k")])
        .await;
    let status = unknown(&results[0]);
    assert_eq!(details(status).error_info().unwrap().reason, "PEER_UNCONFIRMED");
    assert!(status.message.contains("may be stored there"), "{}", status.message);
    assert!(status.message.contains(&address.to_string()), "{}", status.message);
    receipt(&results[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_says_nothing_is_given_up_at_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let more = peers("eu-west", &[silent.local_addr().unwrap()]) + "limits: { publish_deadline_seconds: 0.5 }\n";
    let here = TestGateway::start("us-east", TO_EUROPE, &more).await;
    let began = std::time::Instant::now();
    let results = here
        .publish(vec![placed("1"), event("2", "com.acme.local.thing", "k")])
        .await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    receipt(&results[1]);
    let outcome = results[0].outcome.as_ref().unwrap();
    assert!(
        !matches!(outcome, proto::publish_result::Outcome::Receipt(_)),
        "{outcome:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regions_that_send_to_each_other_refuse_the_circle() {
    let back = "rules: [{ name: back, send: { topic: orders, region: us-east } }]\n";
    let there = TestGateway::start("eu-west", back, &peers("us-east", &[nowhere()])).await;
    let here = TestGateway::start("us-east", TO_EUROPE, &peers("eu-west", &[there.gateway.data_address()])).await;
    let results = here.publish(vec![placed("1")]).await;
    let status = refusal(&results[0]);
    assert_eq!(details(status).error_info().unwrap().reason, "FORWARD_LOOP");
    assert!(
        status
            .message
            .contains("rule back sends the event back to region us-east"),
        "{}",
        status.message
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_was_here_before_is_refused_whole() {
    let here = TestGateway::start("us-east", TO_EUROPE, &peers("eu-west", &[nowhere()])).await;
    let mut publisher: PublisherServiceClient<_> = here.publisher().await;
    for (forwarded_by, reason) in [
        (vec!["us-east", "eu-west"], "FORWARD_LOOP"),
        (vec!["mars"], "FORWARDED_BY_UNKNOWN"),
    ] {
        let request = proto::PublishRequest {
            events: vec![placed("1")],
            forwarded_by: forwarded_by.into_iter().map(str::to_owned).collect(),
        };
        let status = publisher.publish(request).await.unwrap_err();
        let details = tonic_types::StatusExt::get_error_details(&status);
        assert_eq!(details.error_info().unwrap().reason, reason, "{status}");
    }
}
