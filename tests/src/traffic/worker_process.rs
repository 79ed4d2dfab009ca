//! A worker as a process of its own, to be killed; what it was handed is recorded
//! by the test before it may accept.

use std::time::Duration;

use meridian_cli::history::EventName;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::record::{Record, place};
use super::report::{DeliveryReport, NOTED};
use crate::harness::process::Process;
use crate::harness::scratch::{Scratch, reporting_worker_binary};

const STARTED: Duration = Duration::from_secs(20);

/// Takes the reports of worker processes of one group in one region.
#[derive(Debug)]
pub struct Reports {
    address: String,
    serving: JoinHandle<()>,
}

impl Reports {
    /// Listens; what comes is recorded at the places of this region and group.
    pub async fn listen(region: &str, group: &str, record: &Record) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address").to_string();
        let (region, group, record) = (region.to_owned(), group.to_owned(), record.clone());
        let serving = tokio::spawn(async move {
            let mut workers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                workers.spawn(take(stream, region.clone(), group.clone(), record.clone()));
                while workers.try_join_next().is_some() {}
            }
        });
        Self { address, serving }
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(stream: TcpStream, region: String, group: String, record: Record) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // The last line of a process that was killed may be cut.
        let Some(report) = DeliveryReport::parse(&line) else {
            continue;
        };
        let place = place(&region, &report.topic, &group);
        let name = EventName::parse(&report.id);
        record.delivered(&place, name, (report.partition, report.position), report.attempt);
        if write.write_all(NOTED).await.is_err() {
            return;
        }
    }
}

/// A worker process.
#[derive(Debug)]
pub struct WorkerProcess {
    arguments: Vec<String>,
    name: String,
    log: std::path::PathBuf,
    process: Process,
}

impl WorkerProcess {
    /// Starts a worker of `group` over these gateways.
    pub async fn start(
        scratch: &Scratch,
        name: &str,
        gateways: &[String],
        group: &str,
        topics: &[String],
        reports: &Reports,
    ) -> Self {
        let arguments = vec![
            reports.address.clone(),
            gateways.join(","),
            group.to_owned(),
            topics.join(","),
        ];
        let log = scratch.path(&format!("{name}.log"));
        let process = launch(name, &arguments, &log).await;
        Self {
            arguments,
            name: name.to_owned(),
            log,
            process,
        }
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Starts it again as it was.
    pub async fn start_again(&mut self) {
        self.process = launch(&self.name, &self.arguments, &self.log).await;
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

async fn launch(name: &str, arguments: &[String], log: &std::path::Path) -> Process {
    let mut process = Process::start(name, &reporting_worker_binary(), arguments, log);
    process.line(STARTED).await;
    process
}
