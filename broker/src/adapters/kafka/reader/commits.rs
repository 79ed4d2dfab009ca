//! Making the frontier durable: one commit on its way at a time, at the interval
//! of the reader's options or when asked, with what is settled beyond it as
//! metadata.
//!
//! A partition whose metadata is nearly full is paused until there is place again,
//! for what is settled and cannot be told comes again after a restart.
//!
//! What holds: what was not confirmed stays to be committed; a commit that was
//! asked for counts as made only when all that was settled before is confirmed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::error::{Fault, fault_of};
use super::super::native::list::NO_OFFSET;
use super::super::native::{Code, Event, EventQueue, NativeClient, NativeError, PartitionList, group};
use super::member::Member;
use super::standing::list_at;
use crate::ledger::PendingCommit;
use crate::metadata::{Encoded, MAX_METADATA_CHARACTERS, encode};
use crate::name::TopicPartition;
use crate::read::ReaderOptions;

/// A commit without an answer for so long counts as failed.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// How full the metadata of a partition may be while more is read of it.
const PAUSE_ABOVE: f64 = 0.75;

/// How full it may be when reading begins again.
const RESUME_BELOW: f64 = 0.5;

/// Before a failed commit is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(250);

pub(super) struct Commits {
    queue: EventQueue,
    interval: Duration,
    on_its_way: Option<OnItsWay>,
    next_at: Option<Instant>,
    numbers: usize,
    /// Fewer than Kafka's default where a broker allows less.
    max_metadata_characters: usize,
    /// Partitions whose metadata is nearly full.
    paused: HashSet<TopicPartition>,
    /// The group has put this member out: what it commits is refused from then on.
    expelled: bool,
}

struct OnItsWay {
    number: usize,
    pending: Vec<PendingCommit>,
    /// The last commit that was asked for when this began.
    asked: u64,
    since: Instant,
}

impl Commits {
    pub(super) fn new(client: &Arc<NativeClient>, options: &ReaderOptions) -> Result<Self, NativeError> {
        let queue = EventQueue::own(client).ok_or_else(|| NativeError::of(Code::Fail))?;
        Ok(Self {
            queue: queue.wakes(std::thread::current()),
            interval: options.commit_interval,
            on_its_way: None,
            next_at: None,
            numbers: 0,
            max_metadata_characters: MAX_METADATA_CHARACTERS,
            paused: HashSet::new(),
            expelled: false,
        })
    }

    /// Partitions that are not read for want of place in their metadata.
    pub(super) fn paused(&self) -> impl Iterator<Item = &TopicPartition> {
        self.paused.iter()
    }

    fn list(&mut self, client: &NativeClient, pending: &[PendingCommit]) -> Result<PartitionList, NativeError> {
        let mut list = PartitionList::new();
        for commit in pending {
            let Encoded { text, fill_ratio, .. } = encode(&commit.frontier, self.max_metadata_characters);
            self.pause_or_resume(client, &commit.partition, fill_ratio)?;
            let offset = i64::try_from(commit.frontier.next()).unwrap_or(i64::MAX);
            let partition = &commit.partition;
            list.add_with_metadata(client, partition.topic.as_str(), partition.partition, offset, &text)?;
        }
        Ok(list)
    }

    fn pause_or_resume(
        &mut self,
        client: &NativeClient,
        partition: &TopicPartition,
        fill_ratio: f64,
    ) -> Result<(), NativeError> {
        let one = || list_at(std::slice::from_ref(partition), |_| NO_OFFSET);
        if fill_ratio > PAUSE_ABOVE {
            if self.paused.insert(partition.clone()) {
                tracing::warn!(%partition, "a record that is not settled holds so many others back that no more are read");
                group::pause(client, &one()?)?;
            }
        } else if fill_ratio < RESUME_BELOW && self.paused.remove(partition) {
            tracing::info!(%partition, "a partition is read again");
            group::resume(client, &one()?)?;
        }
        Ok(())
    }
}

impl Member {
    /// Has those of the partitions read that were paused under an earlier assignment.
    pub(super) fn resume_all<'a>(&mut self, partitions: impl Iterator<Item = &'a TopicPartition>) {
        for partition in partitions {
            if self.commits.paused.contains(partition)
                && let Err(error) = self.commits.pause_or_resume(&self.client, partition, 0.0)
            {
                tracing::warn!(%partition, %error, "a partition was not resumed");
            }
        }
    }

    /// When there may be something to commit.
    pub(super) fn next_commit_at(&self) -> Option<Instant> {
        let waits = self.commits.on_its_way.is_none() && self.shared.lock().ledger.is_dirty();
        waits.then(|| self.commits.next_at.unwrap_or_else(|| self.now()))
    }

    /// Takes the answers, and commits if it is time.
    pub(super) fn serve_commits(&mut self) {
        while let Some(event) = self.commits.queue.poll(Duration::ZERO) {
            self.take_commit(&event);
        }
        let now = self.now();
        if let Some(commit) = &self.commits.on_its_way {
            if now.duration_since(commit.since) < ANSWER_LIMIT {
                return;
            }
            self.commits.on_its_way = None;
            self.shared
                .stopped_reading("the group's coordinator does not answer a commit");
        }
        let (asked, made, pending) = {
            let inner = self.shared.lock();
            let due = self.commits.next_at.is_none_or(|at| at <= now);
            let asked = inner.commits_asked > inner.commits_made;
            let pending = if due || asked { inner.ledger.dirty() } else { Vec::new() };
            (inner.commits_asked, inner.commits_made, pending)
        };
        if !pending.is_empty() {
            let wait = self.commits.next_at.filter(|at| *at > now && made == asked);
            if wait.is_none() {
                self.send_commit(pending, asked);
            }
        } else if asked > made && !self.shared.lock().ledger.is_dirty() {
            self.made(asked);
        }
    }

    fn made(&self, asked: u64) {
        let mut inner = self.shared.lock();
        inner.commits_made = inner.commits_made.max(asked);
        drop(inner);
        self.shared.finished.notify_waiters();
    }

    fn send_commit(&mut self, pending: Vec<PendingCommit>, asked: u64) {
        let now = self.now();
        self.commits.numbers += 1;
        self.commits.next_at = Some(now + self.commits.interval);
        let number = self.commits.numbers;
        let sent = self
            .commits
            .list(&self.client, &pending)
            .and_then(|list| group::commit(&self.commits.queue, &list, number));
        match sent {
            Ok(()) => {
                self.commits.on_its_way = Some(OnItsWay {
                    number,
                    pending,
                    asked,
                    since: now,
                })
            }
            Err(error) => self.commit_failed(&error),
        }
    }

    fn take_commit(&mut self, event: &Event) {
        let Some(commit) = self
            .commits
            .on_its_way
            .take_if(|commit| commit.number == event.number())
        else {
            return; // the answer to one that was given up
        };
        let mut failed = event.error().err();
        let mut confirmed = Vec::with_capacity(commit.pending.len());
        if failed.is_none() {
            let mut refused = Vec::new();
            event.each_partition(|element| {
                if let Some(code) = element.error {
                    refused.push((element.topic.to_owned(), element.partition));
                    failed = Some(NativeError::of(code));
                }
            });
            confirmed.extend(commit.pending.iter().filter(|pending| {
                let partition = &pending.partition;
                !refused.iter().any(|(topic, number)| {
                    topic == partition.topic.as_str() && u32::try_from(*number) == Ok(partition.partition)
                })
            }));
        }
        let mut inner = self.shared.lock();
        for pending in confirmed {
            inner.ledger.mark_committed(pending);
        }
        drop(inner);
        match failed {
            None => {
                self.commits.expelled = false;
                self.made(commit.asked);
            }
            Some(error) => self.commit_failed(&error),
        }
    }

    fn commit_failed(&mut self, error: &NativeError) {
        self.commits.expelled = error.code == Code::UnknownMemberId;
        if error.code == Code::OffsetMetadataTooLarge && self.commits.max_metadata_characters > 0 {
            self.commits.max_metadata_characters /= 2;
        }
        tracing::debug!(group = %self.shared.options.group, %error, "a commit failed and is tried again");
        self.commits.next_at = Some(self.now() + RETRY_AFTER.max(self.commits.interval));
        if fault_of(error.code) == Fault::Unavailable {
            self.shared.cluster.suspect();
        }
    }

    /// Commits what is left of partitions whose claims are over, trying until
    /// `deadline`. False when it could not be.
    ///
    /// A commit that stood in line behind a JoinGroup is refused as one of an old
    /// generation and made by the next try, so only a member that was put out gives up early.
    pub(super) fn commit_last(&mut self, last: Vec<PendingCommit>, deadline: Instant) -> bool {
        self.wait_for_commit(deadline);
        let mut todo = last;
        while !todo.is_empty() {
            self.send_commit(todo.clone(), 0); // nobody's commit: other partitions are not in it
            if self.wait_for_commit(deadline) {
                todo.clear();
            } else if self.commits.expelled || self.now() >= deadline {
                tracing::warn!(group = %self.shared.options.group, "what was settled last was not committed: it comes again");
                return false;
            } else {
                std::thread::park_timeout(Duration::from_millis(20));
            }
        }
        true
    }

    /// Waits for the commit on its way. True when it was made.
    fn wait_for_commit(&mut self, deadline: Instant) -> bool {
        let Some(asked) = self.commits.on_its_way.as_ref().map(|commit| commit.number) else {
            return false;
        };
        loop {
            let left = deadline.saturating_duration_since(self.now());
            let Some(event) = self.commits.queue.poll(left.min(Duration::from_millis(100))) else {
                if left.is_zero() {
                    return false;
                }
                continue;
            };
            let made = event.number() == asked && event.error().is_ok();
            self.take_commit(&event);
            if self.commits.on_its_way.is_none() {
                return made;
            }
        }
    }
}
