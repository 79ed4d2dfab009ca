//! Handles orders until Ctrl-C: accepts most, tries some again, rejects others.
//!
//! Run `meridian dev` in one terminal, then:
//! `cargo run -p meridian-worker-sdk --example worker`

#![allow(clippy::print_stdout, clippy::print_stderr)] // An example talks to its reader.

use std::error::Error;
use std::time::Duration;

use meridian_worker_sdk::{Delivery, Settlement, Worker};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let gateway = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7400".to_owned());
    let stop = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            eprintln!("cannot wait for Ctrl-C: {error}");
        }
    };
    let report = Worker::builder([gateway], "billing", ["orders"])
        .concurrency(16)
        .run(handle, stop)
        .await?;
    println!("settled {}, too late {}", report.settled, report.stale);
    Ok(())
}

async fn handle(delivery: Delivery) -> Settlement {
    let event = delivery.event();
    println!("{} attempt {}", event.id(), delivery.attempt());
    if event.data_bytes().is_none() {
        return Settlement::Reject {
            reason: "an order without data".to_owned(),
        };
    }
    if event.id().ends_with('7') && delivery.attempt() == 1 {
        return Settlement::Release {
            delay: Duration::from_millis(100),
            reason: "the stock service is busy".to_owned(),
        };
    }
    Settlement::Accept
}
