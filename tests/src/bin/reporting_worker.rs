//! A worker that reports each delivery to the test and accepts it once the test
//! has noted it. The test kills it at will.
//!
//! `reporting-worker REPORTS GATEWAYS GROUP TOPICS`, lists parted by commas. Prints
//! one line when it is about to work; ends at SIGTERM or when the test is gone.
#![allow(clippy::print_stdout)] // The line is its interface.

use std::error::Error;
use std::time::Duration;

use meridian_tests::traffic::payload;
use meridian_tests::traffic::report::{Answer, DeliveryReport, Reporter};
use meridian_worker_sdk::{Delivery, Settlement, Worker};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [reports, gateways, group, topics] = arguments.as_slice() else {
        return Err("usage: reporting-worker REPORTS GATEWAYS GROUP TOPICS".into());
    };
    let reporter = Reporter::connect(reports).await?;
    let mut terminated = signal(SignalKind::terminate())?;
    println!("working");
    Worker::builder(gateways.split(','), group, topics.split(','))
        .concurrency(16)
        .run(
            move |delivery: Delivery| {
                let reporter = reporter.clone();
                async move { handle(&reporter, &delivery).await }
            },
            async move {
                terminated.recv().await;
            },
        )
        .await?;
    Ok(())
}

async fn handle(reporter: &Reporter, delivery: &Delivery) -> Settlement {
    let event = delivery.event();
    let fits = payload::read(event.id(), &event.data_bytes().unwrap_or_default()).is_some();
    let report = DeliveryReport {
        topic: delivery.topic().to_owned(),
        partition: delivery.partition(),
        position: delivery.position(),
        attempt: delivery.attempt(),
        id: if fits { event.id().to_owned() } else { "-".to_owned() },
    };
    match reporter.report(&report).await {
        Some(Answer::Accept) => Settlement::Accept,
        Some(Answer::Hold) => std::future::pending().await,
        None => Settlement::Release {
            delay: Duration::ZERO,
            reason: "the test is gone".to_owned(),
        },
    }
}
