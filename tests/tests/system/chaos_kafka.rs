//! `kill -9`, in turn, of a gateway, the replicator, a worker and the Kafka broker,
//! under load: every event with a receipt arrives where it belongs, in both
//! regions, and the order of each key holds. `MERIDIAN_FULL=1` goes round five times.

use std::time::Duration;

use meridian_tests::harness::wait::flow;
use meridian_tests::harness::{Brokers, KafkaCluster, Replicator, Scratch, alone, shared_kafka, short_or_full};
use meridian_tests::traffic::{Fleet, Load, Record, Reports, WorkerProcess};

use crate::regions::{EU, Names, US};

const PATIENCE: Duration = Duration::from_secs(60);
const RATE: u32 = 150;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_reordered_whatever_is_killed() {
    let _turn = alone().await;
    let scratch = Scratch::new("chaos-kafka");
    let names = Names::new();
    let cluster = KafkaCluster::start(&scratch).await;
    let (kafka_us, kafka_eu) = (Brokers::Kafka(cluster.bootstrap()), Brokers::Kafka(shared_kafka('B')));
    let (us, eu) = names.gateways(kafka_us.clone(), kafka_eu.clone());
    let second = us.another("us-east-second");
    let eu = eu.peer(US, &second.data());
    let (mut us, second, mut eu) = (
        us.start(&scratch).await,
        second.start(&scratch).await,
        eu.start(&scratch).await,
    );
    for gateway in [&us, &second, &eu] {
        gateway.ready().await;
    }
    let mut replicator = Replicator::start(&scratch, &[(US, kafka_us), (EU, kafka_eu)], &names.links()).await;

    let record = Record::new();
    let (us_gateways, eu_gateways) = ([us.data(), second.data()], [eu.data()]);
    let mut fleets = names.local_fleets(&us_gateways, &eu_gateways);
    fleets.extend(names.mirror_fleets(&us_gateways, &eu_gateways));
    let fleet = Fleet::start(fleets, &record);
    let reports = Reports::listen(US, &names.billing, &record).await;
    let topics = std::slice::from_ref(&names.orders);
    let mut worker = WorkerProcess::start(&scratch, "worker", &us_gateways, &names.billing, topics, &reports).await;
    let load = Load::start(names.loads(&us_gateways, &eu_gateways, RATE), &record);
    record.flows(PATIENCE).await;

    for _ in 0..short_or_full(1, 5) {
        us.kill().await;
        record.flows(PATIENCE).await;
        us.start_again().await;
        record.flows(PATIENCE).await;

        replicator.kill().await;
        record.flows(PATIENCE).await;
        replicator.start_again().await;
        record.flows(PATIENCE).await;

        worker.kill().await;
        record.flows(PATIENCE).await;
        worker.start_again().await;
        record.flows(PATIENCE).await;

        cluster.kill().await;
        flow(Duration::from_secs(2)).await;
        cluster.start_again().await;
        record.flows(PATIENCE).await;

        // The only gateway of its region: nothing of it is there for a while.
        eu.kill().await;
        eu.start_again().await;
        record.flows(PATIENCE).await;
    }
    load.stop().await;
    record.must_hold(&names.mirrored_streams(), PATIENCE, 3_000).await;
    fleet.stop().await;
}
