//! The subscriptions of a gateway: finds or starts the group of a session, and gives all groups up in order.
//!
//! What holds: a group has one task at a time, and a new one begins only after the last one has left the broker's group;
//! groups and sessions are bounded; once draining has begun, no session opens; the lock is held for looking and never
//! over an await.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meridian_broker::{BrokerName, RegionName};
use meridian_proto::meridian::subscriber_service_server::SubscriberServiceServer;
use meridian_runtime::{Health, Metrics, RegisterError, SharedClock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::board::HealthBoard;
use super::group::{Command, Join, Owner, OwnerParts, PauseWatch, SharedView};
use super::info::{GroupInfo, SessionInfo};
use super::lag::LagBoard;
use super::metrics::SubscriptionMetrics;
use super::operating;
use super::options::SubscriptionOptions;
use super::outbound::Outbound;
use super::pauses::Pauses;
use super::service::Service;
use super::terms::{GroupKey, OpenTerms};
use crate::brokers::Brokers;
use crate::delay::DelayDesk;
use crate::dispatch::{AttemptMemory, SessionId};
use crate::fault::{FaultCode, Refusal};
use crate::settlement::{DeadLetterWriter, DeadLetterWriterState};

/// Commands that wait for a group's task.
const MAX_COMMANDS_WAITING: usize = 1_024;
/// Dead letters that wait for their writer.
const MAX_DEAD_LETTERS_WAITING: usize = 256;
/// Records of a group whose failed attempts are remembered while it is not being read.
const MAX_REMEMBERED_RECORDS: usize = 10_000;
/// Groups that are not being read and are remembered.
const MAX_REMEMBERED_GROUPS: usize = 1_000;
/// How long a session waits for its group to end and begin anew.
const JOIN_LIMIT: Duration = Duration::from_secs(15);
/// A message of a worker: settlements, at most about 200,000.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// What the gateway hands to its subscriptions.
#[derive(Clone)]
pub struct Parts {
    /// Time.
    pub clock: SharedClock,
    /// Where metrics are registered.
    pub metrics: Metrics,
    /// The process's health.
    pub health: Health,
    /// The region, as told to workers.
    pub region: RegionName,
    /// Whether lag is told under the name that dashboards of Kafka use as well.
    pub kafka_lag_alias: bool,
    /// Where records wait for their next attempt.
    pub delays: Arc<DelayDesk>,
}

/// What giving up came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloseReport {
    /// Sessions that were asked to move.
    pub sessions_asked: usize,
    /// Groups that had not ended by the deadline.
    pub groups_left: usize,
}

/// All groups and sessions of a gateway.
pub struct Subscriptions {
    options: Arc<SubscriptionOptions>,
    brokers: Brokers,
    clock: SharedClock,
    region: RegionName,
    metrics: SubscriptionMetrics,
    board: Arc<HealthBoard>,
    lag_board: Arc<LagBoard>,
    pauses: Arc<Pauses>,
    delays: Arc<DelayDesk>,
    slots: Arc<Semaphore>,
    draining: CancellationToken,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    groups: BTreeMap<GroupKey, Handle>,
    memories: BTreeMap<GroupKey, AttemptMemory>,
}

/// A group that has a task.
#[derive(Clone)]
struct Handle {
    commands: mpsc::Sender<Command>,
    view: SharedView,
    /// Cancelled when the task has ended and another may begin.
    gone: CancellationToken,
}

impl Handle {
    /// The answer to a command; `None` when the group's task ended before it gave one. Its end has to be looked for: a
    /// command that was on its way when the task let go of the queue stays in the queue, with the answer's sender, for as
    /// long as a handle like this one is held.
    async fn answer<T>(&self, answer: oneshot::Receiver<T>) -> Option<T> {
        tokio::select! {
            biased;
            answer = answer => answer.ok(),
            () = self.gone.cancelled() => None,
        }
    }
}

/// A session that has joined its group.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) session: SessionId,
    pub(super) commands: mpsc::Sender<Command>,
}

impl Subscriptions {
    /// No groups and no sessions yet.
    ///
    /// # Errors
    /// [`RegisterError`] when the metrics are registered already.
    pub fn new(options: SubscriptionOptions, brokers: Brokers, parts: Parts) -> Result<Arc<Self>, RegisterError> {
        Ok(Arc::new(Self {
            slots: Arc::new(Semaphore::new(options.max_sessions)),
            options: Arc::new(options),
            brokers,
            metrics: SubscriptionMetrics::register(&parts.metrics)?,
            board: Arc::new(HealthBoard::new(&parts.health)),
            lag_board: Arc::new(LagBoard::register(&parts.metrics, parts.kafka_lag_alias)?),
            pauses: Arc::default(),
            clock: parts.clock,
            region: parts.region,
            delays: parts.delays,
            draining: CancellationToken::new(),
            state: Mutex::default(),
        }))
    }

    /// `meridian.v1.SubscriberService` over these subscriptions.
    pub fn service(self: &Arc<Self>) -> SubscriberServiceServer<Service> {
        SubscriberServiceServer::new(Service::new(Arc::clone(self)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(usize::MAX) // batches are bounded where they are made
    }

    /// The sessions that are open, a moment ago.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.handles()
            .into_iter()
            .flat_map(|handle| handle.view.see().sessions)
            .collect()
    }

    /// The groups that are being read, a moment ago.
    pub fn groups(&self) -> Vec<GroupInfo> {
        self.handles()
            .into_iter()
            .filter_map(|handle| handle.view.see().group)
            .collect()
    }

    /// Opens no session any more, asks those that are open to move, and waits until every group has ended or the
    /// deadline is there, at which groups release what is not settled.
    pub async fn drain(&self, reason: &str, deadline: Instant) -> CloseReport {
        self.draining.cancel();
        let mut sessions_asked = 0;
        let handles = self.handles();
        for handle in &handles {
            let (asked, answer) = oneshot::channel();
            let leave = Command::Leave {
                reason: reason.to_owned(),
                deadline,
                asked,
            };
            if handle.commands.send(leave).await.is_ok() {
                sessions_asked += handle.answer(answer).await.unwrap_or(0);
            }
        }
        let all_gone = async {
            for handle in &handles {
                handle.gone.cancelled().await;
            }
        };
        // Leaving the broker's groups comes after the deadline for workers, and is waited for by `close`.
        let _ = tokio::time::timeout_at(deadline.into(), all_gone).await;
        CloseReport {
            sessions_asked,
            groups_left: self.handles().len(),
        }
    }

    /// Gives all groups up now; waits until they have left the brokers' groups, at most until the deadline.
    pub async fn close(&self, deadline: Instant) -> CloseReport {
        let handles = self.handles();
        let report = self.drain("the gateway stops", self.clock.now()).await;
        for handle in &handles {
            if tokio::time::timeout_at(deadline.into(), handle.gone.cancelled())
                .await
                .is_err()
            {
                break;
            }
        }
        CloseReport {
            groups_left: self.handles().len(),
            ..report
        }
    }

    pub(super) fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    pub(super) fn lag_board(&self) -> &LagBoard {
        &self.lag_board
    }

    pub(super) fn clock(&self) -> &SharedClock {
        &self.clock
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) fn wall_millis(&self) -> i64 {
        self.clock.wall_millis()
    }

    /// Has the group's task look at its pause; cancelled when the task has ended. `None` when it has no task.
    pub(super) async fn look_at_pause(&self, key: &GroupKey, watch: Option<PauseWatch>) -> Option<CancellationToken> {
        let handle = self.state().groups.get(key).cloned()?;
        // A task that has ended needs not look.
        let _ = handle.commands.send(operating::look(watch)).await;
        Some(handle.gone)
    }

    /// What is known of failed attempts of a group that is not being read counts no more.
    pub(super) fn forget_attempts(&self, key: &GroupKey) {
        self.state().memories.remove(key);
    }

    pub(super) fn brokers(&self) -> &Brokers {
        &self.brokers
    }

    pub(super) fn options(&self) -> &SubscriptionOptions {
        &self.options
    }

    /// A session's share of the limit.
    pub(super) fn slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        if self.draining.is_cancelled() {
            return Err(drained());
        }
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            let words = format!(
                "{} sessions are open, which is the limit; use another gateway",
                self.options.max_sessions
            );
            Refusal::new(FaultCode::TooManySessions, words)
        })
    }

    /// Joins the session to its group, which begins when it is not there.
    pub(super) async fn join(
        self: &Arc<Self>,
        terms: OpenTerms,
        session_id: String,
        outbound: &Outbound,
    ) -> Result<Joined, Refusal> {
        let until = self.clock.now() + JOIN_LIMIT;
        loop {
            if self.draining.is_cancelled() {
                return Err(drained());
            }
            let handle = self.find_or_start(&terms)?;
            let (answer, answered) = oneshot::channel();
            let join = Join {
                group: terms.group.clone(),
                session: terms.session.clone(),
                session_id: session_id.clone(),
                outbound: outbound.clone(),
                answer,
            };
            let sent = handle.commands.send(Command::Join(Box::new(join))).await;
            if let (Ok(()), Some(answer)) = (sent, handle.answer(answered).await) {
                return answer.map(|session| Joined {
                    session,
                    commands: handle.commands,
                });
            }
            if tokio::time::timeout_at(until.into(), handle.gone.cancelled())
                .await
                .is_err()
            {
                let words = format!(
                    "group {} is still ending on this gateway; use another one, or try again",
                    terms.key
                );
                return Err(Refusal::new(FaultCode::Draining, words));
            }
        }
    }

    fn find_or_start(self: &Arc<Self>, terms: &OpenTerms) -> Result<Handle, Refusal> {
        let mut state = self.state();
        if let Some(handle) = state.groups.get(&terms.key) {
            return Ok(handle.clone());
        }
        if state.groups.len() >= self.options.max_groups {
            let words = format!(
                "{} groups are being read, which is the limit; use another gateway",
                self.options.max_groups
            );
            return Err(Refusal::new(FaultCode::TooManySessions, words));
        }
        let memory = state
            .memories
            .remove(&terms.key)
            .unwrap_or_else(|| AttemptMemory::new(MAX_REMEMBERED_RECORDS));
        let handle = self.start(terms, memory)?;
        state.groups.insert(terms.key.clone(), handle.clone());
        Ok(handle)
    }

    fn start(self: &Arc<Self>, terms: &OpenTerms, memory: AttemptMemory) -> Result<Handle, Refusal> {
        let key = terms.key.clone();
        let broker = self.brokers.get(key.broker.as_str()).cloned();
        let broker = broker.ok_or_else(|| unknown(&key.broker))?;
        let (commands, commanded) = mpsc::channel(MAX_COMMANDS_WAITING);
        let (away, ordered) = mpsc::channel(MAX_DEAD_LETTERS_WAITING);
        let (done, away_done) = mpsc::channel(MAX_DEAD_LETTERS_WAITING);
        let (state, dead_letter_state) = watch::channel(DeadLetterWriterState::default());
        let writer = DeadLetterWriter {
            broker: Arc::clone(&broker),
            group: key.group.clone(),
            delays: self
                .delays
                .of(&key.broker)
                .cloned()
                .ok_or_else(|| unknown(&key.broker))?,
            pattern: self.options.dead_letter_topic.clone(),
            partitions: self.options.dead_letter_partitions,
            clock: self.clock.clone(),
            state,
        };
        let handle = Handle {
            commands,
            view: SharedView::default(),
            gone: CancellationToken::new(),
        };
        let owner = Owner::new(OwnerParts {
            metrics: self.metrics.of_group(&key),
            key: key.clone(),
            terms: terms.group.clone(),
            options: Arc::clone(&self.options),
            region: self.region.clone(),
            broker,
            clock: self.clock.clone(),
            board: Arc::clone(&self.board),
            lag_board: Arc::clone(&self.lag_board),
            pauses: Arc::clone(&self.pauses),
            memory,
            seed: rand::random(),
            view: handle.view.clone(),
            commands: commanded,
            away,
            away_done,
            dead_letter_state,
        });
        tokio::spawn(writer.run(ordered, done, rand::random()));
        tokio::spawn(serve(Arc::clone(self), key, owner, handle.gone.clone()));
        Ok(handle)
    }

    /// The task of a group has ended.
    fn ended(&self, key: &GroupKey, memory: Option<AttemptMemory>) {
        let mut state = self.state();
        state.groups.remove(key);
        if let Some(memory) = memory.filter(|memory| !memory.is_empty()) {
            if state.memories.len() >= MAX_REMEMBERED_GROUPS {
                state.memories.pop_first();
            }
            state.memories.insert(key.clone(), memory);
        }
    }

    fn handles(&self) -> Vec<Handle> {
        self.state().groups.values().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a group's task to its end, and says so also when it panics.
async fn serve(subscriptions: Arc<Subscriptions>, key: GroupKey, owner: Owner, gone: CancellationToken) {
    let memory = match tokio::spawn(owner.run()).await {
        Ok(memory) => Some(memory),
        Err(error) => {
            tracing::error!(group = %key, %error, "the task of a group failed; its sessions have ended");
            None
        }
    };
    subscriptions.ended(&key, memory);
    gone.cancel();
}

fn unknown(broker: &BrokerName) -> Refusal {
    Refusal::new(FaultCode::UnknownBroker, format!("there is no broker {broker}"))
}

fn drained() -> Refusal {
    Refusal::new(
        FaultCode::Draining,
        "this gateway is draining and opens no session; use another gateway of the region",
    )
}
