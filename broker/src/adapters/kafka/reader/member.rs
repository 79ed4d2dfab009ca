//! The thread of one member of a group: takes librdkafka's events, fetches while
//! there is room, commits at an interval, and leaves.
//!
//! Back-pressure is a queue that nobody polls: what is fetched of the assigned
//! partitions comes to a queue of its own, whose bound stops librdkafka's
//! fetching, while rebalances come to another that is always polled. So a full
//! reader stays a member of its group, and nothing fetched is dropped or fetched
//! twice, as pausing would do.
//!
//! What holds: all calls of librdkafka for this member are made here; those that
//! block have a limit; the ledger is locked for none of them.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::super::error::{Fault, fault_of};
use super::super::native::event::EventKind;
use super::super::native::fetch::{Fetched, TopicNames};
use super::super::native::{Code, Event, EventQueue, NativeClient, NativeError, PartitionList, Role, group};
use super::super::settings;
use super::assignment::Pending;
use super::commits::Commits;
use super::progress::Progress;
use super::shared::{Shared, Wish};
use crate::error::{ReadError, ReadErrorKind};
use crate::ledger::Observed;
use crate::read::ReadEvent;

/// The longest sleep: a wake-up that was lost costs no more.
const IDLE: Duration = Duration::from_millis(200);

/// Records that are fetched before anything else is looked at.
const FETCH_STEP: usize = 256;

/// How long leaving may take where nobody said.
const LEAVE_LIMIT: Duration = Duration::from_secs(3);

pub(super) struct Member {
    pub(super) shared: Arc<Shared>,
    pub(super) client: Arc<NativeClient>,
    /// Rebalances and faults of the group.
    pub(super) control: EventQueue,
    /// What is fetched of the assigned partitions.
    pub(super) fetched: EventQueue,
    names: TopicNames,
    /// What a rebalance gave and is not taken up yet.
    pub(super) pending: Option<Pending>,
    pub(super) commits: Commits,
    pub(super) progress: Progress,
}

/// What the thread does next.
enum Next {
    Go,
    Sleep(Duration),
    End,
}

impl Member {
    /// Starts the thread; returns when the member is set up, which asks nobody.
    pub(super) fn start(shared: &Arc<Shared>) -> Result<(), ReadError> {
        let (report, reported) = mpsc::sync_channel(1);
        let internal = |message: String| ReadError::new(ReadErrorKind::Internal, message);
        let thread_shared = Arc::clone(shared);
        let spawned =
            thread::Builder::new()
                .name("kafka-reader".to_owned())
                .spawn(move || match Member::join(&thread_shared) {
                    Ok(member) => {
                        let _ = report.send(Ok(()));
                        drop(report);
                        member.run();
                    }
                    Err(error) => {
                        let _ = report.send(Err(error));
                    }
                });
        let spawned = spawned.map_err(|error| internal(format!("no thread for a reader: {error}")))?;
        shared.set_member(spawned.thread().clone());
        match reported.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(internal(format!("librdkafka refuses a reader: {error}")).with_source(error)),
            Err(_) => Err(internal("the thread of a reader ended early".to_owned())),
        }
    }

    /// A client that joins the group; to be called on the member's thread.
    pub(super) fn join(shared: &Arc<Shared>) -> Result<Self, NativeError> {
        let properties = settings::consumer(&shared.cluster.config, &shared.options);
        let events = EventKind::mask(&[
            EventKind::Fetched,
            EventKind::Rebalance,
            EventKind::Committed,
            EventKind::Fault,
        ]);
        let client = Arc::new(NativeClient::new(Role::Consumer, &properties, events)?);
        let none = || NativeError::of(Code::Fail);
        let control = EventQueue::consumer(&client).ok_or_else(none)?.wakes(thread::current());
        let fetched = EventQueue::own(&client).ok_or_else(none)?.wakes(thread::current());
        let commits = Commits::new(&client, &shared.options)?;
        let mut topics = PartitionList::new();
        for topic in &shared.options.topics {
            topics.add_topic(topic.as_str())?;
        }
        group::subscribe(&client, &topics)?;
        Ok(Self {
            shared: Arc::clone(shared),
            client,
            control,
            fetched,
            names: TopicNames::default(),
            pending: None,
            commits,
            progress: Progress::default(),
        })
    }

    pub(super) fn now(&self) -> Instant {
        self.shared.cluster.clock.now()
    }

    fn run(mut self) {
        loop {
            match self.step() {
                Next::Go => {}
                Next::Sleep(limit) => thread::park_timeout(limit),
                Next::End => return,
            }
        }
    }

    fn step(&mut self) -> Next {
        let wish = self.shared.lock().wish;
        match wish {
            Wish::Vanish => return Next::End,
            Wish::Leave(deadline) => {
                let outcome = self.leave(deadline);
                self.shared.lock().left = Some(outcome);
                self.shared.finished.notify_waiters();
                return Next::End;
            }
            Wish::Read => {}
        }
        if self.shared.cluster.health.is_closed() {
            self.shared
                .fail(ReadErrorKind::Closed, "this broker was closed".to_owned());
            self.end_failed();
            return Next::End;
        }
        let mut busy = false;
        while let Some(event) = self.control.poll(Duration::ZERO) {
            self.take_event(&event);
            busy = true;
        }
        self.take_up();
        self.serve_commits();
        self.serve_progress();
        if self.shared.lock().failure.is_some() {
            self.end_failed();
            return Next::End;
        }
        busy |= self.fetch();
        if busy { Next::Go } else { Next::Sleep(self.idle()) }
    }

    /// How long there is nothing to do unless something happens.
    fn idle(&self) -> Duration {
        let retry = self.pending.as_ref().map(Pending::retry_at);
        let next = retry.into_iter().chain(self.next_commit_at()).min();
        next.map_or(IDLE, |at| {
            at.saturating_duration_since(self.now())
                .clamp(Duration::from_millis(1), IDLE)
        })
    }

    /// An operator is needed: the partitions go to others, who will say the same.
    fn end_failed(&mut self) {
        let outcome = self.leave(self.now() + LEAVE_LIMIT);
        self.shared.lock().left = Some(outcome);
        self.shared.finished.notify_waiters();
    }

    fn take_event(&mut self, event: &Event) {
        match event.kind() {
            EventKind::Rebalance => {
                self.names.clear();
                self.take_rebalance(event);
            }
            EventKind::Fault => self.take_fault(event),
            _ => {}
        }
    }

    /// A fault of the member as a whole; librdkafka goes on by itself.
    fn take_fault(&mut self, event: &Event) {
        let Some(Fetched::Fault { partition, error }) = Fetched::fault(event) else {
            return;
        };
        if let Some(partition) = partition {
            self.take_partition_fault(&partition, &error);
            return;
        }
        if event.is_fatal() {
            self.rebuild(&format!("the client is dead: {error}"));
            return;
        }
        tracing::debug!(group = %self.shared.options.group, %error, "a reader met a fault that may heal");
        match fault_of(error.code) {
            Fault::Unavailable | Fault::TimedOut => self.shared.cluster.suspect(),
            Fault::NotAuthorized | Fault::TopicMissing => self.shared.stopped_reading(&error.message),
            _ => {}
        }
        let mut inner = self.shared.lock();
        if let Some((_, reason)) = &mut inner.not_reading {
            error.message.clone_into(reason);
        }
    }

    /// Takes what was fetched, as far as there is room. True when there was something.
    fn fetch(&mut self) -> bool {
        let options = &self.shared.options;
        let (mut records, mut bytes) = {
            let mut inner = self.shared.lock();
            let records = options
                .max_unsettled_records
                .saturating_sub(inner.ledger.unsettled_records());
            let bytes = options
                .max_unsettled_bytes
                .saturating_sub(inner.ledger.unsettled_bytes());
            inner.full = records == 0 || bytes == 0;
            (records.min(FETCH_STEP), bytes)
        };
        let mut taken = Vec::with_capacity(records.min(64));
        while records > 0
            && bytes > 0
            && let Some(mut event) = self.fetched.poll(Duration::ZERO)
        {
            let Some(fetched) = event.fetched(&mut self.names) else {
                continue;
            };
            if let Fetched::Record { record, .. } = &fetched {
                records -= 1;
                bytes = bytes.saturating_sub(record.size_bytes());
            }
            taken.push(fetched);
        }
        let busy = !taken.is_empty();
        self.observe(taken);
        busy
    }

    fn observe(&mut self, fetched: Vec<Fetched>) {
        let mut faults = Vec::new();
        let mut claimed = Vec::with_capacity(fetched.len());
        let mut inner = self.shared.lock();
        for fetched in fetched {
            match fetched {
                Fetched::Record {
                    partition,
                    position,
                    record,
                } => {
                    if let Observed::Claimed(record) = inner.ledger.observe(&partition, position, record) {
                        claimed.push(record);
                    }
                }
                Fetched::End { partition, position } => {
                    inner.ledger.advance_to(&partition, position);
                    inner.ledger.set_end(&partition, position);
                }
                Fetched::Fault { partition, error } => faults.push((partition, error)),
            }
        }
        let any = !claimed.is_empty();
        if any {
            inner.add_records(claimed);
        }
        drop(inner);
        if any {
            self.shared.happened.notify_one();
        }
        for (partition, error) in faults {
            match partition {
                Some(partition) => self.take_partition_fault(&partition, &error),
                None => tracing::debug!(%error, "a fetch met a fault that may heal"),
            }
        }
    }

    /// Begins anew with another client, as if the process had been started again.
    pub(super) fn rebuild(&mut self, reason: &str) {
        tracing::error!(group = %self.shared.options.group, reason, "a reader's Kafka client is opened anew");
        self.shared.cluster.count_rebuild();
        self.shared.stopped_reading(reason);
        let revoked: Vec<_> = {
            let inner = self.shared.lock();
            let assigned = inner.ledger.assignments().into_iter();
            assigned.map(|assigned| assigned.partition).collect()
        };
        for partition in &revoked {
            let mut inner = self.shared.lock();
            inner.ledger.revoke(partition);
            inner.drop_records(partition);
        }
        if !revoked.is_empty() {
            self.shared.tell(ReadEvent::Revoked(revoked));
        }
        match Member::join(&self.shared) {
            Ok(member) => {
                let old = std::mem::replace(self, member);
                self.progress.rebuilds = old.progress.rebuilds + 1;
            }
            Err(error) => self
                .shared
                .fail(ReadErrorKind::Internal, format!("librdkafka refuses a reader: {error}")),
        }
    }
}
