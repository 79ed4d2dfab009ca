//! What a link shares with those who ask and command it: its state, its figures,
//! and what an operator wants of it.
//!
//! What holds: a change of state is logged, counted and told to the health of the
//! process once; `since` moves only when the state changes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use meridian_broker::{Settler, TopicName, TopicPartition};
use meridian_runtime::{HealthComponent, SharedClock};
use tokio::sync::watch;

use super::lag::{Standing, Times};
use crate::metrics::LinkSeries;
use crate::spec::LinkSpec;
use crate::status::{LinkPartitionStatus, LinkState, LinkStatus};

/// What is wanted of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Run,
    Pause,
    /// Until this moment it may finish what is in flight.
    Stop(Instant),
}

/// The last command. `epoch` rises with each, so that a resume of a link that
/// stopped by itself is a change too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) mode: Mode,
    pub(crate) epoch: u64,
}

/// The shared part of one link.
pub(crate) struct LinkCell {
    pub(crate) spec: LinkSpec,
    pub(crate) series: LinkSeries,
    clock: SharedClock,
    health: HealthComponent,
    wanted: watch::Sender<Wanted>,
    told: watch::Sender<LinkState>,
    inner: Mutex<Inner>,
}

struct Inner {
    state: LinkState,
    reason: String,
    since_ms: i64,
    /// Asked for positions while a reader is open.
    settler: Option<Arc<dyn Settler>>,
    /// The last known positions otherwise.
    standings: Vec<Standing>,
    times: BTreeMap<TopicPartition, Times>,
    targets: BTreeMap<TopicName, TopicName>,
}

impl LinkCell {
    pub(crate) fn new(spec: LinkSpec, series: LinkSeries, clock: SharedClock, health: HealthComponent) -> Self {
        let inner = Inner {
            state: LinkState::Starting,
            reason: String::new(),
            since_ms: clock.wall_millis(),
            settler: None,
            standings: Vec::new(),
            times: BTreeMap::new(),
            targets: BTreeMap::new(),
        };
        series.set_state(LinkState::Starting);
        Self {
            spec,
            series,
            clock,
            health,
            wanted: watch::Sender::new(Wanted {
                mode: Mode::Run,
                epoch: 0,
            }),
            told: watch::Sender::new(LinkState::Starting),
            inner: Mutex::new(inner),
        }
    }

    /// Commands the link. A link that is told to stop takes no other command.
    pub(crate) fn want(&self, mode: Mode) {
        self.wanted.send_if_modified(|wanted| {
            let stopping = matches!(wanted.mode, Mode::Stop(_));
            if !stopping {
                *wanted = Wanted {
                    mode,
                    epoch: wanted.epoch + 1,
                };
            }
            !stopping
        });
    }

    /// Has it run, if it does not or is about to pause. A link at work is left at it.
    pub(crate) fn want_run(&self) {
        let stands = matches!(*self.told.borrow(), LinkState::Paused | LinkState::Stopped);
        self.wanted.send_if_modified(|wanted| {
            let changes = match wanted.mode {
                Mode::Run => stands,
                Mode::Pause => true,
                Mode::Stop(_) => false,
            };
            if changes {
                *wanted = Wanted {
                    mode: Mode::Run,
                    epoch: wanted.epoch + 1,
                };
            }
            changes
        });
    }

    /// Follows the commands.
    pub(crate) fn commands(&self) -> watch::Receiver<Wanted> {
        self.wanted.subscribe()
    }

    /// Follows the state.
    pub(crate) fn states(&self) -> watch::Receiver<LinkState> {
        self.told.subscribe()
    }

    pub(crate) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// Sets the state; the same state with another reason keeps its `since`.
    pub(crate) fn set_state(&self, state: LinkState, reason: &str) {
        let mut inner = self.lock();
        if inner.state == state && inner.reason == reason {
            return;
        }
        let changed = inner.state != state;
        if changed {
            inner.since_ms = self.clock.wall_millis();
        }
        inner.state = state;
        reason.clone_into(&mut inner.reason);
        drop(inner);
        if changed {
            self.series.set_state(state);
        }
        self.tell(state, reason);
        self.told.send_replace(state);
    }

    fn tell(&self, state: LinkState, reason: &str) {
        let link = self.spec.name.as_str();
        match state {
            LinkState::Running | LinkState::Paused => {
                tracing::info!(link, state = state.as_str(), reason, "link");
                self.health.ready();
            }
            LinkState::Starting => self.health.not_ready("starting"),
            LinkState::Retrying => {
                tracing::warn!(link, state = state.as_str(), reason, "link");
                self.health.not_ready(reason);
            }
            LinkState::Stopped => {
                tracing::error!(link, state = state.as_str(), reason, "link");
                self.health.not_ready(reason);
            }
        }
    }

    /// A reader is open, and its topics go by these names at the target.
    pub(crate) fn opened(&self, settler: Arc<dyn Settler>, targets: BTreeMap<TopicName, TopicName>) {
        let mut inner = self.lock();
        inner.settler = Some(settler);
        inner
            .times
            .retain(|partition, _| targets.contains_key(&partition.topic));
        inner.targets = targets;
    }

    /// The reader is closed; where it stood stays known.
    pub(crate) fn closed(&self) {
        let mut inner = self.lock();
        if let Some(settler) = inner.settler.take() {
            inner.standings = settler.positions().into_iter().map(Standing::from).collect();
        }
    }

    /// Where the group stands, as the broker has it.
    pub(crate) fn set_standings(&self, standings: Vec<Standing>) {
        self.lock().standings = standings;
    }

    /// What the lines know of times; when a partition was last caught up is known here.
    pub(crate) fn set_times(&self, times: BTreeMap<TopicPartition, Times>) {
        let mut inner = self.lock();
        for (partition, said) in times {
            inner.times.entry(partition).or_default().learn(said);
        }
    }

    /// Notes which partitions are caught up now, and writes the gauges of the lag.
    pub(crate) fn measure(&self) {
        let now_ms = self.clock.wall_millis();
        let mut inner = self.lock();
        for standing in inner.standings() {
            if standing.lag_records == 0 {
                inner.times.entry(standing.partition).or_default().catch_up(now_ms);
            }
        }
        let (records, seconds) = inner.lag(now_ms);
        drop(inner);
        self.series.lag_records.set(i64::try_from(records).unwrap_or(i64::MAX));
        self.series.lag_seconds.set(seconds);
    }

    /// All there is to say.
    pub(crate) fn status(&self) -> LinkStatus {
        let inner = self.lock();
        let (lag_messages, lag_seconds) = inner.lag(self.clock.wall_millis());
        let (source, target) = (self.spec.source.profile(), self.spec.target.profile());
        let mut partitions: Vec<_> = inner
            .standings()
            .into_iter()
            .map(|standing| inner.describe(standing))
            .collect();
        partitions
            .sort_by(|left, right| (&left.source_topic, left.partition).cmp(&(&right.source_topic, right.partition)));
        LinkStatus {
            name: self.spec.name.clone(),
            source_region: source.region.clone(),
            source_broker: source.name.clone(),
            target_region: target.region.clone(),
            target_broker: target.name.clone(),
            state: inner.state,
            reason: inner.reason.clone(),
            since_ms: inner.since_ms,
            partitions,
            mirrored_records: self.series.mirrored_records.get(),
            skipped_records: self.series.skipped_in_all(),
            dead_lettered_records: self.series.dead_lettered_records.get(),
            lag_messages,
            lag_seconds,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn standings(&self) -> Vec<Standing> {
        match &self.settler {
            Some(settler) => settler.positions().into_iter().map(Standing::from).collect(),
            None => self.standings.clone(),
        }
    }

    fn describe(&self, standing: Standing) -> LinkPartitionStatus {
        LinkPartitionStatus {
            target_topic: self.targets.get(&standing.partition.topic).cloned(),
            source_topic: standing.partition.topic,
            partition: standing.partition.partition,
            mirrored_position: standing.settled_position,
            end_position: standing.end_position,
            lag_messages: standing.lag_records,
        }
    }

    /// In records, and in seconds.
    fn lag(&self, now_ms: i64) -> (u64, f64) {
        let (mut records, mut oldest_ms) = (0_u64, 0);
        for standing in self.standings().iter().filter(|standing| standing.lag_records > 0) {
            records = records.saturating_add(standing.lag_records);
            let times = self.times.get(&standing.partition).copied().unwrap_or_default();
            oldest_ms = oldest_ms.max(times.age_ms(now_ms));
        }
        (records, oldest_ms as f64 / 1000.0)
    }
}
