//! How fast a group is handed what its topics hold: a measurement, run by hand in release:
//! `cargo test --release -p meridian-gateway --test subscribe_rate -- --ignored --nocapture`.
//!
//! Publisher, broker, gateway and workers share the process, and workers accept at once; so the figure is a lower bound.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement prints what it found")]

mod harness;
mod subscribe_worker;

use std::time::Instant;

use harness::{RULES, TestGateway, receipt};
use meridian_proto::meridian as wire;
use meridian_proto::meridian::SettlementAction;
use meridian_proto::meridian::subscribe_request::Request as Said;
use subscribe_worker::{Worker, open, orders, settlement};

const EVENTS: usize = 400_000;
const BATCH: usize = 4_000;

/// Accepts what comes until the stream has shown `share` deliveries in all.
async fn work(mut worker: Worker, total: std::sync::Arc<std::sync::atomic::AtomicUsize>) {
    use std::sync::atomic::Ordering::Relaxed;
    while total.load(Relaxed) < EVENTS {
        tokio::select! {
            heard = worker.hear() => drop(heard.unwrap()),
            () = tokio::time::sleep(std::time::Duration::from_millis(100)) => continue,
        }
        worker.results.clear();
        worker.others.clear();
        let deliveries = std::mem::take(&mut worker.deliveries);
        if deliveries.is_empty() {
            continue;
        }
        total.fetch_add(deliveries.len(), Relaxed);
        let settlements = deliveries.iter().map(|delivery| wire::Settlement {
            reason: String::new(),
            ..settlement(delivery, SettlementAction::Accept)
        });
        let settle = wire::Settle {
            settlements: settlements.collect(),
        };
        worker.say(Said::Settle(settle)).await;
    }
}

async fn measure(here: &TestGateway, ordering: wire::Ordering, sessions: usize) {
    let total = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
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
#[ignore = "a measurement, for release builds on a quiet machine"]
async fn deliveries_per_second() {
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
