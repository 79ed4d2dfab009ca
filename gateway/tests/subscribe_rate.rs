//! How fast a group is handed what its topics hold. A debug build checks with a few events that all of them come; the
//! figures are for a release build:
//! `cargo test --release -p meridian-gateway --test subscribe_rate -- --nocapture`.
//!
//! Publisher, broker, gateway and workers share the process, and workers accept at once; so a figure is a lower bound.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints what it found"
)]

mod harness;
mod subscribe_worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use harness::{RULES, TestGateway, receipt};
use meridian_proto::meridian as wire;
use meridian_proto::meridian::SettlementAction;
use meridian_proto::meridian::subscribe_request::Request as Said;
use subscribe_worker::{Worker, open, orders, settlement};
use tokio_util::sync::CancellationToken;

const EVENTS: usize = if cfg!(debug_assertions) { 8_000 } else { 400_000 };
const BATCH: usize = 4_000;

/// What all workers have had.
#[derive(Clone, Default)]
struct Total {
    deliveries: Arc<AtomicUsize>,
    all: CancellationToken,
}

/// Accepts what comes until all workers together have had every event.
async fn work(mut worker: Worker, total: Total) {
    loop {
        tokio::select! {
            heard = worker.hear() => assert!(heard.unwrap().is_some(), "the stream has ended"),
            () = total.all.cancelled() => return,
        }
        worker.results.clear();
        worker.others.clear();
        let deliveries = std::mem::take(&mut worker.deliveries);
        if deliveries.is_empty() {
            continue;
        }
        let settlements = deliveries.iter().map(|delivery| wire::Settlement {
            reason: String::new(),
            ..settlement(delivery, SettlementAction::Accept)
        });
        let settle = wire::Settle {
            settlements: settlements.collect(),
        };
        worker.say(Said::Settle(settle)).await;
        if total.deliveries.fetch_add(deliveries.len(), Ordering::Relaxed) + deliveries.len() >= EVENTS {
            total.all.cancel();
        }
    }
}

async fn measure(here: &TestGateway, ordering: wire::Ordering, sessions: usize) {
    let total = Total::default();
    let begun = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..sessions {
        let terms = wire::OpenSession {
            group: format!("{ordering:?}-{sessions}"),
            ordering: ordering.into(),
            credit_bytes: 64 << 20,
            ..open(&format!("w{number}"), 2_000)
        };
        let worker = Worker::open(here.channel().await, terms).await.unwrap();
        workers.spawn(work(worker, total.clone()));
    }
    while let Some(ended) = workers.join_next().await {
        ended.unwrap();
    }
    let rate = EVENTS as f64 / begun.elapsed().as_secs_f64();
    println!("{ordering:?}, {sessions} sessions: {rate:.0} deliveries/s, each settled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_delivered_and_so_many_a_second() {
    let here = TestGateway::start("us-east", RULES, "").await;
    let events = orders(EVENTS, 10_000, 256);
    for batch in events.chunks(BATCH) {
        for result in here.publish(batch.to_vec()).await {
            receipt(&result);
        }
    }
    for sessions in [1, 4, 16] {
        measure(&here, wire::Ordering::Key, sessions).await;
    }
    measure(&here, wire::Ordering::None, 4).await;
}
