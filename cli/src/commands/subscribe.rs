//! `meridian subscribe`: prints each event of a group and accepts it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meridian_event::EventData;
use meridian_proto::meridian::StartPosition;
use meridian_worker_sdk::{Delivery, Settlement, Worker};
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use crate::arguments::{From, SubscribeArguments};
use crate::failure::Failure;
use crate::output::Output;

pub(crate) async fn run(arguments: SubscribeArguments, output: Output) -> Result<(), Failure> {
    let limit = arguments.count.unwrap_or(u64::MAX);
    let printed = Arc::new(AtomicU64::new(0));
    let enough = Arc::new(Notify::new());
    let start = match arguments.from {
        From::Earliest => StartPosition::Earliest,
        From::Latest => StartPosition::Latest,
    };
    let handler = {
        let (printed, enough) = (printed.clone(), enough.clone());
        move |delivery: Delivery| {
            let number = printed.fetch_add(1, Ordering::Relaxed) + 1;
            let settlement = match number <= limit {
                true => print(&delivery, output),
                // Beyond the count: back to the group, for whoever comes next.
                false => Settlement::Release {
                    delay: std::time::Duration::ZERO,
                    reason: "not wanted".to_owned(),
                },
            };
            if number >= limit || settlement != Settlement::Accept {
                enough.notify_one();
            }
            async move { settlement }
        }
    };
    let stop = async move {
        tokio::select! {
            () = enough.notified() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    Worker::builder(arguments.gateway, arguments.group, arguments.topics)
        .broker(arguments.broker)
        .concurrency(arguments.concurrency)
        .start_position(start)
        .run(handler, stop)
        .await
        .map_err(Failure::failed)?;
    Ok(())
}

/// Prints the delivery; one that cannot be printed goes back.
fn print(delivery: &Delivery, output: Output) -> Settlement {
    let line = match output.is_json() {
        true => as_json(delivery).to_string(),
        false => as_text(delivery),
    };
    match output.line(&line) {
        Ok(()) => Settlement::Accept,
        Err(failure) => Settlement::Release {
            delay: std::time::Duration::ZERO,
            reason: failure.to_string(),
        },
    }
}

fn as_text(delivery: &Delivery) -> String {
    let event = delivery.event();
    let data = event.data_bytes().unwrap_or_default();
    format!(
        "{}/{}@{} attempt {} {} {} {} {}",
        delivery.topic(),
        delivery.partition(),
        delivery.position(),
        delivery.attempt(),
        event.type_name(),
        event.source(),
        event.id(),
        String::from_utf8_lossy(&data).escape_debug(),
    )
}

/// The event in CloudEvents' JSON form, beside where it came from.
fn as_json(delivery: &Delivery) -> Value {
    let event = delivery.event();
    let mut body = Map::new();
    body.insert("specversion".to_owned(), json!(event.spec_version()));
    body.insert("id".to_owned(), json!(event.id()));
    body.insert("source".to_owned(), json!(event.source()));
    body.insert("type".to_owned(), json!(event.type_name()));
    for (name, value) in event.attributes() {
        body.insert(name.to_owned(), json!(value.canonical()));
    }
    match event.data() {
        EventData::None => {}
        EventData::Text(text) => {
            body.insert(
                "data".to_owned(),
                serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
            );
        }
        EventData::Binary(bytes) | EventData::Protobuf { value: bytes, .. } => {
            let data = match std::str::from_utf8(bytes) {
                Ok(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
                Err(_) => json!(bytes),
            };
            body.insert("data".to_owned(), data);
        }
    }
    json!({
        "topic": delivery.topic(),
        "partition": delivery.partition(),
        "position": delivery.position(),
        "attempt": delivery.attempt(),
        "event": body,
    })
}
