//! Redis servers for tests: where the shared ones are, and throw-away ones that can be
//! stopped, killed and frozen.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use meridian_broker::adapters::redis::RedisConfig;
use meridian_broker::{Broker, BrokerConfig, BrokerKindConfig, BrokerMetrics, BrokerName, RegionName, connect};
use meridian_runtime::SystemClock;
use meridian_runtime::metrics::Metrics;
use tempfile::TempDir;
use tokio::process::Command;

/// How long one command over a server may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The address of a running server.
///
/// # Panics
/// When nobody said where it is.
pub(crate) fn running(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: run `make test`; or deploy/local/redis/redis start --name a and --name b, then \
             set MERIDIAN_REDIS_A=127.0.0.1:16379 and MERIDIAN_REDIS_B=127.0.0.1:26379"
        )
    })
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local/redis/redis")
}

async fn run(arguments: &[&str]) {
    let mut command = Command::new(script());
    // Its output goes through files: a server that is left running would keep pipes open.
    let output = tempfile::NamedTempFile::new().unwrap();
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.reopen().unwrap())
        .stderr(output.reopen().unwrap())
        .kill_on_drop(true);
    let status = tokio::time::timeout(PATIENCE, command.status()).await;
    match status {
        Ok(Ok(status)) if status.success() => {}
        other => {
            let text = std::fs::read_to_string(output.path()).unwrap_or_default();
            panic!("redis {} failed: {other:?}: {text}", arguments.join(" "))
        }
    }
}

/// A server that belongs to one test, and ends with it.
pub(crate) struct Server {
    name: String,
    port: u16,
    folder: TempDir,
}

impl Server {
    /// Starts one on a port that is free, with settings of redis.conf.
    pub(crate) async fn start(settings: &[&str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::Builder::new()
            .prefix("redis-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let server = Self {
            name: format!("conformance-{}-{port}", std::process::id()),
            port,
            folder,
        };
        let (port, own_process) = (port.to_string(), std::process::id().to_string());
        let mut arguments = vec!["--port", &port, "--until-pid", &own_process];
        for setting in settings {
            arguments.extend(["--set", setting]);
        }
        server.command("start", &arguments).await;
        server
    }

    /// Where clients find it.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Sends a signal to its process, such as STOP or CONT.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).unwrap();
        let status = std::process::Command::new("kill")
            .args(["-s", signal, pid.trim()])
            .status();
        assert!(status.unwrap().success(), "kill -s {signal} {pid}");
    }

    /// Runs a command of the script over this server.
    pub(crate) async fn command(&self, command: &str, more: &[&str]) {
        let data = self.folder.path().to_str().unwrap();
        run(&[&[command, "--name", &self.name, "--data", data], more].concat()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.folder.path().to_str().unwrap();
        let kill = std::process::Command::new(script())
            .args(["kill", "--name", &self.name, "--data", data])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Err(error) = kill {
            eprintln!("the server {} could not be killed: {error}", self.name);
        }
    }
}

/// Connects a broker.
pub(crate) async fn open_with(config: RedisConfig) -> Arc<dyn Broker> {
    let config = BrokerConfig {
        region: RegionName::new("us-east").unwrap(),
        name: BrokerName::new("cache").unwrap(),
        kind: BrokerKindConfig::Redis(config),
    };
    let metrics = BrokerMetrics::register(&Metrics::new([("region", "us-east")])).unwrap();
    connect(config, SystemClock::shared(), &metrics).await.unwrap()
}

/// Any other client of a server.
pub(crate) struct Foreign(Client);

impl Foreign {
    pub(crate) async fn connect(address: &str) -> Self {
        let config = fred::types::config::Config::from_url(&format!("redis://{address}")).unwrap();
        let client = Builder::from_config(config).build().unwrap();
        client.init().await.unwrap();
        Self(client)
    }

    /// Runs one command.
    pub(crate) async fn run(&self, words: &[&str]) -> Value {
        let (command, arguments) = words.split_first().unwrap();
        let command = CustomCommand::new((*command).to_owned(), ClusterHash::Random, false);
        let arguments = arguments.iter().map(|word| (*word).to_owned()).collect();
        let reply: Result<Value, _> = self.0.custom::<Value, String>(command, arguments).await;
        reply.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// The name of a shard's stream.
    pub(crate) fn stream(topic: &str, shard: u32) -> String {
        format!("meridian:stream:{{{topic}/{shard}}}")
    }

    /// The id of the last entry of a stream.
    pub(crate) async fn last_id(&self, stream: &str) -> String {
        let info = self.run(&["XREVRANGE", stream, "+", "-", "COUNT", "1"]).await;
        let Value::Array(entries) = info else {
            panic!("{info:?}")
        };
        let Some(Value::Array(entry)) = entries.into_iter().next() else {
            panic!("{stream} is empty")
        };
        entry[0].as_string().unwrap()
    }
}
