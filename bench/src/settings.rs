//! What every benchmark is told, and where the clusters and programs are found.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::Failure;
use crate::figures::share_groups::Cluster;
use crate::gateway::{BrokerChoice, Installation};

/// How to measure, and where.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Runs of each figure.
    pub(crate) runs: usize,
    /// How long a run measures.
    pub(crate) measured: Duration,
    /// How long it works before that.
    pub(crate) warm_up: Duration,
    pub(crate) installation: Installation,
    /// `host:port` of the Kafka cluster, when it was found.
    pub(crate) kafka: Option<String>,
    /// `host:port` of the Redis server, when it was found.
    pub(crate) redis: Option<String>,
    /// `host:port` of the RabbitMQ broker, when it was found.
    pub(crate) rabbitmq: Option<String>,
}

impl Settings {
    /// The Kafka cluster as a broker.
    pub(crate) fn kafka_broker(&self) -> Result<BrokerChoice, Failure> {
        let advice = "run `make services-up`, or name one with --kafka";
        let bootstrap = self
            .kafka
            .clone()
            .ok_or_else(|| Failure::new("looking for the Kafka cluster a", advice))?;
        Ok(BrokerChoice::Kafka(bootstrap))
    }

    /// The Redis server as a broker.
    pub(crate) fn redis_broker(&self) -> Result<BrokerChoice, Failure> {
        let advice = "run `make services-up`, or name one with --redis";
        let address = self.redis.clone();
        let address = address.ok_or_else(|| Failure::new("looking for the Redis server a", advice))?;
        Ok(BrokerChoice::Redis(address))
    }

    /// The RabbitMQ broker.
    pub(crate) fn rabbitmq_broker(&self) -> Result<BrokerChoice, Failure> {
        let advice = "run `make services-up`, or name one with --rabbitmq";
        let address = self.rabbitmq.clone();
        let address = address.ok_or_else(|| Failure::new("looking for the RabbitMQ broker a", advice))?;
        Ok(BrokerChoice::RabbitMq(address))
    }
}

/// The build folder, as the scripts of deploy/local have it.
pub(crate) fn build_folder() -> PathBuf {
    std::env::var_os("MERIDIAN_BUILD_DIR").map_or_else(|| PathBuf::from("build"), PathBuf::from)
}

/// Where the local server `a` of a kind listens, when deploy/local/services-up has
/// started it: `note` names its folder, `address` the file in it.
pub(crate) fn local_server(build: &Path, note: &str, address: &str) -> Option<String> {
    let folder = fs::read_to_string(build.join(note)).ok()?;
    let address = fs::read_to_string(Path::new(folder.trim()).join(address)).ok()?;
    Some(address.trim().to_owned())
}

/// The local Kafka cluster `a` with its process and script: its broker's CPU time is
/// part of a figure.
pub(crate) fn local_cluster(build: &Path) -> Result<Cluster, Failure> {
    let found = || {
        Some(Cluster {
            bootstrap: local_server(build, "kafka/clusters/a", "bootstrap")?,
            broker_pid: local_server(build, "kafka/clusters/a", "pid")?.parse().ok()?,
            script: PathBuf::from("deploy/local/kafka/kafka"),
        })
    };
    found().ok_or_else(|| Failure::new("looking for the Kafka cluster a", "run `make services-up`"))
}

/// The program beside this one, where cargo puts both.
pub(crate) fn meridian_beside_this() -> PathBuf {
    let this = std::env::current_exe().unwrap_or_default();
    this.with_file_name("meridian")
}
