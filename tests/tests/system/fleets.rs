//! Gateways that share a group, on every kind of broker that several can share: killed, frozen, drained and rolled
//! under load. Nothing is lost, the order of each key holds, deliveries of every key resume within seconds; how long
//! that took and what came twice is printed. `MERIDIAN_FULL=1` has five gateways strike in turn.
//!
//! The embedded log is one process, so it has no fleet.

#![allow(clippy::print_stderr)] // Its figures are for people.

use std::time::Duration;

use meridian_tests::harness::wait::flow;
use meridian_tests::harness::{
    Gateway, GatewayPlan, Scratch, ServiceKind, alone, eventually, meridian, shared_broker, short_or_full,
};
use meridian_tests::traffic::record::{place, streams};
use meridian_tests::traffic::{Fleet, FleetPlan, Load, LoadPlan, Mark, Record};
use serde_json::Value;

use crate::regions::{Names, ORDER, US};

const SOON: Duration = Duration::from_secs(30);
/// Within it deliveries of every key have to resume: a session (8 s), a turn of the SDK's backoff (5 s), and what a
/// machine at work adds.
const RESUMES_WITHIN: Duration = Duration::from_secs(30);
/// Longer than a session, so that the others have taken over when it wakes up.
const FROZEN: Duration = Duration::from_secs(9);
const RATE: u32 = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_struck_and_rolled_under_load_kafka() {
    strike(ServiceKind::Kafka).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_struck_and_rolled_under_load_redis() {
    strike(ServiceKind::Redis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_struck_and_rolled_under_load_rabbitmq() {
    strike(ServiceKind::RabbitMq).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_takes_part_only_while_it_has_a_worker_for_it() {
    let members = FleetOfGateways::start(ServiceKind::Kafka, 2).await;
    let [one, two] = &members.gateways[..] else {
        unreachable!()
    };
    let record = Record::new();
    let load = Load::start(members.loads(), &record);
    let first = Fleet::start(vec![members.workers(&[one.data()], 1)], &record);
    record.flows(SOON * 2).await;
    assert!(reads(one, &members.names.billing).await, "it has a worker");
    assert!(!reads(two, &members.names.billing).await, "it has none");

    let second = Fleet::start(vec![members.workers(&[two.data()], 1)], &record);
    eventually(SOON, "the second gateway to take part", || {
        reads(two, &members.names.billing)
    })
    .await;
    // Without its worker the first leaves the group to the other.
    first.stop().await;
    eventually(SOON, "the first gateway to leave", || async {
        !reads(one, &members.names.billing).await
    })
    .await;
    let mark = record.mark();
    record.resumes(&mark, RESUMES_WITHIN).await;
    load.stop().await;
    record.must_hold(&members.streams(), SOON, 300).await;
    second.stop().await;
}

/// Gateways of one region over one broker.
struct FleetOfGateways {
    names: Names,
    gateways: Vec<Gateway>,
    _scratch: Scratch,
}

impl FleetOfGateways {
    async fn start(kind: ServiceKind, count: usize) -> Self {
        let scratch = Scratch::new(&format!("fleet-{}", kind.name()));
        let names = Names::new();
        let rules = format!("rules:\n  - name: orders\n    send: {{ topic: {} }}\n", names.orders);
        let plan = GatewayPlan::new(US, shared_broker(kind), rules);
        let mut gateways = Vec::with_capacity(count);
        for number in 0..count {
            gateways.push(plan.another(&format!("{US}-{number}")).start(&scratch).await);
        }
        for gateway in &gateways {
            gateway.ready().await;
        }
        Self {
            names,
            gateways,
            _scratch: scratch,
        }
    }

    fn data(&self) -> Vec<String> {
        self.gateways.iter().map(Gateway::data).collect()
    }

    fn loads(&self) -> Vec<LoadPlan> {
        let plan = LoadPlan::new(&self.data(), "orders", ORDER, RATE);
        vec![plan.clone(), plan]
    }

    fn workers(&self, gateways: &[String], workers: usize) -> FleetPlan {
        FleetPlan {
            workers,
            ..FleetPlan::new(
                US,
                gateways,
                &self.names.billing,
                std::slice::from_ref(&self.names.orders),
            )
        }
    }

    fn streams(&self) -> meridian_tests::traffic::Streams {
        streams(&[("orders", &[place(US, &self.names.orders, &self.names.billing)])])
    }
}

/// Whether a gateway is a member of the broker's group.
async fn reads(gateway: &Gateway, group: &str) -> bool {
    let admin = gateway.admin();
    let listed = meridian(&["groups", "list", "--admin", &admin, "--output", "json"]).await;
    let groups = listed.json();
    let group = groups.as_array().unwrap().iter().find(|each| each["group"] == group);
    group.is_some_and(|group| group["lag_messages"] != Value::Null)
}

async fn strike(kind: ServiceKind) {
    let _turn = alone().await;
    let mut members = FleetOfGateways::start(kind, short_or_full(3, 5)).await;
    let data = members.data();
    let record = Record::new();
    let workers = Fleet::start(vec![members.workers(&data, 2 * data.len())], &record);
    let load = Load::start(members.loads(), &record);
    record.flows(SOON * 2).await;

    for turn in 0..short_or_full(1, 5) {
        let count = members.gateways.len();
        let struck = &mut members.gateways[turn % count];
        let mark = record.mark();
        struck.kill().await;
        resumed(kind, "a kill", &record, &mark).await;
        struck.start_again().await;
        struck.ready().await;

        let struck = &mut members.gateways[(turn + 1) % count];
        let mark = record.mark();
        struck.process().freeze();
        flow(FROZEN).await;
        struck.process().thaw();
        resumed(kind, "the beginning of a freeze", &record, &mark).await;

        // Each in turn is drained and comes back: a roll.
        for struck in &mut members.gateways {
            let mark = record.mark();
            let status = struck.terminate().await;
            assert_eq!(status.code(), Some(0), "a drain ends well");
            resumed(kind, "a drain", &record, &mark).await;
            struck.start_again().await;
            struck.ready().await;
        }
    }
    load.stop().await;
    let verdict = record.must_hold(&members.streams(), SOON, 1_000).await;
    let report = workers.stop().await;
    eprintln!(
        "{}: {} duplicates in {} deliveries; {} settlements were stale",
        kind.name(),
        verdict.duplicated,
        verdict.delivered,
        report.stale
    );
}

async fn resumed(kind: ServiceKind, blow: &str, record: &Record, mark: &Mark) {
    let took = record.resumes(mark, RESUMES_WITHIN).await;
    eprintln!(
        "{}: every key is delivered again {:.1} s after {blow}",
        kind.name(),
        took.as_secs_f64()
    );
}
