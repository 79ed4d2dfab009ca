//! The other region cannot be reached, or does not answer: what stays at home goes
//! through, what must cross is told so in time, and all resumes by itself.

use std::time::{Duration, Instant};

use meridian_proto::google_rpc;
use meridian_proto::meridian::publish_result::Outcome;
use meridian_tests::harness::wait::flow;
use meridian_tests::harness::{Brokers, Door, Gateway, Scratch, eventually, wire};
use meridian_tests::traffic::{Fleet, Load, Record};
use tonic::Code;

use crate::regions::{EU, Names, ORDER, PAYMENT, US};

const PATIENCE: Duration = Duration::from_secs(30);

/// Both regions, and the door through which events go from the first to the second.
async fn regions(scratch: &Scratch, names: &Names) -> (Gateway, Gateway, Door) {
    let (us, eu) = names.gateways(Brokers::Embedded, Brokers::Embedded);
    let door = Door::open().await;
    door.point_at(&eu.data());
    let mut us = us;
    us.peers = vec![(EU.to_owned(), door.address())];
    let (us, eu) = (us.start(scratch).await, eu.start(scratch).await);
    us.ready().await;
    eu.ready().await;
    (us, eu, door)
}

/// Publishes an order, a payment and an order; what became of the payment.
async fn payment_between_orders(us: &Gateway) -> Result<(), google_rpc::Status> {
    let batch = [
        wire::event("1", ORDER),
        wire::event("2", PAYMENT),
        wire::event("3", ORDER),
    ];
    let asked = Instant::now();
    let results = wire::publish(&us.data(), &batch).await.unwrap();
    assert!(
        asked.elapsed() < Duration::from_secs(15),
        "an outcome within the deadline: {:?}",
        asked.elapsed()
    );
    for at_home in [&results[0], &results[2]] {
        assert_eq!(wire::receipt(at_home).region, US);
    }
    match results[1].outcome.clone() {
        Some(Outcome::Receipt(receipt)) => {
            assert_eq!(receipt.region, EU);
            Ok(())
        }
        Some(Outcome::Refusal(status) | Outcome::Unknown(status)) => Err(status),
        None => panic!("an event without an outcome"),
    }
}

fn must_be_passing(status: &google_rpc::Status) {
    let details = wire::details(status);
    let codes = [Code::Unavailable as i32, Code::DeadlineExceeded as i32];
    assert!(codes.contains(&status.code), "{} {}", status.code, status.message);
    assert!(
        status.message.starts_with("events[1]: ") && status.message.contains(EU),
        "{}",
        status.message
    );
    assert!(
        details.retry_info().is_some(),
        "invites to try again: {}",
        status.message
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stays_at_home_goes_through_while_the_other_region_is_cut_off() {
    let scratch = Scratch::new("cut");
    let names = Names::new();
    let (us, eu, door) = regions(&scratch, &names).await;
    payment_between_orders(&us).await.unwrap();
    door.cut();
    must_be_passing(&payment_between_orders(&us).await.unwrap_err());
    door.point_at(&eu.data());
    eventually(PATIENCE, "payments to cross again", || async {
        payment_between_orders(&us).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_does_not_answer_holds_up_nobody_else() {
    let scratch = Scratch::new("frozen");
    let names = Names::new();
    let (us, mut eu, _door) = regions(&scratch, &names).await;
    payment_between_orders(&us).await.unwrap();
    eu.process().freeze();
    must_be_passing(&payment_between_orders(&us).await.unwrap_err());
    eu.process().thaw();
    eventually(PATIENCE, "payments to cross again", || async {
        payment_between_orders(&us).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishers_lose_and_reorder_nothing_over_a_cut() {
    let scratch = Scratch::new("cut-load");
    let names = Names::new();
    let (us, eu, door) = regions(&scratch, &names).await;
    let record = Record::new();
    let (us_gateways, eu_gateways) = ([us.data()], [eu.data()]);
    let fleet = Fleet::start(names.local_fleets(&us_gateways, &eu_gateways), &record);
    let load = Load::start(names.loads(&us_gateways, &eu_gateways, 100), &record);
    for _ in 0..3 {
        record.flows(PATIENCE).await;
        door.cut();
        flow(Duration::from_millis(700)).await;
        door.point_at(&eu.data());
    }
    record.flows(PATIENCE).await;
    load.stop().await;
    record.must_hold(&names.local_streams(), PATIENCE, 1_000).await;
    fleet.stop().await;
}
