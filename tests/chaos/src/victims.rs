//! The processes that are struck, each by a task of its own: blows on one follow one
//! another, blows on several overlap.
//!
//! What holds: a process that ended without being struck, or that did not drain well,
//! is told; in the end every one of them runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use meridian_tests::harness::wait::flow;
use meridian_tests::harness::{Gateway, Process, Service};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::history::{Blow, Part, What};
use crate::oracle::Oracle;
use crate::publisher::DELIVERY_TIMEOUT;

/// A publisher may have to wait for its last outcomes.
const STOPPED: Duration = DELIVERY_TIMEOUT.saturating_add(Duration::from_secs(30));
const BLOWS_WAITING: usize = 16;

/// A process of the run.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // A dozen of them in a run.
pub enum Victim {
    /// A gateway.
    Gateway(Gateway),
    /// A publisher or worker.
    Child(Child),
    /// The broker.
    Broker(Service),
}

/// A publisher or worker process: this program again, with other arguments.
#[derive(Debug)]
pub struct Child {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    process: Process,
}

impl Child {
    /// Starts it.
    pub fn start(name: &str, program: PathBuf, arguments: Vec<String>, log: PathBuf) -> Self {
        let process = launch(name, &program, &arguments, &log);
        Self {
            name: name.to_owned(),
            program,
            arguments,
            log,
            process,
        }
    }

    fn start_again(&mut self) {
        self.process = launch(&self.name, &self.program, &self.arguments, &self.log);
    }
}

fn launch(name: &str, program: &std::path::Path, arguments: &[String], log: &std::path::Path) -> Process {
    let mut process = Process::start(name, program, arguments, log);
    process.ignore_output();
    process
}

impl Victim {
    async fn is_running(&mut self) -> bool {
        match self {
            Victim::Gateway(gateway) => gateway.process().is_running(),
            Victim::Child(child) => child.process.is_running(),
            Victim::Broker(service) => service.is_running().await,
        }
    }

    async fn kill(&mut self) {
        match self {
            Victim::Gateway(gateway) => gateway.kill().await,
            Victim::Child(child) => child.process.kill().await,
            Victim::Broker(service) => service.kill().await,
        }
    }

    fn freeze(&mut self) {
        match self {
            Victim::Gateway(gateway) => gateway.process().freeze(),
            Victim::Child(child) => child.process.freeze(),
            Victim::Broker(service) => service.freeze(),
        }
    }

    fn thaw(&mut self) {
        match self {
            Victim::Gateway(gateway) => gateway.process().thaw(),
            Victim::Child(child) => child.process.thaw(),
            Victim::Broker(service) => service.thaw(),
        }
    }

    /// Why it did not end well, if so.
    async fn drain(&mut self) -> Option<String> {
        let status = match self {
            Victim::Gateway(gateway) => gateway.terminate().await,
            Victim::Child(child) => child.process.terminate(STOPPED).await,
            Victim::Broker(service) => {
                service.stop().await;
                return None;
            }
        };
        (!status.success()).then(|| format!("ended its drain with {status}"))
    }

    async fn start_again(&mut self) {
        match self {
            Victim::Gateway(gateway) => gateway.start_again().await,
            Victim::Child(child) => child.start_again(),
            Victim::Broker(service) => service.start_again().await,
        }
    }
}

/// A victim, its task, and the way to strike it.
#[derive(Debug)]
pub struct Struck {
    part: Part,
    blows: mpsc::Sender<(Blow, Duration)>,
    task: JoinHandle<(Victim, Vec<String>)>,
}

impl Struck {
    /// Takes the victim over.
    pub fn new(part: Part, name: String, victim: Victim, oracle: Arc<Oracle>) -> Self {
        let (blows, waiting) = mpsc::channel(BLOWS_WAITING);
        let task = tokio::spawn(suffer(part, name, victim, waiting, oracle));
        Self { part, blows, task }
    }

    /// What it is.
    pub fn part(&self) -> Part {
        self.part
    }

    /// Strikes it when earlier blows are over; false when its task has failed.
    pub async fn strike(&self, blow: Blow, lasts: Duration) -> bool {
        self.blows.send((blow, lasts)).await.is_ok()
    }

    /// Waits until all blows are over; the victim, running, and what it did wrong.
    ///
    /// # Panics
    /// As the harness did, when a process could not be struck or started.
    pub async fn heal(self) -> (Victim, Vec<String>) {
        drop(self.blows);
        match self.task.await {
            Ok(healed) => healed,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

async fn suffer(
    part: Part,
    name: String,
    mut victim: Victim,
    mut blows: mpsc::Receiver<(Blow, Duration)>,
    oracle: Arc<Oracle>,
) -> (Victim, Vec<String>) {
    let mut wrongs = Vec::new();
    while let Some((blow, lasts)) = blows.recv().await {
        if !victim.is_running().await {
            wrongs.push(format!("{part} {name} ended by itself"));
            victim.start_again().await;
        }
        oracle.note(What::Struck(part, name.clone(), blow));
        let mended = What::Mended(part, name.clone(), blow);
        match blow {
            Blow::Kill => {
                victim.kill().await;
                flow(lasts).await;
                victim.start_again().await;
                oracle.note(mended);
            }
            Blow::Freeze => {
                victim.freeze();
                flow(lasts).await;
                oracle.note(mended);
                victim.thaw();
            }
            Blow::Drain => {
                let wrong = victim.drain().await;
                wrongs.extend(wrong.map(|wrong| format!("{part} {name} {wrong}")));
                victim.start_again().await;
                oracle.note(mended);
            }
        }
    }
    if !victim.is_running().await {
        wrongs.push(format!("{part} {name} ended by itself"));
        victim.start_again().await;
    }
    (victim, wrongs)
}

/// Ends a publisher in an orderly way; what it did wrong.
pub async fn leave(name: &str, mut victim: Victim) -> Option<String> {
    victim.drain().await.map(|wrong| format!("{name} {wrong}"))
}
