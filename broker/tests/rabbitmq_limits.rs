//! The broker's own limits on deliveries: one on how often a record may come back is
//! told and keeps groups from reading; one on how long a record may be held costs the
//! channel, and the group goes on.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    dead_code,
    reason = "a test that unwraps fails where it should, and may print; helpers are shared"
)]

mod rabbitmq_broker;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use meridian_broker::ReaderState;
use meridian_broker::conformance::Settings;
use meridian_broker::conformance::reading::Reading;
use meridian_broker::conformance::waiting::{PATIENCE, eventually};
use meridian_broker::conformance::writing::{batch_to, new_topic, number_of, store, unique_group};

use self::rabbitmq_broker::{Server, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_limit_is_told_and_nothing_is_read_until_it_is_gone() {
    let server = Server::start().await;
    let policy = ["--", "set_policy", "--apply-to", "queues", "limit"];
    let policy = [&policy[..], &["^meridian\\.", r#"{"delivery-limit":20}"#]].concat();
    server.command("ctl", &policy).await;
    let broker = open(&server.address(), &Settings::default()).await;
    let topic = new_topic(&broker, "limited", 1).await;
    let mut reading = Reading::join(&broker, &unique_group("limited"), &topic).await;
    eventually(PATIENCE, "the limit to be told", async || {
        match reading.settler.state() {
            ReaderState::NotReading { reason, .. } if reason.contains("delivery limit") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    server.command("ctl", &["--", "clear_policy", "limit"]).await;
    store(&broker, batch_to(&topic, 0, 0..5)).await;
    let records = reading.take(5).await;
    reading.settle(&records);
    reading.close().await;
}

/// What is held for too long comes again; what was settled does not, and another group reads on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_held_beyond_the_consumer_timeout_costs_its_group_the_channel_alone() {
    let server = Server::start().await;
    let set =
        "application:set_env(rabbit, consumer_timeout, 3000), application:set_env(rabbit, channel_tick_interval, 500).";
    server.command("ctl", &["--", "eval", set]).await;
    let broker = open(&server.address(), &Settings::default()).await;
    let topic = new_topic(&broker, "held", 1).await;
    let mut slow = Reading::join(&broker, &unique_group("held-slow"), &topic).await;
    slow.until_partitions(1).await;
    let mut quick = Reading::join(&broker, &unique_group("held-quick"), &topic).await;
    quick.until_partitions(1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let held = slow.take(10).await;
    slow.settle(&held[..5]);
    let came = quick.take(10).await;
    quick.settle(&came);
    // The channel goes, and comes back with what was held.
    let began = Instant::now();
    let mut again = BTreeSet::new();
    while again.len() < 5 {
        slow.watch(Duration::from_millis(50)).await;
        again.extend(slow.take_waiting().iter().map(|record| number_of(&record.record)));
        assert!(began.elapsed() < PATIENCE, "only {again:?} came again");
    }
    assert_eq!(again, (5..10).collect());
    // The other has noticed nothing.
    assert!(matches!(quick.settler.state(), ReaderState::Reading));
    store(&broker, batch_to(&topic, 0, 10..12)).await;
    let came = quick.take(2).await;
    assert_eq!(
        came.iter()
            .map(|record| record.claim.generation)
            .collect::<BTreeSet<_>>()
            .len(),
        1
    );
    quick.settle(&came);
    let unset =
        "application:unset_env(rabbit, consumer_timeout), application:unset_env(rabbit, channel_tick_interval).";
    server.command("ctl", &["--", "eval", unset]).await;
}
