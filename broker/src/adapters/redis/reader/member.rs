//! The task of one reader: coordinates, reads, settles and waits, one after another.
//!
//! What holds: it tries for ever; it reads only shards whose ownership surely lasts;
//! on every way out its claims are over before others can have the shards.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_runtime::backoff::{Backoff, BackoffPolicy};

use super::super::error::Fault;
use super::super::health::CLOSED;
use super::shard::{Mode, Shard};
use super::shared::{Shared, Wish};
use super::waiting::Waiting;
use crate::error::ReadErrorKind;
use crate::name::{TopicName, TopicPartition};
use crate::read::ReadEvent;

/// The longest time from one coordination to the next.
const MAX_TICK: Duration = Duration::from_secs(1);

/// The same while this member waits for a shard that another still owns.
pub(super) const IMPATIENT_TICK: Duration = Duration::from_millis(100);

/// Between tries while Redis does not answer.
const RETRY: BackoffPolicy = BackoffPolicy {
    initial: Duration::from_millis(100),
    maximum: Duration::from_secs(1),
    multiplier: 2.0,
    jitter: 0.5,
};

/// A member of a group.
pub(super) struct Member {
    pub(super) shared: Arc<Shared>,
    /// The shards that it owns.
    pub(super) held: BTreeMap<TopicPartition, Shard>,
    /// The id of each topic as it was first seen, and the shards for which the group is made.
    pub(super) seen: HashMap<TopicName, (String, u32)>,
    /// Shards that growing added and that may be read.
    pub(super) open: HashSet<TopicPartition>,
    /// Which Redis this was when it was first asked.
    pub(super) identity: Option<String>,
    /// Shards whose group somebody removed.
    pub(super) without_group: HashSet<TopicPartition>,
    /// Shards of which Redis does not know any more what is pending.
    pub(super) without_pending: HashSet<TopicPartition>,
    pub(super) next_tick: Instant,
    /// Nothing is read before, for a read has failed.
    pub(super) pause_reads: Option<Instant>,
    pub(super) retry: Backoff,
    pub(super) waiting: Waiting,
}

impl Member {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let now = shared.core.clock.now();
        Self {
            waiting: Waiting::new(&shared.core),
            shared,
            held: BTreeMap::new(),
            seen: HashMap::new(),
            open: HashSet::new(),
            identity: None,
            without_group: HashSet::new(),
            without_pending: HashSet::new(),
            next_tick: now,
            pause_reads: None,
            retry: Backoff::new(RETRY, rand::random()),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.shared.core.clock.now()
    }

    /// The time between coordinations.
    pub(super) fn tick_interval(&self) -> Duration {
        MAX_TICK.min(self.shared.options.session_timeout / 4)
    }

    pub(super) async fn run(mut self) {
        loop {
            let wish = self.shared.lock().wish;
            match wish {
                Wish::Read => {}
                Wish::Leave(deadline) => return self.leave(deadline).await,
                Wish::Vanish => return self.vanish().await,
            }
            if self.shared.core.health.is_closed() && !self.shared.has_failed() {
                self.shared.fail(ReadErrorKind::Closed, CLOSED.to_owned());
            }
            if self.shared.has_failed() {
                let limit = self.shared.options.session_timeout / 3;
                let left = tokio::time::timeout(limit, self.leave_in_order()).await;
                if !matches!(left, Ok(Ok(()))) {
                    tracing::warn!(group = %self.shared.options.group, "what was settled last may come again");
                }
                self.end_claims_of_all();
                self.shared.wake.notified().await;
                continue;
            }
            if self.now() >= self.next_tick {
                self.tick().await;
            }
            self.check_leases();
            let has_more = self.work().await;
            if has_more {
                tokio::task::yield_now().await;
            } else {
                self.idle().await;
            }
        }
    }

    /// Settles and reads once, at the same time; true when there may be more.
    async fn work(&mut self) -> bool {
        let settling = self.plan_settling();
        let shared = Arc::clone(&self.shared);
        let plan = self.plan_fetch();
        let (told, fetched) = tokio::join!(settling.run(&shared), plan.run(&shared));
        self.finish_settling(told);
        let has_more = self.take_fetched(fetched).await;
        self.hand_over() || has_more
    }

    /// Coordinates; when that fails says why nothing is read.
    async fn tick(&mut self) {
        let interval = self.tick_interval();
        let Some(session) = self.shared.core.control.session() else {
            self.shared.stopped_reading("there is no connection to Redis");
            self.next_tick = self.now() + IMPATIENT_TICK;
            return;
        };
        self.next_tick = self.now() + interval;
        match self.coordinate(&session).await {
            Ok(()) => self.retry.reset(),
            Err(fault) => self.postpone(&fault),
        }
    }

    /// Something failed that may heal.
    pub(super) fn postpone(&mut self, fault: &Fault) {
        self.shared.stopped_reading(&fault.to_string());
        self.next_tick = self.now() + self.retry.next_delay();
    }

    /// Ends claims whose ownership may be over.
    fn check_leases(&mut self) {
        let now = self.now();
        let late = |(name, shard): (&TopicPartition, &Shard)| (shard.lease_until <= now).then(|| name.clone());
        let late: Vec<_> = self.held.iter().filter_map(late).collect();
        if !late.is_empty() {
            self.shared
                .stopped_reading("the session was lost: others may have the shards");
            self.lose(&late);
        }
    }

    /// Shards are not this member's any more: their claims are over.
    pub(super) fn lose(&mut self, partitions: &[TopicPartition]) {
        let mut gone = Vec::new();
        for partition in partitions {
            if self.held.remove(partition).is_some() {
                let mut inner = self.shared.lock();
                inner.ledger.revoke(partition);
                inner.take_settled_of(partition);
                inner.drop_records(partition);
                gone.push(partition.clone());
            }
        }
        if !gone.is_empty() {
            tracing::info!(group = %self.shared.options.group, partitions = gone.len(), "shards were lost");
            self.shared.tell(ReadEvent::Revoked(gone));
        }
    }

    /// Waits for whatever is to be done next.
    async fn idle(&mut self) {
        let commit_at = self.commit_at(self.now());
        let mut until = commit_at.map_or(self.next_tick, |at| at.min(self.next_tick));
        if let Some(lease) = self.held.values().map(|shard| shard.lease_until).min() {
            until = until.min(lease);
        }
        let can_read = {
            let options = &self.shared.options;
            let mut inner = self.shared.lock();
            let has_room = inner
                .ledger
                .has_room(options.max_unsettled_records, options.max_unsettled_bytes);
            inner.full = !has_room;
            has_room && self.pause_reads.is_none() && self.shared.core.reading.session().is_some()
        };
        let shared = Arc::clone(&self.shared);
        let timer = tokio::time::sleep_until(until.into());
        tokio::select! {
            () = shared.wake.notified() => {}
            () = shared.core.health.closed() => {}
            () = timer => {}
            () = self.waiting.wait(&shared.core, &mut self.held), if can_read => {}
        }
    }

    fn end_claims_of_all(&mut self) {
        let mut inner = self.shared.lock();
        for partition in self.held.keys() {
            inner.ledger.revoke(partition);
            inner.drop_records(partition);
        }
    }

    /// Whether nothing that was read waits for room.
    pub(super) fn has_backlog(&self) -> bool {
        self.held.values().any(|shard| !shard.backlog.is_empty())
    }

    /// Whether a shard is to be asked.
    pub(super) fn is_due(shard: &Shard) -> bool {
        shard.backlog.is_empty() && (shard.is_ready || shard.mode != Mode::New)
    }
}
