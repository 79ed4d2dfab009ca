//! Poison among healthy events (`MERIDIAN_FULL=1`: one among 100,000), and what an operator does with dead letters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meridian_proto::cloudevents::CloudEvent;
use meridian_proto::cloudevents::cloud_event::CloudEventAttributeValue;
use meridian_proto::cloudevents::cloud_event::cloud_event_attribute_value::Attr;
use meridian_proto::meridian::Ordering;
use meridian_tests::harness::scratch::unique;
use meridian_tests::harness::{
    Brokers, Gateway, GatewayPlan, Scratch, ServiceKind, eventually, eventually_some, meridian, shared_broker,
    shared_kafka, short_or_full, wire,
};
use meridian_worker_sdk::{Delivery, Settlement, Worker};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::regions::{ORDER, US};

const PATIENCE: Duration = Duration::from_secs(120);
const KEYS: usize = 50;

/// What a worker saw: id and attempt, in order.
type Seen = Arc<Mutex<Vec<(String, u32)>>>;

struct Working {
    seen: Seen,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Working {
    fn start(
        gateway: &Gateway,
        (group, topic): (&str, &str),
        ordering: Ordering,
        judge: impl Fn(&str) -> Settlement + Send + Sync + 'static,
    ) -> Self {
        let seen = Seen::default();
        let noted = Arc::clone(&seen);
        let (stop, stopped) = oneshot::channel();
        let worker = Worker::builder([gateway.data()], group, [topic])
            .worker_id("w-1")
            .concurrency(32)
            .ordering(ordering)
            .max_attempts(3)
            .retry_backoff(Duration::from_millis(200), Duration::from_millis(400), 2.0);
        let task = tokio::spawn(async move {
            let handler = move |delivery: Delivery| {
                let id = delivery.event().id().to_owned();
                let settlement = judge(&id);
                noted.lock().unwrap().push((id, delivery.attempt()));
                async move { settlement }
            };
            worker.run(handler, async move { drop(stopped.await) }).await.unwrap();
        });
        Self { seen, stop, task }
    }

    async fn end(self) -> Vec<(String, u32)> {
        self.stop.send(()).unwrap();
        self.task.await.unwrap();
        let mut seen = self.seen.lock().unwrap();
        std::mem::take(&mut *seen)
    }

    async fn until_seen(&self, ids: usize) {
        eventually(PATIENCE, "every event to be seen", || async {
            let seen = self.seen.lock().unwrap();
            let ids_seen: std::collections::HashSet<_> = seen.iter().map(|(id, _)| id).collect();
            ids_seen.len() >= ids
        })
        .await;
    }
}

fn keyed(id: &str, key: usize) -> CloudEvent {
    let key = CloudEventAttributeValue {
        attr: Some(Attr::CeString(format!("k{key}"))),
    };
    let mut event = wire::event(id, ORDER);
    event.attributes.insert("partitionkey".to_owned(), key);
    event
}

async fn start(scratch: &Scratch, broker: Brokers, topic: &str) -> Gateway {
    let rules = format!("rules:\n  - name: orders\n    send: {{ topic: {topic} }}\n");
    let gateway = GatewayPlan::new(US, broker, rules).start(scratch).await;
    gateway.ready().await;
    gateway
}

async fn publish(gateway: &Gateway, events: &[CloudEvent]) {
    for batch in events.chunks(1_000) {
        for result in wire::publish(&gateway.data(), batch).await.unwrap() {
            wire::receipt(&result);
        }
    }
}

async fn dlq(gateway: &Gateway, arguments: &[&str]) -> Value {
    let admin = gateway.admin();
    let all = [&["dlq"], arguments, &["--admin", &admin, "--output", "json"]].concat();
    meridian(&all).await.json()
}

/// The list once it holds so many.
async fn list_of(gateway: &Gateway, topic: &str, count: u64) -> Value {
    eventually_some(PATIENCE, "the dead letters to be there", || async {
        let admin = gateway.admin();
        let listed = meridian(&["dlq", "list", topic, "--admin", &admin, "--output", "json"]).await;
        if listed.code != Some(0) {
            return None; // the topic is made with the first dead letter
        }
        Some(listed.json()).filter(|list| list["summary"]["matched"] == count)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_dies_alone_without_order_on_the_embedded_log() {
    poison(Brokers::Embedded, Ordering::None, short_or_full(10_000, 100_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_dies_alone_by_key_on_the_embedded_log() {
    poison(Brokers::Embedded, Ordering::Key, short_or_full(10_000, 100_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_dies_alone_by_key_on_kafka() {
    poison(
        Brokers::Kafka(shared_kafka('A')),
        Ordering::Key,
        short_or_full(3_000, 100_000),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_dies_alone_without_order_on_kafka() {
    let events = short_or_full(1_000, 100_000);
    poison(Brokers::Kafka(shared_kafka('A')), Ordering::None, events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_dies_alone_by_key_on_redis() {
    let events = short_or_full(1_000, 100_000);
    poison(shared_broker(ServiceKind::Redis), Ordering::Key, events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_dies_alone_by_key_on_rabbitmq() {
    let events = short_or_full(1_000, 100_000);
    poison(shared_broker(ServiceKind::RabbitMq), Ordering::Key, events).await;
}

async fn poison(broker: Brokers, ordering: Ordering, events: usize) {
    let scratch = Scratch::new("poison");
    let (topic, group) = (unique("orders"), unique("billing"));
    let gateway = start(&scratch, broker, &topic).await;
    let at = events / 10;
    let id = |number: usize| match number == at {
        true => "poison".to_owned(),
        false => format!("{number}"),
    };
    let all: Vec<_> = (0..events).map(|number| keyed(&id(number), number % KEYS)).collect();
    publish(&gateway, &all).await;
    let working = Working::start(&gateway, (&group, &topic), ordering, |id| match id {
        "poison" => Settlement::Retry {
            reason: "no such\ncustomer".to_owned(),
        },
        _ => Settlement::Accept,
    });
    working.until_seen(events).await;
    let list = list_of(&gateway, &topic, 1).await;
    let seen = working.end().await;

    let letter = &list["dead_letters"][0];
    assert_eq!(letter["event_id"], "poison", "{list}");
    assert_eq!(
        (&letter["reason"], &letter["attempts"]),
        (&"MAX_ATTEMPTS".into(), &3.into())
    );
    assert_eq!(letter["error"], "no such\\ncustomer");
    assert_eq!(
        (&letter["group"], &letter["worker"]),
        (&group.as_str().into(), &"w-1".into())
    );
    assert_eq!(letter["source_topic"], topic);
    let attempts: Vec<_> = (0..seen.len()).filter(|index| seen[*index].0 == "poison").collect();
    let numbers: Vec<u32> = attempts.iter().map(|index| seen[*index].1).collect();
    assert_eq!(numbers, [1, 2, 3], "as often as allowed, and counted");
    let between = seen[attempts[0]..attempts[2]]
        .iter()
        .filter(|(id, _)| id != "poison")
        .count();
    assert!(between > 0, "others go on while poison waits");
    if ordering == Ordering::Key {
        let of_key = |(index, (id, _)): (usize, &(String, u32))| {
            let number: usize = id.parse().ok()?;
            (number % KEYS == at % KEYS).then_some((index, number))
        };
        let key: Vec<_> = seen.iter().enumerate().filter_map(of_key).collect();
        assert!(key.is_sorted_by_key(|(_, number)| *number), "the key's order is kept");
        for (index, number) in key.iter().filter(|(_, number)| *number > at) {
            assert!(
                *index > attempts[2],
                "event {number} of poison's key came before its end"
            );
        }
    }
    // What is shown is the event as it was.
    let place = letter["place"].as_str().unwrap();
    let shown = dlq(&gateway, &["show", &topic, place]).await;
    assert_eq!(
        (&shown["event"]["id"], &shown["event"]["type"]),
        (&"poison".into(), &ORDER.into())
    );
    assert_eq!(shown["event"]["partitionkey"], format!("k{}", at % KEYS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_paced_counted_and_goes_on_after_a_kill_on_the_embedded_log() {
    replay(Brokers::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_paced_counted_and_goes_on_after_a_kill_on_kafka() {
    replay(Brokers::Kafka(shared_kafka('A'))).await;
}

async fn replay(broker: Brokers) {
    const LETTERS: usize = 60;
    let scratch = Scratch::new("replay");
    let (topic, group, mended) = (unique("orders"), unique("billing"), unique("mended"));
    let mut gateway = start(&scratch, broker, &topic).await;
    let admin = gateway.admin();
    meridian(&["topics", "create", &mended, "--partitions", "2", "--admin", &admin])
        .await
        .success();
    let all: Vec<_> = (0..LETTERS).map(|number| keyed(&number.to_string(), number)).collect();
    publish(&gateway, &all).await;
    let reject = |id: &str| Settlement::Reject {
        reason: format!("bad order {id}"),
    };
    let working = Working::start(&gateway, (&group, &topic), Ordering::Key, reject);
    list_of(&gateway, &topic, LETTERS as u64).await;
    working.end().await;

    // A dry run counts and changes nothing; so does a filter that matches none.
    let dry = dlq(&gateway, &["replay", &topic, "--dry-run"]).await;
    assert_eq!(
        (&dry["reasons"]["REJECTED"], &dry["groups"][&group], &dry["done"]),
        (&LETTERS.into(), &LETTERS.into(), &0.into()),
        "{dry}"
    );
    let none = dlq(&gateway, &["replay", &topic, "--reason", "EXPIRED"]).await;
    assert_eq!((&none["read"], &none["matched"]), (&LETTERS.into(), &0.into()));

    // A paced replay is cut by a kill; the next one goes on.
    let began = std::time::Instant::now();
    let cut = {
        let (topic, mended, admin) = (topic.clone(), mended.clone(), admin.clone());
        tokio::spawn(async move {
            meridian(&[
                "dlq", "replay", &topic, "--to", &mended, "--rate", "10", "--admin", &admin,
            ])
            .await
        })
    };
    let appended = |gateway: &Gateway| {
        let admin = gateway.admin();
        let mended = mended.clone();
        async move {
            let topics = meridian(&["topics", "list", "--admin", &admin, "--output", "json"])
                .await
                .json();
            let of_name = |each: &&Value| each["topic"] == mended;
            topics.as_array().unwrap().iter().find(of_name).unwrap()["records"]
                .as_u64()
                .unwrap()
        }
    };
    eventually(PATIENCE, "some to be replayed", || async {
        appended(&gateway).await >= 15
    })
    .await;
    assert!(
        began.elapsed() >= Duration::from_millis(1_400),
        "15 at 10 a second take more than a second"
    );
    gateway.kill().await;
    let cut = cut.await.unwrap();
    assert_eq!(cut.code, Some(1), "{cut:?}");
    gateway.start_again().await;
    gateway.ready().await;
    let rest = eventually_some(PATIENCE, "the replay to go on", || async {
        let replayed = meridian(&[
            "dlq", "replay", &topic, "--to", &mended, "--admin", &admin, "--output", "json",
        ])
        .await;
        (replayed.code == Some(0)).then(|| replayed.json())
    })
    .await;
    let done = rest["done"].as_u64().unwrap();
    assert!(
        done > 0 && done < LETTERS as u64 - 5,
        "only what was left is replayed: {rest}"
    );
    assert_eq!(dlq(&gateway, &["list", &topic]).await["summary"]["matched"], 0);

    // Ids are kept, none is missing, and replays are counted to their limit.
    let dying = Working::start(&gateway, (&unique("second"), &mended), Ordering::Key, reject);
    dying.until_seen(LETTERS).await;
    let seen = dying.end().await;
    let mut ids: BTreeMap<usize, usize> = BTreeMap::new();
    for (id, _) in &seen {
        *ids.entry(id.parse().unwrap()).or_default() += 1;
    }
    assert_eq!(ids.len(), LETTERS);
    let again = eventually_some(PATIENCE, "the replayed ones to die", || async {
        let list = dlq(&gateway, &["list", &mended, "--limit", "1000"]).await;
        (list["summary"]["matched"].as_u64() >= Some(LETTERS as u64)).then_some(list)
    })
    .await;
    let letters = again["dead_letters"].as_array().unwrap();
    assert!(letters.iter().all(|letter| letter["replays"] == 1), "{again}");
    let guarded = dlq(&gateway, &["replay", &mended, "--max-replays", "1"]).await;
    assert_eq!(
        (&guarded["over_replay_limit"], &guarded["done"]),
        (&letters.len().into(), &0.into())
    );

    // Purging asks for a yes, and takes what the filter says.
    let refused = meridian(&["dlq", "purge", &mended, "--admin", &admin]).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("--yes"), "{}", refused.err);
    let purged = dlq(
        &gateway,
        &["purge", &mended, "--reason", "REJECTED", "--limit", "5", "--yes"],
    )
    .await;
    assert_eq!(purged["done"], 5);
    let purged = dlq(&gateway, &["purge", &mended, "--yes"]).await;
    assert_eq!(purged["done"], letters.len() - 5);
    assert_eq!(dlq(&gateway, &["list", &mended]).await["summary"]["matched"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_with_words() {
    let scratch = Scratch::new("dlq-bad");
    let gateway = start(&scratch, Brokers::Embedded, "orders").await;
    let admin = gateway.admin();
    for (arguments, code, words) in [
        (&["list", "orders"][..], 1, "orders.dead-letters"),
        (&["list", "a/b"], 1, "may hold only"),
        (&["show", "orders", "17"], 2, "PARTITION:POSITION"),
        (&["list", "orders", "--since", "yesterday"], 2, "neither a duration"),
        (
            &["list", "orders", "--since", "1h", "--until", "2h"],
            1,
            "before filter.until",
        ),
        (&["replay", "orders", "--rate=-1"], 1, "events_per_second"),
        (
            &["replay", "orders", "--to", "orders.dead-letters"],
            1,
            "would never end",
        ),
        (&["list", "orders", "--broker", "none"], 1, "no broker none"),
    ] {
        let all = [&["dlq"], arguments, &["--admin", &admin]].concat();
        let finished = meridian(&all).await;
        assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:?}");
        assert!(finished.err.contains(words), "{arguments:?}: {}", finished.err);
    }
}
