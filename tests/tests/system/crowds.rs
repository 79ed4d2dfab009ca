//! Too many of something: idle connections, file handles, names in metrics. Who works
//! goes on, what a crowd costs is bounded, and when it goes all is as before.

use std::collections::BTreeSet;
use std::time::Duration;

use meridian_tests::harness::{Brokers, Gateway, GatewayPlan, Scratch, eventually, http, short_or_full, wire};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::regions::{ORDER, US};

const RULES: &str = "rules:\n  - name: orders\n    send: { topic: orders }\n";
const SOON: Duration = Duration::from_secs(20);
/// An idle HTTP/2 connection in a build for debugging.
const MOST_KIB_PER_CONNECTION: u64 = 60;
/// Preface and SETTINGS of a client that then says nothing.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn gateway(scratch: &Scratch) -> Gateway {
    let gateway = GatewayPlan::new(US, Brokers::Embedded, RULES).start(scratch).await;
    gateway.ready().await;
    gateway
}

async fn connect(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    stream
}

/// A connection that the gateway serves: it has answered.
async fn connected(address: &str) -> TcpStream {
    let mut stream = connect(address).await;
    let mut answer = [0; 9];
    timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    stream
}

async fn publishes(gateway: &Gateway) {
    let results = timeout(SOON, wire::publish(&gateway.data(), &[wire::event("1", ORDER)])).await;
    wire::receipt(&results.expect("others publish").unwrap()[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_cost_little_and_hold_up_nobody() {
    let scratch = Scratch::new("idle-connections");
    let mut gateway = gateway(&scratch).await;
    publishes(&gateway).await;
    // Each is a file handle here and there; the limit of this process is what it is.
    let count = short_or_full(500, 8_000);
    let before = gateway.process().resident_kib();
    let mut crowd = Vec::with_capacity(count);
    for _ in 0..count {
        crowd.push(connected(&gateway.data()).await);
    }
    publishes(&gateway).await;
    let each = gateway.process().resident_kib().saturating_sub(before) / count as u64;
    assert!(
        each < MOST_KIB_PER_CONNECTION,
        "{each} KiB for each of {count} connections"
    );
    drop(crowd);
    eventually(SOON, "the connections to be gone", || async {
        gateway.metric("meridian_gateway_connections").await.unwrap_or_default() < 10.0
    })
    .await;
    publishes(&gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_file_handles_nobody_new_is_served_and_who_is_there_goes_on() {
    let scratch = Scratch::new("file-handles");
    let mut gateway = gateway(&scratch).await;
    let pid = gateway
        .process()
        .id()
        .and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    let mut channel =
        meridian_proto::meridian::publisher_service_client::PublisherServiceClient::new(wire::channel(&gateway.data()));
    let request = || meridian_proto::meridian::PublishRequest {
        events: vec![prost::Message::encode_to_vec(&wire::event("1", ORDER)).into()],
        forwarded_by: Vec::new(),
    };
    channel.publish(request()).await.unwrap();
    let handles = std::fs::read_dir(format!("/proc/{}/fd", gateway.process().id().unwrap())).unwrap();
    let limit = handles.count() as u64 + 10;
    let set = |current| {
        let limits = Rlimit {
            current: Some(current),
            maximum: getrlimit(Resource::Nofile).maximum, // as it inherited it from this process
        };
        prlimit(pid, Resource::Nofile, limits).unwrap();
    };
    set(limit);
    let log_before = gateway.process().log().lines().count();
    let mut crowd = Vec::new();
    for _ in 0..40 {
        crowd.push(connect(&gateway.data()).await); // the kernel takes them, the gateway cannot
    }
    for _ in 0..50 {
        let answer = timeout(SOON, channel.publish(request()))
            .await
            .expect("a live connection works");
        wire::receipt(&answer.unwrap().into_inner().results[0]);
    }
    meridian_tests::harness::wait::flow(Duration::from_secs(2)).await;
    let lines = gateway.process().log().lines().count() - log_before;
    assert!(
        (1..20).contains(&lines),
        "{lines} lines say so:\n{}",
        gateway.process().log_end()
    );
    set(4_096);
    // Those that waited at the door are let in.
    for mut waiting in crowd {
        let mut answer = [0; 9];
        timeout(SOON, waiting.read_exact(&mut answer)).await.unwrap().unwrap();
    }
    publishes(&gateway).await;
    let failures = gateway.metric("meridian_gateway_accept_failures_total").await;
    assert!(failures.is_some_and(|failures| failures > 0.0), "{failures:?}");
}

/// The series of a scrape, without their numbers.
async fn series(gateway: &Gateway) -> BTreeSet<String> {
    let (_, text) = http::get(&gateway.admin(), "/metrics").await.unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_publishers_choose_make_no_series_and_break_no_line() {
    let scratch = Scratch::new("cardinality");
    let gateway = gateway(&scratch).await;
    publishes(&gateway).await;
    let before = series(&gateway).await;
    let count = short_or_full(2_000, 200_000);
    for first in (0..count).step_by(500) {
        let events: Vec<_> = (first..first + 500)
            .map(|number| {
                let mut event = wire::event(&format!("id-{number}"), &format!("com.acme.type-{number}"));
                event.source = format!("/source/{number}");
                event
            })
            .collect();
        for result in wire::publish(&gateway.data(), &events).await.unwrap() {
            wire::receipt(&result);
        }
    }
    let rude = ["a\"b", "a\nb", "a\\", "\u{1b}[31mred", "{injected=\"1\"} 7"];
    let rude: Vec<_> = rude.iter().map(|name| wire::event("1", name)).collect();
    wire::publish(&gateway.data(), &rude).await.unwrap();
    let after = series(&gateway).await;
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.len() < 60, "{} series more: {new:?}", new.len());
    for name in &new {
        assert!(
            !name.contains("type-1") && !name.contains("/source/") && !name.contains("injected"),
            "{name}"
        );
    }
}
