//! A worker as a process of its own, to be killed; what it was handed is recorded
//! by the test before it may accept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use meridian_cli::history::EventName;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::record::{Record, place};
use super::report::{Answer, DeliveryReport};
use crate::harness::process::Process;
use crate::harness::scratch::{Scratch, reporting_worker_binary};

const STARTED: Duration = Duration::from_secs(20);

/// Takes the reports of worker processes of one group in one region.
#[derive(Debug)]
pub struct Reports {
    address: String,
    hold_below: Arc<AtomicU32>,
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
        let hold_below = Arc::new(AtomicU32::new(0));
        let holding = Arc::clone(&hold_below);
        let serving = tokio::spawn(async move {
            let mut workers = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (region, group, record) = (region.clone(), group.clone(), record.clone());
                workers.spawn(take(stream, region, group, record, Arc::clone(&holding)));
                while workers.try_join_next().is_some() {}
            }
        });
        Self {
            address,
            hold_below,
            serving,
        }
    }

    /// From now on deliveries of keys below this number are not accepted: the process that has one keeps it.
    pub fn hold_below(&self, key: u32) {
        self.hold_below.store(key, Ordering::Relaxed);
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn take(stream: TcpStream, region: String, group: String, record: Record, hold_below: Arc<AtomicU32>) {
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
        let answer = match name.is_some_and(|name| name.key < hold_below.load(Ordering::Relaxed)) {
            true => Answer::Hold,
            false => Answer::Accept,
        };
        if write.write_all(answer.line().as_bytes()).await.is_err() {
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
