//! A link that loses one direction: the gateway is in a network namespace, and hears
//! without being heard, or the other way round. Both ends notice within bounds, nobody
//! keeps half a session, and when the link heals all goes on with nothing lost.

use std::time::Duration;

use meridian_tests::harness::wait::flow;
use meridian_tests::harness::{
    Brokers, Gateway, GatewayPlan, Lost, Namespace, Scratch, alone, eventually, short_or_full, wire,
};
use meridian_tests::traffic::record::{place, streams};
use meridian_tests::traffic::{Fleet, FleetPlan, Load, LoadPlan, Record};

use crate::regions::{Names, ORDER, US};

const PATIENCE: Duration = Duration::from_secs(60);
/// The gateway's keep-alive asks after 20 s and waits for 10 s.
const NOTICED: Duration = Duration::from_secs(45);

/// How long the link is bad after everybody has noticed.
fn bad() -> Duration {
    short_or_full(Duration::from_secs(2), Duration::from_secs(60))
}

async fn sessions(gateway: &Gateway, group: &str) -> Option<usize> {
    let state = wire::describe_group(&gateway.admin(), group).await.ok()?;
    Some(state.sessions.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_loses_one_direction_is_noticed_and_loses_nothing() {
    let _turn = alone().await;
    let scratch = Scratch::new("one-way");
    let namespace = Namespace::create().await;
    let names = Names::new();
    let rules = format!("rules:\n  - name: orders\n    send: {{ topic: {} }}\n", names.orders);
    let plan = GatewayPlan::new(US, Brokers::Embedded, rules).inside(&namespace);
    let port = plan.data_port();
    let gateway = plan.start(&scratch).await;
    gateway.ready().await;
    let record = Record::new();
    let gateways = [gateway.data()];
    let topics = std::slice::from_ref(&names.orders);
    let fleet = Fleet::start(vec![FleetPlan::new(US, &gateways, &names.billing, topics)], &record);
    let mut load = LoadPlan::new(&gateways, "orders", ORDER, 100);
    load.delivery_timeout = bad() + Duration::from_secs(120);
    let load = Load::start(vec![load], &record);
    record.flows(PATIENCE).await;
    for lost in [Lost::Incoming, Lost::Outgoing] {
        namespace.lose(lost, port).await;
        let what = format!("the gateway to give up the sessions whose link has lost what is {lost:?}");
        eventually(NOTICED, &what, || async {
            sessions(&gateway, &names.billing).await == Some(0)
        })
        .await;
        flow(bad()).await;
        namespace.heal().await;
        record.flows(PATIENCE).await;
    }
    load.stop().await;
    let streams = streams(&[("orders", &[place(US, &names.orders, &names.billing)])]);
    record.must_hold(&streams, PATIENCE, 900).await;
    fleet.stop().await;
}
