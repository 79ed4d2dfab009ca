//! HTTP/2 in bad faith, frame by frame: streams that are opened and reset, headers
//! without end, frames that cost the server more than the client, gRPC frames that lie. Each ends
//! its own connection or stream and costs bounded memory; others publish on meanwhile.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use meridian_proto::meridian::PublishRequest;
use meridian_tests::harness::{Brokers, Gateway, GatewayPlan, Scratch, short_or_full, wire};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::Service as _;
use tonic::codegen::http::Request;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::regions::{ORDER, US};

const RULES: &str = "rules:\n  - name: orders\n    send: { topic: orders }\n";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SOON: Duration = Duration::from_secs(10);
/// Well above what any of these may cost, well below what they send.
const MOST_GROWTH_KIB: u64 = 48 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

async fn gateway(scratch: &Scratch) -> Gateway {
    let gateway = GatewayPlan::new(US, Brokers::Embedded, RULES).start(scratch).await;
    gateway.ready().await;
    gateway
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// POST of the publish call in plain HPACK: indexed names, literal values.
fn request_headers() -> Vec<u8> {
    let path = b"/meridian.v1.PublisherService/Publish";
    let mut block = vec![0x83, 0x86, 0x04, path.len() as u8];
    block.extend(path);
    block.extend(b"\x01\x01a");
    block.extend(b"\x0f\x10\x10application/grpc");
    block
}

/// What came of a flood.
#[derive(Debug)]
struct Flood {
    ended_after: Option<Duration>,
    sent_bytes: usize,
}

/// Sends what `next` makes until the other side ends the connection, at most `limit` long; answers are
/// read, or the server would wait for us.
async fn flood(gateway: &Gateway, limit: Duration, mut next: impl FnMut() -> Vec<u8>) -> Flood {
    let stream = TcpStream::connect(gateway.data()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let began = Instant::now();
    let reading = tokio::spawn(async move {
        let mut answers = vec![0; 64 * 1024];
        while reader.read(&mut answers).await.is_ok_and(|count| count > 0) {}
    });
    let mut sent_bytes = 0;
    let sending = async {
        writer.write_all(PREFACE).await?;
        writer.write_all(&frame(SETTINGS, 0, 0, b"")).await?;
        while began.elapsed() < limit && !reading.is_finished() {
            let bytes = next();
            writer.write_all(&bytes).await?;
            sent_bytes += bytes.len();
        }
        std::io::Result::Ok(())
    };
    let broken = match timeout(limit, sending).await {
        Ok(sent) => sent.is_err(),
        Err(_) => false, // the server reads no more of it, which bounds it as well
    };
    let ended = broken || reading.is_finished();
    reading.abort();
    Flood {
        ended_after: ended.then(|| began.elapsed()),
        sent_bytes,
    }
}

async fn publishes(gateway: &Gateway) {
    let results = timeout(SOON, wire::publish(&gateway.data(), &[wire::event("1", ORDER)])).await;
    wire::receipt(&results.expect("others publish meanwhile").unwrap()[0]);
}

/// Floods while another client publishes; neither may cost the gateway its memory.
async fn flood_beside_others(gateway: &mut Gateway, limit: Duration, next: impl FnMut() -> Vec<u8>) -> Flood {
    publishes(gateway).await;
    let before = gateway.process().resident_kib();
    let flooded = {
        let beside = async {
            for _ in 0..5 {
                publishes(gateway).await;
            }
        };
        let (flooded, ()) = tokio::join!(flood(gateway, limit, next), beside);
        flooded
    };
    publishes(gateway).await;
    let growth = gateway.process().resident_kib().saturating_sub(before);
    assert!(growth < MOST_GROWTH_KIB, "{flooded:?} cost {growth} KiB");
    flooded
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_opened_and_reset_end_their_connection() {
    let scratch = Scratch::new("rapid-reset");
    let mut gateway = gateway(&scratch).await;
    let headers = request_headers();
    let mut stream = 1;
    let flooded = flood_beside_others(&mut gateway, SOON, || {
        let mut burst = Vec::new();
        for _ in 0..1_000 {
            burst.extend(frame(HEADERS, END_HEADERS, stream, &headers));
            burst.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            stream += 2;
        }
        burst
    })
    .await;
    assert!(flooded.ended_after.is_some(), "it may go on for ever: {flooded:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_without_end_end_their_connection() {
    let scratch = Scratch::new("continuation");
    let mut gateway = gateway(&scratch).await;
    let many: Vec<u8> = b"\x00\x01a\x01b".repeat(3_000);
    let mut first = true;
    let flooded = flood_beside_others(&mut gateway, SOON, || {
        if std::mem::take(&mut first) {
            frame(HEADERS, 0, 1, &request_headers())
        } else {
            frame(CONTINUATION, 0, 1, &many)
        }
    })
    .await;
    assert!(flooded.ended_after.is_some(), "it may go on for ever: {flooded:?}");
    assert!(flooded.sent_bytes < 16 * 1024 * 1024, "{flooded:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn header_bombs_are_refused_and_keep_nothing() {
    let scratch = Scratch::new("header-bombs");
    let mut gateway = gateway(&scratch).await;
    let small = [&request_headers()[..], &b"\x00\x01a\x01b".repeat(5_000)].concat();
    // Each is put into the table of the compression, and pushes out what was there.
    let churn = [&request_headers()[..], b"\x40\x01a\x7e".as_ref(), &[b'x'; 126]].concat();
    for block in [small, churn] {
        let mut stream = 1;
        flood_beside_others(&mut gateway, short_or_full(Duration::from_secs(2), SOON), || {
            let bytes = frame(HEADERS, END_HEADERS | 1, stream, &block);
            stream += 2;
            bytes
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_cost_the_server_more_than_the_client_cost_it_no_memory() {
    let scratch = Scratch::new("cheap-frames");
    let mut gateway = gateway(&scratch).await;
    let open = frame(HEADERS, END_HEADERS, 1, &request_headers());
    let padded = [&[255_u8][..], &[0; 255]].concat();
    let kinds: [(&str, Vec<u8>); 6] = [
        ("SETTINGS", frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("PING", frame(PING, 0, 0, b"12345678")),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())),
        ("PRIORITY", frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 16])),
        ("empty DATA", frame(DATA, 0, 1, b"")),
        ("padded DATA", frame(DATA, 8, 1, &padded)),
    ];
    for (kind, cheap) in kinds {
        let burst = cheap.repeat(2_000);
        let mut first = true;
        let flooded = flood_beside_others(&mut gateway, short_or_full(Duration::from_secs(1), SOON), || {
            if std::mem::take(&mut first) {
                open.clone()
            } else {
                burst.clone()
            }
        })
        .await;
        assert!(flooded.sent_bytes > 0, "{kind}: {flooded:?}");
    }
}

/// A call whose body is these bytes.
async fn call(channel: &mut Channel, body: Vec<u8>) -> Status {
    call_within(channel, body, None).await
}

async fn call_within(channel: &mut Channel, body: Vec<u8>, deadline: Option<&str>) -> Status {
    std::future::poll_fn(|context| channel.poll_ready(context))
        .await
        .unwrap();
    let mut request = Request::post("/meridian.v1.PublisherService/Publish")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if let Some(deadline) = deadline {
        request = request.header("grpc-timeout", deadline);
    }
    let request = request.body(Body::new(Full::new(Bytes::from(body)))).unwrap();
    let response = match timeout(SOON, channel.call(request)).await.expect("an answer") {
        Ok(response) => response,
        // tonic's client keeps the deadline as well.
        Err(error) if deadline.is_some() => return Status::deadline_exceeded(error.to_string()),
        Err(error) => panic!("{error}"),
    };
    if let Some(status) = Status::from_header_map(response.headers()) {
        return status;
    }
    let body = http_body_util::BodyExt::collect(response.into_body());
    let body = timeout(SOON, body).await.expect("an end").unwrap();
    let trailers = body.trailers().expect("a status at the end");
    Status::from_header_map(trailers).expect("a status at the end")
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_that_make_no_sense_neither_hang_nor_break_a_call() {
    let scratch = Scratch::new("deadlines");
    let gateway = gateway(&scratch).await;
    let request = PublishRequest {
        events: vec![wire::event("1", ORDER).encode_to_vec().into()],
        forwarded_by: Vec::new(),
    };
    let message = request.encode_to_vec();
    let framed = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    let mut channel = wire::channel(&gateway.data());
    for deadline in [
        "0n",
        "1n",
        "0S",
        "99999999H",
        "-1S",
        "1",
        "S",
        "1x",
        "999999999999S",
        "9".repeat(400).as_str(),
    ] {
        let status = call_within(&mut channel, framed.clone(), Some(deadline)).await;
        let expected = [Code::Ok, Code::DeadlineExceeded, Code::Cancelled, Code::InvalidArgument];
        assert!(expected.contains(&status.code()), "{deadline}: {status}");
    }
    assert_eq!(call_within(&mut channel, framed, Some("5S")).await.code(), Code::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_frames_that_lie_fail_their_call_and_not_the_connection() {
    let scratch = Scratch::new("lying-frames");
    let mut gateway = gateway(&scratch).await;
    let request = PublishRequest {
        events: vec![wire::event("1", ORDER).encode_to_vec().into()],
        forwarded_by: Vec::new(),
    };
    let message = request.encode_to_vec();
    let framed = |flag: u8, length: u32, message: &[u8]| [&[flag][..], &length.to_be_bytes(), message].concat();
    let length = message.len() as u32;
    let mut channel = wire::channel(&gateway.data());
    let before = gateway.process().resident_kib();
    for (what, body) in [
        ("4 GB", framed(0, u32::MAX, &message)),
        ("a flag that is none", framed(255, length, &message)),
        ("compressed, and no word how", framed(1, length, &message)),
        ("longer than it is", framed(0, length + 100, &message)),
        ("shorter than it is", framed(0, length - 3, &message)),
        ("half a frame's head", vec![0, 0, 0]),
        ("no protobuf", framed(0, 6, b"\xff\xff\xff\xff\xff\xff")),
        // A field of 2 GB that is not there, and groups in groups.
        ("a length of 2 GB", framed(0, 6, b"\x0a\xff\xff\xff\xff\x07")),
        ("100,000 groups", framed(0, 100_000, &vec![0x0b; 100_000])),
        ("nothing", Vec::new()),
    ] {
        let status = call(&mut channel, body).await;
        assert_ne!(status.code(), Code::Ok, "{what}");
        assert_ne!(status.code(), Code::Unknown, "{what}: {status}");
    }
    // The same connection serves what is right.
    let good = framed(0, length, &message);
    assert_eq!(call(&mut channel, good).await.code(), Code::Ok);
    let growth = gateway.process().resident_kib().saturating_sub(before);
    assert!(growth < MOST_GROWTH_KIB, "{growth} KiB");
}
