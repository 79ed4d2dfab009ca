//! Publishing over real gRPC onto an embedded broker: receipts, refusals,
//! neighbours, streams, forwarding, limits, draining.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use bytes::Bytes;
use harness::{RULES, RULES_AWAY, TestGateway, event, receipt, refusal};
use meridian_proto::meridian as proto;
use tonic::Code;
use tonic_types::StatusExt as _;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_says_where_and_how_durable() {
    let here = TestGateway::start("us-east", RULES, "").await;
    let results = here
        .publish(vec![
            event("1", "com.acme.order.placed", "k"),
            event("2", "com.acme.order.placed", "k"),
        ])
        .await;
    let (first, second) = (receipt(&results[0]), receipt(&results[1]));
    assert_eq!(
        (first.region.as_str(), first.broker.as_str(), first.topic.as_str()),
        ("us-east", "main", "orders")
    );
    assert_eq!(first.durability(), proto::Durability::Fsynced);
    assert_eq!((first.rule.as_str(), first.rules_revision), ("orders", 1));
    assert_eq!(
        (second.partition, second.position),
        (first.partition, first.position + 1),
        "one key, one partition, in order"
    );
    assert!(here.gateway.shutdown().await.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_event_never_fails_its_neighbours() {
    let here = TestGateway::start("us-east", RULES, "").await;
    let events = vec![
        event("1", "com.acme.order.placed", "k"),
        Bytes::from_static(b"\xff\xff"),
        event("2", "com.acme.nobody.asked", "k"),
        event("3", "com.acme.order.placed", "k"),
    ];
    let results = here.publish(events).await;
    receipt(&results[0]);
    receipt(&results[3]);
    let malformed = refusal(&results[1]);
    assert_eq!(malformed.code, Code::InvalidArgument as i32);
    assert!(malformed.message.starts_with("events[1]: "), "{}", malformed.message);
    let unroutable = refusal(&results[2]);
    assert_eq!(unroutable.code, Code::NotFound as i32);
    assert!(
        unroutable.message.contains("com.acme.nobody.asked"),
        "{}",
        unroutable.message
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_over_its_limit_is_refused_whole_and_names_the_limit() {
    let here = TestGateway::start("us-east", RULES, "limits: { max_batch_events: 2 }\n").await;
    let request = proto::PublishRequest {
        events: vec![event("1", "com.acme.order.placed", "k"); 3],
        forwarded_by: vec![],
    };
    let status = here.publisher().await.publish(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(
        status.message(),
        "the batch has 3 events, 2 are allowed; publish it in smaller batches"
    );
    assert_eq!(
        status.get_error_details().error_info().unwrap().reason,
        "BATCH_TOO_LARGE"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_answers_every_batch_and_ends_with_its_publisher() {
    let here = TestGateway::start("us-east", RULES, "limits: { max_stream_batches_in_flight: 4 }\n").await;
    let batch = |number: u64| proto::PublishStreamRequest {
        batch_number: number,
        events: (0..10)
            .map(|index| event(&format!("{number}-{index}"), "com.acme.order.placed", "k"))
            .collect(),
    };
    let requests = tokio_stream::iter((1..=100).map(batch));
    let mut answers = here
        .publisher()
        .await
        .publish_stream(requests)
        .await
        .unwrap()
        .into_inner();
    let mut positions = std::collections::BTreeMap::new();
    let mut complete = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        complete += u64::from(answer.batch_complete);
        for indexed in answer.results {
            let receipt = receipt(indexed.result.as_ref().unwrap()).clone();
            positions.insert((answer.batch_number, indexed.event_index), receipt.position);
        }
    }
    assert_eq!((complete, positions.len()), (100, 1000));
    let in_order: Vec<u64> = positions.into_values().collect();
    assert!(in_order.is_sorted(), "one key: stored in the order of the stream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_misnumbers_ends_and_says_which_number_comes_next() {
    let here = TestGateway::start("us-east", RULES, "").await;
    let batch = |number| proto::PublishStreamRequest {
        batch_number: number,
        events: vec![event("1", "com.acme.order.placed", "k")],
    };
    let requests = tokio_stream::iter([batch(1), batch(3)]);
    let mut answers = here
        .publisher()
        .await
        .publish_stream(requests)
        .await
        .unwrap()
        .into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert!(first.batch_complete && first.batch_number == 1);
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(
        status.message().contains("batch_number is 3, 2 comes next"),
        "{}",
        status.message()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_another_region_is_forwarded_and_the_receipt_is_the_owners() {
    let there = TestGateway::start(
        "eu-west",
        RULES_AWAY,
        "peers: { us-east: { addresses: ['127.0.0.1:1'] } }\n",
    )
    .await;
    let peers = format!(
        "peers: {{ eu-west: {{ addresses: ['{}'] }} }}\n",
        there.gateway.data_address()
    );
    let here = TestGateway::start("us-east", RULES_AWAY, &peers).await;
    let results = here
        .publish(vec![
            event("1", "com.acme.order.placed", "k"),
            event("2", "com.acme.away.now", "k"),
        ])
        .await;
    assert_eq!(receipt(&results[0]).region, "us-east");
    // The owner routes by its own rules: in eu-west the event is at home.
    assert_eq!(receipt(&results[1]).region, "eu-west");

    let address = there.gateway.data_address();
    there.gateway.shutdown().await;
    let results = here
        .publish(vec![
            event("3", "com.acme.away.now", "k"),
            event("4", "com.acme.order.placed", "k"),
        ])
        .await;
    let away = refusal(&results[0]);
    assert_eq!(away.code, Code::Unavailable as i32);
    assert!(away.message.contains(&address.to_string()), "{}", away.message);
    receipt(&results[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_gateway_takes_no_more_and_says_where_to_go() {
    let here = TestGateway::start("us-east", RULES, "").await;
    let mut publisher = here.publisher().await;
    here.gateway.drain("a test").await;
    let request = proto::PublishRequest {
        events: vec![event("1", "com.acme.order.placed", "k")],
        forwarded_by: vec![],
    };
    let status = publisher.publish(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("another gateway"), "{}", status.message());
    assert!(status.get_error_details().retry_info().is_some());
    assert!(here.gateway.shutdown().await.is_clean());
}
