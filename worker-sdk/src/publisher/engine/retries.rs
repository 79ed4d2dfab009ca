//! What becomes of answers: an event is resolved, sent again, or given up in time.
//!
//! What holds: an event is resolved once; what is sent again waits longer each time.

use bytes::Bytes;
use rand::Rng as _;
use tokio::time::Instant;
use tonic::Status;

use super::{Engine, Lane, Retry, key_of};
use crate::error::PublishError;
use crate::publisher::handle::{Entry, Outcome};
use crate::publisher::lines::{Next, Recovery};
use crate::publisher::outcome::timed_out;

impl Engine {
    pub(super) fn on_outcome(&mut self, mut entry: Box<Entry>, outcome: Outcome) {
        let key = key_of(&entry);
        let worth_a_retry = |error: &PublishError| error.retryable() && Instant::now() < entry.deadline;
        let mut attempts = 0;
        let recovery = match outcome {
            Err(error) if worth_a_retry(&error) => {
                entry.attempts += 1;
                attempts = entry.attempts;
                // An earlier try may be stored whatever became of this one.
                let earlier = entry.last_error.take();
                entry.last_error = Some(earlier.filter(PublishError::may_be_stored).unwrap_or(error));
                match &key {
                    Some(key) => self.lines.failed(key, entry),
                    None => {
                        self.retry_later(Retry::Event(entry), attempts);
                        None
                    }
                }
            }
            outcome => {
                let stored = outcome.is_ok();
                let sequence = entry.sequence;
                self.resolve(entry, outcome);
                match &key {
                    Some(key) if stored => self.lines.stored(key, sequence),
                    Some(key) => self.lines.ended(key),
                    None => None,
                }
            }
        };
        if let (Some(recovery), Some(key)) = (recovery, key) {
            self.recover(key, recovery, attempts);
        }
    }

    pub(super) fn recover(&mut self, key: Bytes, recovery: Recovery<Box<Entry>>, attempts: u32) {
        for mut entry in recovery.overtaken {
            let error = entry.last_error.take().unwrap_or(PublishError::Closed);
            self.resolve(entry, Err(error));
        }
        match recovery.next {
            Next::Resume => self.retry_later(Retry::Key(key), attempts),
            Next::Release(events) => {
                let now = Instant::now();
                for entry in events {
                    self.accept_or_expire(entry, now);
                }
            }
        }
    }

    fn retry_later(&mut self, retry: Retry, attempts: u32) {
        let pause = self
            .options
            .retry_initial
            .saturating_mul(1 << attempts.saturating_sub(1).min(16))
            .min(self.options.retry_maximum);
        let spread = pause.mul_f64(0.5 + self.random.random::<f64>() / 2.0);
        self.retries
            .insert((Instant::now() + spread, self.random.random()), retry);
    }

    pub(super) fn on_time(&mut self, now: Instant) {
        while let Some(entry) = self.retries.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                Retry::Event(entry) => self.accept_or_expire(entry, now),
                Retry::Key(key) => self.resume(&key, now),
            }
        }
        let oldest = self.unresolved.first_key_value();
        if oldest.is_some_and(|(_, deadline)| *deadline <= now) {
            self.expire_waiting(now);
        }
    }

    /// Sends the oldest event of a held key, alone.
    fn resume(&mut self, key: &Bytes, now: Instant) {
        while let Some(entry) = self.lines.resume(key) {
            if entry.deadline > now {
                return self.place(entry, None);
            }
            self.expire(entry);
            self.lines.dropped(key);
        }
    }

    fn accept_or_expire(&mut self, entry: Box<Entry>, now: Instant) {
        match entry.deadline > now {
            true => self.accept(entry),
            false => self.expire(entry),
        }
    }

    fn expire(&mut self, mut entry: Box<Entry>) {
        let error = entry.last_error.take().unwrap_or_else(timed_out);
        self.resolve(entry, Err(error));
    }

    /// Ends what waits past its deadline. Events that a gateway has keep their
    /// place until it answers or the lane ends: the gateway's own deadline is
    /// shorter than a stuck connection's keep-alive.
    fn expire_waiting(&mut self, now: Instant) {
        let waiting = std::mem::take(&mut self.backlog);
        for entry in waiting {
            if entry.deadline > now {
                self.backlog.push_back(entry);
                continue;
            }
            let key = key_of(&entry);
            self.expire(entry);
            if let Some(key) = key {
                self.lines.dropped(&key);
                self.resume(&key, now);
            }
        }
        for gateway in 0..self.lanes.len() {
            let expired = |lane: &Lane| {
                lane.in_flight
                    .values()
                    .flatten()
                    .flatten()
                    .any(|entry| entry.deadline <= now)
                    || lane.pending.iter().any(|entry| entry.deadline <= now)
            };
            if expired(&self.lanes[gateway]) {
                // A gateway that left an event unanswered for the whole
                // delivery time-out is given up: its stream is void.
                self.lanes[gateway].epoch += 1;
                self.on_closed(gateway, &Status::deadline_exceeded("no answer in time"));
            }
        }
        // What is left past its deadline waits for a retry that will end it.
        for deadline in self.unresolved.values_mut() {
            if *deadline > now {
                break;
            }
            *deadline = now + self.options.retry_maximum;
        }
    }

    fn resolve(&mut self, entry: Box<Entry>, outcome: Outcome) {
        self.unresolved.remove(&entry.sequence);
        let earlier = entry.last_error.clone();
        // A refusal after a try that may be stored is unknown as a whole.
        let outcome = match (outcome, earlier) {
            (Err(error), Some(earlier)) if earlier.may_be_stored() && !error.may_be_stored() => Err(earlier),
            (outcome, _) => outcome,
        };
        entry.resolve(outcome);
    }
}
