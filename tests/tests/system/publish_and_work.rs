//! The main way: publish, get a receipt, and work; over regions by forwarding and
//! by mirroring; on the embedded log and on Kafka.

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_proto::meridian::Durability;
use meridian_tests::harness::scratch::unique;
use meridian_tests::harness::{Brokers, GatewayPlan, Replicator, Scratch, eventually, shared_kafka, wire};
use meridian_tests::traffic::record::{place, streams};
use meridian_tests::traffic::{Fleet, FleetPlan, Load, LoadPlan, Record};
use meridian_worker_sdk::{EventBuilder, Publisher};

use crate::regions::{EU, Names, ORDER, PAYMENT, US};

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_says_where_and_how_durable_on_the_embedded_log() {
    receipts(Brokers::Embedded, Durability::Fsynced).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_says_where_and_how_durable_on_kafka() {
    receipts(Brokers::Kafka(shared_kafka('A')), Durability::InSyncReplicas).await;
}

async fn receipts(broker: Brokers, durability: Durability) {
    let scratch = Scratch::new("receipts");
    let topic = unique("orders");
    let rules = format!(
        "rules:\n  - name: the-orders\n    when: {{ type: com.acme.order.* }}\n    send: {{ topic: {topic} }}\n"
    );
    let gateway = GatewayPlan::new(US, broker, rules).start(&scratch).await;
    gateway.ready().await;
    let publisher = Publisher::builder([gateway.data()]).build().unwrap();
    let mut last: BTreeMap<u32, u64> = BTreeMap::new();
    for number in 0..40 {
        let event = EventBuilder::new(&format!("{number}"), "/shop", ORDER).partition_key(&format!("{}", number % 8));
        let receipt = publisher.publish(event.build().unwrap()).await.unwrap();
        assert_eq!(
            (receipt.region.as_str(), receipt.broker.as_str(), &receipt.topic),
            (US, "main", &topic)
        );
        assert_eq!(receipt.durability(), durability);
        assert_eq!((receipt.rule.as_str(), receipt.rules_revision), ("the-orders", 1));
        assert!(receipt.partition < 4, "{receipt:?}");
        let before = last.insert(receipt.partition, receipt.position);
        assert_eq!(
            receipt.position,
            before.map_or(0, |before| before + 1),
            "positions of a partition follow one another"
        );
    }
    assert!(
        last.len() > 1,
        "eight keys go to more than one of four partitions: {last:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_stay_in_order_with_more_workers_than_partitions_on_the_embedded_log() {
    more_workers_than_partitions(Brokers::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_stay_in_order_with_more_workers_than_partitions_on_kafka() {
    more_workers_than_partitions(Brokers::Kafka(shared_kafka('A'))).await;
}

async fn more_workers_than_partitions(broker: Brokers) {
    let scratch = Scratch::new("ordering");
    let names = Names::new();
    let mut plan = GatewayPlan::new(
        US,
        broker,
        format!("rules:\n  - name: orders\n    send: {{ topic: {} }}\n", names.orders),
    );
    plan.partitions = 2;
    let gateway = plan.start(&scratch).await;
    gateway.ready().await;
    let record = Record::new();
    let gateways = [gateway.data()];
    let mut fleet = FleetPlan::new(US, &gateways, &names.billing, std::slice::from_ref(&names.orders));
    (fleet.workers, fleet.concurrency) = (8, 4);
    let fleet = Fleet::start(vec![fleet], &record);
    let loads = (0..3).map(|_| LoadPlan::new(&gateways, "orders", ORDER, 300)).collect();
    let load = Load::start(loads, &record);
    eventually(PATIENCE, "1,500 events to be stored", || async {
        record.stored_count() >= 1_500
    })
    .await;
    load.stop().await;
    let streams = streams(&[("orders", &[place(US, &names.orders, &names.billing)])]);
    let verdict = record.must_hold(&streams, PATIENCE, 1_500).await;
    assert_eq!(verdict.duplicated, 0, "nothing failed, so nothing comes twice");
    let sessions = wire::describe_group(&gateway.admin(), &names.billing)
        .await
        .unwrap()
        .sessions;
    assert_eq!(sessions.len(), 8, "{sessions:?}");
    let report = fleet.stop().await;
    assert_eq!((report.settled, report.stale), (verdict.stored, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_forwarded_to_the_region_that_owns_them() {
    let scratch = Scratch::new("forward");
    let names = Names::new();
    let (us, eu) = names.gateways(Brokers::Embedded, Brokers::Embedded);
    let (us, eu) = (us.start(&scratch).await, eu.start(&scratch).await);
    us.ready().await;
    eu.ready().await;
    let mut abroad = wire::event("1", PAYMENT);
    abroad.id = "forwarded".to_owned();
    let results = wire::publish(&us.data(), &[wire::event("at-home", ORDER), abroad])
        .await
        .unwrap();
    let home = wire::receipt(&results[0]);
    let owner = wire::receipt(&results[1]);
    assert_eq!((home.region.as_str(), &home.topic), (US, &names.orders));
    assert_eq!(
        (owner.region.as_str(), &owner.topic, owner.rule.as_str()),
        (EU, &names.payments, "payments")
    );

    let record = Record::new();
    let (us_gateways, eu_gateways) = ([us.data()], [eu.data()]);
    let fleet = Fleet::start(names.local_fleets(&us_gateways, &eu_gateways), &record);
    let load = Load::start(names.loads(&us_gateways, &eu_gateways, 200), &record);
    eventually(PATIENCE, "1,000 events to be stored", || async {
        record.stored_count() >= 1_000
    })
    .await;
    load.stop().await;
    // The two events above were not recorded, and their data is none of ours.
    let verdict = record.settle(&names.local_streams(), PATIENCE).await;
    assert_eq!(
        (verdict.lost, verdict.reordered, verdict.misplaced, verdict.duplicated),
        (0, 0, 0, 0),
        "{verdict:#?}"
    );
    assert_eq!(verdict.unreadable, 2, "{verdict:#?}");
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrored_topics_arrive_in_the_other_region_on_kafka() {
    let scratch = Scratch::new("mirror");
    let names = Names::new();
    let (kafka_us, kafka_eu) = (Brokers::Kafka(shared_kafka('A')), Brokers::Kafka(shared_kafka('B')));
    let (us, eu) = names.gateways(kafka_us.clone(), kafka_eu.clone());
    let (us, eu) = (us.start(&scratch).await, eu.start(&scratch).await);
    us.ready().await;
    eu.ready().await;
    let replicator = Replicator::start(&scratch, &[(US, kafka_us), (EU, kafka_eu)], &names.links()).await;
    let record = Record::new();
    let (us_gateways, eu_gateways) = ([us.data()], [eu.data()]);
    let mut fleets = names.local_fleets(&us_gateways, &eu_gateways);
    fleets.extend(names.mirror_fleets(&us_gateways, &eu_gateways));
    let fleet = Fleet::start(fleets, &record);
    let load = Load::start(names.loads(&us_gateways, &eu_gateways, 100), &record);
    eventually(PATIENCE, "1,000 events to be stored", || async {
        record.stored_count() >= 1_000
    })
    .await;
    load.stop().await;
    let verdict = record.must_hold(&names.mirrored_streams(), PATIENCE, 1_000).await;
    assert_eq!(verdict.duplicated, 0, "nothing failed, so nothing comes twice");
    replicator.ready().await;
    eventually(PATIENCE, "the links to say that nothing is behind", || async {
        let links = wire::links(replicator.admin()).await.unwrap_or_default();
        let mirrored: u64 = links.iter().map(|link| link.mirrored_records).sum();
        links.iter().all(|link| link.lag_messages == 0) && mirrored == verdict.stored
    })
    .await;
    fleet.stop().await;
}
