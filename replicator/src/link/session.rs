//! One reader, from opening to closing: what is read goes into lines, batches of
//! lines are appended, outcomes settle them.
//!
//! What holds: one append is being admitted at a time, so that batches of a line
//! reach the target in order; reading, admission and outcomes never wait for one
//! another; memory is bounded by the reader's window, for a record is held no
//! longer than until it is settled; when a session ends, reading stops first, and
//! what is in flight has until the deadline for its outcome.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use meridian_broker::{
    Admission, AppendOutcome, Appender, Assignment, BrokerState, ReadError, ReadEvent, ReadRecord, Reader, ReaderState,
    Settler, TopicName, TopicPartition,
};
use meridian_runtime::{Backoff, BackoffPolicy};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::cell::{LinkCell, Mode, Wanted};
use super::lanes::{Lane, LaneId, Lanes, Sent};
use super::prepare::{Mirror, NotPrepared, Prepared, place_of};
use crate::line::{Item, Line, Phase, Refusal, Settled};
use crate::passage::{Border, Passage};
use crate::status::LinkState;

/// How often waits are looked at.
const TICK: Duration = Duration::from_millis(20);
/// Every so many ticks the state and the lag are told.
const TICKS_PER_REPORT: u32 = 5;
/// How long an append may wait for room before it is refused and tried again.
const ADMIT_WITHIN: Duration = Duration::from_secs(5);
/// How long a session that ends for another reason than a stop waits for what is in flight.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// How lines wait after a failure.
const RETRIES: BackoffPolicy = BackoffPolicy {
    initial: Duration::from_millis(50),
    maximum: Duration::from_secs(10),
    multiplier: 2.0,
    jitter: 0.5,
};

/// Why a session ended.
#[derive(Debug)]
pub(super) enum SessionEnd {
    /// A command came.
    Commanded,
    /// The topics are others than before.
    TopicsChanged,
    /// A record of this topic cannot be mirrored.
    TopicRefused(TopicName, String),
    /// A fault that may heal.
    Failed(String),
    /// A fault that needs an operator.
    Halted(String),
}

/// The topics as they are now, looked up while the session goes on.
pub(super) type Refresh = Box<dyn Fn() -> BoxFuture<'static, Result<Prepared, NotPrepared>> + Send>;

pub(super) struct Session {
    pub(super) cell: Arc<LinkCell>,
    pub(super) settler: Arc<dyn Settler>,
    pub(super) lanes: Lanes,
    pub(super) end: Option<SessionEnd>,
    pub(super) committing: FuturesUnordered<BoxFuture<'static, (Vec<Sent>, Vec<AppendOutcome>)>>,
    pub(super) to_dead_letter: VecDeque<LaneId>,
    pub(super) dead_lettering: Option<BoxFuture<'static, (LaneId, Result<(), String>)>>,
    pub(super) settled: Vec<Settled>,
    admitting: Option<BoxFuture<'static, (Vec<Sent>, Admission)>>,
    appender: Arc<dyn Appender>,
    border: Border,
    prepared: Prepared,
    left_out: BTreeMap<TopicName, String>,
    seed: u64,
}

/// Waits for a future that may not be there; then it is gone.
async fn due<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    match slot {
        Some(future) => {
            let value = future.await;
            *slot = None;
            value
        }
        None => std::future::pending().await,
    }
}

impl Session {
    pub(super) fn new(
        cell: Arc<LinkCell>,
        settler: Arc<dyn Settler>,
        border: Border,
        prepared: Prepared,
        left_out: BTreeMap<TopicName, String>,
        seed: u64,
    ) -> Self {
        Self {
            appender: cell.spec.target.appender(),
            cell,
            settler,
            lanes: Lanes::default(),
            end: None,
            committing: FuturesUnordered::new(),
            to_dead_letter: VecDeque::new(),
            dead_lettering: None,
            settled: Vec::new(),
            admitting: None,
            border,
            prepared,
            left_out,
            seed,
        }
    }

    /// Mirrors until something ends it, then leaves the group.
    pub(super) async fn run(
        mut self,
        mut reader: Box<dyn Reader>,
        commands: &mut watch::Receiver<Wanted>,
        refresh: Refresh,
    ) -> SessionEnd {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let refresh_every = self.cell.spec.options.refresh_topics;
        let mut refresh_at = tokio::time::Instant::now() + refresh_every;
        let mut refreshing: Option<BoxFuture<'static, _>> = None;
        let mut tick: u32 = 0;
        let end = loop {
            if let Some(end) = self.end.take() {
                break end;
            }
            self.append();
            self.dead_letter();
            tokio::select! {
                event = reader.next() => self.read(event),
                (sent, admission) = due(&mut self.admitting) => self.admitted(sent, admission),
                Some((sent, outcomes)) = self.committing.next() => self.committed(sent, outcomes),
                (lane, written) = due(&mut self.dead_lettering) => self.dead_lettered(lane, written),
                found = due(&mut refreshing) => {
                    refresh_at = tokio::time::Instant::now() + refresh_every;
                    self.refreshed(found);
                }
                () = tokio::time::sleep_until(refresh_at), if refreshing.is_none() => refreshing = Some(refresh()),
                _ = ticks.tick() => {
                    self.lanes.tick(self.cell.clock().now());
                    if tick.is_multiple_of(TICKS_PER_REPORT) {
                        self.report();
                    }
                    tick = tick.wrapping_add(1);
                }
                _ = commands.changed() => self.end = Some(SessionEnd::Commanded),
            }
        };
        self.finish(reader, commands).await;
        end
    }

    /// Waits for what is in flight, then leaves the group.
    async fn finish(&mut self, reader: Box<dyn Reader>, commands: &watch::Receiver<Wanted>) {
        let began = self.cell.clock().now();
        loop {
            let now = self.cell.clock().now();
            let wanted = *commands.borrow();
            // A quarter of the time is for the last commit.
            let deadline = match wanted.mode {
                Mode::Stop(at) => began + at.saturating_duration_since(began).mul_f64(0.75),
                _ => began + DRAIN_WITHIN,
            };
            if now >= deadline || (self.admitting.is_none() && self.committing.is_empty()) {
                break;
            }
            tokio::select! {
                (sent, admission) = due(&mut self.admitting) => self.admitted(sent, admission),
                Some((sent, outcomes)) = self.committing.next() => self.committed(sent, outcomes),
                () = tokio::time::sleep(TICK) => {}
            }
        }
        let wanted = *commands.borrow();
        let limit = match wanted.mode {
            Mode::Stop(at) => at.saturating_duration_since(self.cell.clock().now()),
            _ => DRAIN_WITHIN,
        };
        // A closed reader knows no positions; what it knows of times must be told before.
        self.cell.set_times(self.lanes.times());
        self.cell.measure();
        if let Err(error) = reader.close(limit).await {
            tracing::warn!(link = %self.cell.spec.name, %error, "the last positions were not committed; the records after them come again");
        }
        self.cell.closed();
        self.cell.measure();
    }

    fn read(&mut self, event: Result<ReadEvent, ReadError>) {
        match event {
            Ok(ReadEvent::Records(records)) => self.take_in(records),
            Ok(ReadEvent::Assigned(assignments)) => {
                for Assignment {
                    partition, generation, ..
                } in assignments
                {
                    self.open_lane(&partition, generation);
                }
            }
            Ok(ReadEvent::Revoked(partitions)) => partitions.iter().for_each(|partition| self.lanes.remove(partition)),
            Ok(ReadEvent::Gap(gap)) => {
                self.cell.series.missing_records.inc_by(gap.missing_records);
                tracing::error!(
                    link = %self.cell.spec.name, partition = %gap.partition, missing_records = gap.missing_records,
                    expected_position = gap.expected_position, resumed_position = gap.resumed_position,
                    "records were gone before they were mirrored"
                );
            }
            Err(error) => {
                let reason = format!("reading from {} ended: {error}", place_of(&self.cell.spec.source));
                let heals = error.kind.retryable();
                self.end = Some(if heals {
                    SessionEnd::Failed(reason)
                } else {
                    SessionEnd::Halted(reason)
                });
            }
        }
    }

    fn open_lane(&mut self, partition: &TopicPartition, generation: u64) -> Option<LaneId> {
        let mirror: &Mirror = self.prepared.mirrors.get(&partition.topic)?;
        let target_partition = mirror.target_partition(partition.partition);
        self.seed = self.seed.wrapping_add(1);
        let line = Line::new(
            Backoff::new(RETRIES, self.seed),
            self.cell.spec.target.profile().max_record_bytes,
        );
        let lane = Lane::new(
            line,
            partition.clone(),
            mirror.target.clone(),
            target_partition,
            generation,
        );
        Some(self.lanes.insert(lane))
    }

    fn take_in(&mut self, records: Vec<ReadRecord>) {
        let mut last: Option<(TopicPartition, u64, LaneId)> = None;
        for ReadRecord { claim, record, .. } in records {
            let record = Arc::unwrap_or_clone(record);
            let known = last
                .as_ref()
                .filter(|(partition, generation, _)| *generation == claim.generation && *partition == claim.partition);
            let id = match known {
                Some((_, _, id)) => *id,
                None => {
                    let found = self.lanes.find(&claim.partition, claim.generation);
                    let Some(id) = found.or_else(|| self.open_lane(&claim.partition, claim.generation)) else {
                        // Not asked for; unsettled, it goes to whoever reads the topic.
                        continue;
                    };
                    self.lanes.give_turn(id);
                    last = Some((claim.partition.clone(), claim.generation, id));
                    id
                }
            };
            let item = match self.border.passage(&record) {
                Passage::Append(hops) => Item::append(claim, record, hops),
                Passage::Skip(reason) => Item::skip(claim, &record, reason),
                Passage::Unreadable(error) => Item::refused(
                    claim,
                    record,
                    Refusal {
                        code: "HOPS_UNREADABLE",
                        message: error.to_string(),
                    },
                ),
            };
            if let Some(lane) = self.lanes.get_mut(id) {
                lane.line.push(item);
            }
        }
    }

    /// Starts the next append, if there is something to append and none is being admitted.
    fn append(&mut self) {
        if self.admitting.is_some() {
            return;
        }
        let mut visited = Vec::new();
        let (sent, batch) = self.lanes.take(self.cell.spec.options.batch_records, &mut visited);
        for lane in visited {
            self.settle(lane);
        }
        if batch.is_empty() {
            return;
        }
        let appender = Arc::clone(&self.appender);
        let deadline = Instant::now() + ADMIT_WITHIN;
        self.admitting = Some(Box::pin(async move { (sent, appender.admit(batch, deadline).await) }));
    }

    fn refreshed(&mut self, found: Result<Prepared, NotPrepared>) {
        match found {
            Ok(found) if found.mirrors != self.prepared.mirrors => self.end = Some(SessionEnd::TopicsChanged),
            Ok(found) => self.prepared.notes = found.notes,
            Err(NotPrepared::Halts(reason)) => self.end = Some(SessionEnd::Halted(reason)),
            // The lines and the reader tell it if it matters to them.
            Err(NotPrepared::Heals(reason)) => {
                tracing::debug!(link = %self.cell.spec.name, reason, "topics were not refreshed");
            }
        }
    }

    /// Tells state, times and lag.
    fn report(&self) {
        self.cell.set_times(self.lanes.times());
        self.cell.measure();
        let (state, reason) = self.state();
        self.cell.set_state(state, &reason);
    }

    fn state(&self) -> (LinkState, String) {
        if !self.left_out.is_empty() {
            return (LinkState::Stopped, stopped_topics(&self.left_out));
        }
        let spec = &self.cell.spec;
        if let Some(lane) = self
            .lanes
            .iter()
            .find(|lane| matches!(lane.line.phase(), Phase::Refused(_)))
        {
            return (
                LinkState::Retrying,
                format!("{}: a refused record is being dead-lettered", lane.source),
            );
        }
        let mut failing = self.lanes.iter().filter_map(|lane| Some((lane, lane.line.failing()?)));
        if let Some((lane, (_, reason))) = failing.next() {
            let others = failing.count();
            let others = if others == 0 {
                String::new()
            } else {
                format!(", and {others} more partitions")
            };
            return (
                LinkState::Retrying,
                format!(
                    "appending {} to {} fails: {reason}{others}",
                    lane.source,
                    place_of(&spec.target)
                ),
            );
        }
        if let BrokerState::Unavailable { reason, .. } = spec.target.state() {
            return (
                LinkState::Retrying,
                format!("{} cannot be reached: {reason}", place_of(&spec.target)),
            );
        }
        if let ReaderState::NotReading { reason, .. } = self.settler.state() {
            return (
                LinkState::Retrying,
                format!("{} cannot be read: {reason}", place_of(&spec.source)),
            );
        }
        (LinkState::Running, self.prepared.notes.join("; "))
    }
}

/// How stopped topics are told.
pub(super) fn stopped_topics(left_out: &BTreeMap<TopicName, String>) -> String {
    let told: Vec<&str> = left_out.values().map(String::as_str).collect();
    format!(
        "{}; the other topics go on; mend it and resume the link",
        told.join("; ")
    )
}
