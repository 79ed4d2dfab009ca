//! Everything observed, counted into a history.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use meridian_worker_sdk::PublishError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::demo::board::{Board, Lags, lags};
use crate::demo::plan::belongs;
use crate::demo::traffic::Traffic;
use crate::demo::{Drain, Settings, Sites};
use crate::failure::Failure;
use crate::history::{EventName, History, Place};
use crate::output::Output;

const OBSERVATIONS_AT_ONCE: usize = 4_096;
const REFRESH: Duration = Duration::from_millis(500);

async fn watch_lags(sites: Sites, tell: watch::Sender<Lags>) {
    let mut refresh = interval(REFRESH);
    refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        refresh.tick().await;
        tell.send_replace(lags(&sites).await);
    }
}

/// What publishers and workers tell.
#[derive(Debug)]
pub(crate) enum Observation {
    Attempted {
        name: EventName,
        stream: &'static str,
    },
    Stored {
        name: EventName,
        region: String,
        latency: Duration,
    },
    Refused {
        name: EventName,
        reason: String,
    },
    Unknown {
        name: EventName,
        reason: String,
    },
    Delivered {
        place: Place,
        name: EventName,
        latency: Duration,
    },
    Unreadable,
}

impl Observation {
    pub(crate) fn failed(name: EventName, error: &PublishError) -> Self {
        let reason = error.to_string();
        match error.may_be_stored() {
            true => Observation::Unknown { name, reason },
            false => Observation::Refused { name, reason },
        }
    }
}

/// Counts and latencies of one region.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) stored: u64,
    pub(crate) delivered: u64,
    /// Microseconds.
    pub(crate) publish: Histogram<u64>,
    /// Microseconds from publish to worker.
    pub(crate) end_to_end: Histogram<u64>,
}

impl Figures {
    fn new() -> Result<Self, Failure> {
        // One microsecond to ten minutes, three significant digits.
        let histogram = || Histogram::new_with_bounds(1, 600_000_000, 3).map_err(Failure::failed);
        Ok(Self {
            stored: 0,
            delivered: 0,
            publish: histogram()?,
            end_to_end: histogram()?,
        })
    }
}

/// Owns the history and the figures.
pub(crate) struct Collector {
    sites: Sites,
    history: History,
    figures: BTreeMap<String, Figures>,
    board: Board,
    failure_reasons: BTreeMap<String, u64>,
}

/// Kinds of failure that are told apart; the rest are counted together.
const MAX_REASONS: usize = 10;

impl Collector {
    pub(crate) fn new(sites: &Sites, settings: Settings, output: Output) -> Self {
        let figures = sites
            .regions
            .iter()
            .filter_map(|site| Some((site.region.clone(), Figures::new().ok()?)))
            .collect();
        Self {
            sites: sites.clone(),
            history: History::new(),
            figures,
            board: Board::new(settings, output),
            failure_reasons: BTreeMap::new(),
        }
    }

    /// Collects until the traffic has ended and everything came, or nothing
    /// came for too long.
    pub(crate) async fn collect(
        &mut self,
        mut observations: mpsc::Receiver<Observation>,
        mut traffic: Traffic,
    ) -> Result<(), Failure> {
        let mut taken = Vec::with_capacity(OBSERVATIONS_AT_ONCE);
        let mut refresh = interval(REFRESH);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut drain: Option<Drain> = None;
        let mut publishing = true;
        // Asked for by a task of its own, which ends with this value: a slow answer must not hold up the observations.
        let (tell, lags) = watch::channel(Lags::default());
        let mut asking = JoinSet::new();
        asking.spawn(watch_lags(self.sites.clone(), tell));
        loop {
            tokio::select! {
                count = observations.recv_many(&mut taken, OBSERVATIONS_AT_ONCE) => {
                    if count == 0 {
                        return Ok(());
                    }
                    let mut progressed = false;
                    for observation in taken.drain(..) {
                        progressed |= self.observe(observation);
                    }
                    if let Some(drain) = drain.as_mut().filter(|_| progressed) {
                        drain.progressed = Instant::now();
                    }
                }
                ended = traffic.join_next(), if publishing => match ended {
                    None => {
                        publishing = false;
                        drain = Some(Drain::new(Instant::now()));
                    }
                    Some(Err(panic)) => return Err(Failure::failed(format!("a publisher ended: {panic}"))),
                    Some(Ok(())) => {}
                },
                _ = refresh.tick() => {
                    self.board.refresh(&self.figures, &lags.borrow(), publishing)?;
                    if let Some(drain) = &drain {
                        let complete = self.history.is_complete(&belongs());
                        if complete || drain.is_over(Instant::now()) {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Counts one observation; true when something was delivered.
    fn observe(&mut self, observation: Observation) -> bool {
        match observation {
            Observation::Attempted { name, stream } => self.history.attempted(name, stream),
            Observation::Stored { name, region, latency } => {
                self.history.stored(name);
                if let Some(figures) = self.figures.get_mut(&region) {
                    figures.stored += 1;
                    figures.publish.saturating_record(micros(latency));
                }
            }
            Observation::Refused { name, reason } => {
                self.history.refused(name);
                self.count_reason(format!("refused: {reason}"));
            }
            Observation::Unknown { name, reason } => {
                self.history.unknown(name);
                self.count_reason(format!("unknown: {reason}"));
            }
            Observation::Delivered { place, name, latency } => {
                self.history.delivered(&place, name);
                let region = place.split('/').next().unwrap_or_default();
                if let Some(figures) = self.figures.get_mut(region) {
                    figures.delivered += 1;
                    figures.end_to_end.saturating_record(micros(latency));
                }
                return true;
            }
            Observation::Unreadable => self.history.unreadable(),
        }
        false
    }

    fn count_reason(&mut self, reason: String) {
        let reason = match self.failure_reasons.len() < MAX_REASONS || self.failure_reasons.contains_key(&reason) {
            true => reason,
            false => "other reasons".to_owned(),
        };
        *self.failure_reasons.entry(reason).or_insert(0) += 1;
    }

    /// Prints the summary; fails unless everything held.
    pub(crate) fn conclude(&self, output: Output) -> Result<(), Failure> {
        let verdict = self.history.verdict(&belongs());
        self.board
            .summary(&self.figures, &verdict, &self.failure_reasons, output)?;
        if verdict.stored == 0 {
            return Err(Failure::failed("nothing was stored, so the demo shows nothing"));
        }
        if !verdict.holds() {
            return Err(Failure::failed(format!(
                "the demo did not hold:\n{}",
                verdict.examples.join("\n")
            )));
        }
        Ok(())
    }
}

fn micros(latency: Duration) -> u64 {
    u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)
}
