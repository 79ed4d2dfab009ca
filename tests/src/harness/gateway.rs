//! A gateway process: its plan, its files, its life.
//!
//! What holds: a gateway that starts again has the same addresses, broker and
//! files, so that clients and peers find it where it was.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::Value;

use super::http;
use super::namespace::Namespace;
use super::process::Process;
use super::scratch::{Scratch, free_port, meridian_binary};
use super::wait::eventually;

/// A debug build that shares two cores with a cluster takes its time.
pub const READY: Duration = Duration::from_secs(60);
const STOPPED: Duration = Duration::from_secs(45);

/// The one broker of a gateway, called `main`.
#[derive(Clone, Debug)]
pub enum Brokers {
    /// In the process, in a folder of the test.
    Embedded,
    /// A cluster, by its bootstrap address.
    Kafka(String),
    /// Servers of another kind, by the kind's name in a configuration and where they listen.
    Servers(&'static str, Vec<String>),
}

impl Brokers {
    /// The broker's section of a configuration, at an indent of four.
    pub fn yaml(&self, folder: &str) -> String {
        match self {
            Brokers::Embedded => format!("    embedded:\n      directory: {folder}\n"),
            Brokers::Kafka(bootstrap) => format!("    kafka:\n      bootstrap: [\"{bootstrap}\"]\n"),
            Brokers::Servers(kind, addresses) => format!("    {kind}:\n      addresses: {addresses:?}\n"),
        }
    }
}

/// What a gateway is to be.
#[derive(Clone, Debug)]
pub struct GatewayPlan {
    /// Its name among the files of the test.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Its broker.
    pub broker: Brokers,
    /// Regions and data addresses of peers.
    pub peers: Vec<(String, String)>,
    /// Its rules.
    pub rules: String,
    /// Partitions of topics that it makes.
    pub partitions: u32,
    /// More configuration, as it stands in the file.
    pub more: String,
    host: String,
    /// What runs it somewhere else, with its first arguments.
    entry: Option<(PathBuf, Vec<String>)>,
    data_port: u16,
    admin_port: u16,
}

impl GatewayPlan {
    /// A gateway called like its region, with ports of its own.
    pub fn new(region: &str, broker: Brokers, rules: impl Into<String>) -> Self {
        Self {
            name: region.to_owned(),
            region: region.to_owned(),
            broker,
            peers: Vec::new(),
            rules: rules.into(),
            partitions: 4,
            more: String::new(),
            host: "127.0.0.1".to_owned(),
            entry: None,
            data_port: free_port(),
            admin_port: free_port(),
        }
    }

    /// The same under another name and on other ports: one more gateway of the region.
    #[must_use]
    pub fn another(&self, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            data_port: free_port(),
            admin_port: free_port(),
            ..self.clone()
        }
    }

    /// Knows another region's gateways.
    #[must_use]
    pub fn peer(mut self, region: &str, address: &str) -> Self {
        self.peers.push((region.to_owned(), address.to_owned()));
        self
    }

    /// Adds configuration, as it stands in the file.
    #[must_use]
    pub fn more(mut self, yaml: &str) -> Self {
        self.more.push_str(yaml);
        self
    }

    /// Runs it in a network namespace, and listens there.
    #[must_use]
    pub fn inside(mut self, namespace: &Namespace) -> Self {
        self.host = namespace.inside();
        self.entry = Some(namespace.entry());
        self
    }

    /// The port of [`GatewayPlan::data`].
    pub fn data_port(&self) -> u16 {
        self.data_port
    }

    /// Where it will answer publishers and workers.
    pub fn data(&self) -> String {
        format!("{}:{}", self.host, self.data_port)
    }

    /// Where it will answer operators.
    pub fn admin(&self) -> String {
        format!("{}:{}", self.host, self.admin_port)
    }

    /// Writes its files and starts it, and waits until it listens.
    pub async fn start(self, scratch: &Scratch) -> Gateway {
        let rules = scratch.write(&format!("{}-rules.yaml", self.name), &self.rules);
        let config = scratch.write(&format!("{}.yaml", self.name), &self.yaml(scratch));
        let log = scratch.path(&format!("{}.log", self.name));
        let mut gateway = Gateway {
            plan: self,
            config,
            rules,
            log,
            process: None,
        };
        gateway.start_again().await;
        gateway
    }

    /// The configuration file's text.
    pub fn yaml(&self, scratch: &Scratch) -> String {
        let folder = scratch.path(&format!("{}-data", self.name));
        let mut peers: std::collections::BTreeMap<&str, Vec<String>> = std::collections::BTreeMap::new();
        for (region, address) in &self.peers {
            peers.entry(region).or_default().push(format!("{address:?}"));
        }
        let peers: String = peers
            .iter()
            .map(|(region, addresses)| format!("  {region}:\n    addresses: [{}]\n", addresses.join(", ")))
            .collect();
        let peers = if peers.is_empty() {
            String::new()
        } else {
            format!("peers:\n{peers}")
        };
        format!(
            "region: {}\nlisten:\n  data: {}\n  admin: {}\nbrokers:\n  main:\n{}default_broker: main\n{peers}rules:\n  file: {}-rules.yaml\ntopics:\n  create: true\n  partitions: {}\n{}",
            self.region,
            self.data(),
            self.admin(),
            self.broker.yaml(&folder.display().to_string()),
            self.name,
            self.partitions,
            self.more,
        )
    }
}

/// A gateway, running or not.
#[derive(Debug)]
pub struct Gateway {
    plan: GatewayPlan,
    config: PathBuf,
    rules: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Gateway {
    /// Where it answers publishers and workers.
    pub fn data(&self) -> String {
        self.plan.data()
    }

    /// Where it answers operators.
    pub fn admin(&self) -> String {
        self.plan.admin()
    }

    /// Its watched rules file.
    pub fn rules_file(&self) -> &PathBuf {
        &self.rules
    }

    /// The process.
    ///
    /// # Panics
    /// When it was stopped.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("the gateway was started")
    }

    /// Starts it as it was, and waits until it listens.
    pub async fn start_again(&mut self) {
        let own = [
            "gateway".to_owned(),
            "--config".to_owned(),
            self.config.display().to_string(),
        ];
        let (program, arguments) = match &self.plan.entry {
            None => (meridian_binary(), own.to_vec()),
            Some((entry, first)) => {
                let program = meridian_binary().display().to_string();
                let arguments = first.iter().cloned().chain([program]).chain(own);
                (entry.clone(), arguments.collect())
            }
        };
        let mut process = Process::start(&self.plan.name, &program, &arguments, &self.log);
        let line = process.line(READY).await;
        let addresses: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(addresses["data"], self.data(), "{line}");
        assert_eq!(addresses["admin"], self.admin(), "{line}");
        process.ignore_output();
        self.process = Some(process);
    }

    /// Waits until `/readyz` says that it is ready.
    pub async fn ready(&self) {
        let what = format!("gateway {} to be ready", self.plan.name);
        eventually(READY, &what, || async {
            self.readiness().await.is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// What `/readyz` answers.
    pub async fn readiness(&self) -> Option<(u16, Value)> {
        let (status, body) = http::get(&self.admin(), "/readyz").await?;
        Some((status, serde_json::from_str(&body).ok()?))
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.process().kill().await;
        self.process = None;
    }

    /// SIGTERM; waits until it has drained and ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        let status = self.process().terminate(STOPPED).await;
        self.process = None;
        status
    }

    /// The number of a metric, summed over its labels; `None` when it is not there.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = http::get(&self.admin(), "/metrics").await?;
        let of_metric = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        let numbers: Vec<f64> = text
            .lines()
            .filter(of_metric)
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        (!numbers.is_empty()).then(|| numbers.iter().sum())
    }
}
