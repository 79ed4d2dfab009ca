//! A gateway as a process of its own, with one broker, one rule and a configuration
//! in a temporary folder.
//!
//! What holds: the process and its folder end with the value.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use meridian_event::EventBuilder;
use meridian_proto::meridian::operations_service_client::OperationsServiceClient;
use meridian_proto::meridian::publisher_service_client::PublisherServiceClient;
use meridian_proto::meridian::{DeleteTopicRequest, PublishRequest};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::clients::lean_stream::connect;
use crate::clients::unary::expect_receipt;
use crate::failure::{Failure, While as _};
use crate::process_usage::ProcessUsage;

const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
const PROBE_PAUSE: Duration = Duration::from_millis(50);

/// Partitions of every topic that is published to.
pub(crate) const PARTITIONS: u32 = 8;

/// Which broker the gateway writes to.
#[derive(Clone, Debug)]
pub(crate) enum BrokerChoice {
    /// The log in the gateway's own process, in the temporary folder.
    Embedded,
    /// A cluster, by `host:port`.
    Kafka(String),
    /// A server, by `host:port`.
    Redis(String),
    /// A broker, by `host:port`.
    RabbitMq(String),
}

impl BrokerChoice {
    /// The broker's kind.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Kafka(_) => "Kafka",
            Self::Redis(_) => "Redis",
            Self::RabbitMq(_) => "RabbitMQ",
        }
    }

    fn section(&self) -> String {
        match self {
            Self::Embedded => "embedded:\n      directory: data".to_owned(),
            Self::Kafka(bootstrap) => format!("kafka:\n      bootstrap: [\"{bootstrap}\"]"),
            Self::Redis(address) => format!("redis:\n      addresses: [\"{address}\"]"),
            Self::RabbitMq(address) => format!("rabbitmq:\n      addresses: [\"{address}\"]"),
        }
    }
}

/// Where programs and folders are.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    /// The program `meridian`.
    pub(crate) meridian: PathBuf,
    /// A folder on a real disk, for the embedded log is synced.
    pub(crate) folder: PathBuf,
}

/// A running gateway.
pub(crate) struct Gateway {
    child: Child,
    pid: u32,
    data_port: u16,
    admin_port: u16,
    folder: TempDir,
}

impl Gateway {
    /// Starts a gateway that sends every event to `topic`, and waits until it is ready.
    pub(crate) async fn start(at: &Installation, broker: &BrokerChoice, topic: &str) -> Result<Self, Failure> {
        Self::start_with_topics(at, broker, topic, &[]).await
    }

    /// The same with rules for further topics, which no event of ours is sent to.
    pub(crate) async fn start_with_topics(
        at: &Installation,
        broker: &BrokerChoice,
        topic: &str,
        others: &[&str],
    ) -> Result<Self, Failure> {
        fs::create_dir_all(&at.folder).during(format!("making {}", at.folder.display()))?;
        let folder = tempfile::Builder::new()
            .prefix("gateway-")
            .tempdir_in(&at.folder)
            .during("making a temporary folder")?;
        let (data_port, admin_port) = (free_port().await?, free_port().await?);
        let write =
            |name: &str, text: String| fs::write(folder.path().join(name), text).during(format!("writing {name}"));
        write("gateway.yaml", configuration(broker, data_port, admin_port))?;
        write("rules.yaml", rules(topic, others))?;
        let log = File::create(folder.path().join("gateway.log")).during("making the gateway's log")?;
        let child = Command::new(&at.meridian)
            .args(["gateway", "--config", "gateway.yaml"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().during("sharing the log")?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .during(format!(
                "starting {}: build it with `cargo build --release -p meridian-cli`",
                at.meridian.display()
            ))?;
        let pid = child
            .id()
            .ok_or_else(|| Failure::new("starting the gateway", "it ended at once"))?;
        let mut gateway = Self {
            child,
            pid,
            data_port,
            admin_port,
            folder,
        };
        gateway.await_ready(admin_port).await?;
        gateway.await_topic("com.acme.order.first").await?;
        for number in 0..others.len() {
            gateway.await_topic(&format!("com.acme.other-{number}")).await?;
        }
        Ok(gateway)
    }

    /// Where publishers and workers connect to.
    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.data_port)
    }

    /// Deletes a topic by an operator's call.
    pub(crate) async fn delete_topic(&self, topic: &str) -> Result<(), Failure> {
        let channel = connect(&format!("http://127.0.0.1:{}", self.admin_port)).await?;
        let request = DeleteTopicRequest {
            broker: String::new(),
            name: topic.to_owned(),
            confirm_name: topic.to_owned(),
        };
        let deleted = OperationsServiceClient::new(channel).delete_topic(request).await;
        deleted.during(format!("deleting the topic {topic}"))?;
        Ok(())
    }

    /// What the process has used so far.
    pub(crate) fn usage(&self) -> Result<ProcessUsage, Failure> {
        ProcessUsage::of(self.pid)
    }

    /// Asks the process to stop, and waits until it has ended.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM).during("stopping the gateway")?;
        }
        let ended = timeout(STOP_DEADLINE, self.child.wait()).await;
        let status = ended
            .during("waiting for the gateway's end")?
            .during("waiting for the gateway's end")?;
        if !status.success() {
            return Err(Failure::new(
                "stopping the gateway",
                format!("{status}; {}", self.log_end()),
            ));
        }
        Ok(())
    }

    async fn await_ready(&mut self, admin_port: u16) -> Result<(), Failure> {
        let deadline = Instant::now() + START_DEADLINE;
        while !is_ready(admin_port).await {
            let ended = self.child.try_wait().during("looking after the gateway")?;
            if let Some(status) = ended {
                return Err(Failure::new(
                    "starting the gateway",
                    format!("{status}; {}", self.log_end()),
                ));
            }
            if Instant::now() > deadline {
                return Err(Failure::new(
                    "starting the gateway",
                    format!("not ready in time; {}", self.log_end()),
                ));
            }
            sleep(PROBE_PAUSE).await;
        }
        Ok(())
    }

    /// Publishes an event until it has a receipt: a gateway that is ready may still be
    /// making its topics.
    async fn await_topic(&self, type_name: &str) -> Result<(), Failure> {
        let event = EventBuilder::new("first", "/bench", type_name)
            .build()
            .during("building an event")?;
        let mut client = PublisherServiceClient::new(connect(&self.address()).await?);
        let deadline = Instant::now() + START_DEADLINE;
        loop {
            let request = PublishRequest {
                events: vec![event.encoded().clone()],
                forwarded_by: Vec::new(),
            };
            let response = client.publish(request).await.during("publishing the first event")?;
            let refusal = match expect_receipt(response.into_inner()) {
                Ok(()) => return Ok(()),
                Err(refusal) => refusal,
            };
            if Instant::now() > deadline {
                return Err(refusal);
            }
            sleep(PROBE_PAUSE).await;
        }
    }

    fn log_end(&self) -> String {
        let log = fs::read_to_string(self.folder.path().join("gateway.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "the end of its log:\n{}",
            lines[lines.len().saturating_sub(10)..].join("\n")
        )
    }
}

fn configuration(broker: &BrokerChoice, data_port: u16, admin_port: u16) -> String {
    format!(
        "\
region: us-east
listen:
  data: 127.0.0.1:{data_port}
  admin: 127.0.0.1:{admin_port}
brokers:
  main:
    {}
default_broker: main
rules:
  file: rules.yaml
topics:
  create: true
  partitions: {PARTITIONS}
",
        broker.section()
    )
}

fn rules(topic: &str, others: &[&str]) -> String {
    let mut rules = String::from("rules:\n");
    let mut add = |name: &str, type_glob: &str, topic: &str| {
        let rule = format!("  - name: {name}\n    when: {{ type: {type_glob} }}\n    send: {{ topic: {topic} }}\n");
        rules.push_str(&rule);
    };
    add("orders", "com.acme.order.*", topic);
    for (number, other) in others.iter().enumerate() {
        add(&format!("other-{number}"), &format!("com.acme.other-{number}"), other);
    }
    rules
}

/// A port that nobody listens on. Another process might take it before it is used;
/// the gateway then says so and the run fails.
pub(crate) async fn free_port() -> Result<u16, Failure> {
    let listener = TcpListener::bind(("127.0.0.1", 0))
        .await
        .during("looking for a free port")?;
    Ok(listener.local_addr().during("looking for a free port")?.port())
}

async fn is_ready(admin_port: u16) -> bool {
    async fn probe(port: u16) -> std::io::Result<String> {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
        connection
            .write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        Ok(answer)
    }
    let answer = timeout(Duration::from_secs(2), probe(admin_port)).await;
    matches!(answer, Ok(Ok(text)) if text.starts_with("HTTP/1.1 200"))
}
