//! Bad links between clients and their gateway: bytes one by one, resets at any byte,
//! and a long way. The SDK goes on, and nothing is lost or reordered.

use std::time::Duration;

use meridian_fault_proxy::{Flow, Proxy, Script};
use meridian_tests::harness::wait::flow;
use meridian_tests::harness::{Brokers, GatewayPlan, Scratch, alone, short_or_full};
use meridian_tests::traffic::record::{place, streams};
use meridian_tests::traffic::{Fleet, FleetPlan, Load, LoadPlan, Record};

use crate::regions::{Names, ORDER, US};

const PATIENCE: Duration = Duration::from_secs(60);
const SEED: u64 = 31;

/// Publishers and workers over one proxy; it is disturbed while they work.
async fn over(name: &str, rate: u32, least: u64, disturb: impl AsyncFnOnce(&Proxy, &Record)) {
    let _turn = alone().await;
    let scratch = Scratch::new(name);
    let names = Names::new();
    let rules = format!("rules:\n  - name: orders\n    send: {{ topic: {} }}\n", names.orders);
    let gateway = GatewayPlan::new(US, Brokers::Embedded, rules).start(&scratch).await;
    gateway.ready().await;
    let proxy = Proxy::start(&gateway.data(), SEED).await.unwrap();
    let record = Record::new();
    let gateways = [proxy.address()];
    let topics = std::slice::from_ref(&names.orders);
    let fleet = Fleet::start(vec![FleetPlan::new(US, &gateways, &names.billing, topics)], &record);
    let load = Load::start(vec![LoadPlan::new(&gateways, "orders", ORDER, rate)], &record);
    record.flows(PATIENCE).await;
    disturb(&proxy, &record).await;
    proxy.heal();
    record.flows(PATIENCE).await;
    load.stop().await;
    let streams = streams(&[("orders", &[place(US, &names.orders, &names.billing)])]);
    record.must_hold(&streams, PATIENCE, least).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_slices_and_resets_loses_and_reorders_nothing() {
    over("client-link", 100, 600, async |proxy: &Proxy, record: &Record| {
        proxy.set(Script::both(Flow::sliced(7)));
        record.flows(PATIENCE).await;
        let accepted = proxy.accepted();
        proxy.set(Script::both(Flow::cut_within(20_000)));
        flow(short_or_full(Duration::from_secs(5), Duration::from_secs(120))).await;
        proxy.set(Script::both(Flow::sliced(1_000)));
        proxy.cut();
        record.flows(PATIENCE).await;
        assert!(proxy.accepted() > accepted + 3, "no connection was reset");
    })
    .await;
}

/// Round trips of 200 ms; one in so many bytes a second is all that fits.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_way_keeps_the_rate() {
    over("client-far", 200, 900, async |proxy: &Proxy, record: &Record| {
        let far = Flow {
            delay: Duration::from_millis(100),
            ..Flow::slow(1_250_000)
        };
        proxy.set(Script::both(far));
        let accepted = proxy.accepted();
        let rounds = short_or_full(2, 60);
        for _ in 0..rounds {
            record.flows(Duration::from_secs(10)).await;
        }
        assert_eq!(proxy.accepted(), accepted, "nobody takes the way for a broken one");
    })
    .await;
}
