//! The model: every record with its state as plain values, every promise as an assertion.
//!
//! It knows nothing of queues, ranks or passes; it only judges what the dispatcher did.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meridian_broker::{Claim, TopicPartition};
use meridian_event::Record;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;

use crate::dispatch::*;
use crate::settlement::Word;

mod endings;

/// How a record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Accepted,
    /// Durable in another topic.
    Away,
}

#[derive(Clone, Debug)]
enum Place {
    /// Held by the dispatcher, with nobody; not to be delivered before.
    Held {
        not_before: Option<Instant>,
    },
    InFlight {
        session: SessionId,
        delivery_id: u64,
        until: Instant,
    },
    DeadLettering {
        reason: DeadLetterReason,
    },
    /// On its way to the due-time topics.
    Parking {
        until: Instant,
    },
    Ended,
}

#[derive(Clone, Debug)]
struct Logged {
    key: Option<usize>,
    size: u64,
    is_event: bool,
    expires_at: Option<Instant>,
    failures: u32,
    delivered: bool,
    place: Place,
}

#[derive(Debug)]
struct Session {
    credit_messages: i64,
    credit_bytes: i64,
    lease: Duration,
    max_attempts: u32,
    draining: bool,
    writable: bool,
    in_flight: BTreeMap<u64, (usize, u64)>,
}

pub(super) struct Model {
    ordering: DeliveryOrdering,
    logs: [Vec<Logged>; 2],
    generations: [u64; 2],
    sessions: BTreeMap<SessionId, Session>,
}

pub(super) fn partition(number: usize) -> TopicPartition {
    TopicPartition {
        topic: "orders".parse().unwrap(),
        partition: number as u32,
    }
}

impl Model {
    pub(super) fn new(ordering: DeliveryOrdering) -> Self {
        Self {
            ordering,
            logs: [Vec::new(), Vec::new()],
            generations: [1, 1],
            sessions: BTreeMap::new(),
        }
    }

    // What the world does.

    pub(super) fn read(
        &mut self,
        partition: usize,
        key: Option<usize>,
        size: u64,
        is_event: bool,
        expires_at: Option<Instant>,
    ) -> Work {
        let size = if is_event { size } else { 0 };
        let place = Place::Held { not_before: None };
        self.logs[partition].push(Logged {
            key,
            size,
            is_event,
            expires_at,
            failures: 0,
            delivered: false,
            place,
        });
        self.work(partition, self.logs[partition].len() as u64 - 1)
    }

    fn work(&self, number: usize, position: u64) -> Work {
        let logged = &self.logs[number][position as usize];
        let key = logged.key.map(|key| Bytes::from(format!("key-{key}")));
        let event = Bytes::from(vec![0; logged.size as usize]);
        Work {
            claim: Claim {
                partition: partition(number),
                generation: self.generations[number],
                position,
            },
            record: Arc::new(Record {
                key,
                ..Record::default()
            }),
            event: if logged.is_event {
                Ok(event)
            } else {
                Err("foreign".to_owned())
            },
            expires_at: logged.expires_at,
            prior: None,
        }
    }

    /// The partition goes and comes back at once: returns what is read again.
    pub(super) fn revoke(&mut self, number: usize) -> Vec<Work> {
        self.generations[number] += 1;
        let mut again = Vec::new();
        for position in 0..self.logs[number].len() {
            let logged = &mut self.logs[number][position];
            if let Place::InFlight {
                session, delivery_id, ..
            } = logged.place
            {
                self.sessions
                    .get_mut(&session)
                    .unwrap()
                    .in_flight
                    .remove(&delivery_id)
                    .unwrap();
            }
            if !matches!(logged.place, Place::Ended) {
                logged.place = Place::Held { not_before: None };
                logged.delivered = false;
                again.push(self.work(number, position as u64));
            }
        }
        again
    }

    pub(super) fn open_session(&mut self, id: SessionId, terms: &SessionTerms) {
        let session = Session {
            credit_messages: terms.credit_messages.into(),
            credit_bytes: terms.credit_bytes as i64,
            lease: terms.lease,
            max_attempts: terms.max_attempts,
            draining: false,
            writable: true,
            in_flight: BTreeMap::new(),
        };
        self.sessions.insert(id, session);
    }

    pub(super) fn session_ids(&self) -> Vec<SessionId> {
        self.sessions.keys().copied().collect()
    }

    pub(super) fn close_session(&mut self, id: SessionId, end: SessionEnd) {
        let session = self.sessions.remove(&id).unwrap();
        for (number, position) in session.in_flight.values() {
            let counts = end == SessionEnd::Broken;
            self.take_back(*number, *position, counts.then_some(session.max_attempts), None);
        }
    }

    pub(super) fn drain_session(&mut self, id: SessionId, release: bool) {
        let session = self.sessions.get_mut(&id).unwrap();
        session.draining = true;
        if release {
            for (number, position) in std::mem::take(&mut session.in_flight).into_values() {
                self.take_back(number, position, None, None);
            }
        }
    }

    pub(super) fn assert_drained(&self, id: SessionId) {
        let session = &self.sessions[&id];
        assert!(
            session.draining && session.in_flight.is_empty(),
            "{id:?} is not drained: {session:?}"
        );
    }

    pub(super) fn set_writable(&mut self, id: SessionId, writable: bool) {
        self.sessions.get_mut(&id).unwrap().writable = writable;
    }

    pub(super) fn add_credit(&mut self, id: SessionId, messages: i32, bytes: i64) {
        let session = self.sessions.get_mut(&id).unwrap();
        session.credit_messages = (session.credit_messages + i64::from(messages)).clamp(0, 8);
        session.credit_bytes = (session.credit_bytes + bytes).clamp(0, 400);
    }

    pub(super) fn any_delivery(&self, random: &mut StdRng) -> Option<(SessionId, u64)> {
        let deliveries = |(id, session): (&SessionId, &Session)| {
            let id = *id;
            session
                .in_flight
                .keys()
                .map(move |delivery| (id, *delivery))
                .collect::<Vec<_>>()
        };
        self.sessions.iter().flat_map(deliveries).choose(random)
    }

    pub(super) fn is_in_flight(&self, id: SessionId, delivery_id: u64) -> bool {
        self.sessions[&id].in_flight.contains_key(&delivery_id)
    }

    /// Ends the leases that are due, and returns how many.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let mut due = Vec::new();
        for (number, log) in self.logs.iter().enumerate() {
            for (position, logged) in log.iter().enumerate() {
                if let Place::InFlight {
                    session,
                    delivery_id,
                    until,
                } = logged.place
                    && until <= now
                {
                    due.push((number, position as u64, session, delivery_id));
                }
            }
        }
        for (number, position, session, delivery_id) in &due {
            let session = self.sessions.get_mut(session).unwrap();
            session.in_flight.remove(delivery_id).unwrap();
            let max_attempts = session.max_attempts;
            self.take_back(*number, *position, Some(max_attempts), None);
        }
        due.len()
    }

    /// With `max_attempts`, an attempt counts.
    fn take_back(&mut self, number: usize, position: u64, max_attempts: Option<u32>, not_before: Option<Instant>) {
        let logged = &mut self.logs[number][position as usize];
        logged.place = Place::Held { not_before };
        if let Some(max_attempts) = max_attempts {
            logged.failures += 1;
            if logged.failures >= max_attempts {
                logged.place = Place::DeadLettering {
                    reason: DeadLetterReason::MaxAttempts,
                };
            }
        }
    }

    // What the dispatcher did.

    pub(super) fn handed_over(&mut self, handover: &Handover, now: Instant) {
        let claim = Claim {
            partition: handover.source.partition.clone(),
            generation: self.generations[handover.source.partition.partition as usize],
            position: handover.source.position,
        };
        let (number, position) = self.locate(&claim);
        self.assert_alone(number, position);
        self.assert_in_order(number, position);
        let session = self
            .sessions
            .get_mut(&handover.session)
            .expect("handed to a session that is gone");
        assert!(
            !session.draining && session.writable,
            "handed to a session that takes nothing: {session:?}"
        );
        let logged = &mut self.logs[number][position as usize];
        let Place::Held { not_before } = logged.place else {
            panic!("handed over while {:?}", logged.place);
        };
        assert!(
            not_before.is_none_or(|not_before| not_before <= now),
            "before its delay is over"
        );
        assert!(logged.expires_at.is_none_or(|at| at > now), "after its time");
        assert_eq!(handover.attempt, logged.failures + 1);
        assert_eq!(
            handover.lease_expires_at,
            now + session.lease,
            "the lease starts at hand-over"
        );
        assert_eq!(handover.event.len() as u64, logged.size);
        session.in_flight.insert(handover.delivery_id, (number, position));
        logged.delivered = true;
        logged.place = Place::InFlight {
            session: handover.session,
            delivery_id: handover.delivery_id,
            until: handover.lease_expires_at,
        };
        self.assert_within_credit(handover.session);
    }

    fn assert_within_credit(&self, id: SessionId) {
        let session = &self.sessions[&id];
        let bytes: u64 = session
            .in_flight
            .values()
            .map(|(number, position)| self.logs[*number][*position as usize].size)
            .sum();
        assert!(
            session.in_flight.len() as i64 <= session.credit_messages,
            "over the credit: {session:?}"
        );
        assert!(
            bytes as i64 <= session.credit_bytes,
            "{bytes} bytes are over the credit: {session:?}"
        );
    }

    /// No other record under the same lock is in flight, delayed, or on its way to the dead letters.
    fn assert_alone(&self, number: usize, position: u64) {
        let this = &self.logs[number][position as usize];
        for (other_number, log) in self.logs.iter().enumerate() {
            for (other_position, other) in log.iter().enumerate() {
                let same_lock = match self.ordering {
                    DeliveryOrdering::Key => this.key.is_some() && this.key == other.key,
                    DeliveryOrdering::Partition => number == other_number,
                    DeliveryOrdering::Unordered => false,
                };
                let is_this = (other_number, other_position as u64) == (number, position);
                let is_free = matches!(other.place, Place::Held { not_before: None } | Place::Ended);
                assert!(
                    is_this || !same_lock || is_free,
                    "{this:?} is handed over beside {other:?}"
                );
            }
        }
    }

    /// First deliveries come in order of position: all earlier ones under the lock have ended.
    fn assert_in_order(&self, number: usize, position: u64) {
        let this = &self.logs[number][position as usize];
        let same_lock = |other: &Logged| match self.ordering {
            DeliveryOrdering::Key => this.key.is_some() && this.key == other.key,
            DeliveryOrdering::Partition => true,
            DeliveryOrdering::Unordered => false,
        };
        for earlier in self.logs[number][..position as usize]
            .iter()
            .filter(|other| same_lock(other))
        {
            assert!(matches!(earlier.place, Place::Ended), "{this:?} overtakes {earlier:?}");
        }
    }

    pub(super) fn settled(
        &mut self,
        id: SessionId,
        delivery_id: u64,
        word: &Word,
        answer: Result<Settled, Refusal>,
        now: Instant,
    ) {
        let session = self.sessions.get_mut(&id).unwrap();
        let (number, position) = session.in_flight[&delivery_id];
        let max_attempts = session.max_attempts;
        if !matches!(word, Word::Renew { .. }) {
            session.in_flight.remove(&delivery_id);
        }
        let answer = answer.expect("a delivery in flight can be settled");
        match word {
            Word::Accept => {
                let Settled::Done(claim) = answer else {
                    panic!("{answer:?}")
                };
                assert_eq!(self.locate(&claim), (number, position));
                self.end(&claim, Ended::Accepted);
            }
            Word::Release { delay, .. } => {
                let not_before = delay.filter(|delay| !delay.is_zero()).map(|delay| now + delay);
                self.take_back(number, position, Some(max_attempts), not_before);
                let has_lock = match self.ordering {
                    DeliveryOrdering::Key => self.logs[number][position as usize].key.is_some(),
                    DeliveryOrdering::Partition => true,
                    DeliveryOrdering::Unordered => false,
                };
                let logged = &mut self.logs[number][position as usize];
                if let (Some(delay), false, Place::Held { .. }) = (delay, has_lock, &logged.place)
                    && *delay > super::PARK_AFTER
                {
                    logged.place = Place::Parking { until: now + *delay };
                }
                let expected = match self.logs[number][position as usize].place {
                    Place::DeadLettering { .. } => Settled::DeadLettered,
                    _ => Settled::Released,
                };
                assert_eq!(answer, expected);
            }
            Word::Reject { .. } => {
                assert_eq!(answer, Settled::DeadLettered);
                let logged = &mut self.logs[number][position as usize];
                logged.failures += 1;
                logged.place = Place::DeadLettering {
                    reason: DeadLetterReason::Rejected,
                };
            }
            Word::Renew { lease } => {
                assert_eq!(answer, Settled::Renewed);
                let lease = lease.unwrap();
                let Place::InFlight { until, .. } = &mut self.logs[number][position as usize].place else {
                    panic!("renewed and not in flight");
                };
                *until = now + lease;
            }
        }
    }

    fn locate(&self, claim: &Claim) -> (usize, u64) {
        let number = claim.partition.partition as usize;
        assert_eq!(claim.generation, self.generations[number], "a claim that is over");
        (number, claim.position)
    }

    pub(super) fn assert_may_be_told(&self, id: SessionId) {
        assert!(!self.sessions[&id].draining);
    }

    pub(super) fn assert_same_counts(&self, held: &Held) {
        let in_flight: HashMap<_, _> = self
            .sessions
            .iter()
            .map(|(id, session)| (*id, session.in_flight.len()))
            .collect();
        assert_eq!(held.in_flight, in_flight.values().sum::<usize>());
        let records = self
            .logs
            .iter()
            .flatten()
            .filter(|logged| !matches!(logged.place, Place::Ended))
            .count();
        assert_eq!(held.records, records, "nothing is lost and nothing comes from nowhere");
    }
}
