//! Publishes a hundred orders, pipelined, and prints where the last one is.
//!
//! Run `meridian dev` in one terminal, then:
//! `cargo run -p meridian-worker-sdk --example publish`

#![allow(clippy::print_stdout, clippy::print_stderr)] // An example talks to its reader.

use std::error::Error;

use meridian_worker_sdk::{EventBuilder, Publisher};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let gateway = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7400".to_owned());
    let publisher = Publisher::builder([gateway]).build()?;
    let mut pending = Vec::new();
    for number in 0..100 {
        let event = EventBuilder::new(&format!("order-{number}"), "/shop", "com.acme.order.placed")
            .partition_key(&format!("customer-{}", number % 10))
            .text_data(format!("{{\"order\":{number}}}"))
            .build()?;
        // Waits only while the publisher's window is full.
        pending.push(publisher.send(event).await?);
    }
    let mut last = None;
    for outcome in pending {
        match outcome.await {
            Ok(receipt) => last = Some(receipt),
            Err(error) if error.may_be_stored() => eprintln!("may be stored: {error}"),
            Err(error) => eprintln!("not stored: {error}"),
        }
    }
    if let Some(receipt) = last {
        println!(
            "stored on {}/{} by rule {}, the last at {}/{}@{}",
            receipt.region, receipt.broker, receipt.rule, receipt.topic, receipt.partition, receipt.position
        );
    }
    Ok(())
}
