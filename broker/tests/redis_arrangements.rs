//! Other arrangements than one server: replicas that are waited for, and a cluster.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    dead_code,
    reason = "a test that unwraps fails where it should, and may print; the servers are shared with other tests"
)]

mod redis_server;

use std::time::Duration;

use meridian_broker::adapters::redis::RedisConfig;
use meridian_broker::adapters::redis::config::RedisMode;
use meridian_broker::conformance::reading::{Reading, numbers};
use meridian_broker::conformance::waiting::{PATIENCE, eventually};
use meridian_broker::conformance::writing::{append, batch, batch_to, new_topic, store, unique_group};
use meridian_broker::{Durability, Stored};

use self::redis_server::{Foreign, Server, open_with};

/// A receipt waits for the replica; without it the outcome is unknown, and the record is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_waits_for_replicas() {
    let master = Server::start(&[]).await;
    let address = master.address();
    let (host, port) = address.split_once(':').unwrap();
    let replica = Server::start(&[&format!("replicaof={host} {port}")]).await;
    let foreign = Foreign::connect(&master.address()).await;
    eventually(PATIENCE, "the replica's first copy", async || {
        let waited = foreign.run(&["WAIT", "1", "100"]).await;
        if waited.as_u64() == Some(1) {
            Ok(())
        } else {
            Err(waited)
        }
    })
    .await;
    let mut config = RedisConfig::new(vec![master.address()]);
    config.wait_replicas = 1;
    config.wait_replicas_timeout = Duration::from_millis(300);
    let broker = open_with(config).await;
    assert_eq!(broker.profile().durability, Durability::Replicas);
    let topic = new_topic(&broker, "replicas", 1).await;
    eventually(PATIENCE, "a receipt with a replica", async || {
        let appended = append(&broker, batch_to(&topic, 0, 0..1)).await;
        if appended.outcomes.iter().all(Result::is_ok) && appended.refused.is_empty() {
            Ok(())
        } else {
            Err(appended)
        }
    })
    .await;
    replica.command("kill", &[]).await;
    let appended = append(&broker, batch_to(&topic, 0, 1..3)).await;
    assert!(appended.refused.is_empty(), "{:?}", appended.refused);
    for outcome in appended.outcomes {
        let error = outcome.unwrap_err();
        assert_eq!(error.stored, Stored::Unknown, "{error}");
        assert!(error.message.contains("replicas"), "{error}");
    }
    let mut reading = Reading::join(&broker, &unique_group("replicas"), &topic).await;
    let all = reading.take(3).await;
    assert_eq!(numbers(&all)[1..], [1, 2]);
}

/// A cluster of two nodes: shards lie on both, and are written, read, settled and grown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_served() {
    let settings = ["cluster-enabled=yes", "cluster-require-full-coverage=yes"];
    let nodes = [Server::start(&settings).await, Server::start(&settings).await];
    let clients = [
        Foreign::connect(&nodes[0].address()).await,
        Foreign::connect(&nodes[1].address()).await,
    ];
    clients[0].run(&["CLUSTER", "ADDSLOTSRANGE", "0", "8191"]).await;
    clients[1].run(&["CLUSTER", "ADDSLOTSRANGE", "8192", "16383"]).await;
    let address = nodes[1].address();
    let (host, port) = address.split_once(':').unwrap();
    clients[0].run(&["CLUSTER", "MEET", host, port]).await;
    eventually(PATIENCE, "the cluster", async || {
        let mut states = Vec::new();
        for client in &clients {
            states.push(client.run(&["CLUSTER", "INFO"]).await.as_string().unwrap_or_default());
        }
        if states.iter().all(|state| state.contains("cluster_state:ok")) {
            Ok(())
        } else {
            Err(states)
        }
    })
    .await;
    let mut config = RedisConfig::new(vec![nodes[0].address()]);
    config.mode = RedisMode::Cluster;
    let broker = open_with(config).await;
    let topic = new_topic(&broker, "cluster", 8).await;
    let positions = store(&broker, batch(&topic, 0..400, 100)).await;
    let group = unique_group("cluster");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let records = reading.take(400).await;
    reading.settle(&records[..300]);
    reading.close().await;
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let rest = reading.take(100).await;
    reading.settle(&rest);
    reading.commit().await;
    broker.admin().grow_topic(&topic, 9).await.unwrap();
    let after = store(&broker, batch(&topic, 400..800, 100)).await;
    let moved = positions
        .iter()
        .zip(&after)
        .filter(|(one, two)| one.partition != two.partition);
    assert!(moved.count() > 0, "no key moved");
    let mut read = numbers(&reading.take(400).await);
    read.sort_unstable();
    assert!(read.into_iter().eq(400..800));
}
