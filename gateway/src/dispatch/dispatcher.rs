//! The dispatcher of one group: which record is where, and what follows from what happens.
//!
//! ```text
//!            take                 dispatch                 ACCEPT
//!  record ──▶ Waiting ──▶ Ready ───────────▶ InFlight ──────────▶ gone (settled)
//!              behind its   ▲  ▲  ▲             │ RELEASE, lease end, session gone
//!              key's lock   │  │  └── Parked ◀──┤  (attempt counted or not)
//!                           │  └────────────────┤
//!                           └─ Oversize         └─ REJECT, too many attempts, long delay ──▶ Leaving ──▶ gone (settled)
//! ```
//!
//! Pure: time comes in as a value, chance from a seeded generator, what to do goes out as values. Reading, settling on
//! the broker, appending dead letters and talking to sessions is left to the group's task.
//!
//! What holds, and is checked by `simulation`: a record is with one session at a time; an item that waits behind a lock
//! is in no other place; every item that is not Waiting holds its lock (if its ordering asks for one), so one key is in
//! flight at most once and its first deliveries are in order of position; an item leaves only by ACCEPT, when it is
//! durable in another topic (dead letters, due-time topics), when its event has expired, or with its partition.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_broker::TopicPartition;
use meridian_runtime::BackoffPolicy;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rustc_hash::FxHashMap;

use super::attempts::AttemptMemory;
use super::deadlines::Deadlines;
use super::item::{Held, Item, State};
use super::key_locks::{KeyLocks, LockName};
use super::sessions::{Choice, PassLimits, SessionEnd, SessionLoad, SessionTerms, Sessions};
use super::work::{
    AwayOrder, DeadLetterReason, DeliveryOrdering, Destination, Handover, ItemId, Output, Refusal, SessionId, Settled,
    Work,
};
use crate::settlement::Word;

/// Records that are passed over in one pass because nobody has room for them now.
const MAX_SKIPPED_PER_PASS: usize = 64;
/// Sessions that are told of one record that it is too large for them.
const MAX_TOLD_PER_RECORD: usize = 16;

/// The rules of one group.
#[derive(Clone, Debug)]
pub struct DispatchOptions {
    /// What must not overtake what.
    pub ordering: DeliveryOrdering,
    /// What one pass may give to one session.
    pub pass_limits: PassLimits,
    /// No larger event is handed to anybody.
    pub max_delivery_bytes: u64,
    /// Most credit of a session in deliveries.
    pub max_credit_messages: u32,
    /// Most credit of a session in bytes.
    pub max_credit_bytes: u64,
    /// A longer delay is spent in the due-time topics; `None` keeps every record here. Only for records without a lock:
    /// one that goes away and comes back is behind its successors.
    pub park_after: Option<Duration>,
    /// Whether events whose time is over are dropped, and not dead letters.
    pub drop_expired: bool,
    /// How long a record that no open session can take waits for one that can.
    pub too_large_grace: Duration,
}

/// The dispatcher of one group.
#[derive(Debug)]
pub struct Dispatcher {
    pub(super) options: DispatchOptions,
    pub(super) items: FxHashMap<ItemId, Item>,
    next_item: u64,
    pub(super) locks: KeyLocks,
    pub(super) ready: BTreeSet<ItemId>,
    pub(super) oversize: BTreeSet<ItemId>,
    pub(super) deadlines: Deadlines,
    pub(super) away: VecDeque<ItemId>,
    pub(super) leaving: usize,
    pub(super) in_flight: usize,
    pub(super) sessions: Sessions,
    pub(super) memory: AttemptMemory,
    pub(super) random: StdRng,
}

impl Dispatcher {
    /// A dispatcher without sessions and records, that knows of failed attempts what `memory` does.
    pub fn new(options: DispatchOptions, memory: AttemptMemory, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let ties = StdRng::from_rng(&mut random);
        Self {
            sessions: Sessions::new(options.pass_limits, options.max_delivery_bytes, ties),
            options,
            items: FxHashMap::default(),
            next_item: 0,
            locks: KeyLocks::default(),
            ready: BTreeSet::new(),
            oversize: BTreeSet::new(),
            deadlines: Deadlines::default(),
            away: VecDeque::new(),
            leaving: 0,
            in_flight: 0,
            memory,
            random,
        }
    }

    // Records: in, and out with their partition.

    /// Takes in a record, after all earlier ones of its partition.
    pub fn take(&mut self, work: Work) {
        let id = ItemId(self.next_item);
        self.next_item += 1;
        let lock = LockName::of(self.options.ordering, &work.claim.partition, &work.record);
        let holds = lock.as_ref().is_none_or(|name| self.locks.enter(name, id));
        let prior = work.prior.as_deref();
        let item = Item {
            size: work.size_bytes(),
            lock,
            state: State::Waiting,
            failures: self
                .memory
                .recall(&work.claim)
                .max(prior.map_or(0, |prior| prior.failures)),
            max_attempts: u32::MAX,
            worker: None,
            error: prior.map_or_else(String::new, |prior| prior.error.clone()),
            avoid: None,
            told: Vec::new(),
            destination: None,
            handed_over: None,
            retry: BackoffPolicy::default(),
            work,
        };
        self.items.insert(id, item);
        if holds {
            self.activate(id);
        }
    }

    /// Forgets the records of a partition that were read under another generation than `keep`: they come again, here or
    /// elsewhere, and what sessions still say of them is stale. Nothing counts.
    pub fn revoke(&mut self, partition: &TopicPartition, keep: Option<u64>) {
        let is_gone = |item: &Item| item.work.claim.partition == *partition && Some(item.work.claim.generation) != keep;
        let mut gone: Vec<_> = self
            .items
            .iter()
            .filter(|(_, item)| is_gone(item))
            .map(|(id, _)| *id)
            .collect();
        if gone.is_empty() {
            return;
        }
        gone.sort_unstable();
        for id in &gone {
            self.leave_state(*id);
            if let Some(item) = self.items.remove(id) {
                self.memory.remember(&item.work.claim, item.failures);
            }
        }
        self.away.retain(|id| self.items.contains_key(id));
        for holder in self.locks.forget(|id| gone.binary_search(&id).is_ok()) {
            self.activate(holder);
        }
    }

    /// The end of the group: what is remembered of failed attempts.
    pub fn into_memory(mut self) -> AttemptMemory {
        let mut held: Vec<_> = self.items.into_iter().collect();
        held.sort_unstable_by_key(|(id, _)| *id);
        for (_, item) in held {
            self.memory.remember(&item.work.claim, item.failures);
        }
        self.memory
    }

    // Sessions.

    /// A session begins.
    pub fn open_session(&mut self, id: SessionId, terms: SessionTerms) {
        self.sessions.open(id, terms);
        self.reconsider_oversize();
    }

    /// A session is gone: what it held may be handed over again at once.
    pub fn close_session(&mut self, id: SessionId, end: SessionEnd, now: Instant) {
        for item in self.sessions.close(id) {
            self.take_back(item, end, now);
        }
        self.reconsider_oversize();
    }

    /// The session is handed nothing more; with `release_in_flight`, what it holds is taken back at once, and nothing counts.
    pub fn drain_session(&mut self, id: SessionId, release_in_flight: bool) {
        self.sessions.drain(id);
        if release_in_flight {
            for item in self.sessions.in_flight_of(id) {
                self.leave_state(item);
                self.make_ready(item);
            }
        }
    }

    /// Adds to a session's credit, which never falls below zero.
    pub fn add_credit(&mut self, id: SessionId, messages: i32, bytes: i64) {
        let max = (self.options.max_credit_messages, self.options.max_credit_bytes);
        self.sessions.add_credit(id, messages, bytes, max);
        self.reconsider_oversize();
    }

    /// Whether the session's stream takes another message; if not, it is handed nothing.
    pub fn set_writable(&mut self, id: SessionId, writable: bool) {
        self.sessions.set_writable(id, writable);
    }

    /// Sessions that drain and hold nothing any more; each is told once.
    pub fn take_drained(&mut self) -> Vec<SessionId> {
        self.sessions.take_drained()
    }

    /// What a session holds and may hold.
    pub fn session_load(&self, id: SessionId) -> Option<SessionLoad> {
        self.sessions.load(id)
    }

    /// Whether a session is there that is handed nothing more because it leaves.
    pub fn session_drains(&self, id: SessionId) -> bool {
        self.sessions.drains(id)
    }

    /// All sessions, in no order.
    pub fn session_ids(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.ids()
    }

    /// How many records are where.
    pub fn held(&self) -> Held {
        Held {
            records: self.items.len(),
            in_flight: self.in_flight,
            ready: self.ready.len(),
            leaving: self.leaving,
            locks: self.locks.len(),
        }
    }

    // Settlement and time.

    /// A session settles one of its deliveries.
    ///
    /// # Errors
    /// [`Refusal`] when the delivery is not in flight to this session; nothing has changed then.
    pub fn settle(
        &mut self,
        session: SessionId,
        delivery_id: u64,
        word: Word,
        now: Instant,
    ) -> Result<Settled, Refusal> {
        let id = match self.sessions.find(session, delivery_id) {
            Ok(id) => id,
            Err(refusal) => {
                if !matches!(word, Word::Renew { .. }) {
                    self.sessions.answered_late(session, delivery_id);
                }
                return Err(refusal);
            }
        };
        match word {
            Word::Accept => Ok(self.accept(session, delivery_id, id)),
            Word::Release { delay, reason } => Ok(self.release(session, delivery_id, id, (delay, reason), now)),
            Word::Reject { reason } => {
                self.finish_delivery(session, delivery_id, id);
                self.count_failure(id, reason);
                self.dead_letter(id, DeadLetterReason::Rejected);
                Ok(Settled::DeadLettered)
            }
            Word::Renew { lease } => {
                self.renew(session, id, lease, now);
                Ok(Settled::Renewed)
            }
        }
    }

    /// When [`Dispatcher::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Ends leases, delays and graces that are due; returns how many leases ended.
    pub fn expire(&mut self, now: Instant) -> usize {
        let mut lapsed = 0;
        while let Some(id) = self.deadlines.pop_due(now) {
            let Some(item) = self.items.get(&id) else {
                continue;
            };
            match item.state {
                State::InFlight {
                    session, delivery_id, ..
                } => {
                    self.lapse(session, delivery_id, id, now);
                    lapsed += 1;
                }
                State::Oversize { .. } => self.end_of_grace(id),
                State::Parked { .. } => self.make_ready(id),
                State::Waiting | State::Ready | State::Leaving => {
                    debug_assert!(false, "{id:?} has a deadline in a state without one");
                }
            }
        }
        lapsed
    }

    // Dispatch.

    /// Hands over what can be handed over: at most one message's worth to each session. True when another pass may
    /// hand over more.
    pub fn dispatch(&mut self, now: Instant, outputs: &mut Vec<Output>) -> bool {
        self.sessions.begin_pass();
        let mut from = ItemId(0);
        let mut skipped = 0;
        let mut too_small = Vec::new(); // no allocation unless used
        let before = outputs.len();
        while self.sessions.any_open() && skipped < MAX_SKIPPED_PER_PASS {
            let Some(id) = self.ready.range(from..).next().copied() else {
                return false;
            };
            let Some(item) = self.items.get(&id) else {
                debug_assert!(false, "{id:?} is ready and not held");
                self.ready.remove(&id);
                continue;
            };
            if item.work.expires_at.is_some_and(|expires_at| expires_at <= now) {
                outputs.extend(self.event_expired(id).map(Output::Expired));
                continue;
            }
            let choice = self.sessions.choose(item.size, item.avoid, &mut too_small);
            self.tell_too_large(id, &mut too_small, outputs);
            match choice {
                Choice::Session(session) => self.hand_over(id, session, now, outputs),
                Choice::Nobody => self.set_aside(id, now),
                Choice::Later => {
                    from = ItemId(id.0 + 1);
                    skipped += 1;
                }
            }
        }
        outputs.len() > before && !self.ready.is_empty()
    }

    fn hand_over(&mut self, id: ItemId, session: SessionId, now: Instant, outputs: &mut Vec<Output>) {
        let (Some(item), Some(terms)) = (self.items.get_mut(&id), self.sessions.terms(session)) else {
            return;
        };
        let Ok(event) = item.work.event.clone() else {
            debug_assert!(false, "{id:?} is ready and no event");
            return;
        };
        let until = now + terms.lease;
        item.max_attempts = terms.max_attempts;
        item.worker = Some(Arc::clone(&terms.worker));
        item.retry = terms.retry;
        item.handed_over = Some((item.handed_over.map_or(now, |(first, _)| first), now));
        let Some(delivery_id) = self.sessions.hand_over(session, id, item.size) else {
            return;
        };
        item.state = State::InFlight {
            session,
            delivery_id,
            until,
        };
        item.avoid = None;
        self.in_flight += 1;
        self.ready.remove(&id);
        self.deadlines.set(until, id);
        outputs.push(Output::Deliver(Handover {
            session,
            delivery_id,
            event,
            source: item.work.source(),
            attempt: item.failures.saturating_add(1),
            lease_expires_at: until,
            recorded_ms: item.work.record.timestamp_ms,
        }));
    }

    fn tell_too_large(&mut self, id: ItemId, too_small: &mut Vec<SessionId>, outputs: &mut Vec<Output>) {
        let Some(item) = self.items.get_mut(&id) else {
            return;
        };
        for session in too_small.drain(..) {
            if item.told.len() < MAX_TOLD_PER_RECORD && !item.told.contains(&session) {
                item.told.push(session);
                outputs.push(Output::TooLarge {
                    session,
                    claim: item.work.claim.clone(),
                    size_bytes: item.size,
                    limit_bytes: self.sessions.limit_bytes(session),
                });
            }
        }
    }

    // Records that go to another topic.

    /// The next record for another topic; it is held, with its key, until [`Dispatcher::gone`].
    pub fn next_away(&mut self) -> Option<AwayOrder> {
        let id = self.away.pop_front()?;
        let item = self.items.get(&id)?;
        let rejected = Destination::DeadLetters(DeadLetterReason::Rejected);
        Some(AwayOrder {
            item: id,
            source: item.work.source(),
            handed_over: item.handed_over,
            first_attempt_ms: item.work.prior.as_ref().map(|prior| prior.first_attempt_ms),
            claim: item.work.claim.clone(),
            record: item.work.record.clone(),
            destination: item.destination.unwrap_or(rejected),
            attempts: item.failures,
            worker: item.worker.clone(),
            error: item.error.clone(),
        })
    }

    /// The record is durable in its other topic: returns the claim to settle, unless its partition has moved meanwhile.
    pub fn gone(&mut self, id: ItemId) -> Option<meridian_broker::Claim> {
        self.items.get(&id)?;
        self.leave_state(id);
        self.remove(id)
    }
}
