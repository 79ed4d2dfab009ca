//! The demo: traffic in two regions, workers in both, and a verdict.
//!
//! - `plan`: regions, rules, streams, fleets, and where each stream belongs.
//! - `payload`: what an event carries, so that a delivery can be judged.
//! - `traffic`: publishers at a set rate.
//! - `fleet`: workers, in this process or in one of their own.
//! - `readiness`: until every fleet reads.
//! - `collector`: everything observed, counted into a history.
//! - `board`: the live table and the summary.
//!
//! The demo knows gateways only by their addresses: it runs the same against
//! `meridian dev` and against processes that somebody else started.

mod board;
mod collector;
mod fleet;
mod payload;
mod plan;
mod readiness;
mod traffic;

use std::path::Path;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::failure::Failure;
use crate::output::Output;
use collector::Collector;
pub use plan::{MIRRORED_TOPICS, Site, Sites, rules_document};

/// Observations on their way to the collector.
const MAX_OBSERVATIONS_WAITING: usize = 65_536;
/// No delivery for so long, with some missing, and the rest is taken for lost.
const NO_PROGRESS: Duration = Duration::from_secs(15);
const LONGEST_DRAIN: Duration = Duration::from_secs(90);

/// How the demo runs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long it publishes.
    pub duration: Duration,
    /// Events a second over all publishers.
    pub rate: u64,
    /// Whether the workers run in processes of their own.
    pub worker_processes: bool,
}

/// Runs the demo against these sites; fails unless the verdict holds.
pub(crate) async fn run(
    sites: &Sites,
    settings: Settings,
    output: Output,
    against: Option<&Path>,
) -> Result<(), Failure> {
    let (observe, observations) = mpsc::channel(MAX_OBSERVATIONS_WAITING);
    let (stopping, stopped) = watch::channel(false);
    let fleets = match (settings.worker_processes, against) {
        (true, Some(file)) => fleet::start_processes(sites, file, &observe, &stopped)?,
        _ => fleet::start_tasks(sites, &observe, &stopped),
    };
    readiness::until_read(sites).await?;
    let traffic = traffic::start(sites, settings, &observe)?;
    drop(observe);
    let mut collector = Collector::new(sites, settings, output);
    let publishing = collector.collect(observations, traffic).await;
    stopping.send_replace(true);
    fleets.join().await;
    publishing?;
    collector.conclude(output)
}

/// `meridian demo-workers`: the fleets of one region, observations on standard output.
pub(crate) async fn work_in_region(region: &str, against: &Path) -> Result<(), Failure> {
    let sites = Sites::load(against)?;
    fleet::work_in_region(&sites, region).await
}

/// Ends a drain: everything came, or nothing came for too long.
struct Drain {
    started: Instant,
    progressed: Instant,
}

impl Drain {
    fn new(now: Instant) -> Self {
        Self {
            started: now,
            progressed: now,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now - self.progressed > NO_PROGRESS || now - self.started > LONGEST_DRAIN
    }
}
