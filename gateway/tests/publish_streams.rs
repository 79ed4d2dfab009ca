//! Publish streams: pipelining, the window, publishers that read nothing, draining.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::time::Duration;

use harness::scripted::Act;
use harness::{RULES, SOON, TestGateway, event, receipt, refusal, until};
use meridian_proto::meridian as proto;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

/// Looks in a row, 10 ms apart, at which nothing may move before a stream counts as held up.
const QUIET_LOOKS: u32 = 30;

struct Stream {
    batches: mpsc::Sender<proto::PublishStreamRequest>,
    answers: Streaming<proto::PublishStreamResponse>,
}

impl Stream {
    async fn open(gateway: &TestGateway) -> Self {
        let (batches, receiver) = mpsc::channel(1);
        let opened = gateway
            .publisher()
            .await
            .publish_stream(ReceiverStream::new(receiver))
            .await;
        Self {
            batches,
            answers: opened.unwrap().into_inner(),
        }
    }

    async fn send(&self, number: u64) {
        let batch = proto::PublishStreamRequest {
            batch_number: number,
            events: vec![event(&number.to_string(), "com.acme.order.placed", "k")],
        };
        self.batches.send(batch).await.unwrap();
    }

    async fn answer(&mut self) -> Result<Option<proto::PublishStreamResponse>, tonic::Status> {
        timeout(SOON, self.answers.message()).await.expect("an answer")
    }
}

fn requests_in_flight(gateway: &TestGateway) -> i64 {
    gateway.metric("meridian_gateway_publish_requests_in_flight")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_in_flight_together_up_to_the_window() {
    let more = "limits: { max_stream_batches_in_flight: 3 }\n";
    let (here, script) = TestGateway::start_scripted("us-east", RULES, more).await;
    script.set(Act::Hold);
    let mut stream = Stream::open(&here).await;
    let sending = tokio::spawn({
        let batches = stream.batches.clone();
        async move {
            for number in 1..=10 {
                let events = vec![event(&number.to_string(), "com.acme.order.placed", "k")];
                let batch = proto::PublishStreamRequest {
                    batch_number: number,
                    events,
                };
                batches.send(batch).await.unwrap();
            }
        }
    });
    until("three batches are in flight", async || requests_in_flight(&here) == 3).await;
    let nothing = timeout(Duration::from_millis(200), stream.answers.message()).await;
    assert!(
        nothing.is_err(),
        "nothing is answered before it is durable: {nothing:?}"
    );
    assert_eq!(requests_in_flight(&here), 3, "the window is full, and no more is read");
    script.set(Act::Pass);
    let mut positions = Vec::new();
    for _ in 0..10 {
        let answer = stream.answer().await.unwrap().unwrap();
        assert!(answer.batch_complete);
        let result = answer.results[0].result.as_ref().unwrap();
        positions.push((answer.batch_number, receipt(result).position));
    }
    positions.sort_unstable();
    assert!(positions.is_sorted_by_key(|(_, position)| *position), "{positions:?}");
    sending.await.unwrap();
    assert!(here.gateway.shutdown().await.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_that_reads_nothing_holds_up_nobody() {
    let more = "limits: { max_stream_batches_in_flight: 8, max_requests_in_flight: 8 }\n";
    let here = TestGateway::start("us-east", RULES, more).await;
    let events: Vec<_> = (0..2_000)
        .map(|id| event(&id.to_string(), "com.acme.order.placed", "k"))
        .collect();
    let (batches, receiver) = mpsc::channel(1);
    let deaf = here
        .publisher()
        .await
        .publish_stream(ReceiverStream::new(receiver))
        .await
        .unwrap();
    let sending = tokio::spawn(async move {
        for batch_number in 1.. {
            let events = events.clone();
            if batches
                .send(proto::PublishStreamRequest { batch_number, events })
                .await
                .is_err()
            {
                return;
            }
        }
    });
    // Its receipts fill what the connection takes unread, and then its window.
    let (mut stored, mut quiet_looks) = (0, 0);
    until("no more is read from it, and all of it is durable", async || {
        let before = std::mem::replace(&mut stored, here.metric("meridian_gateway_published_events_total"));
        let is_quiet = stored > 0 && stored == before && requests_in_flight(&here) == 0;
        quiet_looks = if is_quiet { quiet_looks + 1 } else { 0 };
        quiet_looks >= QUIET_LOOKS
    })
    .await;
    let results = here.publish(vec![event("other", "com.acme.order.placed", "k")]).await;
    receipt(&results[0]);
    sending.abort();
    drop(deaf);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_answers_what_was_read_and_then_ends_the_stream() {
    let (here, script) = TestGateway::start_scripted("us-east", RULES, "").await;
    script.set(Act::Hold);
    let mut stream = Stream::open(&here).await;
    stream.send(1).await;
    until("the batch is in flight", async || requests_in_flight(&here) == 1).await;
    here.gateway.drain("a test").await;
    script.set(Act::Pass);
    let answer = stream.answer().await.unwrap().unwrap();
    assert!(answer.batch_complete && answer.batch_number == 1);
    receipt(answer.results[0].result.as_ref().unwrap());
    let status = stream.answer().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("draining"), "{status}");
    let details = tonic_types::StatusExt::get_error_details(&status);
    assert_eq!(
        details.error_info().unwrap().metadata["lastBatch"],
        "1",
        "later ones are surely not stored"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_over_a_limit_is_refused_alone_and_the_stream_goes_on() {
    let here = TestGateway::start("us-east", RULES, "limits: { max_batch_events: 2 }\n").await;
    let mut stream = Stream::open(&here).await;
    stream.send(1).await;
    let events = vec![event("x", "com.acme.order.placed", "k"); 3];
    let large = proto::PublishStreamRequest {
        batch_number: 2,
        events,
    };
    stream.batches.send(large).await.unwrap();
    stream.send(3).await;
    let mut complete = std::collections::BTreeMap::new();
    while complete.len() < 3 {
        let answer = stream.answer().await.unwrap().unwrap();
        complete.insert(answer.batch_number, answer.results);
    }
    let results = |number: u64| complete[&number].iter().map(|each| each.result.as_ref().unwrap());
    assert_eq!(results(2).count(), 3);
    for result in results(2) {
        assert!(
            refusal(result).message.contains("3 events, 2 are allowed"),
            "{result:?}"
        );
    }
    for result in results(1).chain(results(3)) {
        receipt(result);
    }
}
