//! The sessions of one group: how much each may have in flight, how much it has, and who is next.
//!
//! Credit is a window: the most deliveries, and the most bytes of events, in flight. Load is counted in deliveries (then
//! bytes, then chance), never in batches. A delivery whose lease ended frees its credit but stays in the load until the
//! session answers it, for the worker may still be at work on it: so a worker that hangs is chosen last, and does not
//! burn the attempts of one record after another.
//!
//! What holds: nothing is handed over beyond credit; a session that drains, or cannot be written to, is handed nothing;
//! `open` holds exactly the sessions that could take one more small delivery in this pass.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meridian_runtime::BackoffPolicy;
use rand::Rng;
use rand::rngs::StdRng;
use rustc_hash::FxHashMap;

use super::work::{ItemId, Refusal, SessionId};

/// How many delivery ids whose lease ended are remembered for each session; a settlement of an older one is answered as
/// unknown, not as stale.
const MAX_LAPSED_IDS: usize = 4_096;

/// What a session asked for, after defaults and limits.
#[derive(Clone, Debug)]
pub struct SessionTerms {
    /// The worker's name, for dead letters.
    pub worker: Arc<str>,
    /// Most deliveries in flight.
    pub credit_messages: u32,
    /// Most bytes of events in flight.
    pub credit_bytes: u64,
    /// How long a delivery is leased.
    pub lease: Duration,
    /// Deliveries of one record before it goes to the dead-letter topic.
    pub max_attempts: u32,
    /// The delays between attempts when the worker names none.
    pub retry: BackoffPolicy,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// Without a word: what it held counts an attempt, so that a record that kills its workers ends as a dead letter.
    Broken,
    /// By a drain, or by this gateway's doing: nothing counts.
    Orderly,
}

/// What one pass may give to one session, so that a pass is one message.
#[derive(Clone, Copy, Debug)]
pub struct PassLimits {
    /// Deliveries.
    pub max_deliveries: usize,
    /// Bytes of events; one larger event goes alone.
    pub max_bytes: u64,
}

/// What a session holds and may hold, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLoad {
    /// Deliveries in flight.
    pub in_flight: usize,
    /// Bytes of events in flight.
    pub in_flight_bytes: u64,
    /// Most deliveries in flight.
    pub credit_messages: u32,
    /// Most bytes in flight.
    pub credit_bytes: u64,
}

/// Who gets an event of a certain size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// This session.
    Session(SessionId),
    /// Nobody now, somebody later.
    Later,
    /// No session can ever take it.
    Nobody,
}

/// A place in the order of choice: the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    deliveries: usize,
    bytes: u64,
    tie: u32,
    session: SessionId,
}

#[derive(Debug)]
struct Session {
    terms: SessionTerms,
    in_flight: FxHashMap<u64, ItemId>,
    in_flight_bytes: u64,
    lapsed: BTreeSet<u64>,
    next_delivery_id: u64,
    draining: bool,
    writable: bool,
    rank: Option<Rank>,
    pass: u64,
    pass_deliveries: usize,
    pass_bytes: u64,
    resting: bool,
}

impl Session {
    fn can_take_more(&self) -> bool {
        !self.draining
            && self.writable
            && !self.resting
            && self.in_flight.len() < self.terms.credit_messages as usize
            && self.in_flight_bytes < self.terms.credit_bytes
    }

    /// Whether it may have an event of this size some day: one without any credit may still add some.
    fn may_ever_take(&self, size: u64) -> bool {
        !self.draining && (self.terms.credit_bytes == 0 || size <= self.terms.credit_bytes)
    }
}

/// All sessions of a group.
#[derive(Debug)]
pub(super) struct Sessions {
    by_id: FxHashMap<SessionId, Session>,
    open: BTreeSet<Rank>,
    resting: Vec<SessionId>,
    drained: Vec<SessionId>,
    pass: u64,
    limits: PassLimits,
    max_delivery_bytes: u64,
    random: StdRng,
}

impl Sessions {
    pub(super) fn new(limits: PassLimits, max_delivery_bytes: u64, random: StdRng) -> Self {
        Self {
            by_id: FxHashMap::default(),
            open: BTreeSet::new(),
            resting: Vec::new(),
            drained: Vec::new(),
            pass: 0,
            limits,
            max_delivery_bytes,
            random,
        }
    }

    pub(super) fn open(&mut self, id: SessionId, terms: SessionTerms) {
        let session = Session {
            terms,
            in_flight: FxHashMap::default(),
            in_flight_bytes: 0,
            lapsed: BTreeSet::new(),
            next_delivery_id: 1,
            draining: false,
            writable: true,
            rank: None,
            pass: 0,
            pass_deliveries: 0,
            pass_bytes: 0,
            resting: false,
        };
        self.by_id.insert(id, session);
        self.rank(id);
    }

    /// Forgets a session and returns what it had in flight, oldest first.
    pub(super) fn close(&mut self, id: SessionId) -> Vec<ItemId> {
        let Some(session) = self.by_id.remove(&id) else {
            return Vec::new();
        };
        if let Some(rank) = session.rank {
            self.open.remove(&rank);
        }
        self.resting.retain(|resting| *resting != id);
        self.drained.retain(|drained| *drained != id);
        let mut items: Vec<_> = session.in_flight.into_values().collect();
        items.sort_unstable();
        items
    }

    /// What a session has in flight, oldest first.
    pub(super) fn in_flight_of(&self, id: SessionId) -> Vec<ItemId> {
        let Some(session) = self.by_id.get(&id) else {
            return Vec::new();
        };
        let mut items: Vec<_> = session.in_flight.values().copied().collect();
        items.sort_unstable();
        items
    }

    /// Adds to the credit, which never falls below zero nor rises above the limits.
    pub(super) fn add_credit(&mut self, id: SessionId, messages: i32, bytes: i64, max: (u32, u64)) {
        if let Some(session) = self.by_id.get_mut(&id) {
            let terms = &mut session.terms;
            terms.credit_messages = terms.credit_messages.saturating_add_signed(messages).min(max.0);
            terms.credit_bytes = terms.credit_bytes.saturating_add_signed(bytes).min(max.1);
            self.rank(id);
        }
    }

    pub(super) fn drain(&mut self, id: SessionId) {
        if let Some(session) = self.by_id.get_mut(&id)
            && !session.draining
        {
            session.draining = true;
            if session.in_flight.is_empty() {
                self.drained.push(id);
            }
            self.rank(id);
        }
    }

    pub(super) fn drains(&self, id: SessionId) -> bool {
        self.by_id.get(&id).is_some_and(|session| session.draining)
    }

    pub(super) fn set_writable(&mut self, id: SessionId, writable: bool) {
        if let Some(session) = self.by_id.get_mut(&id) {
            session.writable = writable;
            self.rank(id);
        }
    }

    /// Sessions that drain and hold nothing any more.
    pub(super) fn take_drained(&mut self) -> Vec<SessionId> {
        std::mem::take(&mut self.drained)
    }

    pub(super) fn terms(&self, id: SessionId) -> Option<&SessionTerms> {
        self.by_id.get(&id).map(|session| &session.terms)
    }

    pub(super) fn load(&self, id: SessionId) -> Option<SessionLoad> {
        self.by_id.get(&id).map(|session| SessionLoad {
            in_flight: session.in_flight.len(),
            in_flight_bytes: session.in_flight_bytes,
            credit_messages: session.terms.credit_messages,
            credit_bytes: session.terms.credit_bytes,
        })
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = SessionId> + '_ {
        self.by_id.keys().copied()
    }

    /// Whether some session is there that does not drain, so that something can be said about what the group can take.
    pub(super) fn any_stays(&self) -> bool {
        self.by_id.values().any(|session| !session.draining)
    }

    /// Starts a pass: the limits of a pass count anew.
    pub(super) fn begin_pass(&mut self) {
        self.pass += 1;
        for id in std::mem::take(&mut self.resting) {
            if let Some(session) = self.by_id.get_mut(&id) {
                session.resting = false;
                self.rank(id);
            }
        }
    }

    /// Whether some session could take one more in this pass.
    pub(super) fn any_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Chooses the least loaded session with room, one other than `avoid` if there is one. Sessions that come before it
    /// and can never take this size are added to `too_small`.
    pub(super) fn choose(&mut self, size: u64, avoid: Option<SessionId>, too_small: &mut Vec<SessionId>) -> Choice {
        let mut second_best = None;
        let mut saving = Vec::new(); // no allocation unless used
        for rank in &self.open {
            let Some(session) = self.by_id.get(&rank.session) else {
                continue;
            };
            if size > self.limit_of(session) {
                too_small.push(rank.session);
            } else if size > session.terms.credit_bytes - session.in_flight_bytes {
                saving.push(rank.session);
            } else if avoid == Some(rank.session) {
                second_best = Some(rank.session);
            } else {
                return Choice::Session(rank.session);
            }
        }
        if let Some(session) = second_best {
            return Choice::Session(session);
        }
        // Whoever could take it later gets nothing newer in this pass: so a large event is not overtaken for ever.
        for id in saving {
            self.rest(id);
        }
        if self.may_ever_take(size) {
            Choice::Later
        } else {
            Choice::Nobody
        }
    }

    /// The largest event that a session can take.
    pub(super) fn limit_bytes(&self, id: SessionId) -> u64 {
        self.by_id.get(&id).map_or(0, |session| self.limit_of(session))
    }

    fn limit_of(&self, session: &Session) -> u64 {
        session.terms.credit_bytes.min(self.max_delivery_bytes)
    }

    /// Whether some session may have an event of this size some day. With nobody there to judge by, yes.
    pub(super) fn may_ever_take(&self, size: u64) -> bool {
        if size > self.max_delivery_bytes {
            return false;
        }
        !self.any_stays() || self.by_id.values().any(|session| session.may_ever_take(size))
    }

    /// Puts an item in flight to a session, and returns the delivery's id.
    pub(super) fn hand_over(&mut self, id: SessionId, item: ItemId, size: u64) -> Option<u64> {
        let pass = self.pass;
        let limits = self.limits;
        let session = self.by_id.get_mut(&id)?;
        let delivery_id = session.next_delivery_id;
        session.next_delivery_id += 1;
        session.in_flight.insert(delivery_id, item);
        session.in_flight_bytes += size;
        if session.pass != pass {
            session.pass = pass;
            session.pass_deliveries = 0;
            session.pass_bytes = 0;
        }
        session.pass_deliveries += 1;
        session.pass_bytes += size;
        if session.pass_deliveries >= limits.max_deliveries || session.pass_bytes >= limits.max_bytes {
            self.rest(id);
        } else {
            self.rank(id);
        }
        Some(delivery_id)
    }

    /// Which item a delivery is.
    ///
    /// # Errors
    /// [`Refusal`] when it is not in flight.
    pub(super) fn find(&self, id: SessionId, delivery_id: u64) -> Result<ItemId, Refusal> {
        let session = self.by_id.get(&id).ok_or(Refusal::UnknownDelivery)?;
        if let Some(item) = session.in_flight.get(&delivery_id) {
            return Ok(*item);
        }
        Err(if session.lapsed.contains(&delivery_id) {
            Refusal::Stale
        } else {
            Refusal::UnknownDelivery
        })
    }

    /// The worker has answered a delivery whose lease had ended: it is at work on it no more.
    pub(super) fn answered_late(&mut self, id: SessionId, delivery_id: u64) {
        if let Some(session) = self.by_id.get_mut(&id)
            && session.lapsed.remove(&delivery_id)
        {
            self.rank(id);
        }
    }

    /// The delivery is over; its credit is free.
    pub(super) fn finish(&mut self, id: SessionId, delivery_id: u64, size: u64) {
        self.end_delivery(id, delivery_id, size, false);
    }

    /// The delivery was taken back: its credit is free, the worker may still be at work on it.
    pub(super) fn lapse(&mut self, id: SessionId, delivery_id: u64, size: u64) {
        self.end_delivery(id, delivery_id, size, true);
    }

    fn end_delivery(&mut self, id: SessionId, delivery_id: u64, size: u64, lapsed: bool) {
        let Some(session) = self.by_id.get_mut(&id) else {
            return;
        };
        if session.in_flight.remove(&delivery_id).is_none() {
            debug_assert!(false, "delivery {delivery_id} of {id:?} is not in flight");
            return;
        }
        session.in_flight_bytes -= size;
        if lapsed {
            session.lapsed.insert(delivery_id);
            if session.lapsed.len() > MAX_LAPSED_IDS {
                session.lapsed.pop_first();
            }
        }
        if session.draining && session.in_flight.is_empty() {
            self.drained.push(id);
        }
        self.rank(id);
    }

    /// Gives the session nothing more in this pass.
    fn rest(&mut self, id: SessionId) {
        if let Some(session) = self.by_id.get_mut(&id)
            && !session.resting
        {
            session.resting = true;
            self.resting.push(id);
            self.rank(id);
        }
    }

    /// Puts the session where it now belongs in the order of choice. Chance decides anew between equals.
    fn rank(&mut self, id: SessionId) {
        let Some(session) = self.by_id.get_mut(&id) else {
            return;
        };
        if let Some(old) = session.rank.take() {
            self.open.remove(&old);
        }
        if session.can_take_more() {
            let rank = Rank {
                deliveries: session.in_flight.len() + session.lapsed.len(),
                bytes: session.in_flight_bytes,
                tie: self.random.random(),
                session: id,
            };
            session.rank = Some(rank);
            self.open.insert(rank);
        }
    }
}
