//! Kafka clusters: the two shared ones, and throw-away ones to kill.

use std::path::{Path, PathBuf};

use super::command::{Finished, run};
use super::scratch::{Scratch, build_folder, free_port, repository, unique};

/// The bootstrap address of shared cluster `A` or `B`; it is left running.
///
/// # Panics
/// When the environment does not name it.
pub fn shared_kafka(letter: char) -> String {
    let variable = format!("MERIDIAN_KAFKA_{letter}");
    std::env::var(&variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: run `make test`; or deploy/local/services-up, then set MERIDIAN_KAFKA_A=127.0.0.1:19092 and MERIDIAN_KAFKA_B=127.0.0.1:29092")
    })
}

/// A cluster of one test, killed with it.
#[derive(Debug)]
pub struct KafkaCluster {
    name: String,
    port: u16,
    controller_port: u16,
    data: PathBuf,
}

impl KafkaCluster {
    /// A cluster that is not started yet: its address is known, and nobody answers.
    pub fn absent(scratch: &Scratch) -> Self {
        let name = unique("test");
        let data = scratch.path(&name);
        Self {
            name,
            port: free_port(),
            controller_port: free_port(),
            data,
        }
    }

    /// A running cluster.
    pub async fn start(scratch: &Scratch) -> Self {
        let cluster = Self::absent(scratch);
        cluster.start_first().await;
        cluster
    }

    /// Starts a cluster that was [`absent`](Self::absent), and waits until it answers.
    pub async fn start_first(&self) {
        let (port, controller_port) = (self.port.to_string(), self.controller_port.to_string());
        let (data, pid) = (self.data.display().to_string(), std::process::id().to_string());
        let mut arguments = vec![
            "start",
            "--name",
            &self.name,
            "--port",
            &port,
            "--controller-port",
            &controller_port,
        ];
        arguments.extend(["--data", &data, "--heap", "256m", "--quick", "--until-pid", &pid]);
        // A killed broker is fenced after 3 s in place of 9, so that its restart need not wait for that.
        arguments.extend([
            "--set",
            "broker.session.timeout.ms=3000",
            "--set",
            "broker.heartbeat.interval.ms=500",
        ]);
        kafka(&arguments).await.success();
    }

    /// Where clients ask first.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `kill -9`.
    pub async fn kill(&self) {
        kafka(&["kill", "--name", &self.name]).await.success();
    }

    /// SIGTERM, and waits until it has ended.
    pub async fn stop(&self) {
        kafka(&["stop", "--name", &self.name]).await.success();
    }

    /// Starts it again as it was, and waits until it answers.
    pub async fn start_again(&self) {
        let pid = std::process::id().to_string();
        kafka(&["start", "--name", &self.name, "--until-pid", &pid])
            .await
            .success();
    }
}

impl Drop for KafkaCluster {
    fn drop(&mut self) {
        // The script ends the broker by the pid that it wrote down.
        let stopped = std::process::Command::new(script())
            .args(["kill", "--name", &self.name])
            .output();
        if let Err(error) = stopped {
            eprintln!("cannot stop cluster {}: {error}", self.name);
        }
        // The script's note of where the cluster's data is; nobody asks for it again.
        let _ = std::fs::remove_file(build_folder().join("kafka/clusters").join(&self.name));
    }
}

async fn kafka(arguments: &[&str]) -> Finished {
    run(&script(), arguments, "").await
}

fn script() -> PathBuf {
    Path::new(repository()).join("deploy/local/kafka/kafka")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_cluster_is_killed_and_comes_back() {
        let scratch = Scratch::new("kafka");
        let cluster = KafkaCluster::start(&scratch).await;
        cluster.kill().await;
        assert!(tokio::net::TcpStream::connect(cluster.bootstrap()).await.is_err());
        cluster.start_again().await;
        assert!(tokio::net::TcpStream::connect(cluster.bootstrap()).await.is_ok());
    }
}
