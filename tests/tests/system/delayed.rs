//! Publishing for later: not before its time, and whatever happens to the gateway meanwhile.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meridian_event::attribute::AttributeValue;
use meridian_proto::cloudevents::CloudEvent;
use meridian_tests::harness::scratch::unique;
use meridian_tests::harness::{Brokers, GatewayPlan, Scratch, eventually, shared_kafka, wire};
use meridian_worker_sdk::{Delivery, EventBuilder, Settlement, Worker};
use prost::Message as _;
use tokio::sync::oneshot;

use crate::regions::{ORDER, US};

/// A killed gateway keeps its place in a Kafka group for 15 s, and a debug build shares the machine.
const PATIENCE: Duration = Duration::from_secs(90);
const EVENTS: i64 = 12;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn event(id: &str, due_ms: i64) -> CloudEvent {
    let event = EventBuilder::new(id, "/shop", ORDER).text_data("12").build().unwrap();
    let due = [("deliverat", AttributeValue::timestamp_ms(due_ms))];
    let event = event.with_attributes(&due).unwrap();
    CloudEvent::decode(event.encoded().clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_for_later_survive_a_kill_on_the_embedded_log() {
    survive(Brokers::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_for_later_survive_a_kill_on_kafka() {
    survive(Brokers::Kafka(shared_kafka('A'))).await;
}

/// Some are due before the gateway is back, some after; all went through more than one bucket.
async fn survive(broker: Brokers) {
    let scratch = Scratch::new("delayed");
    let topic = unique("orders");
    let rules = format!("rules:\n  - name: orders\n    send: {{ topic: {topic} }}\n");
    let mut gateway = GatewayPlan::new(US, broker, rules).start(&scratch).await;
    gateway.ready().await;
    let now = now_ms();
    let due = |number: i64| now + 11_000 + number * 400;
    let events: Vec<_> = (0..EVENTS)
        .map(|number| event(&number.to_string(), due(number)))
        .collect();
    for result in wire::publish(&gateway.data(), &events).await.unwrap() {
        let receipt = wire::receipt(&result);
        assert!(receipt.topic.starts_with("meridian.delay."), "{receipt:?}");
        assert!(receipt.due_at.is_some());
    }
    eventually(PATIENCE, "the last bucket to be reached", || async {
        now_ms() > now + 11_500
    })
    .await;
    gateway.kill().await;
    gateway.start_again().await;

    let arrived: Arc<Mutex<Vec<(i64, i64)>>> = Arc::default();
    let (stop, stopped) = oneshot::channel();
    let seen = Arc::clone(&arrived);
    let worker = Worker::builder([gateway.data()], unique("late"), [topic.as_str()]);
    let working = tokio::spawn(worker.run(
        move |delivery: Delivery| {
            let number = delivery.event().id().parse().unwrap();
            seen.lock().unwrap().push((number, now_ms()));
            async { Settlement::Accept }
        },
        async move { drop(stopped.await) },
    ));
    eventually(PATIENCE, "every event to arrive", || async {
        let arrived = arrived.lock().unwrap();
        (0..EVENTS).all(|number| arrived.iter().any(|(seen, _)| *seen == number))
    })
    .await;
    stop.send(()).unwrap();
    working.await.unwrap().unwrap();
    for (number, at_ms) in arrived.lock().unwrap().iter() {
        let early_ms = due(*number) - at_ms;
        assert!(early_ms <= 0, "event {number} came {early_ms} ms before its time");
    }
}
