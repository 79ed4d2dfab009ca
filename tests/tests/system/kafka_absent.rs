//! Kafka is not there when everything starts: probes and the group's state say the
//! truth, publishes are refused in time with a moment to try again, and all of it
//! resumes by itself. `MERIDIAN_FULL=1` keeps Kafka away for five minutes.

use std::time::{Duration, Instant};

use meridian_tests::harness::wait::flow;
use meridian_tests::harness::{
    Brokers, GatewayPlan, KafkaCluster, Scratch, alone, eventually, eventually_some, short_or_full, wire,
};
use meridian_tests::traffic::record::{place, streams};
use meridian_tests::traffic::{Fleet, FleetPlan, Load, LoadPlan, Record};
use tonic::Code;

use crate::regions::{Names, ORDER, US};

const PATIENCE: Duration = Duration::from_secs(60);

fn absence() -> Duration {
    short_or_full(Duration::from_secs(15), Duration::from_secs(300))
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_waits_for_kafka_and_says_so() {
    let _turn = alone().await;
    let scratch = Scratch::new("absent");
    let names = Names::new();
    let cluster = KafkaCluster::absent(&scratch);
    let rules = format!("rules:\n  - name: orders\n    send: {{ topic: {} }}\n", names.orders);
    let gateway = GatewayPlan::new(US, Brokers::Kafka(cluster.bootstrap()), rules)
        .start(&scratch)
        .await;
    let began = Instant::now();

    let record = Record::new();
    let gateways = [gateway.data()];
    let fleet = FleetPlan::new(US, &gateways, &names.billing, std::slice::from_ref(&names.orders));
    let fleet = Fleet::start(vec![fleet], &record);
    let mut plan = LoadPlan::new(&gateways, "orders", ORDER, 20);
    plan.delivery_timeout = absence() + Duration::from_secs(120);
    let load = Load::start(vec![plan], &record);

    let (_, readiness) = eventually_some(PATIENCE, "/readyz to say that the broker is away", || async {
        gateway
            .readiness()
            .await
            .filter(|(status, body)| *status == 503 && body.to_string().contains("main"))
    })
    .await;
    assert!(readiness["components"].to_string().contains("reason"), "{readiness}");
    refused_in_time(&gateway.data()).await;
    let state = eventually_some(PATIENCE, "the group to say since when it is not reading", || async {
        let state = wire::describe_group(&gateway.admin(), &names.billing).await.ok()?;
        state.not_reading_since.is_some().then_some(state)
    })
    .await;
    assert!(!state.not_reading_reason.is_empty(), "{state:?}");
    flow(absence().saturating_sub(began.elapsed())).await;
    assert_eq!(record.stored_count(), 0);

    cluster.start_first().await;
    gateway.ready().await;
    eventually(PATIENCE, "200 events to be stored and delivered", || async {
        record.stored_count() >= 200 && record.delivered_count() >= 200
    })
    .await;
    load.stop().await;
    let streams = streams(&[("orders", &[place(US, &names.orders, &names.billing)])]);
    let verdict = record.must_hold(&streams, PATIENCE, 200).await;
    assert_eq!(verdict.unknown, 0, "nothing was handed to a broker that was away");
    assert_eq!(verdict.refused, 0, "the SDK waits for the broker: {verdict:?}");
    assert_eq!(record.highest_attempt(), 1);
    let state = wire::describe_group(&gateway.admin(), &names.billing).await.unwrap();
    assert_eq!(state.not_reading_since, None, "{}", state.not_reading_reason);
    fleet.stop().await;
}

/// UNAVAILABLE with a moment to try again, within the deadline of a publish.
async fn refused_in_time(address: &str) {
    let asked = Instant::now();
    let results = wire::publish(address, &[wire::event("1", ORDER)]).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    let (status, details) = wire::refusal(&results[0]);
    assert_eq!(status.code, Code::Unavailable as i32, "{}", status.message);
    assert!(
        details.retry_info().is_some_and(|info| info.retry_delay.is_some()),
        "{details:?}"
    );
}
