//! A worker that is killed again and again while it holds the oldest events and has settled later ones: what is settled
//! beyond the frontier never comes again. Every fifth time its gateway is killed with it, once the commit interval is
//! over, so that the broker alone knows. `MERIDIAN_FULL=1` kills a hundred times.

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_cli::history::EventName;
use meridian_tests::harness::wait::flow;
use meridian_tests::harness::{Brokers, Gateway, GatewayPlan, Scratch, eventually, shared_kafka, short_or_full, wire};
use meridian_tests::traffic::record::{place, streams};
use meridian_tests::traffic::{Record, Reports, WorkerProcess, payload};
use meridian_worker_sdk::Publisher;

use crate::regions::{Names, ORDER, US};

const SOON: Duration = Duration::from_secs(40);
/// Twice the commit interval that the documentation states.
const COMMITTED: Duration = Duration::from_millis(200);
/// The keys of the events that are never settled; on four partitions, so that most frontiers stand still.
const STUCK_KEYS: u32 = 8;
/// Keys whose events the worker holds when it is killed.
const HELD_KEYS: u32 = 12;
const KEYS: u32 = 40;
const ROUNDS_OF_A_GATEWAY: u32 = 5;
/// A worker that vanishes is a failed attempt; here it vanishes many times.
const MORE: &str = "subscriptions:\n  default_max_attempts: 100000\n  max_attempts: 100000\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_beyond_the_frontier_survives_many_kills_embedded() {
    kill_again_and_again(Brokers::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_settled_beyond_the_frontier_survives_many_kills_kafka() {
    kill_again_and_again(Brokers::Kafka(shared_kafka('A'))).await;
}

async fn kill_again_and_again(broker: Brokers) {
    let scratch = Scratch::new("worker-kills");
    let names = Names::new();
    let rules = format!("rules:\n  - name: orders\n    send: {{ topic: {} }}\n", names.orders);
    let plan = GatewayPlan::new(US, broker, rules).more(MORE);
    let mut gateway = plan.start(&scratch).await;
    gateway.ready().await;
    let record = Record::new();
    let reports = Reports::listen(US, &names.billing, &record).await;
    let mut source = Source::new(&gateway, &record);
    reports.hold_below(STUCK_KEYS);
    source.publish(0..STUCK_KEYS).await;
    let (gateways, topics) = ([gateway.data()], [names.orders.clone()]);
    let mut worker = WorkerProcess::start(&scratch, "worker", &gateways, &names.billing, &topics, &reports).await;

    let kills = short_or_full(ROUNDS_OF_A_GATEWAY, 100);
    for kill in 1..=kills {
        source.publish(STUCK_KEYS..KEYS).await;
        until_settled(&gateway, &names.billing, u64::from(STUCK_KEYS)).await;
        let settled = source.deliveries(STUCK_KEYS..KEYS);
        flow(COMMITTED).await;

        // Some are held, others are settled or on their way: the kill finds all of them.
        reports.hold_below(HELD_KEYS);
        let latest = source.publish(STUCK_KEYS..KEYS).await;
        let held = latest.iter().filter(|name| name.key < HELD_KEYS);
        let held: Vec<EventName> = held.copied().collect();
        eventually(SOON, "the worker to hold events", || async {
            held.iter().all(|name| record.times_delivered(*name) > 0)
        })
        .await;
        worker.kill().await;
        if kill % ROUNDS_OF_A_GATEWAY == 0 {
            gateway.kill().await;
            gateway.start_again().await;
            gateway.ready().await;
        }
        reports.hold_below(STUCK_KEYS);
        worker.start_again().await;
        until_settled(&gateway, &names.billing, u64::from(STUCK_KEYS)).await;
        assert!(
            held.iter().all(|name| record.times_delivered(*name) > 1),
            "void: what the worker held comes again"
        );
        let again: Vec<_> = settled
            .iter()
            .filter(|(name, times)| record.times_delivered(**name) != **times)
            .collect();
        assert!(
            again.is_empty(),
            "after kill {kill} settled events came again: {again:?}"
        );
    }

    // The oldest are settled at last.
    reports.hold_below(0);
    worker.kill().await;
    worker.start_again().await;
    until_settled(&gateway, &names.billing, 0).await;
    let streams = streams(&[("orders", &[place(US, &names.orders, &names.billing)])]);
    record.must_hold(&streams, SOON, u64::from(kills * KEYS)).await;
}

/// Waits until the broker knows all but `left` events as settled; those left hold the others' frontier.
async fn until_settled(gateway: &Gateway, group: &str, left: u64) {
    eventually(SOON, "all but what is held to be settled", || async {
        let Ok(seen) = wire::describe_group(&gateway.admin(), group).await else {
            return false;
        };
        let is_beyond = left == 0 || seen.settled_beyond > 0;
        !seen.partitions.is_empty() && seen.lag_messages == left && is_beyond
    })
    .await;
}

/// Publishes one event of each key at a time.
struct Source {
    publisher: Publisher,
    record: Record,
    next: BTreeMap<u32, u64>,
}

impl Source {
    fn new(gateway: &Gateway, record: &Record) -> Self {
        Self {
            publisher: Publisher::builder([gateway.data()]).build().unwrap(),
            record: record.clone(),
            next: BTreeMap::new(),
        }
    }

    async fn publish(&mut self, keys: std::ops::Range<u32>) -> Vec<EventName> {
        let mut published = Vec::new();
        let mut pending = Vec::new();
        for key in keys {
            let next = self.next.entry(key).or_insert(0);
            let name = EventName {
                publisher: 1,
                key,
                sequence: *next,
            };
            *next += 1;
            self.record.attempted(name, "orders");
            pending.push(self.publisher.send(payload::event(name, ORDER, None)).await.unwrap());
            published.push(name);
        }
        for (name, pending) in published.iter().zip(pending) {
            self.record.outcome(*name, pending.await);
        }
        published
    }

    /// How often each event of these keys was delivered so far.
    fn deliveries(&self, keys: std::ops::Range<u32>) -> BTreeMap<EventName, u32> {
        let mut deliveries = BTreeMap::new();
        for (key, next) in self.next.range(keys) {
            for sequence in 0..*next {
                let name = EventName {
                    publisher: 1,
                    key: *key,
                    sequence,
                };
                deliveries.insert(name, self.record.times_delivered(name));
            }
        }
        deliveries
    }
}
