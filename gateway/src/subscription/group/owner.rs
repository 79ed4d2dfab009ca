//! The task of a group: waits for the next thing, applies it, hands over what can be handed over, flushes.
//!
//! Pure decisions are the dispatcher's; this file moves its inputs and outputs. What holds: only this task touches the
//! dispatcher, the reader and the streams, so nothing here is locked; each turn does a bounded amount of work.

use std::sync::Arc;
use std::time::Instant;

use meridian_broker::{Broker, ReadError, ReadEvent, ReadRecord, ReaderOptions, RegionName};
use meridian_event::Binding;
use meridian_runtime::SharedClock;
use tokio::sync::{Notify, mpsc, watch};

use super::command::{Command, Join};
use super::lifetime::{End, Leaving};
use super::members::{Member, Members};
use super::pausing::PauseWatch;
use super::reading::Reading;
use super::retries::{next_of, retry_options};
use super::view::SharedView;
use crate::dispatch::{
    AttemptMemory, AwayOrder, DeliveryOrdering, DispatchOptions, Dispatcher, Output, PassLimits, SessionEnd, SessionId,
    Work,
};
use crate::fault::{FaultCode, Refusal};
use crate::settlement::retry::{read_retry, retry_topic};
use crate::settlement::{AwayDone, DeadLetterWriterState};
use crate::subscription::board::HealthBoard;
use crate::subscription::lag::LagBoard;
use crate::subscription::metrics::GroupMetrics;
use crate::subscription::options::SubscriptionOptions;
use crate::subscription::pauses::{Pause, Pauses};
use crate::subscription::terms::{GroupKey, GroupTerms};
use crate::subscription::wire::{self, Moment, SettleRefusals};

/// Commands that are applied in one turn.
const MAX_COMMANDS_PER_TURN: usize = 64;
/// What one message to a worker carries at most; one larger event goes alone.
const PASS_LIMITS: PassLimits = PassLimits {
    max_deliveries: 512,
    max_bytes: 1024 * 1024,
};

/// What a group's task is made of.
pub(in crate::subscription) struct OwnerParts {
    pub(in crate::subscription) key: GroupKey,
    pub(in crate::subscription) terms: GroupTerms,
    pub(in crate::subscription) options: Arc<SubscriptionOptions>,
    pub(in crate::subscription) region: RegionName,
    pub(in crate::subscription) broker: Arc<dyn Broker>,
    pub(in crate::subscription) clock: SharedClock,
    pub(in crate::subscription) metrics: GroupMetrics,
    pub(in crate::subscription) board: Arc<HealthBoard>,
    pub(in crate::subscription) lag_board: Arc<LagBoard>,
    pub(in crate::subscription) pauses: Arc<Pauses>,
    pub(in crate::subscription) memory: AttemptMemory,
    pub(in crate::subscription) seed: u64,
    pub(in crate::subscription) view: SharedView,
    pub(in crate::subscription) commands: mpsc::Receiver<Command>,
    pub(in crate::subscription) away: mpsc::Sender<AwayOrder>,
    pub(in crate::subscription) away_done: mpsc::Receiver<AwayDone>,
    pub(in crate::subscription) dead_letter_state: watch::Receiver<DeadLetterWriterState>,
}

/// The task of a group.
pub(in crate::subscription) struct Owner {
    pub(super) parts: OwnerParts,
    pub(super) dispatcher: Dispatcher,
    pub(super) members: Members,
    pub(super) reading: Reading,
    /// Reads what waited in the due-time topics for this group; `None` where the group's name is too long for a topic.
    pub(super) retries: Option<Reading>,
    pub(super) room: Arc<Notify>,
    pub(super) settle_refusals: SettleRefusals,
    next_session: u64,
    pub(super) leaving: Option<Leaving>,
    /// The pause in force.
    pub(super) pause: Option<Pause>,
    /// Who wants to know when the group is left for it.
    pub(super) pause_watches: Vec<PauseWatch>,
    /// Since when there has been no session.
    pub(super) idle_since: Option<Instant>,
    pub(super) end: Option<End>,
    pub(super) next_look: Instant,
    pub(super) next_heartbeat: Instant,
    outputs: Vec<Output>,
}

/// Which of the group's topics are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Topics {
    /// Those that its sessions name.
    Own,
    /// Its retry topic.
    Retry,
}

/// What a turn begins with.
enum Turn {
    Commands,
    Read(Result<ReadEvent, ReadError>),
    ReadRetry(Result<ReadEvent, ReadError>),
    Away,
    Room,
    Timer,
}

impl Owner {
    pub(in crate::subscription) fn new(mut parts: OwnerParts) -> Self {
        let options = &parts.options;
        let dispatch = DispatchOptions {
            ordering: parts.terms.ordering,
            pass_limits: PASS_LIMITS,
            max_delivery_bytes: options.max_delivery_bytes,
            max_credit_messages: options.max_credit_messages,
            max_credit_bytes: options.max_credit_bytes,
            park_after: retry_topic(&parts.key.group).is_ok().then_some(options.park_after),
            drop_expired: options.drop_expired,
            too_large_grace: options.too_large_grace,
        };
        let reader = ReaderOptions {
            start: parts.terms.start,
            missing_position: parts.terms.missing_position,
            session_timeout: options.session_timeout,
            max_unsettled_records: options.max_unsettled_records,
            max_unsettled_bytes: options.max_unsettled_bytes,
            ordered: parts.terms.ordering != DeliveryOrdering::Unordered,
            ..ReaderOptions::new(parts.key.group.clone(), parts.terms.topics.clone())
        };
        let pause = parts.pauses.of(&parts.key, Moment::of(&*parts.clock).wall());
        let retries = retry_options(&parts, &reader)
            .map(|options| Reading::of_optional_topic(Arc::clone(&parts.broker), options, parts.seed));
        let now = parts.clock.now();
        let heartbeat = options.heartbeat;
        let memory = std::mem::replace(&mut parts.memory, AttemptMemory::new(0));
        Self {
            dispatcher: Dispatcher::new(dispatch, memory, parts.seed),
            members: Members::new(options.max_credit_messages),
            reading: Reading::new(Arc::clone(&parts.broker), reader, parts.seed, pause.is_some()),
            retries,
            room: Arc::new(Notify::new()),
            settle_refusals: SettleRefusals::default(),
            next_session: 0,
            leaving: None,
            pause,
            pause_watches: Vec::new(),
            idle_since: Some(now),
            end: None,
            next_look: now,
            next_heartbeat: now + heartbeat,
            outputs: Vec::new(),
            parts,
        }
    }

    /// Serves the group until it ends; returns what it knows of failed attempts.
    pub(in crate::subscription) async fn run(mut self) -> AttemptMemory {
        let mut commands = Vec::with_capacity(MAX_COMMANDS_PER_TURN);
        self.look(self.parts.clock.now());
        while self.end.is_none() {
            match self.wait(&mut commands).await {
                Turn::Commands => {
                    if commands.is_empty() {
                        // The gateway is gone, and nobody can ask for anything any more.
                        self.end = Some(End::leaving());
                    }
                    for command in commands.drain(..) {
                        self.obey(command);
                    }
                }
                Turn::Read(Ok(event)) => self.take_in(event, Topics::Own),
                Turn::ReadRetry(Ok(event)) => self.take_in(event, Topics::Retry),
                Turn::Read(Err(error)) => self.reader_failed(&error),
                Turn::ReadRetry(Err(error)) => self.retry_reader_failed(&error),
                Turn::Away => {}
                Turn::Room => {
                    for id in self.members.take_writable() {
                        self.dispatcher.set_writable(id, true);
                    }
                }
                Turn::Timer => {}
            }
            self.finish_away();
            let now = self.parts.clock.now();
            self.follow_pause(now);
            let lapsed = self.dispatcher.expire(now);
            self.parts.metrics.all.expired.inc_by(lapsed as u64);
            self.hand_over(now);
            self.order_away();
            if now >= self.next_look {
                self.look(now);
            }
            self.check_lifetime(now);
        }
        self.finish().await
    }

    async fn wait(&mut self, commands: &mut Vec<Command>) -> Turn {
        let now = self.parts.clock.now();
        if self.members.is_dirty() {
            return Turn::Timer;
        }
        let (reads_on, is_paused) = (self.reads_on(), self.pause.is_some());
        let deadline = [self.dispatcher.next_deadline(), self.lifetime_deadline()];
        let wake = deadline.into_iter().flatten().fold(self.next_look, Instant::min);
        tokio::select! {
            _ = self.parts.commands.recv_many(commands, MAX_COMMANDS_PER_TURN) => Turn::Commands,
            event = self.reading.next(), if reads_on => Turn::Read(event),
            event = next_of(&mut self.retries), if !is_paused => Turn::ReadRetry(event),
            Some(done) = self.parts.away_done.recv() => {
                self.away_done(done);
                Turn::Away
            }
            () = self.room.notified() => Turn::Room,
            () = tokio::time::sleep(wake.saturating_duration_since(now)) => Turn::Timer,
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Join(join) => self.join(*join),
            Command::Settle { session, settlements } => self.settle(session, settlements),
            Command::AddCredit {
                session,
                messages,
                bytes,
            } => self.dispatcher.add_credit(session, messages, bytes),
            Command::Drain {
                session,
                release_in_flight,
            } => self.dispatcher.drain_session(session, release_in_flight),
            Command::Refuse { session, refusal } => self.refuse(session, &refusal),
            Command::Gone { session } => self.session_gone(session),
            Command::Leave {
                reason,
                deadline,
                asked,
            } => {
                let count = self.leave(&reason, deadline);
                // Whoever asked may be gone; the drain goes on.
                let _ = asked.send(count);
            }
            Command::LookAtPause { watch } => self.pause_watches.extend(watch),
        }
    }

    fn join(&mut self, join: Join) {
        let Join {
            group,
            session,
            session_id,
            outbound,
            answer,
        } = join;
        if self.leaving.is_some() || self.end.is_some() {
            return; // the answer's sender is dropped: ask again
        }
        if let Err(refusal) = self.parts.terms.check_same(&self.parts.key, &group) {
            if self.members.len() == 0 {
                // Nobody holds the group to its terms any more: make room for a group with others.
                self.end = Some(End::leaving());
                return;
            }
            let _ = answer.send(Err(refusal));
            return;
        }
        let id = SessionId(self.next_session);
        self.next_session += 1;
        if answer.send(Ok(id)).is_err() {
            return; // the client is gone already
        }
        let moment = Moment::of(&*self.parts.clock);
        outbound.wake_with(Arc::clone(&self.room));
        let member = Member::new(session_id.clone(), session.worker.to_string(), moment.wall(), outbound);
        self.members.add(id, member);
        let opened = wire::opened(session_id, &self.parts.region, &session, self.parts.options.heartbeat);
        self.members.notify(id, opened);
        self.members
            .notify(id, wire::heartbeat(&self.reading.positions(), &self.state()));
        self.dispatcher.open_session(id, session);
        self.idle_since = None;
        self.parts.metrics.all.sessions.inc();
        self.next_look = moment.now;
    }

    /// Ends the session of a worker that broke the contract.
    pub(super) fn refuse(&mut self, id: SessionId, refusal: &Refusal) {
        self.members.end(id, Some(refusal.to_status()));
        self.close_session(id, SessionEnd::Orderly, "refused");
    }

    /// Takes a session out of the dispatcher; its stream ends on its own.
    pub(super) fn close_session(&mut self, id: SessionId, end: SessionEnd, how: &'static str) {
        if self.dispatcher.session_load(id).is_none() {
            return;
        }
        let now = self.parts.clock.now();
        self.dispatcher.close_session(id, end, now);
        self.parts.metrics.all.sessions.dec();
        self.parts
            .metrics
            .all
            .sessions_ended
            .get_or_create(&[("how", how)])
            .inc();
        self.next_look = now;
    }

    fn session_gone(&mut self, id: SessionId) {
        // A worker that was asked to leave, or asked for it, has not crashed.
        let (end, how) = match self.dispatcher.session_drains(id) {
            true => (SessionEnd::Orderly, "drained"),
            false => (SessionEnd::Broken, "broken"),
        };
        self.close_session(id, end, how);
        self.members.remove(id);
        self.note_idle();
    }

    pub(super) fn note_idle(&mut self) {
        if self.members.len() == 0 && self.idle_since.is_none() {
            self.idle_since = Some(self.parts.clock.now());
        }
    }

    // Reading.

    fn take_in(&mut self, event: ReadEvent, topics: Topics) {
        let reading = match (&mut self.retries, topics) {
            (Some(retries), Topics::Retry) => retries,
            (_, _) => &mut self.reading,
        };
        reading.works();
        match event {
            ReadEvent::Records(records) => {
                let moment = Moment::of(&*self.parts.clock);
                for ReadRecord { claim, record, .. } in records {
                    let (record, prior) = match topics {
                        Topics::Own => (record, None),
                        Topics::Retry => {
                            let (record, prior) = read_retry(&record);
                            (Arc::new(record), prior)
                        }
                    };
                    let event = Binding::unbind_encoded(&record);
                    let expiry_ms = event.as_ref().ok().and_then(|event| event.expiry_time_ms);
                    self.dispatcher.take(Work {
                        claim,
                        record,
                        event: event.map(|event| event.encoded).map_err(|error| error.to_string()),
                        expires_at: expiry_ms.and_then(|expiry_ms| moment.instant(expiry_ms)),
                        prior,
                    });
                }
            }
            ReadEvent::Assigned(assignments) => {
                for assignment in assignments {
                    self.dispatcher
                        .revoke(&assignment.partition, Some(assignment.generation));
                    reading.assigned(&assignment.partition);
                }
            }
            ReadEvent::Revoked(partitions) => {
                for partition in partitions {
                    self.dispatcher.revoke(&partition, None);
                    reading.revoked(&partition);
                }
            }
            ReadEvent::Gap(gap) => {
                tracing::warn!(
                    group = %self.parts.key, partition = %gap.partition, missing_records = gap.missing_records,
                    "records are missing; reading goes on at position {}", gap.resumed_position
                );
                for id in self.members.ids() {
                    self.members.notify(id, wire::gap(&gap));
                }
            }
        }
    }

    fn reader_failed(&mut self, error: &ReadError) {
        let code = error.kind.code();
        self.parts
            .metrics
            .all
            .reader_faults
            .get_or_create(&[("code", code)])
            .inc();
        if error.kind.retryable() {
            tracing::warn!(group = %self.parts.key, code, %error, "the reader failed and is opened again");
            let now = Moment::of(&*self.parts.clock).wall();
            for partition in self.reading.reopen(error, now) {
                self.dispatcher.revoke(&partition, None);
            }
            self.next_look = self.parts.clock.now();
        } else {
            tracing::error!(group = %self.parts.key, code, %error, "the group cannot be read; its sessions end");
            self.end = Some(End::refused(Refusal::from(error)));
        }
    }

    // Handing over.

    fn hand_over(&mut self, now: Instant) {
        self.flush();
        let moment = Moment {
            now,
            wall_millis: self.parts.clock.wall_millis(),
        };
        let mut outputs = std::mem::take(&mut self.outputs);
        while self.pause.is_none() {
            let more = self.dispatcher.dispatch(now, &mut outputs);
            let mut delivered = 0;
            for output in outputs.drain(..) {
                match output {
                    Output::Deliver(handover) => {
                        delivered += 1;
                        self.observe(handover.attempt, handover.recorded_ms, moment.wall_millis);
                        let session = handover.session;
                        self.members.deliver(session, wire::delivery(handover, &moment));
                    }
                    Output::Expired(claim) => {
                        self.parts.metrics.all.expired_events.inc();
                        // A stale claim means that the record comes again, and is dropped again.
                        let _ = self.settle_claim(&claim);
                    }
                    Output::TooLarge {
                        session,
                        claim,
                        size_bytes,
                        limit_bytes,
                    } => {
                        self.parts.metrics.all.too_large.inc();
                        self.members
                            .notify(session, wire::too_large(&claim, size_bytes, limit_bytes));
                    }
                }
            }
            self.parts.metrics.delivered.inc_by(delivered);
            self.flush();
            if !more {
                break;
            }
        }
        self.outputs = outputs;
    }

    fn observe(&self, attempt: u32, recorded_ms: i64, wall_millis: i64) {
        if attempt > 1 {
            self.parts.metrics.all.redelivered.inc();
        } else {
            let millis = wall_millis.saturating_sub(recorded_ms).max(0);
            self.parts.metrics.all.delivery_seconds.observe(millis as f64 / 1_000.0);
        }
    }

    /// Ends sessions that have drained, and queues what waits for every session.
    pub(super) fn flush(&mut self) {
        for id in self.dispatcher.take_drained() {
            self.members.end(id, None);
        }
        let flushed = self.members.flush();
        for id in flushed.stalled {
            self.parts.metrics.all.stalls.inc();
            self.dispatcher.set_writable(id, false);
        }
        for id in flushed.overdue {
            let words = "the worker does not read the answers to its settlements; what it held is released";
            self.members
                .cut(id, Refusal::new(FaultCode::SlowWorker, words).to_status());
            self.close_session(id, SessionEnd::Orderly, "slow");
        }
        for id in flushed.ended {
            self.close_session(id, SessionEnd::Orderly, "drained");
        }
        self.note_idle();
    }
}
