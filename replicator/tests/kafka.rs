//! Links between two real Kafka clusters.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use meridian_broker::Broker;
use meridian_broker::adapters::kafka::config::KafkaConfig;
use meridian_broker::config::BrokerKindConfig;
use meridian_event::Header;
use meridian_replicator::{LinkState, Naming};
use support::*;

/// The address of a cluster that must be running.
fn running_at(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: run `make test`; or deploy/local/services-up, then set \
             MERIDIAN_KAFKA_A=127.0.0.1:19092 and MERIDIAN_KAFKA_B=127.0.0.1:29092"
        )
    })
}

/// Both clusters, as brokers of two regions; appends never give up, as at a target.
async fn clusters() -> (Arc<dyn Broker>, Arc<dyn Broker>) {
    let cluster = |variable| {
        BrokerKindConfig::Kafka(KafkaConfig {
            delivery_timeout: None,
            ..KafkaConfig::new(vec![running_at(variable)])
        })
    };
    let (first, second) = (cluster("MERIDIAN_KAFKA_A"), cluster("MERIDIAN_KAFKA_B"));
    (connect_to("us-east", first).await, connect_to("eu-west", second).await)
}

/// The clusters outlive tests, so topics and links have names that nobody had.
fn fresh(stem: &str) -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("{stem}-{}", &id[..12])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_mirrored_as_they_were_into_their_partitions() {
    let (source, target) = clusters().await;
    let (orders, name) = (fresh("orders"), fresh("link"));
    make_topic(&source, &orders, 4).await;
    append_numbers(&source, &orders, 0..3_000).await;
    let running = start(vec![link(&name, &source, &target, &[&orders])]);
    let mirror = format!("us-east.{orders}");
    let mirrored = read_numbers(&target, &mirror, 0..3_000).await;
    assert_eq!(
        judge(&mirrored),
        Verdict {
            duplicates: 0,
            overtaken: 0
        }
    );
    let originals = read_numbers(&source, &orders, 0..3_000).await;
    let partition_of = |records: &[meridian_broker::ReadRecord], number| {
        records
            .iter()
            .find(|read| number_of(&read.record) == number)
            .unwrap()
            .claim
            .partition
            .partition
    };
    for read in mirrored.iter().step_by(37) {
        let number = number_of(&read.record);
        let mut expected = record(number);
        expected
            .headers
            .push(Header::new("ce_hops", "us-east".as_bytes().to_vec()));
        assert_eq!(*read.record, expected);
        assert_eq!(read.claim.partition.partition, partition_of(&originals, number));
    }
    running
        .wait(&name, "caught up", |status| {
            status.lag_messages == 0 && status.partitions.len() == 4
        })
        .await;
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_each_way_do_not_loop_and_one_cluster_is_no_two() {
    let (east, west) = clusters().await;
    let orders = fresh("orders");
    for broker in [&east, &west] {
        make_topic(broker, &orders, 2).await;
    }
    append_numbers(&east, &orders, 0..500).await;
    append_numbers(&west, &orders, 500..1_000).await;
    let (there, back, itself) = (fresh("there"), fresh("back"), fresh("itself"));
    let mut specs = vec![
        link(&there, &east, &west, &[&orders]),
        link(&back, &west, &east, &[&orders]),
        link(&itself, &east, &clusters().await.0, &[&orders]),
    ];
    specs.iter_mut().for_each(|spec| spec.options.naming = Naming::Same);
    let running = start(specs);
    for (broker, link) in [(&west, &there), (&east, &back)] {
        let records = read_numbers(broker, &orders, 0..1_000).await;
        assert_eq!(records.len(), 1_000, "each once");
        let status = running
            .wait(link, "past everything", |status| {
                status.mirrored_records + status.skipped_records == 1_000 && status.lag_messages == 0
            })
            .await;
        assert_eq!((status.mirrored_records, status.skipped_records), (500, 500));
    }
    let refused = running.wait_for(&itself, LinkState::Stopped).await;
    assert!(
        refused.reason.contains("both ends are one broker"),
        "{}",
        refused.reason
    );
    running.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_topic_joins_and_a_pause_loses_nothing() {
    let (source, target) = clusters().await;
    let (stem, name) = (fresh("orders"), fresh("link"));
    let (one, two) = (format!("{stem}.one"), format!("{stem}.two"));
    make_topic(&source, &one, 2).await;
    let running = start(vec![link(&name, &source, &target, &[&format!("{stem}.*")])]);
    append_numbers(&source, &one, 0..500).await;
    make_topic(&source, &two, 2).await;
    append_numbers(&source, &two, 0..500).await;
    read_numbers(&target, &format!("us-east.{two}"), 0..500).await;
    running
        .wait(&name, "caught up", |status| {
            status.mirrored_records >= 1_000 && status.lag_messages == 0
        })
        .await;
    assert_eq!(running.links.pause(&name).await.unwrap().state, LinkState::Paused);
    append_numbers(&source, &one, 500..700).await;
    running
        .wait(&name, "behind", |status| {
            status.lag_messages == 200 && status.lag_seconds > 0.0
        })
        .await;
    running.links.resume(&name).await.unwrap();
    let mirrored = read_numbers(&target, &format!("us-east.{one}"), 0..700).await;
    assert_eq!(
        judge(&mirrored),
        Verdict {
            duplicates: 0,
            overtaken: 0
        }
    );
    running.close().await;
}

/// What the child is told: the topic and the link.
const MIRRORED: &str = "MERIDIAN_TEST_MIRRORED";

/// The child of the test below; without its variable there is nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_until_it_is_killed() {
    let Ok(told) = std::env::var(MIRRORED) else { return };
    let (orders, name) = told.split_once(' ').unwrap();
    let (source, target) = clusters().await;
    let mut spec = link(name, &source, &target, &[orders]);
    spec.options.batch_records = 100;
    let running = start(vec![spec]);
    running
        .wait(name, "half way", |status| status.mirrored_records > 5_000)
        .await;
    println!("half way");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigkill_between_append_and_checkpoint_gives_duplicates_and_no_other_order() {
    let (orders, name) = (fresh("orders"), fresh("link"));
    let (source, target) = clusters().await;
    make_topic(&source, &orders, 3).await;
    append_numbers(&source, &orders, 0..30_000).await;
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "mirrors_until_it_is_killed", "--nocapture"])
        .env(MIRRORED, format!("{orders} {name}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut lines = stdout.lines().map(|line| line.unwrap());
    assert!(
        lines.any(|line| line.ends_with("half way")),
        "the child ended by itself"
    );
    child.kill().unwrap();
    child.wait().unwrap();

    let running = start(vec![link(&name, &source, &target, &[&orders])]);
    let mirrored = read_numbers(&target, &format!("us-east.{orders}"), 0..30_000).await;
    assert_eq!(judge(&mirrored).overtaken, 0, "{:?}", judge(&mirrored));
    running
        .wait(&name, "caught up", |status| status.lag_messages == 0)
        .await;
    running.close().await;
}
