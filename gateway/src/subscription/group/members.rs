//! The sessions' streams: what waits for each, and who is stalled. Who is handed what is the dispatcher's business.
//!
//! What holds: at most [`MAX_NOTICES`] notices and `max_results` settlement results wait for a session besides its
//! queue; a session over the latter does not read its stream and has to end. Deliveries are queued only for a session
//! that has room, so they never wait here after a flush.

use std::collections::{HashSet, VecDeque};
use std::time::SystemTime;

use meridian_proto::meridian as wire;
use meridian_proto::meridian::subscribe_response::Response;
use rustc_hash::FxHashMap;
use tonic::Status;

use crate::dispatch::SessionId;
use crate::subscription::outbound::Outbound;
use crate::subscription::wire::response;

/// Notices that wait for one session; later ones are dropped.
const MAX_NOTICES: usize = 64;
/// Settlement results that may wait for one session, or two for each delivery of the largest credit if that is more.
const MIN_MAX_RESULTS: usize = 16_384;
/// Settlement results of one message.
const MAX_RESULTS_PER_MESSAGE: usize = 1_024;

/// One session's stream.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) session_id: String,
    pub(super) worker_id: String,
    pub(super) opened_at: SystemTime,
    /// Its end, once everything that waits is sent.
    leaving: Option<Option<Status>>,
    outbound: Outbound,
    deliveries: Vec<wire::Delivery>,
    results: VecDeque<wire::SettlementResult>,
    notices: VecDeque<Response>,
    is_dirty: bool,
}

impl Member {
    pub(super) fn new(session_id: String, worker_id: String, opened_at: SystemTime, outbound: Outbound) -> Self {
        Self {
            session_id,
            worker_id,
            opened_at,
            leaving: None,
            outbound,
            deliveries: Vec::new(),
            results: VecDeque::new(),
            notices: VecDeque::new(),
            is_dirty: false,
        }
    }

    /// Queues what waits; true when all of it found room.
    fn flush(&mut self) -> bool {
        if !self.deliveries.is_empty() {
            let deliveries = std::mem::take(&mut self.deliveries);
            let batch = response(Response::Deliveries(wire::DeliveryBatch { deliveries }));
            if let Err(back) = self.outbound.send(batch) {
                if let Some(Response::Deliveries(batch)) = back.response {
                    self.deliveries = batch.deliveries;
                }
                return false;
            }
        }
        while let Some(notice) = self.notices.pop_front() {
            if let Err(back) = self.outbound.send(response(notice)) {
                self.notices.extend(back.response);
                self.notices.rotate_right(1);
                return false;
            }
        }
        while !self.results.is_empty() {
            if !self.outbound.has_room() {
                return false;
            }
            let count = self.results.len().min(MAX_RESULTS_PER_MESSAGE);
            let results = self.results.drain(..count).collect();
            let settled = response(Response::Settled(wire::SettlementResults { results }));
            // There was room, and nobody else sends.
            let _ = self.outbound.send(settled);
        }
        true
    }
}

/// What a flush found.
#[derive(Debug, Default)]
pub(super) struct Flushed {
    /// Streams that are full: hand them nothing.
    pub(super) stalled: Vec<SessionId>,
    /// Sessions that do not read at all.
    pub(super) overdue: Vec<SessionId>,
    /// Sessions whose streams have ended.
    pub(super) ended: Vec<SessionId>,
}

/// All sessions' streams.
#[derive(Debug)]
pub(super) struct Members {
    max_results: usize,
    by_id: FxHashMap<SessionId, Member>,
    dirty: Vec<SessionId>,
    stalled: HashSet<SessionId>,
}

impl Members {
    /// None yet; each may have so many deliveries in flight.
    pub(super) fn new(max_credit_messages: u32) -> Self {
        let settled_and_renewed = (max_credit_messages as usize).saturating_mul(2);
        Self {
            max_results: settled_and_renewed.max(MIN_MAX_RESULTS),
            by_id: FxHashMap::default(),
            dirty: Vec::new(),
            stalled: HashSet::new(),
        }
    }

    pub(super) fn add(&mut self, id: SessionId, member: Member) {
        self.by_id.insert(id, member);
    }

    /// More settlements in one message than a session can have use for.
    pub(super) fn max_results(&self) -> usize {
        self.max_results
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SessionId, &Member)> {
        self.by_id.iter().map(|(id, member)| (*id, member))
    }

    pub(super) fn ids(&self) -> Vec<SessionId> {
        let mut ids: Vec<_> = self.by_id.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Whether a session is there that does not end already.
    pub(super) fn stays(&self, id: SessionId) -> bool {
        self.by_id.get(&id).is_some_and(|member| member.leaving.is_none())
    }

    pub(super) fn deliver(&mut self, id: SessionId, delivery: wire::Delivery) {
        self.change(id, |member| member.deliveries.push(delivery));
    }

    /// Answers settlements; a session that ends already has no use for more answers.
    pub(super) fn confirm(&mut self, id: SessionId, results: Vec<wire::SettlementResult>) {
        if !self.stays(id) {
            return;
        }
        self.change(id, |member| member.results.extend(results));
    }

    pub(super) fn notify(&mut self, id: SessionId, notice: Response) {
        self.change(id, |member| {
            if member.notices.len() < MAX_NOTICES {
                member.notices.push_back(notice);
            }
        });
    }

    /// Sends a heartbeat, unless other messages wait, which tell as well that the stream lives.
    pub(super) fn beat(&mut self, heartbeat: &Response) {
        for (id, member) in &mut self.by_id {
            if member.leaving.is_none() && member.outbound.has_room() {
                // There was room, and nobody else sends.
                let _ = member.outbound.send(response(heartbeat.clone()));
            }
            // So that the next flush sees whether there still is.
            if !member.is_dirty {
                member.is_dirty = true;
                self.dirty.push(*id);
            }
        }
    }

    /// Ends a session's stream after what waits for it.
    pub(super) fn end(&mut self, id: SessionId, status: Option<Status>) {
        self.change(id, |member| {
            if member.leaving.is_none() {
                member.leaving = Some(status);
            }
        });
    }

    /// Forgets a session whose client is gone.
    pub(super) fn remove(&mut self, id: SessionId) {
        self.stalled.remove(&id);
        self.by_id.remove(&id);
    }

    /// Ends a session's stream at once: what waits for it and has no room is dropped.
    pub(super) fn cut(&mut self, id: SessionId, status: Status) {
        self.stalled.remove(&id);
        if let Some(member) = self.by_id.remove(&id) {
            member.outbound.end(Some(status));
        }
    }

    fn change(&mut self, id: SessionId, change: impl FnOnce(&mut Member)) {
        let Some(member) = self.by_id.get_mut(&id) else {
            return;
        };
        change(member);
        if !member.is_dirty {
            member.is_dirty = true;
            self.dirty.push(id);
        }
    }

    /// Queues what waits for each session.
    pub(super) fn flush(&mut self) -> Flushed {
        let mut flushed = Flushed::default();
        for id in std::mem::take(&mut self.dirty) {
            let Some(member) = self.by_id.get_mut(&id) else {
                continue;
            };
            member.is_dirty = false;
            let is_flushed = member.flush();
            if is_flushed && member.leaving.is_some() {
                if let Some(member) = self.by_id.remove(&id) {
                    member.outbound.end(member.leaving.flatten());
                }
                self.stalled.remove(&id);
                flushed.ended.push(id);
                continue;
            }
            if member.results.len() > self.max_results {
                flushed.overdue.push(id);
            }
            if (!is_flushed || !member.outbound.has_room()) && member.outbound.stall() {
                if self.stalled.insert(id) {
                    flushed.stalled.push(id);
                }
            } else if !is_flushed {
                // Room came about between the two looks.
                member.is_dirty = true;
                self.dirty.push(id);
            }
        }
        flushed
    }

    /// Whether something waits that could be queued now.
    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Streams that were stalled and have room again; what waits for them goes with the next flush.
    pub(super) fn take_writable(&mut self) -> Vec<SessionId> {
        let mut writable = Vec::new();
        for id in &self.stalled {
            if self.by_id.get(id).is_none_or(|member| member.outbound.has_room()) {
                writable.push(*id);
            }
        }
        for id in &writable {
            self.stalled.remove(id);
            self.change(*id, |_| ());
        }
        writable
    }

    /// Ends all streams at once, with what waits for them if there is room.
    pub(super) fn end_all(&mut self, status: Option<&Status>) -> usize {
        let count = self.by_id.len();
        for (_, mut member) in self.by_id.drain() {
            member.flush();
            let end = member.leaving.take().unwrap_or_else(|| status.cloned());
            member.outbound.end(end);
        }
        self.stalled.clear();
        self.dirty.clear();
        count
    }
}
