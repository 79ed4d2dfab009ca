//! RabbitMQ brokers for tests: where the shared ones are, and throw-away ones that can
//! be stopped and killed.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use meridian_broker::adapters::rabbitmq::RabbitMqConfig;
use meridian_broker::conformance::Settings;
use meridian_broker::{Broker, BrokerConfig, BrokerKindConfig, BrokerMetrics, BrokerName, RegionName, connect};
use meridian_runtime::SystemClock;
use meridian_runtime::metrics::Metrics;
use tempfile::TempDir;
use tokio::process::Command;

/// How long one command over a broker may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The address of a running broker.
///
/// # Panics
/// When nobody said where it is.
pub(crate) fn running(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: run `make test`; or deploy/local/rabbitmq/rabbitmq start --name a (and b), then \
             set MERIDIAN_RABBITMQ_A=127.0.0.1:17672 and MERIDIAN_RABBITMQ_B=127.0.0.1:27672"
        )
    })
}

/// A handle of the broker there.
pub(crate) async fn open(address: &str, settings: &Settings) -> Arc<dyn Broker> {
    let mut config = RabbitMqConfig::new(vec![address.to_owned()]);
    config.max_in_flight_records = settings.max_in_flight_records;
    config.max_in_flight_bytes = settings.max_in_flight_bytes;
    config.max_record_bytes = settings.max_record_bytes;
    config.delivery_timeout = settings.delivery_timeout;
    open_with(config).await
}

/// A handle with these settings.
pub(crate) async fn open_with(config: RabbitMqConfig) -> Arc<dyn Broker> {
    let config = BrokerConfig {
        region: RegionName::new("us-east").unwrap(),
        name: BrokerName::new("main").unwrap(),
        kind: BrokerKindConfig::RabbitMq(config),
    };
    let metrics = BrokerMetrics::register(&Metrics::new([("region", "us-east")])).unwrap();
    connect(config, SystemClock::shared(), &metrics).await.unwrap()
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local/rabbitmq/rabbitmq")
}

async fn run(arguments: &[&str]) -> String {
    let mut command = Command::new(script());
    // Its output goes through files: a broker that is left running would keep pipes open.
    let output = tempfile::NamedTempFile::new().unwrap();
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.reopen().unwrap())
        .stderr(output.reopen().unwrap())
        .kill_on_drop(true);
    let status = tokio::time::timeout(PATIENCE, command.status()).await;
    let text = std::fs::read_to_string(output.path()).unwrap_or_default();
    match status {
        Ok(Ok(status)) if status.success() => text,
        other => panic!("rabbitmq {} failed: {other:?}: {text}", arguments.join(" ")),
    }
}

/// A broker that belongs to one test, and ends with it.
pub(crate) struct Server {
    name: String,
    port: u16,
    folder: TempDir,
}

impl Server {
    /// Starts one on a port that is free.
    pub(crate) async fn start() -> Self {
        sweep();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let folder = tempfile::Builder::new()
            .prefix("rabbitmq-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let server = Self {
            name: format!("conformance-{}-{port}", std::process::id()),
            port,
            folder,
        };
        let own_process = std::process::id().to_string();
        server
            .command("start", &["--port", &port.to_string(), "--until-pid", &own_process])
            .await;
        // RabbitMQ 3.10 notes minutes late, or at an orderly stop, that it has streams at all:
        // a kill before that takes the first one with it (docs/delivery.md). These brokers
        // stand for ones that have run for longer.
        open(&server.address(), &Settings::default())
            .await
            .identity()
            .await
            .unwrap();
        server.command("restart", &[]).await;
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

    /// Starts it again, with the settings that it had.
    pub(crate) async fn start_again(&self) {
        self.command("start", &[]).await;
    }

    fn data(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    /// Runs a command of the script over this broker.
    pub(crate) async fn command(&self, command: &str, more: &[&str]) -> String {
        run(&[&[command, "--name", &self.name, "--data", self.data()], more].concat()).await
    }
}

/// Removes the folders of brokers whose tests have ended without that.
fn sweep() {
    let folders = std::fs::read_dir(env!("CARGO_TARGET_TMPDIR"));
    for folder in folders.into_iter().flatten().flatten() {
        let is_ours = folder.file_name().to_string_lossy().starts_with("rabbitmq-");
        let owner = std::fs::read_to_string(folder.path().join("until-pid"));
        let is_over = |pid: String| !Path::new("/proc").join(pid.trim()).exists();
        if is_ours && owner.is_ok_and(is_over) {
            let _ = std::fs::remove_dir_all(folder.path());
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let kill = std::process::Command::new(script())
            .args(["kill", "--name", &self.name, "--data", self.data()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Err(error) = kill {
            eprintln!("the broker {} could not be killed: {error}", self.name);
        }
    }
}
