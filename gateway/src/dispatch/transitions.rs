//! The steps of an item from state to state, each with what it changes around the item.
//!
//! What holds: `ready`, `oversize`, `deadlines`, `in_flight`, `dead_lettering` and the sessions always tell the same
//! story as the items' states, because nothing but this file and the dispatch pass changes either.

use std::time::{Duration, Instant};

use meridian_broker::Claim;
use meridian_runtime::BackoffPolicy;
use rand::Rng;

use super::dispatcher::Dispatcher;
use super::item::State;
use super::sessions::SessionEnd;
use super::work::{DeadLetterReason, Destination, ItemId, SessionId, Settled};

impl Dispatcher {
    /// The item holds its lock now, or needs none.
    pub(super) fn activate(&mut self, id: ItemId) {
        let Some(item) = self.items.get_mut(&id) else {
            return;
        };
        match &item.work.event {
            Ok(_) => self.make_ready(id),
            Err(fault) => {
                item.error.clone_from(fault);
                self.dead_letter(id, DeadLetterReason::NotACloudEvent);
            }
        }
    }

    pub(super) fn make_ready(&mut self, id: ItemId) {
        if let Some(item) = self.items.get_mut(&id) {
            item.state = State::Ready;
            self.ready.insert(id);
        }
    }

    pub(super) fn park(&mut self, id: ItemId, until: Instant) {
        if let Some(item) = self.items.get_mut(&id) {
            item.state = State::Parked { until };
            self.deadlines.set(until, id);
        }
    }

    pub(super) fn dead_letter(&mut self, id: ItemId, reason: DeadLetterReason) {
        self.send_away(id, Destination::DeadLetters(reason));
    }

    fn send_away(&mut self, id: ItemId, destination: Destination) {
        if let Some(item) = self.items.get_mut(&id) {
            item.state = State::Leaving;
            item.destination = Some(destination);
            self.away.push_back(id);
            self.leaving += 1;
        }
    }

    /// Nobody needs the event any more: returns the claim to settle if it is dropped.
    pub(super) fn event_expired(&mut self, id: ItemId) -> Option<Claim> {
        self.leave_state(id);
        if self.options.drop_expired {
            return self.remove(id);
        }
        if let Some(item) = self.items.get_mut(&id) {
            let last = std::mem::take(&mut item.error);
            item.error = match last.is_empty() {
                true => "the event's expirytime is past".to_owned(),
                false => format!("the event's expirytime is past; the last attempt: {last}"),
            };
        }
        self.dead_letter(id, DeadLetterReason::Expired);
        None
    }

    /// Takes the item out of the state in which it is; the caller puts it into another one, or removes it.
    pub(super) fn leave_state(&mut self, id: ItemId) {
        let Some(item) = self.items.get_mut(&id) else {
            return;
        };
        let size = item.size;
        match std::mem::replace(&mut item.state, State::Waiting) {
            State::Waiting => {}
            State::Ready => {
                self.ready.remove(&id);
            }
            State::InFlight {
                session,
                delivery_id,
                until,
            } => {
                self.deadlines.clear(until, id);
                self.in_flight -= 1;
                self.sessions.lapse(session, delivery_id, size);
            }
            State::Parked { until } => self.deadlines.clear(until, id),
            State::Oversize { until } => {
                self.deadlines.clear(until, id);
                self.oversize.remove(&id);
            }
            State::Leaving => self.leaving -= 1,
        }
    }

    /// The item is done with: its lock goes to the next one.
    pub(super) fn remove(&mut self, id: ItemId) -> Option<Claim> {
        let item = self.items.remove(&id)?;
        if let Some(lock) = &item.lock
            && let Some(next) = self.locks.leave(lock, id)
        {
            self.activate(next);
        }
        Some(item.work.claim)
    }

    /// The session has answered the delivery: its credit is free.
    pub(super) fn finish_delivery(&mut self, session: SessionId, delivery_id: u64, id: ItemId) {
        let Some(item) = self.items.get_mut(&id) else {
            return;
        };
        if let State::InFlight { until, .. } = item.state {
            self.deadlines.clear(until, id);
            self.in_flight -= 1;
            item.state = State::Waiting;
        }
        let size = item.size;
        self.sessions.finish(session, delivery_id, size);
    }

    pub(super) fn accept(&mut self, session: SessionId, delivery_id: u64, id: ItemId) -> Settled {
        self.finish_delivery(session, delivery_id, id);
        // An item that is in flight is held, so the claim is there.
        self.remove(id).map_or(Settled::Released, Settled::Done)
    }

    pub(super) fn release(
        &mut self,
        session: SessionId,
        delivery_id: u64,
        id: ItemId,
        (delay, reason): (Option<Duration>, String),
        now: Instant,
    ) -> Settled {
        self.finish_delivery(session, delivery_id, id);
        let failures = self.count_failure(id, reason);
        let delay = delay.unwrap_or_else(|| self.retry_delay(id, failures));
        self.again_or_dead_letter(id, now, delay)
    }

    pub(super) fn renew(&mut self, session: SessionId, id: ItemId, lease: Option<Duration>, now: Instant) {
        let default = self.sessions.terms(session).map_or(Duration::ZERO, |terms| terms.lease);
        let Some(item) = self.items.get_mut(&id) else {
            return;
        };
        if let State::InFlight { until, .. } = &mut item.state {
            self.deadlines.clear(*until, id);
            *until = now + lease.unwrap_or(default);
            self.deadlines.set(*until, id);
        }
    }

    /// A session is gone, and with it this delivery.
    pub(super) fn take_back(&mut self, id: ItemId, end: SessionEnd, now: Instant) {
        self.leave_state(id);
        match end {
            SessionEnd::Orderly => self.make_ready(id),
            SessionEnd::Broken => {
                self.try_again(id, "the worker's session broke before it settled", now);
            }
        }
    }

    /// The lease of a delivery ended.
    pub(super) fn lapse(&mut self, session: SessionId, delivery_id: u64, id: ItemId, now: Instant) {
        let Some(item) = self.items.get_mut(&id) else {
            return;
        };
        item.avoid = Some(session);
        self.in_flight -= 1;
        let size = item.size;
        self.sessions.lapse(session, delivery_id, size);
        self.try_again(id, "the lease ended before the worker settled", now);
    }

    /// The attempt failed without a word of the worker: again, after the usual delay.
    fn try_again(&mut self, id: ItemId, error: &str, now: Instant) {
        let failures = self.count_failure(id, error.to_owned());
        let delay = self.retry_delay(id, failures);
        self.again_or_dead_letter(id, now, delay);
    }

    /// Counts a failed attempt and returns how many there are.
    pub(super) fn count_failure(&mut self, id: ItemId, error: String) -> u32 {
        let Some(item) = self.items.get_mut(&id) else {
            return 0;
        };
        item.failures = item.failures.saturating_add(1);
        item.error = error;
        item.failures
    }

    fn again_or_dead_letter(&mut self, id: ItemId, now: Instant, delay: Duration) -> Settled {
        let exhausted = self
            .items
            .get(&id)
            .is_some_and(|item| item.failures >= item.max_attempts);
        if exhausted {
            self.dead_letter(id, DeadLetterReason::MaxAttempts);
            return Settled::DeadLettered;
        }
        let has_lock = self.items.get(&id).is_some_and(|item| item.lock.is_some());
        if delay.is_zero() {
            self.make_ready(id);
        } else if self.options.park_after.is_some_and(|limit| delay > limit) && !has_lock {
            self.send_away(id, Destination::Park { until: now + delay });
        } else {
            self.park(id, now + delay);
        }
        Settled::Released
    }

    /// No session can ever take the item.
    pub(super) fn set_aside(&mut self, id: ItemId, now: Instant) {
        self.leave_state(id);
        let Some(item) = self.items.get_mut(&id) else {
            return;
        };
        if item.size > self.options.max_delivery_bytes {
            self.too_large(id);
            return;
        }
        let until = now + self.options.too_large_grace;
        item.state = State::Oversize { until };
        self.oversize.insert(id);
        self.deadlines.set(until, id);
    }

    /// The grace of an item that no session could take has ended.
    pub(super) fn end_of_grace(&mut self, id: ItemId) {
        self.oversize.remove(&id);
        let size = self.items.get(&id).map_or(0, |item| item.size);
        if self.sessions.may_ever_take(size) {
            self.make_ready(id);
        } else {
            self.too_large(id);
        }
    }

    fn too_large(&mut self, id: ItemId) {
        let limit = self.options.max_delivery_bytes;
        if let Some(item) = self.items.get_mut(&id) {
            item.error = format!(
                "the event has {} bytes; no session has byte credit for it, or it is over the {limit} bytes of a delivery",
                item.size
            );
            self.dead_letter(id, DeadLetterReason::TooLarge);
        }
    }

    /// Sessions have changed: what was too large for all of them may be so no more.
    pub(super) fn reconsider_oversize(&mut self) {
        let size = |id: &ItemId| self.items.get(id).map_or(0, |item| item.size);
        let fitting: Vec<_> = self
            .oversize
            .iter()
            .copied()
            .filter(|id| self.sessions.may_ever_take(size(id)))
            .collect();
        for id in fitting {
            self.leave_state(id);
            self.make_ready(id);
        }
    }

    fn retry_delay(&mut self, id: ItemId, failures: u32) -> Duration {
        let share = self.random.random::<f64>();
        let policy = self.items.get(&id).map(|item| item.retry).unwrap_or_default();
        backoff_delay(&policy, failures, share)
    }
}

/// The delay after so many failures, with the share of jitter that chance drew (0 to 1).
fn backoff_delay(policy: &BackoffPolicy, failures: u32, share: f64) -> Duration {
    let doublings = i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX);
    let factor = policy.multiplier.max(1.0).powi(doublings);
    let ceiling = Duration::try_from_secs_f64(policy.initial.as_secs_f64() * factor)
        .unwrap_or(policy.maximum) // out of Duration's range, so surely above the maximum
        .min(policy.maximum);
    ceiling.mul_f64(1.0 - policy.jitter.clamp(0.0, 1.0) * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_from_the_first_failure_to_the_maximum() {
        let policy = BackoffPolicy {
            initial: Duration::from_secs(1),
            maximum: Duration::from_secs(60),
            multiplier: 2.0,
            jitter: 0.5,
        };
        let seconds = |failures| backoff_delay(&policy, failures, 0.0).as_secs();
        assert_eq!([1, 2, 3, 7, 40, u32::MAX].map(seconds), [1, 2, 4, 60, 60, 60]);
        assert_eq!(backoff_delay(&policy, 2, 1.0), Duration::from_secs(1));
        let full = BackoffPolicy { jitter: 1.0, ..policy };
        assert_eq!(backoff_delay(&full, 3, 1.0), Duration::ZERO);
        assert_eq!(backoff_delay(&full, 3, 0.25), Duration::from_secs(3));
    }
}
