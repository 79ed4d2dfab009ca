//! Kafka clusters for tests: where the shared ones are, and throw-away ones that can
//! be stopped and killed.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use meridian_fault_proxy::Proxy;
use tempfile::TempDir;
use tokio::process::Command;

const PROXY_SEED: u64 = 1;

/// Whom the guarded listener lets in.
pub(crate) const USER: &str = "meridian";
/// The password of [`USER`].
pub(crate) const PASSWORD: &str = "as-it-is";

/// How long one command over a cluster may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// The bootstrap address of a running cluster.
///
/// # Panics
/// When nobody said where it is.
pub(crate) fn running(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: run `make test`; or deploy/local/services-up, then set \
             MERIDIAN_KAFKA_A=127.0.0.1:19092 and MERIDIAN_KAFKA_B=127.0.0.1:29092"
        )
    })
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local/kafka/kafka")
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
        other => panic!("kafka {} failed: {other:?}: {text}", arguments.join(" ")),
    }
}

/// Runs one of Kafka's own tools.
pub(crate) async fn tool(arguments: &[&str]) -> String {
    run(&[&["tool"], arguments].concat()).await
}

/// A cluster of one broker that belongs to one test, and ends with it.
pub(crate) struct Cluster {
    name: String,
    port: u16,
    folder: TempDir,
    /// Of a listener that asks for a password.
    guarded_port: u16,
    /// In front of a listener of its own, whose clients are told to come to the proxy.
    proxy: Proxy,
}

impl Cluster {
    /// Starts one on ports that are free.
    pub(crate) async fn start() -> Self {
        let proxy = Proxy::open(PROXY_SEED).await.unwrap();
        // All are held until all are known, or two could be the same.
        let listeners = [free(), free(), free(), free()];
        let [port, controller_port, proxied_port, guarded_port] = listeners
            .each_ref()
            .map(|listener| listener.local_addr().unwrap().port());
        drop(listeners);
        let folder = tempfile::Builder::new()
            .prefix("kafka-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let cluster = Self {
            name: format!("conformance-{}-{port}", std::process::id()),
            port,
            folder,
            guarded_port,
            proxy,
        };
        cluster.proxy.point_at(&format!("127.0.0.1:{proxied_port}"));
        let proxy = cluster.proxy.address();
        let more = [
            format!(
                "listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxied_port},GUARDED://127.0.0.1:{guarded_port},CONTROLLER://127.0.0.1:{controller_port}"
            ),
            format!(
                "advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://{proxy},GUARDED://127.0.0.1:{guarded_port}"
            ),
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,GUARDED:SASL_PLAINTEXT".to_owned(),
            "listener.name.guarded.sasl.enabled.mechanisms=PLAIN".to_owned(),
            format!(
                "listener.name.guarded.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";"
            ),
        ];
        let (port, controller_port) = (port.to_string(), controller_port.to_string());
        let own_process = std::process::id().to_string();
        let settings = [
            "--port",
            &port,
            "--controller-port",
            &controller_port,
            "--set",
            "broker.session.timeout.ms=3000",
            "--set",
            "broker.heartbeat.interval.ms=500",
            "--until-pid",
            &own_process,
        ];
        let more = more.iter().flat_map(|setting| ["--set", setting]);
        let settings: Vec<&str> = settings.into_iter().chain(more).collect();
        cluster.start_with(&settings).await;
        cluster
    }

    /// Where clients find it.
    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What the clients go through that ask the proxy first.
    pub(crate) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Where clients need [`USER`] and [`PASSWORD`].
    pub(crate) fn guarded(&self) -> String {
        format!("127.0.0.1:{}", self.guarded_port)
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
        self.start_with(&[]).await;
    }

    async fn start_with(&self, settings: &[&str]) {
        // Small and quick, for it lives for seconds.
        self.command("start", &[&["--heap", "256m", "--quick"], settings].concat())
            .await;
    }

    fn data(&self) -> &str {
        self.folder.path().to_str().unwrap()
    }

    /// Runs a command of the script over this cluster.
    pub(crate) async fn command(&self, command: &str, more: &[&str]) {
        run(&[&[command, "--name", &self.name, "--data", self.data()], more].concat()).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let kill = std::process::Command::new(script())
            .args(["kill", "--name", &self.name, "--data", self.data()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if let Err(error) = kill {
            eprintln!("the cluster {} could not be killed: {error}", self.name);
        }
    }
}

fn free() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}
