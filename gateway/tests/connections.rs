//! Connections that are no clients of ours: each ends alone, and their number is
//! bounded.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::net::SocketAddr;

use harness::{RULES, SOON, TestGateway, event, receipt, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn until_ended(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes).await; // it may have ended before all was read
    let mut answer = Vec::new();
    let ended = timeout(SOON, stream.read_to_end(&mut answer)).await;
    assert!(
        ended.is_ok(),
        "{address} keeps {:02x?} open",
        &bytes[..bytes.len().min(32)]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_ends_its_own_connection() {
    let here = TestGateway::start("us-east", RULES, "").await;
    let noise: Vec<u8> = (0..100_000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let stray = [PREFACE, &[0, 0, 4, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4]].concat();
    let huge = [PREFACE, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat();
    let tls = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &noise[..500]].concat();
    for address in [here.gateway.data_address(), here.gateway.admin_address()] {
        for bytes in [&noise, &[PREFACE, &noise].concat(), &stray, &huge, &tls] {
            until_ended(address, bytes).await;
        }
    }
    // On the data port not even HTTP/1 is an answer.
    until_ended(here.gateway.data_address(), b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(here.metric("meridian_gateway_connections_refused_total") >= 3);
    receipt(&here.publish(vec![event("1", "com.acme.order.placed", "k")]).await[0]);
    until("all are gone", async || {
        here.metric("meridian_gateway_connections") == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_over_the_limit_is_closed_and_a_free_place_is_taken_again() {
    let here = TestGateway::start("us-east", RULES, "limits: { max_connections: 2 }\n").await;
    let address = here.gateway.data_address();
    let held = [
        TcpStream::connect(address).await.unwrap(),
        TcpStream::connect(address).await.unwrap(),
    ];
    until("two are open", async || {
        here.metric("meridian_gateway_connections") == 2
    })
    .await;
    until_ended(address, b"").await;
    drop(held);
    until("the places are free", async || {
        here.metric("meridian_gateway_connections") == 0
    })
    .await;
    receipt(&here.publish(vec![event("1", "com.acme.order.placed", "k")]).await[0]);
}
