//! A replicator process and its links.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::gateway::{Brokers, READY};
use super::http;
use super::process::Process;
use super::scratch::{Scratch, free_port, meridian_binary};
use super::wait::eventually;

const STOPPED: Duration = Duration::from_secs(45);

/// One link between two regions' brokers `main`.
#[derive(Clone, Debug)]
pub struct LinkPlan {
    /// Its name: the replicator reads as group `meridian.link.<name>`, so it is one of its own on a shared cluster.
    pub name: String,
    /// From.
    pub source: String,
    /// To.
    pub target: String,
    /// What it mirrors.
    pub topics: Vec<String>,
}

/// A replicator, running or not.
#[derive(Debug)]
pub struct Replicator {
    config: PathBuf,
    log: PathBuf,
    admin: String,
    process: Option<Process>,
}

impl Replicator {
    /// Writes its file and starts it, and waits until it listens.
    pub async fn start(scratch: &Scratch, regions: &[(&str, Brokers)], links: &[LinkPlan]) -> Self {
        let admin = format!("127.0.0.1:{}", free_port());
        let config = scratch.write("replicator.yaml", &yaml(&admin, regions, links));
        let log = scratch.path("replicator.log");
        let mut replicator = Self {
            config,
            log,
            admin,
            process: None,
        };
        replicator.start_again().await;
        replicator
    }

    /// Where it answers operators.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// The process.
    ///
    /// # Panics
    /// When it was stopped.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the replicator was started")
    }

    /// Starts it as it was, and waits until it listens.
    pub async fn start_again(&mut self) {
        let arguments = [
            "replicator".to_owned(),
            "--config".to_owned(),
            self.config.display().to_string(),
        ];
        let mut process = Process::start("replicator", &meridian_binary(), &arguments, &self.log);
        let line = process.line(READY).await;
        let addresses: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(addresses["admin"], self.admin, "{line}");
        process.ignore_output();
        self.process = Some(process);
    }

    /// Waits until `/readyz` says that it is ready.
    pub async fn ready(&self) {
        eventually(READY, "the replicator to be ready", || async {
            http::get(&self.admin, "/readyz")
                .await
                .is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.process().kill().await;
        self.process = None;
    }

    /// SIGTERM; waits until it has ended.
    pub async fn terminate(&mut self) -> std::process::ExitStatus {
        let status = self.process().terminate(STOPPED).await;
        self.process = None;
        status
    }
}

fn yaml(admin: &str, regions: &[(&str, Brokers)], links: &[LinkPlan]) -> String {
    let mut text = format!("listen:\n  admin: {admin}\nregions:\n");
    for (region, broker) in regions {
        let section = broker.yaml("unused").replace("\n    ", "\n        ");
        text.push_str(&format!(
            "  {region}:\n    brokers:\n      main:\n        {}\n",
            section.trim()
        ));
    }
    text.push_str("links:\n");
    for link in links {
        text.push_str(&format!(
            "  - name: {}\n    source: {{ region: {}, broker: main }}\n    target: {{ region: {}, broker: main }}\n    topics: [{}]\n    refresh_topics_seconds: 1\n",
            link.name,
            link.source,
            link.target,
            link.topics.join(", ")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_nests_brokers_below_their_regions() {
        let link = LinkPlan {
            name: "l".to_owned(),
            source: "a".to_owned(),
            target: "b".to_owned(),
            topics: vec!["t".to_owned()],
        };
        let text = yaml(
            "127.0.0.1:1",
            &[("a", Brokers::Kafka("127.0.0.1:2".to_owned()))],
            &[link],
        );
        let expected = "regions:\n  a:\n    brokers:\n      main:\n        kafka:\n          bootstrap: [\"127.0.0.1:2\"]\nlinks:\n";
        assert!(text.contains(expected), "{text}");
    }
}
