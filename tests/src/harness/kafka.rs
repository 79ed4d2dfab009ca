//! Kafka clusters: the two shared ones, and throw-away ones to kill.

use super::scratch::Scratch;
use super::service::{Service, ServiceKind};

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
pub struct KafkaCluster(Service);

impl KafkaCluster {
    /// A cluster that is not started yet: its address is known, and nobody answers.
    pub fn absent(scratch: &Scratch) -> Self {
        Self(Service::absent(ServiceKind::Kafka, scratch))
    }

    /// A running cluster.
    pub async fn start(scratch: &Scratch) -> Self {
        let cluster = Self::absent(scratch);
        cluster.start_first().await;
        cluster
    }

    /// Starts a cluster that was [`absent`](Self::absent), and waits until it answers.
    pub async fn start_first(&self) {
        self.0.start_first().await;
    }

    /// Where clients ask first.
    pub fn bootstrap(&self) -> String {
        self.0.address()
    }

    /// `kill -9`.
    pub async fn kill(&self) {
        self.0.kill().await;
    }

    /// SIGTERM, and waits until it has ended.
    pub async fn stop(&self) {
        self.0.stop().await;
    }

    /// Starts it again as it was, and waits until it answers.
    pub async fn start_again(&self) {
        self.0.start_again().await;
    }
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
