//! `kill -9` under load on the embedded log: of the gateways that hold it, of a
//! worker, and of `meridian dev`, where gateways, brokers and links die at once.

use std::time::Duration;

use meridian_tests::harness::{Brokers, Dev, Door, Scratch, alone, short_or_full};
use meridian_tests::traffic::{Fleet, Load, Record, Reports, WorkerProcess};

use crate::regions::{EU, Names, US};

const PATIENCE: Duration = Duration::from_secs(60);
const RATE: u32 = 150;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_reordered_when_gateways_and_workers_are_killed() {
    let _turn = alone().await;
    let scratch = Scratch::new("chaos-embedded");
    let names = Names::new();
    let (us, eu) = names.gateways(Brokers::Embedded, Brokers::Embedded);
    let (mut us, mut eu) = (us.start(&scratch).await, eu.start(&scratch).await);
    us.ready().await;
    eu.ready().await;
    let record = Record::new();
    let (us_gateways, eu_gateways) = ([us.data()], [eu.data()]);
    let fleet = Fleet::start(names.local_fleets(&us_gateways, &eu_gateways), &record);
    let reports = Reports::listen(US, &names.billing, &record).await;
    let topics = std::slice::from_ref(&names.orders);
    let mut worker = WorkerProcess::start(&scratch, "worker", &us_gateways, &names.billing, topics, &reports).await;
    let load = Load::start(names.loads(&us_gateways, &eu_gateways, RATE), &record);
    record.flows(PATIENCE).await;
    for _ in 0..short_or_full(2, 10) {
        us.kill().await;
        us.start_again().await;
        record.flows(PATIENCE).await;
        eu.kill().await;
        eu.start_again().await;
        record.flows(PATIENCE).await;
        worker.kill().await;
        record.flows(PATIENCE).await;
        worker.start_again().await;
        record.flows(PATIENCE).await;
    }
    load.stop().await;
    record.must_hold(&names.local_streams(), PATIENCE, 2_000).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_reordered_when_both_regions_and_their_links_are_killed() {
    let _turn = alone().await;
    let scratch = Scratch::new("chaos-dev");
    let names = Names::of_dev();
    let mut dev = Dev::start(&scratch).await;
    let (us, eu) = (Door::open().await, Door::open().await);
    us.point_at(&dev.site(US).data);
    eu.point_at(&dev.site(EU).data);
    let record = Record::new();
    let (us_gateways, eu_gateways) = ([us.address()], [eu.address()]);
    let mut fleets = names.local_fleets(&us_gateways, &eu_gateways);
    fleets.extend(names.mirror_fleets(&us_gateways, &eu_gateways));
    let fleet = Fleet::start(fleets, &record);
    let load = Load::start(names.loads(&us_gateways, &eu_gateways, RATE), &record);
    record.flows(PATIENCE).await;
    for _ in 0..short_or_full(2, 10) {
        dev.kill().await;
        dev.start_again().await;
        us.point_at(&dev.site(US).data);
        eu.point_at(&dev.site(EU).data);
        record.flows(PATIENCE).await;
    }
    load.stop().await;
    record.must_hold(&names.mirrored_streams(), PATIENCE, 900).await;
    fleet.stop().await;
}
