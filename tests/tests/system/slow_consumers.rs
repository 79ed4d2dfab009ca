//! Workers that are slow, and workers that never read, among many that work: the
//! others go on, what the idle ones hold is handed on after its lease, and the gateway's memory
//! is bounded.

use std::time::{Duration, Instant};

use meridian_proto::meridian::{OpenSession, SettlementAction};
use meridian_tests::harness::wait::flow;
use meridian_tests::harness::{Brokers, GatewayPlan, Scratch, alone, short_or_full};
use meridian_tests::traffic::record::{place, streams};
use meridian_tests::traffic::{Fleet, FleetPlan, Load, LoadPlan, Record};

use crate::regions::{Names, ORDER, US};
use crate::sessions::{Session, open};

const PATIENCE: Duration = Duration::from_secs(60);
const RATE: u32 = 200;
const LEASE_SECONDS: u32 = 2;
const MOST_GROWTH_KIB: u64 = 64 * 1024;

fn of_group(group: &str, topic: &str, worker: &str) -> OpenSession {
    OpenSession {
        group: group.to_owned(),
        worker_id: worker.to_owned(),
        lease_seconds: LEASE_SECONDS,
        max_attempts: 50,
        ..open(topic, 4)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_and_one_idle_worker_keep_nothing_from_the_others() {
    let _turn = alone().await;
    let scratch = Scratch::new("slow-consumers");
    let names = Names::new();
    let rules = format!("rules:\n  - name: orders\n    send: {{ topic: {} }}\n", names.orders);
    let mut gateway = GatewayPlan::new(US, Brokers::Embedded, rules).start(&scratch).await;
    gateway.ready().await;
    let record = Record::new();
    let gateways = [gateway.data()];
    let topics = std::slice::from_ref(&names.orders);
    let mut plan = FleetPlan::new(US, &gateways, &names.billing, topics);
    plan.workers = 10;
    plan.concurrency = 4;
    let fleet = Fleet::start(vec![plan], &record);
    let load = Load::start(vec![LoadPlan::new(&gateways, "orders", ORDER, RATE)], &record);
    record.flows(PATIENCE).await;

    let before_kib = gateway.process().resident_kib();
    let idle = Session::open(&gateway, of_group(&names.billing, &names.orders, "idle"))
        .await
        .unwrap();
    let mut slow = Session::open(&gateway, of_group(&names.billing, &names.orders, "slow"))
        .await
        .unwrap();
    let began = Instant::now();
    while began.elapsed() < short_or_full(Duration::from_secs(6), Duration::from_secs(120)) {
        // It takes one, works on it for half its lease, and gives it to somebody else.
        let delivery = slow.delivery().await;
        flow(Duration::from_secs(1)).await;
        slow.settle(delivery.delivery_id, SettlementAction::Release, "slow")
            .await;
        record.flows(Duration::from_secs(10)).await;
    }
    let after_kib = gateway.process().resident_kib();
    assert!(
        after_kib < before_kib + MOST_GROWTH_KIB,
        "slow workers cost {before_kib} -> {after_kib} KiB"
    );
    // While both are still there: everything came to those who work.
    load.stop().await;
    drop(slow);
    let streams = streams(&[("orders", &[place(US, &names.orders, &names.billing)])]);
    record.must_hold(&streams, PATIENCE, 900).await;
    drop(idle);
    fleet.stop().await;
}
