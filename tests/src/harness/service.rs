//! Brokers as processes of one test, held by the scripts of `deploy/local`.
//!
//! The scripts share their commands (`start`, `stop`, `kill`, each with `--name`; a first start
//! with `--port`, `--data` and `--until-pid`) and write the broker's `pid` into its data folder.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use super::command::{Finished, run};
use super::gateway::Brokers;
use super::scratch::{Scratch, build_folder, free_port, repository, unique};

/// What kind of broker a script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// Apache Kafka, one node.
    Kafka,
    /// Redis.
    Redis,
    /// RabbitMQ.
    RabbitMq,
}

impl ServiceKind {
    /// The name of its folder and script below `deploy/local`, and of its key in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            ServiceKind::Kafka => "kafka",
            ServiceKind::Redis => "redis",
            ServiceKind::RabbitMq => "rabbitmq",
        }
    }

    fn at(self, address: String) -> Brokers {
        match self {
            ServiceKind::Kafka => Brokers::Kafka(address),
            other => Brokers::Servers(other.name(), vec![address]),
        }
    }

    /// What a first start needs beyond name, port, data and owner.
    fn settings(self) -> Vec<String> {
        let words: &[&str] = match self {
            // A killed broker is fenced after 3 s in place of 9, so that its restart need not wait for that.
            ServiceKind::Kafka => &[
                "--heap",
                "256m",
                "--quick",
                "--set",
                "broker.session.timeout.ms=3000",
                "--set",
                "broker.heartbeat.interval.ms=500",
            ],
            // What is confirmed must survive a kill: with `everysec` Redis puts a write off while a sync is under way.
            ServiceKind::Redis => &["--set", "appendfsync=always"],
            ServiceKind::RabbitMq => &[],
        };
        let mut settings: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        if self == ServiceKind::Kafka {
            settings.extend(["--controller-port".to_owned(), free_port().to_string()]);
        }
        settings
    }

    fn script(self) -> PathBuf {
        Path::new(repository())
            .join("deploy/local")
            .join(self.name())
            .join(self.name())
    }
}

/// What a gateway's configuration says of the shared server `A` of a kind; it is left running.
///
/// # Panics
/// When the environment does not name it.
pub fn shared_broker(kind: ServiceKind) -> Brokers {
    let variable = format!("MERIDIAN_{}_A", kind.name().to_uppercase());
    let address = std::env::var(&variable).unwrap_or_else(|_| {
        panic!(
            "{variable} is not set: run `make test`; or deploy/local/services-up, and set it to where {} listens",
            kind.name()
        )
    });
    kind.at(address)
}

/// A broker of one test, killed with it.
#[derive(Debug)]
pub struct Service {
    kind: ServiceKind,
    name: String,
    port: u16,
    data: PathBuf,
    settings: Vec<String>,
}

impl Service {
    /// A broker that is not started yet: its address is known, and nobody answers.
    pub fn absent(kind: ServiceKind, scratch: &Scratch) -> Self {
        let name = unique("test");
        let data = scratch.path(&name);
        Self {
            kind,
            name,
            port: free_port(),
            data,
            settings: kind.settings(),
        }
    }

    /// Has clients told to come to another port of the loopback than the broker listens on: to a proxy's.
    /// Only Kafka tells its clients where it is.
    #[must_use]
    pub fn advertised(mut self, port: u16) -> Self {
        if self.kind == ServiceKind::Kafka {
            let listener = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}");
            self.settings.extend(["--set".to_owned(), listener]);
        }
        self
    }

    /// Starts one that was [`absent`](Self::absent), and waits until it answers.
    pub async fn start_first(&self) {
        let (port, data) = (self.port.to_string(), self.data.display().to_string());
        let pid = std::process::id().to_string();
        let mut arguments = vec!["--port", &port, "--data", &data, "--until-pid", &pid];
        arguments.extend(self.settings.iter().map(String::as_str));
        self.command("start", &arguments).await.success();
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What a gateway's configuration says of it.
    pub fn brokers(&self) -> Brokers {
        self.kind.at(self.address())
    }

    /// `kill -9`.
    pub async fn kill(&self) {
        self.command("kill", &[]).await.success();
    }

    /// SIGTERM, and waits until it has ended.
    pub async fn stop(&self) {
        self.command("stop", &[]).await.success();
    }

    /// Starts it again as it was, and waits until it answers.
    pub async fn start_again(&self) {
        let pid = std::process::id().to_string();
        self.command("start", &["--until-pid", &pid]).await.success();
    }

    /// SIGSTOP: it stands still with its connections open.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Whether its process is there.
    pub async fn is_running(&self) -> bool {
        self.command("status", &[]).await.code == Some(0)
    }

    fn signal(&self, signal: Signal) {
        let file = self.data.join("pid");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.unwrap_or_else(|| panic!("{} holds no process id but {text:?}", file.display()));
        kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    async fn command(&self, command: &str, more: &[&str]) -> Finished {
        run(
            &self.kind.script(),
            &[&[command, "--name", &self.name], more].concat(),
            "",
        )
        .await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The script ends the broker by the pid that it wrote down.
        let stopped = std::process::Command::new(self.kind.script())
            .args(["kill", "--name", &self.name])
            .output();
        if let Err(error) = stopped {
            eprintln!("cannot stop {} {}: {error}", self.kind.name(), self.name);
        }
        // The script's note of where the broker's data is; nobody asks for it again.
        let notes = build_folder().join(self.kind.name()).join("clusters");
        let _ = std::fs::remove_file(notes.join(&self.name));
    }
}
