//! The dispatcher under a random life, against a model that is too simple to be wrong in the same way.
//!
//! One seed gives one life. The world acts (records, sessions, settlements, time, revocations, dead letters); the model
//! in `model` checks each hand-over and each answer, and in the end that every record was settled exactly once.

mod model;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use self::model::{Ended, Model};
use super::*;
use crate::settlement::Word;

const STEPS: usize = 400;
const KEYS: usize = 5;
const PARK_AFTER: Duration = Duration::from_secs(3);

struct World {
    dispatcher: Dispatcher,
    model: Model,
    random: StdRng,
    now: Instant,
    next_session: u64,
    dead_letters: Vec<ItemId>,
}

impl World {
    fn new(ordering: DeliveryOrdering, seed: u64) -> Self {
        let options = DispatchOptions {
            ordering,
            pass_limits: PassLimits {
                max_deliveries: 3,
                max_bytes: 200,
            },
            max_delivery_bytes: 150,
            max_credit_messages: 8,
            max_credit_bytes: 400,
            park_after: Some(PARK_AFTER),
            drop_expired: seed.is_multiple_of(2),
            too_large_grace: Duration::from_secs(5),
        };
        Self {
            dispatcher: Dispatcher::new(options, AttemptMemory::new(1_000), seed),
            model: Model::new(ordering),
            random: StdRng::seed_from_u64(seed),
            now: Instant::now(),
            next_session: 0,
            dead_letters: Vec::new(),
        }
    }

    fn live(&mut self) {
        for _ in 0..STEPS {
            match self.random.random_range(0..100) {
                0..25 => self.read(),
                25..32 => self.open_session(),
                32..35 => self.end_session(),
                35..37 => self.drain_session(),
                37..42 => self.change_session(),
                42..72 => self.settle(),
                72..75 => self.settle_nonsense(),
                75..87 => self.pass_time(),
                87..90 => self.revoke(),
                _ => self.write_dead_letters(),
            }
            self.dispatch();
        }
    }

    fn read(&mut self) {
        for _ in 0..self.random.random_range(1..4) {
            let partition = self.random.random_range(0..2);
            let key = self.random.random_bool(0.8).then(|| self.random.random_range(0..KEYS));
            let size = if self.random.random_bool(0.05) {
                170
            } else {
                self.random.random_range(1..120)
            };
            let is_event = self.random.random_bool(0.97);
            let expires_at = self.random.random_bool(0.05);
            let expires_at = expires_at.then(|| self.now + Duration::from_secs(self.random.random_range(0..20)));
            let work = self.model.read(partition, key, size, is_event, expires_at);
            self.dispatcher.take(work);
        }
    }

    fn open_session(&mut self) {
        let id = SessionId(self.next_session);
        self.next_session += 1;
        let terms = SessionTerms {
            worker: format!("worker-{}", id.0).into(),
            credit_messages: self.random.random_range(0..6),
            credit_bytes: *[0, 60, 300].choose(&mut self.random).unwrap(),
            lease: Duration::from_secs(self.random.random_range(1..10)),
            max_attempts: self.random.random_range(1..5),
            retry: meridian_runtime::BackoffPolicy::default(),
        };
        self.model.open_session(id, &terms);
        self.dispatcher.open_session(id, terms);
    }

    fn any_session(&mut self) -> Option<SessionId> {
        let ids = self.model.session_ids();
        ids.choose(&mut self.random).copied()
    }

    fn end_session(&mut self) {
        let Some(id) = self.any_session() else { return };
        let end = if self.random.random_bool(0.5) {
            SessionEnd::Broken
        } else {
            SessionEnd::Orderly
        };
        self.model.close_session(id, end);
        self.dispatcher.close_session(id, end, self.now);
    }

    fn drain_session(&mut self) {
        let Some(id) = self.any_session() else { return };
        let release = self.random.random_bool(0.5);
        self.model.drain_session(id, release);
        self.dispatcher.drain_session(id, release);
        for drained in self.dispatcher.take_drained() {
            self.model.assert_drained(drained);
        }
    }

    fn change_session(&mut self) {
        let Some(id) = self.any_session() else { return };
        if self.random.random_bool(0.3) {
            let writable = self.random.random_bool(0.7);
            self.model.set_writable(id, writable);
            self.dispatcher.set_writable(id, writable);
        } else {
            let messages = self.random.random_range(-4..8);
            let bytes = self.random.random_range(-100..300);
            self.model.add_credit(id, messages, bytes);
            self.dispatcher.add_credit(id, messages, bytes);
        }
    }

    fn settle(&mut self) {
        let Some((session, delivery_id)) = self.model.any_delivery(&mut self.random) else {
            return;
        };
        let word = match self.random.random_range(0..10) {
            0..6 => Word::Accept,
            6..8 => Word::Release {
                delay: Some(Duration::from_secs(self.random.random_range(0..6))),
                reason: "no luck".to_owned(),
            },
            8 => Word::Reject {
                reason: "never".to_owned(),
            },
            _ => Word::Renew {
                lease: Some(Duration::from_secs(self.random.random_range(1..20))),
            },
        };
        let answer = self.dispatcher.settle(session, delivery_id, word.clone(), self.now);
        self.model.settled(session, delivery_id, &word, answer, self.now);
    }

    /// Settlements of another session's deliveries, of old ones, and of ones that never were.
    fn settle_nonsense(&mut self) {
        let Some(session) = self.any_session() else { return };
        let delivery_id = self.random.random_range(0..20);
        if self.model.is_in_flight(session, delivery_id) {
            return;
        }
        let before = self.dispatcher.held();
        let answer = self.dispatcher.settle(session, delivery_id, Word::Accept, self.now);
        assert!(
            matches!(answer, Err(Refusal::Stale | Refusal::UnknownDelivery)),
            "{answer:?}"
        );
        assert_eq!(self.dispatcher.held(), before, "a refused settlement changes nothing");
    }

    fn pass_time(&mut self) {
        self.now += Duration::from_millis(self.random.random_range(0..4_000));
        let lapsed = self.dispatcher.expire(self.now);
        assert_eq!(
            lapsed,
            self.model.expire(self.now),
            "leases end in time, and not before"
        );
    }

    fn revoke(&mut self) {
        let partition = self.random.random_range(0..2);
        self.dispatcher.revoke(&model::partition(partition), None);
        for work in self.model.revoke(partition) {
            self.dispatcher.take(work);
        }
    }

    fn write_dead_letters(&mut self) {
        while let Some(order) = self.dispatcher.next_away() {
            self.model.away_ordered(&order, self.now);
            self.dead_letters.push(order.item);
        }
        while !self.dead_letters.is_empty() && self.random.random_bool(0.8) {
            let at = self.random.random_range(0..self.dead_letters.len());
            if let Some(claim) = self.dispatcher.gone(self.dead_letters.swap_remove(at)) {
                self.model.end(&claim, Ended::Away);
            }
        }
    }

    fn dispatch(&mut self) {
        let mut outputs = Vec::new();
        for _ in 0..100 {
            let more = self.dispatcher.dispatch(self.now, &mut outputs);
            let mut given = std::collections::HashMap::<_, usize>::new();
            for output in outputs.drain(..) {
                match output {
                    Output::Deliver(handover) => {
                        *given.entry(handover.session).or_default() += 1;
                        self.model.handed_over(&handover, self.now);
                    }
                    Output::TooLarge {
                        session,
                        size_bytes,
                        limit_bytes,
                        ..
                    } => {
                        assert!(size_bytes > limit_bytes);
                        self.model.assert_may_be_told(session);
                    }
                    Output::Expired(claim) => self.model.expired(&claim, self.now),
                }
            }
            assert!(
                given.values().all(|count| *count <= 3),
                "more in one pass than allowed: {given:?}"
            );
            if !more {
                break;
            }
        }
        self.model.assert_same_counts(&self.dispatcher.held());
    }

    /// A good worker comes, and time passes: all must end.
    fn finish(&mut self) {
        for id in self.model.session_ids() {
            self.model.close_session(id, SessionEnd::Orderly);
            self.dispatcher.close_session(id, SessionEnd::Orderly, self.now);
        }
        let id = SessionId(self.next_session);
        let terms = SessionTerms {
            worker: "good".into(),
            credit_messages: 3,
            credit_bytes: 400,
            lease: Duration::from_secs(30),
            max_attempts: 9,
            retry: meridian_runtime::BackoffPolicy::default(),
        };
        self.model.open_session(id, &terms);
        self.dispatcher.open_session(id, terms);
        for _ in 0..10_000 {
            if self.model.all_ended() {
                break;
            }
            self.now += Duration::from_secs(1);
            assert_eq!(self.dispatcher.expire(self.now), self.model.expire(self.now));
            self.write_dead_letters();
            self.dispatch();
            while let Some((session, delivery_id)) = self.model.any_delivery(&mut self.random) {
                let answer = self.dispatcher.settle(session, delivery_id, Word::Accept, self.now);
                self.model
                    .settled(session, delivery_id, &Word::Accept, answer, self.now);
            }
        }
        self.model.assert_all_ended();
        assert_eq!(self.dispatcher.held(), Held::default(), "nothing is left behind");
        assert_eq!(self.dispatcher.next_deadline(), None);
    }
}

fn live(ordering: DeliveryOrdering, seed: u64) {
    let mut world = World::new(ordering, seed);
    world.live();
    world.finish();
}

/// 150 lives for each ordering, or as many as `PROPTEST_CASES` says.
fn lives() -> ProptestConfig {
    let default = ProptestConfig::default();
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => default,
        None => ProptestConfig { cases: 150, ..default },
    }
}

proptest! {
    #![proptest_config(lives())]

    #[test]
    fn by_key_no_life_breaks_a_promise(seed in any::<u64>()) {
        live(DeliveryOrdering::Key, seed);
    }

    #[test]
    fn by_partition_no_life_breaks_a_promise(seed in any::<u64>()) {
        live(DeliveryOrdering::Partition, seed);
    }

    #[test]
    fn unordered_no_life_breaks_a_promise(seed in any::<u64>()) {
        live(DeliveryOrdering::Unordered, seed);
    }
}

#[test]
fn one_seed_gives_one_life() {
    let held = |seed| {
        let mut world = World::new(DeliveryOrdering::Key, seed);
        world.live();
        (world.dispatcher.held(), world.now.elapsed().as_secs() / 3_600)
    };
    assert_eq!(held(11), held(11));
}
