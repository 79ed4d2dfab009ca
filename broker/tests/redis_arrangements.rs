//! Other arrangements than one open server: replicas that are waited for, a cluster, sentinels and a failover, TLS with
//! a user of its own.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    dead_code,
    reason = "a test that unwraps fails where it should, and may print; the servers are shared with other tests"
)]

mod redis_server;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use meridian_broker::adapters::redis::RedisConfig;
use meridian_broker::adapters::redis::config::{RedisMode, RedisTls};
use meridian_broker::conformance::reading::{Reading, numbers};
use meridian_broker::conformance::waiting::{PATIENCE, eventually};
use meridian_broker::conformance::writing::{append, batch, batch_to, new_topic, store, unique_group};
use meridian_broker::{BrokerState, Durability, ReadErrorKind, Stored};
use meridian_fault_proxy::Proxy;
use meridian_runtime::secret::Secret;
use tempfile::TempDir;

use self::redis_server::{Foreign, Server, open_with};

/// Until the replica of this master has all that it has.
async fn copied(master: &Foreign) {
    eventually(PATIENCE, "the replica's copy", async || {
        let waited = master.run(&["WAIT", "1", "100"]).await;
        if waited.as_u64() == Some(1) {
            Ok(())
        } else {
            Err(waited)
        }
    })
    .await;
}

/// A master and its replica.
async fn pair() -> [Server; 2] {
    let master = Server::start(&[]).await;
    let address = master.address();
    let (host, port) = address.split_once(':').unwrap();
    let replica = Server::start(&[&format!("replicaof={host} {port}")]).await;
    [master, replica]
}

/// A receipt waits for the replica; without it the outcome is unknown, and the record is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_waits_for_replicas() {
    let [master, replica] = pair().await;
    let foreign = Foreign::connect(&master.address()).await;
    copied(&foreign).await;
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

/// A sentinel of one master; it ends with the value.
struct Sentinel {
    process: Child,
    port: u16,
    _folder: TempDir,
}

impl Sentinel {
    fn start(master: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let address = master.address();
        let (host, master_port) = address.split_once(':').unwrap();
        let file = folder.path().join("sentinel.conf");
        let settings = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor main {host} {master_port} 1\n\
             sentinel down-after-milliseconds main 1000\nsentinel failover-timeout main 5000\n",
            folder.path().display()
        );
        std::fs::write(&file, settings).unwrap();
        let process = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process,
            port,
            _folder: folder,
        }
    }

    /// Any client of it, once it listens.
    async fn client(&self) -> Foreign {
        let address = format!("127.0.0.1:{}", self.port);
        eventually(PATIENCE, "the sentinel to listen", async || {
            tokio::net::TcpStream::connect(&address).await
        })
        .await;
        Foreign::connect(&address).await
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended by itself
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The master is killed, and what its replica had goes on under the same readers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_are_followed_to_the_new_master() {
    let [master, replica] = pair().await;
    let foreign = Foreign::connect(&master.address()).await;
    copied(&foreign).await;
    let sentinel = Sentinel::start(&master);
    let watching = sentinel.client().await;
    eventually(PATIENCE, "the sentinel to know the replica", async || {
        let known = watching.run(&["SENTINEL", "REPLICAS", "main"]).await;
        let port = replica.address().split_once(':').unwrap().1.to_owned();
        if format!("{known:?}").contains(&port) {
            Ok(())
        } else {
            Err(known)
        }
    })
    .await;
    let mut config = RedisConfig::new(vec![format!("127.0.0.1:{}", sentinel.port)]);
    config.mode = RedisMode::Sentinel {
        master: "main".to_owned(),
    };
    let broker = open_with(config).await;
    let topic = new_topic(&broker, "sentinel", 1).await;
    store(&broker, batch_to(&topic, 0, 0..20)).await;
    let group = unique_group("sentinel");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let records = reading.take(20).await;
    reading.settle(&records[..12]);
    reading.commit().await;
    copied(&foreign).await;
    master.command("kill", &[]).await;
    eventually(PATIENCE, "the new master to take records", async || {
        let appended = append(&broker, batch_to(&topic, 0, 20..21)).await;
        if appended.refused.is_empty() && appended.outcomes.iter().all(Result::is_ok) {
            Ok(())
        } else {
            Err(appended)
        }
    })
    .await;
    assert_eq!(numbers(&reading.take(1).await), [20], "the same reader goes on");
    reading.close().await;
    let mut reading = Reading::join(&broker, &group, &topic).await;
    assert_eq!(
        numbers(&reading.take(9).await),
        (12..21).collect::<Vec<_>>(),
        "settled is settled"
    );
}

/// A replica that missed the end takes over: the loss that asynchronous replication
/// allows, and a reader that had read on is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_that_loses_the_end_is_told() {
    let [master, replica] = pair().await;
    let foreign = Foreign::connect(&master.address()).await;
    copied(&foreign).await;
    let door = Proxy::start(&master.address(), 1).await.unwrap();
    let broker = open_with(RedisConfig::new(vec![door.address()])).await;
    let topic = new_topic(&broker, "failover", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let group = unique_group("failover");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let records = reading.take(10).await;
    reading.settle(&records[..4]);
    reading.commit().await;
    copied(&foreign).await;
    Foreign::connect(&replica.address())
        .await
        .run(&["REPLICAOF", "NO", "ONE"])
        .await;
    store(&broker, batch_to(&topic, 0, 10..16)).await;
    assert_eq!(numbers(&reading.take(6).await), [10, 11, 12, 13, 14, 15]);
    door.point_at(&replica.address());
    master.command("kill", &[]).await;
    door.cut();
    let error = reading.ended().await;
    assert_eq!(error.kind, ReadErrorKind::PositionMissing, "{error}");
    assert!(error.message.contains("6 records are missing"), "{error}");
    let mut again = Reading::join(&broker, &group, &topic).await;
    assert_eq!(
        numbers(&again.take(6).await),
        [4, 5, 6, 7, 8, 9],
        "what the replica had"
    );
}

/// An authority, and a certificate and key of it for 127.0.0.1, as PEM files.
struct Certificates(TempDir);

impl Certificates {
    fn make() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = "set -e\n\
            openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority \
                -keyout ca.key -out ca.pem\n\
            openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=redis -keyout own.key -out own.csr\n\
            printf 'subjectAltName=IP:127.0.0.1\\nextendedKeyUsage=serverAuth,clientAuth\\n' > own.ext\n\
            openssl x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile own.ext -out own.pem";
        let made = Command::new("sh")
            .arg("-c")
            .arg(script)
            .current_dir(folder.path())
            .output();
        let made = made.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

/// TLS with a certificate on both sides, and a user who may do no more than is needed;
/// whoever trusts another authority, or has the wrong password, is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_a_user_are_used() {
    let (certificates, strange) = (Certificates::make(), Certificates::make());
    let port = free_port();
    let setting = |name: &str, file: &str| format!("{name}={}", certificates.file(file).display());
    let settings = [
        format!("tls-port={port}"),
        setting("tls-cert-file", "own.pem"),
        setting("tls-key-file", "own.key"),
        setting("tls-ca-cert-file", "ca.pem"),
    ];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let server = Server::start(&settings).await;
    let foreign = Foreign::connect(&server.address()).await;
    let user = [
        "ACL",
        "SETUSER",
        "gateway",
        "on",
        ">secret",
        "~meridian:*",
        "&*",
        "+@all",
        "-@dangerous",
    ];
    let needed = ["+info", "+config|get", "+client|kill", "+client|list"];
    foreign.run(&[&user[..], &needed[..]].concat()).await;

    let mut config = RedisConfig::new(vec![format!("127.0.0.1:{port}")]);
    config.username = Some("gateway".to_owned());
    config.password = Some(Secret::new("secret"));
    config.tls = Some(RedisTls {
        ca_file: Some(certificates.file("ca.pem")),
        certificate_file: Some(certificates.file("own.pem")),
        key_file: Some(certificates.file("own.key")),
    });
    let broker = open_with(config.clone()).await;
    let topic = new_topic(&broker, "guarded", 2).await;
    store(&broker, batch(&topic, 0..100, 10)).await;
    let group = unique_group("guarded");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let records = reading.take(100).await;
    reading.settle(&records);
    reading.commit().await;
    reading.close().await;

    let mut mistrusting = config.clone();
    mistrusting.tls.as_mut().unwrap().ca_file = Some(strange.file("ca.pem"));
    let mut forgetful = config;
    forgetful.password = Some(Secret::new("guess"));
    for (config, word) in [(mistrusting, "certificate"), (forgetful, "password")] {
        let broker = open_with(config).await;
        eventually(PATIENCE, word, async || match broker.state() {
            BrokerState::Unavailable { reason, .. } if reason.to_lowercase().contains(word) => Ok(()),
            other => Err(other),
        })
        .await;
        let appended = append(&broker, batch_to(&topic, 0, 0..1)).await;
        assert_eq!(appended.refused.len(), 1, "{appended:?}");
    }
}
