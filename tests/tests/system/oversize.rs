//! Sizes at the door: an event one byte below, at and above the limit on every kind
//! of broker, and compressed bodies that would grow without bound. What passes the
//! door is never refused later by the broker for its size.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use meridian_proto::cloudevents::CloudEvent;
use meridian_proto::cloudevents::cloud_event::Data;
use meridian_tests::harness::{Brokers, Gateway, GatewayPlan, Scratch, shared_kafka, wire};
use prost::Message as _;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};

use crate::regions::{ORDER, US};

const RULES: &str = "rules:\n  - name: orders\n    send: { topic: orders-of-every-size }\n";
/// What a record may be beyond the data: attributes as headers, and Meridian's own.
const LIMIT: usize = 1024 * 1024 - 8 * 1024;
const SOON: Duration = Duration::from_secs(10);
/// Beyond this the gateway would have unpacked what it was sent.
const MOST_GROWTH_BYTES: u64 = 64 * 1024 * 1024;

/// An event of exactly so many encoded bytes.
fn of_size(bytes: usize) -> CloudEvent {
    let mut event = wire::event("large", ORDER);
    let mut data = bytes;
    loop {
        event.data = Some(Data::BinaryData(vec![7; data].into()));
        let size = event.encoded_len();
        if size == bytes {
            return event;
        }
        data -= size - bytes;
    }
}

async fn the_limit_is_one_byte_sharp(name: &str, broker: Brokers) {
    let scratch = Scratch::new(name);
    let more = format!("limits: {{ max_event_bytes: {LIMIT} }}\n");
    let gateway = GatewayPlan::new(US, broker, RULES).more(&more).start(&scratch).await;
    gateway.ready().await;
    for (bytes, passes) in [(LIMIT - 1, true), (LIMIT, true), (LIMIT + 1, false)] {
        let results = wire::publish(&gateway.data(), &[of_size(bytes), wire::event("small", ORDER)])
            .await
            .unwrap();
        wire::receipt(&results[1]);
        if passes {
            wire::receipt(&results[0]);
            continue;
        }
        let (status, details) = wire::refusal(&results[0]);
        assert_eq!(details.error_info().unwrap().reason, "EVENT_TOO_LARGE");
        assert!(status.message.contains(&bytes.to_string()), "{}", status.message);
        assert!(status.message.contains(&LIMIT.to_string()), "{}", status.message);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_limit_is_sharp_on_the_embedded_log() {
    the_limit_is_one_byte_sharp("size-embedded", Brokers::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_limit_is_sharp_on_kafka() {
    the_limit_is_one_byte_sharp("size-kafka", Brokers::Kafka(shared_kafka('A'))).await;
}

/// A shared server of another kind, by the variable that names it.
fn shared(kind: &'static str, variable: &str) -> Brokers {
    let address = std::env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} is not set: run `make test`, or deploy/local/services-up and set it"));
    Brokers::Servers(kind, vec![address])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_limit_is_sharp_on_redis() {
    the_limit_is_one_byte_sharp("size-redis", shared("redis", "MERIDIAN_REDIS_A")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_size_limit_is_sharp_on_rabbitmq() {
    the_limit_is_one_byte_sharp("size-rabbitmq", shared("rabbitmq", "MERIDIAN_RABBITMQ_A")).await;
}

fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// 256 MiB of zeros, as gzip makes them: about a thousandth of that.
fn bomb() -> Vec<u8> {
    let packed = std::process::Command::new("sh")
        .args(["-c", "head -c 268435456 /dev/zero | gzip -9"])
        .output()
        .unwrap();
    assert!(packed.status.success(), "{packed:?}");
    packed.stdout
}

/// A call of a client that compresses, whether or not it was offered.
async fn publish_compressed(gateway: &Gateway, encoding: &str, packed: &[u8]) -> Response<Body> {
    let mut message = vec![1]; // compressed
    message.extend((packed.len() as u32).to_be_bytes());
    message.extend(packed);
    let mut channel = wire::channel(&gateway.data());
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    let request = Request::post("/meridian.v1.PublisherService/Publish")
        .header("content-type", "application/grpc")
        .header("grpc-encoding", encoding)
        .header("te", "trailers")
        .body(Body::new(Full::new(Bytes::from(message))))
        .unwrap();
    channel.call(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compressed_body_is_refused_and_never_unpacked() {
    let scratch = Scratch::new("bomb");
    let mut gateway = GatewayPlan::new(US, Brokers::Embedded, RULES).start(&scratch).await;
    gateway.ready().await;
    let packed = bomb();
    assert!(packed.len() < 1024 * 1024, "{} bytes", packed.len());
    let pid = gateway.process().id().unwrap();
    let before = resident_bytes(pid);
    for encoding in ["gzip", "zstd", "deflate", "x-unheard"] {
        let call = publish_compressed(&gateway, encoding, &packed);
        let response = tokio::time::timeout(SOON, call).await.expect("an answer comes soon");
        let status = Status::from_header_map(response.headers()).expect("a status without a body");
        assert_eq!(status.code(), Code::Unimplemented, "{encoding}: {status}");
        assert!(status.message().contains(encoding), "{status}");
    }
    let growth = resident_bytes(pid).saturating_sub(before);
    assert!(growth < MOST_GROWTH_BYTES, "it grew by {growth} bytes");
    let results = wire::publish(&gateway.data(), &[wire::event("after", ORDER)])
        .await
        .unwrap();
    wire::receipt(&results[0]);
}
