//! Gateways stopped and started in turn, and Kafka too, under load: a drain is no
//! failure. Nothing is lost, nothing is dead-lettered, no delivery counts as a
//! failed attempt, and no settled work comes again.

use std::time::Duration;

use meridian_proto::meridian::ListTopicsRequest;
use meridian_tests::harness::{Brokers, GatewayPlan, KafkaCluster, Scratch, alone, wire};
use meridian_tests::traffic::record::{place, streams};
use meridian_tests::traffic::{Fleet, FleetPlan, Load, LoadPlan, Record};

use crate::regions::{Names, ORDER, US};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_is_not_a_failure() {
    let _turn = alone().await;
    let scratch = Scratch::new("rolling");
    let names = Names::new();
    let cluster = KafkaCluster::start(&scratch).await;
    let rules = format!("rules:\n  - name: orders\n    send: {{ topic: {} }}\n", names.orders);
    let first = GatewayPlan::new(US, Brokers::Kafka(cluster.bootstrap()), rules);
    let second = first.another("us-east-second");
    let (mut first, mut second) = (first.start(&scratch).await, second.start(&scratch).await);
    first.ready().await;
    second.ready().await;
    let record = Record::new();
    let gateways = [first.data(), second.data()];
    let mut plan = FleetPlan::new(US, &gateways, &names.billing, std::slice::from_ref(&names.orders));
    plan.workers = 4;
    let fleet = Fleet::start(vec![plan], &record);
    let loads = (0..2).map(|_| LoadPlan::new(&gateways, "orders", ORDER, 200)).collect();
    let load = Load::start(loads, &record);
    record.flows(PATIENCE).await;
    for gateway in [&mut first, &mut second] {
        let status = gateway.terminate().await;
        assert_eq!(status.code(), Some(0), "a drain ends well");
        record.flows(PATIENCE).await;
        gateway.start_again().await;
        gateway.ready().await;
        record.flows(PATIENCE).await;
    }
    let again_of_gateways = record.accepted_again();
    cluster.stop().await;
    cluster.start_again().await;
    record.flows(PATIENCE).await;
    load.stop().await;
    let streams = streams(&[("orders", &[place(US, &names.orders, &names.billing)])]);
    record.must_hold(&streams, PATIENCE, 2_000).await;
    let topics = wire::operations(&first.admin())
        .list_topics(ListTopicsRequest { broker: String::new() })
        .await;
    let dead: Vec<_> = topics
        .unwrap()
        .into_inner()
        .topics
        .into_iter()
        .filter(|topic| topic.name.contains("dead"))
        .collect();
    assert_eq!(dead, [], "nothing is dead-lettered");
    assert_eq!(
        record.highest_attempt(),
        1,
        "neither a drain nor a broker's restart is a failed attempt"
    );
    let report = fleet.stop().await;
    // What the gateway called stale was not settled, and may come again.
    assert!(
        record.accepted_again() <= report.stale,
        "settled work came again: {} deliveries of accepted positions ({again_of_gateways} before Kafka's restart), {report:?}",
        record.accepted_again()
    );
}
