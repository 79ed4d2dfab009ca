//! Idempotent publishing: an event that comes again within its window is told the
//! receipt of its first time, and stored once, whatever became of the first try.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use harness::scripted::Act;
use harness::{RULES, TestGateway, details, event, receipt, refusal, unknown, until};
use meridian_broker::AppendErrorKind;
use meridian_event::EventBuilder;
use meridian_proto::meridian as proto;
use tonic::Request;

const WINDOWS: &str = "idempotence: { topics: [{ topic: 'ord*', window_seconds: 60 }] }\n";

fn placed(id: &str) -> Bytes {
    event(id, "com.acme.order.placed", "k")
}

fn is_duplicate(result: &proto::PublishResult) -> bool {
    receipt(result).duplicate
}

/// Publishes one event that is surely new, to learn what was stored before it.
async fn next_position(here: &TestGateway, id: &str) -> u64 {
    receipt(&here.publish(vec![placed(id)]).await[0]).position
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_is_told_the_first_receipt_and_stored_once() {
    let here = TestGateway::start("us-east", RULES, WINDOWS).await;
    let first = here.publish(vec![placed("1"), placed("2")]).await;
    assert!(!is_duplicate(&first[0]) && !is_duplicate(&first[1]));
    let again = here.publish(vec![placed("2"), placed("1"), placed("3")]).await;
    assert!(is_duplicate(&again[0]) && is_duplicate(&again[1]) && !is_duplicate(&again[2]));
    let mut expected = receipt(&first[0]).clone();
    expected.duplicate = true;
    assert_eq!(receipt(&again[1]), &expected, "all of it");
    assert_eq!(
        receipt(&again[2]).position,
        receipt(&first[1]).position + 1,
        "nothing between"
    );
    assert_eq!(here.metric("meridian_gateway_duplicate_events_total"), 2);
    assert_eq!(here.metric("meridian_gateway_window_ids"), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_publishes_of_one_id_store_one_record() {
    let here = TestGateway::start("us-east", RULES, WINDOWS).await;
    let start = next_position(&here, "before").await;
    let twice = here.publish(vec![placed("1"), placed("1")]).await;
    assert_eq!([is_duplicate(&twice[0]), is_duplicate(&twice[1])], [false, true]);
    let all = join_all((0..16).map(|_| here.publish(vec![placed("2")]))).await;
    let firsts = all.iter().filter(|results| !is_duplicate(&results[0])).count();
    assert_eq!(firsts, 1);
    let positions: std::collections::BTreeSet<u64> = all.iter().map(|results| receipt(&results[0]).position).collect();
    assert_eq!(positions.len(), 1, "{positions:?}");
    assert_eq!(next_position(&here, "after").await, start + 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_without_a_window_and_another_source_are_not_concerned() {
    let rules = "
rules:
  - { name: orders, when: { type: com.acme.order.* }, send: { topic: orders } }
  - { name: rest, send: { topic: rest } }
";
    let here = TestGateway::start("us-east", rules, WINDOWS).await;
    let other = event("1", "com.acme.other", "k");
    let results = here.publish(vec![other.clone(), other]).await;
    assert_eq!(receipt(&results[1]).position, receipt(&results[0]).position + 1);
    let elsewhere = EventBuilder::new("1", "/warehouse", "com.acme.order.placed")
        .text_data("{\"total\":12}")
        .build()
        .unwrap();
    let results = here.publish(vec![placed("1"), elsewhere.encoded().clone()]).await;
    assert!(!is_duplicate(&results[0]) && !is_duplicate(&results[1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_of_another_event_is_refused() {
    let here = TestGateway::start("us-east", RULES, WINDOWS).await;
    receipt(&here.publish(vec![placed("1")]).await[0]);
    let forged = EventBuilder::new("1", "/shop", "com.acme.order.placed")
        .text_data("{\"total\":13}")
        .build()
        .unwrap();
    let results = here.publish(vec![forged.encoded().clone()]).await;
    let status = refusal(&results[0]);
    assert_eq!(details(status).error_info().unwrap().reason, "EVENT_ID_REUSED");
    assert!(status.message.contains("is stored at orders/"), "{}", status.message);
    assert!(status.message.contains("an id of its own"), "{}", status.message);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_or_unknown_can_be_published_again() {
    let (here, script) = TestGateway::start_scripted("us-east", RULES, WINDOWS).await;
    script.set(Act::Refuse(AppendErrorKind::BrokerUnavailable));
    refusal(&here.publish(vec![placed("1")]).await[0]);
    script.set(Act::Unknown(AppendErrorKind::DeadlineExceeded));
    unknown(&here.publish(vec![placed("2")]).await[0]);
    script.set(Act::Pass);
    let results = here.publish(vec![placed("1"), placed("2")]).await;
    assert!(!is_duplicate(&results[0]) && !is_duplicate(&results[1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_was_confirmed_after_its_deadline_is_not_stored_again() {
    let (here, script) = TestGateway::start_scripted("us-east", RULES, WINDOWS).await;
    script.set(Act::Hold);
    let mut request = Request::new(proto::PublishRequest {
        events: vec![placed("1")],
        forwarded_by: Vec::new(),
    });
    request.set_timeout(Duration::from_secs(1));
    let mut publisher = here.publisher().await;
    let results = publisher.publish(request).await.unwrap().into_inner().results;
    unknown(&results[0]);
    // A retry while nobody knows yet waits, and stores nothing.
    let mut retry = Request::new(proto::PublishRequest {
        events: vec![placed("1")],
        forwarded_by: Vec::new(),
    });
    retry.set_timeout(Duration::from_secs(1));
    let results = publisher.publish(retry).await.unwrap().into_inner().results;
    let status = refusal(&results[0]);
    assert_eq!(details(status).error_info().unwrap().reason, "DUPLICATE_NOT_STORED");
    assert!(details(status).retry_info().is_some());
    script.set(Act::Pass);
    let results = here.publish(vec![placed("1")]).await;
    assert!(is_duplicate(&results[0]), "the first was stored in the end");
}

/// A Redis server of one test.
struct Redis {
    server: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Redis {
    async fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let folder = tempfile::tempdir().unwrap();
        let server = serve(port, folder.path());
        let redis = Self { server, port, folder };
        redis.until_up().await;
        redis
    }

    async fn until_up(&self) {
        let address = ("127.0.0.1", self.port);
        until("redis-server listens", async || {
            tokio::net::TcpStream::connect(address).await.is_ok()
        })
        .await;
    }

    fn stop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    async fn start_again(&mut self) {
        self.server = serve(self.port, self.folder.path());
        self.until_up().await;
    }

    fn windows(&self) -> String {
        let topics = "topics: [{ topic: orders, window_seconds: 60 }]";
        format!(
            "idempotence: {{ {topics}, redis: {{ address: '127.0.0.1:{}' }} }}\n",
            self.port
        )
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn serve(port: u16, folder: &std::path::Path) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
        .args(["--dir", folder.to_str().unwrap()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is needed: run deploy/local/install-packages")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gateways_that_share_a_redis_know_what_the_other_stored() {
    let redis = Redis::start().await;
    let one = TestGateway::start("us-east", RULES, &redis.windows()).await;
    let other = TestGateway::start("us-east", RULES, &redis.windows()).await;
    let first = one.publish(vec![placed("1")]).await;
    let again = other.publish(vec![placed("1"), placed("2")]).await;
    assert_eq!([is_duplicate(&again[0]), is_duplicate(&again[1])], [true, false]);
    let mut expected = receipt(&first[0]).clone();
    expected.duplicate = true;
    assert_eq!(receipt(&again[0]), &expected);

    let both = [&one, &other];
    let racing = (0..12).map(|number| both[number % 2].publish(vec![placed("3")]));
    let firsts = join_all(racing).await;
    let firsts = firsts.iter().filter(|results| !is_duplicate(&results[0])).count();
    assert_eq!(firsts, 1, "one of twelve stored it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_redis_a_topic_takes_nothing_and_goes_on_when_it_is_back() {
    let mut redis = Redis::start().await;
    let here = TestGateway::start("us-east", RULES, &redis.windows()).await;
    receipt(&here.publish(vec![placed("1")]).await[0]);
    redis.stop();
    let results = here.publish(vec![placed("2")]).await;
    let status = refusal(&results[0]);
    assert_eq!(details(status).error_info().unwrap().reason, "WINDOW_STORE_UNAVAILABLE");
    assert!(details(status).retry_info().is_some());
    redis.start_again().await;
    until("publishing goes on", async || {
        let results = here.publish(vec![placed("2")]).await;
        matches!(results[0].outcome, Some(proto::publish_result::Outcome::Receipt(_)))
    })
    .await;
}
