//! Workers of the demo, in this process or in processes of their own.
//!
//! A process of its own prints one line a delivery: `delivered PLACE NAME
//! MICROSECONDS`, or `unreadable`.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use meridian_worker_sdk::{Delivery, Settlement, Worker, WorkerError};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

use crate::demo::Sites;
use crate::demo::collector::Observation;
use crate::demo::payload;
use crate::demo::plan::{FLEETS, FleetPlan, place};
use crate::failure::Failure;
use crate::history::EventName;

const WORKERS_IN_FLEET: usize = 2;
const CONCURRENCY: usize = 32;
const MAX_OBSERVATIONS_WAITING: usize = 16_384;
/// A mirrored topic is there once its link has made it.
const TOPICS_APPEAR_WITHIN: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The fleets at work.
pub(crate) struct Fleets(JoinSet<()>);

impl Fleets {
    /// Waits until every worker has left.
    pub(crate) async fn join(mut self) {
        while self.0.join_next().await.is_some() {}
    }
}

/// Runs every fleet as tasks of this process.
pub(crate) fn start_tasks(
    sites: &Sites,
    observe: &mpsc::Sender<Observation>,
    stopped: &watch::Receiver<bool>,
) -> Fleets {
    let mut tasks = JoinSet::new();
    for plan in FLEETS {
        start_fleet(plan, sites, observe, stopped, &mut tasks);
    }
    Fleets(tasks)
}

fn start_fleet(
    plan: &FleetPlan,
    sites: &Sites,
    observe: &mpsc::Sender<Observation>,
    stopped: &watch::Receiver<bool>,
    tasks: &mut JoinSet<()>,
) {
    let Some(site) = sites.site(plan.region) else { return };
    for number in 0..WORKERS_IN_FLEET {
        let worker = DemoWorker {
            plan: *plan,
            gateways: site.gateways.clone(),
            worker_id: format!("{}-{}-{number}", plan.region, plan.group),
            observe: observe.clone(),
        };
        tasks.spawn(worker.run(stopped.clone()));
    }
}

struct DemoWorker {
    plan: FleetPlan,
    gateways: Vec<String>,
    worker_id: String,
    observe: mpsc::Sender<Observation>,
}

impl DemoWorker {
    async fn run(self, mut stopped: watch::Receiver<bool>) {
        let give_up = Instant::now() + TOPICS_APPEAR_WITHIN;
        loop {
            match self.work(stopped.clone()).await {
                Err(WorkerError::Refused {
                    code: Code::NotFound, ..
                }) if Instant::now() < give_up => {
                    tokio::select! {
                        () = tokio::time::sleep(LOOK_AGAIN) => {}
                        _ = stopped.changed() => return,
                    }
                }
                Err(error) => {
                    tracing::error!(worker = self.worker_id, %error, "worker ended");
                    return;
                }
                Ok(_) => return,
            }
        }
    }

    async fn work(&self, mut stopped: watch::Receiver<bool>) -> Result<(), WorkerError> {
        let (region, group) = (self.plan.region, self.plan.group);
        let observe = self.observe.clone();
        let handler = move |delivery: Delivery| {
            let observe = observe.clone();
            async move {
                let observation = match payload::read(delivery.event()) {
                    None => Observation::Unreadable,
                    Some((name, sent)) => Observation::Delivered {
                        place: place(region, delivery.topic(), group),
                        name,
                        latency: Duration::from_micros(payload::now_microseconds().saturating_sub(sent)),
                    },
                };
                match observe.send(observation).await {
                    Ok(()) => Settlement::Accept,
                    Err(_) => Settlement::Release {
                        delay: Duration::ZERO,
                        reason: "nobody observes".to_owned(),
                    },
                }
            }
        };
        let stop = async move {
            // A sender that is gone stops the worker as well.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        Worker::builder(self.gateways.clone(), group, self.plan.topics.iter().copied())
            .worker_id(self.worker_id.clone())
            .concurrency(CONCURRENCY)
            .run(handler, stop)
            .await
            .map(|_| ())
    }
}

/// Runs each region's fleets in a process of its own.
pub(crate) fn start_processes(
    sites: &Sites,
    against: &Path,
    observe: &mpsc::Sender<Observation>,
    stopped: &watch::Receiver<bool>,
) -> Result<Fleets, Failure> {
    let binary = std::env::current_exe().map_err(Failure::failed)?;
    let mut tasks = JoinSet::new();
    for site in &sites.regions {
        let child = Command::new(&binary)
            .args(["demo-workers", "--region", &site.region, "--against"])
            .arg(against)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::failed(format!("cannot start the workers of {}: {error}", site.region)))?;
        tasks.spawn(read_process(child, observe.clone(), stopped.clone()));
    }
    Ok(Fleets(tasks))
}

/// Passes on what a process of workers prints; closing its standard input stops it.
async fn read_process(mut child: Child, observe: mpsc::Sender<Observation>, mut stopped: watch::Receiver<bool>) {
    let Some(out) = child.stdout.take() else { return };
    let mut input = child.stdin.take();
    let mut lines = BufReader::new(out).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => {
                    let observation = parse(&line).unwrap_or(Observation::Unreadable);
                    if observe.send(observation).await.is_err() {
                        break;
                    }
                }
                _ => break,
            },
            // What `wait_for` lends is a lock, and must not live while a line is passed on.
            () = async { drop(stopped.wait_for(|stopped| *stopped).await) }, if input.is_some() => input = None,
        }
    }
    drop(input);
    if let Err(error) = child.wait().await {
        tracing::error!(%error, "a process of workers cannot be awaited");
    }
}

fn parse(line: &str) -> Option<Observation> {
    let mut words = line.split(' ');
    match words.next()? {
        "delivered" => Some(Observation::Delivered {
            place: words.next()?.to_owned(),
            name: EventName::parse(words.next()?)?,
            latency: Duration::from_micros(words.next()?.parse().ok()?),
        }),
        _ => None,
    }
}

/// The fleets of one region, until standard input ends.
pub(crate) async fn work_in_region(sites: &Sites, region: &str) -> Result<(), Failure> {
    let (observe, mut observations) = mpsc::channel(MAX_OBSERVATIONS_WAITING);
    let (stopping, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for plan in FLEETS.iter().filter(|plan| plan.region == region) {
        start_fleet(plan, sites, &observe, &stopped, &mut tasks);
    }
    drop(observe);
    tokio::task::spawn_blocking(move || {
        let ended = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        tracing::debug!(?ended, "standard input has ended");
        stopping.send_replace(true);
    });
    let mut out = std::io::BufWriter::new(std::io::stdout());
    while let Some(observation) = observations.recv().await {
        let written = match observation {
            Observation::Delivered { place, name, latency } => {
                writeln!(out, "delivered {place} {name} {}", latency.as_micros())
            }
            _ => writeln!(out, "unreadable"),
        };
        let flushed = match observations.is_empty() {
            true => written.and_then(|()| out.flush()),
            false => written,
        };
        flushed.map_err(|error| Failure::failed(format!("cannot write: {error}")))?;
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}
