//! The links of one process: started together, paused and resumed by name, closed
//! in order.
//!
//! What holds: link names are unique; a link that cannot run leaves the others
//! running; closing lets what is in flight finish, within the deadline.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use meridian_broker::RegionName;
use meridian_runtime::{Health, SharedClock};
use tokio::task::JoinHandle;

use crate::admin::ReplicationApi;
use crate::link::{Link, LinkCell, Mode};
use crate::metrics::ReplicatorMetrics;
use crate::spec::{LinkName, LinkSpec};
use crate::status::{LinkState, LinkStatus};
use crate::topics::TopicSelection;

/// How long pausing and resuming wait for the link to do so.
const HEED_WITHIN: Duration = Duration::from_secs(10);

/// How long after the deadline a link may take to say that it has left its group.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// What the process hands to its links.
#[derive(Clone)]
pub struct Parts {
    /// Time.
    pub clock: SharedClock,
    /// Registered once in the process.
    pub metrics: ReplicatorMetrics,
    /// The process's health; each link is an optional component of it.
    pub health: Health,
    /// Seeds what is drawn by chance.
    pub seed: u64,
}

/// Why links were not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartLinksError {
    /// Two links of one name would share one group.
    #[error("two links are called {0}; a link's name names its group, so names are unique")]
    NameTaken(LinkName),
}

/// Why a command did nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no such link.
    #[error("there is no link {name:?}; this process has {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The links there are.
        known: String,
    },
}

/// Starts links.
#[derive(Debug)]
pub struct Links;

/// Links that run; clones share them.
#[derive(Clone)]
pub struct RunningLinks {
    shared: Arc<Shared>,
}

struct Shared {
    cells: Vec<Arc<LinkCell>>,
    clock: SharedClock,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl Links {
    /// Starts every link on the current runtime.
    ///
    /// # Errors
    /// [`StartLinksError`]; nothing runs then.
    pub fn start(specs: Vec<LinkSpec>, parts: Parts) -> Result<RunningLinks, StartLinksError> {
        let mut names = BTreeSet::new();
        for spec in &specs {
            if !names.insert(spec.name.clone()) {
                return Err(StartLinksError::NameTaken(spec.name.clone()));
            }
        }
        let regions = known_regions(&specs);
        let mut cells = Vec::with_capacity(specs.len());
        let mut tasks = Vec::with_capacity(specs.len());
        for (index, spec) in specs.into_iter().enumerate() {
            let selection = TopicSelection::new(
                spec.options.topics.clone(),
                spec.options.naming,
                spec.target.profile().region.clone(),
                regions.clone(),
            );
            let health = parts.health.optional_component(format!("link {}", spec.name));
            let series = parts.metrics.of(&spec);
            let cell = Arc::new(LinkCell::new(spec, series, parts.clock.clone(), health));
            let seed = parts.seed.wrapping_add(index as u64);
            tasks.push(tokio::spawn(live(Arc::clone(&cell), selection, seed)));
            cells.push(cell);
        }
        Ok(RunningLinks {
            shared: Arc::new(Shared {
                cells,
                clock: parts.clock,
                tasks: std::sync::Mutex::new(tasks),
            }),
        })
    }
}

/// Runs a link; one that breaks is told, and leaves the others alone.
async fn live(cell: Arc<LinkCell>, selection: TopicSelection, seed: u64) {
    let link = Link::new(Arc::clone(&cell), selection, seed);
    if AssertUnwindSafe(link.run()).catch_unwind().await.is_err() {
        cell.set_state(
            LinkState::Stopped,
            "the link panicked, as the log tells; report it, and restart the process",
        );
    }
}

fn known_regions(specs: &[LinkSpec]) -> Vec<RegionName> {
    let regions = specs
        .iter()
        .flat_map(|spec| [&spec.source, &spec.target])
        .map(|broker| broker.profile().region.clone());
    let regions: BTreeSet<RegionName> = regions.collect();
    regions.into_iter().collect()
}

impl RunningLinks {
    /// All links, by the order of the configuration.
    pub fn status(&self) -> Vec<LinkStatus> {
        self.shared.cells.iter().map(|cell| cell.status()).collect()
    }

    /// Has a link stop reading, once what is in flight is settled; waits a while for it.
    ///
    /// # Errors
    /// [`ControlError::Unknown`].
    pub async fn pause(&self, name: &str) -> Result<LinkStatus, ControlError> {
        let cell = self.find(name)?;
        let mut states = cell.states();
        cell.want(Mode::Pause);
        // What it says then is the answer, also when it is still on its way there.
        let paused = states.wait_for(|state| *state == LinkState::Paused);
        let _ = tokio::time::timeout(HEED_WITHIN, paused).await;
        Ok(cell.status())
    }

    /// Has a link go on that was paused, or has stopped by itself: at the record that
    /// was refused, and with the ends as they are now. A link at work stays at it.
    ///
    /// # Errors
    /// [`ControlError::Unknown`].
    pub async fn resume(&self, name: &str) -> Result<LinkStatus, ControlError> {
        let cell = self.find(name)?;
        let mut states = cell.states();
        cell.want_run();
        let resumed = states.wait_for(|state| !matches!(state, LinkState::Paused | LinkState::Stopped));
        let _ = tokio::time::timeout(HEED_WITHIN, resumed).await;
        Ok(cell.status())
    }

    /// Ends every link: no more is read, what is in flight is settled and committed. False when some link had not
    /// ended by the deadline; it is ended then, and what it had in flight comes again.
    pub async fn close(&self, deadline: Instant) -> bool {
        for cell in &self.shared.cells {
            cell.want(Mode::Stop(deadline));
        }
        let tasks = {
            let mut tasks = self
                .shared
                .tasks
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            std::mem::take(&mut *tasks)
        };
        let aborts: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        let until = deadline.max(self.shared.clock.now()) + CLOSE_GRACE;
        let all = futures::future::join_all(tasks);
        let in_time = tokio::time::timeout_at(until.into(), all).await.is_ok();
        // What has not ended goes as in a crash: it comes again, and is not lost.
        aborts.iter().for_each(tokio::task::AbortHandle::abort);
        in_time
    }

    /// The service that lists, pauses and resumes these links.
    pub fn service(&self) -> ReplicationApi {
        ReplicationApi::new(self.clone())
    }

    fn find(&self, name: &str) -> Result<&Arc<LinkCell>, ControlError> {
        let cells = &self.shared.cells;
        cells
            .iter()
            .find(|cell| cell.spec.name.as_str() == name)
            .ok_or_else(|| {
                let known: Vec<&str> = cells.iter().map(|cell| cell.spec.name.as_str()).collect();
                ControlError::Unknown {
                    name: name.to_owned(),
                    known: known.join(", "),
                }
            })
    }
}
