//! Which blow falls on what and when: drawn from a seed, the same for the same seed.
//!
//! Blows are drawn like cards: all of the deck come before it is shuffled again, so
//! that a short run has seen each kind. Gateways, workers and brokers are killed and
//! frozen twice a deck: at least 20 times each in ten minutes. They may overlap. After each deck
//! there is a pause, in which all must come back and nothing excuses anything.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::history::{Blow, Part};

/// The first blow falls on traffic that flows.
const FIRST: Duration = Duration::from_secs(5);
const GAP_MS: std::ops::Range<u64> = 2_000..6_000;
const PAUSE: Duration = Duration::from_secs(30);
const LASTS_MS: std::ops::Range<u64> = 200..6_000;

/// How many processes there are of each part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Gateways.
    pub gateways: usize,
    /// Workers.
    pub workers: usize,
    /// Publishers.
    pub publishers: usize,
    /// 1 where the broker is a process of its own.
    pub brokers: usize,
}

impl Parts {
    /// How many of this part.
    pub fn count(&self, part: Part) -> usize {
        match part {
            Part::Gateway => self.gateways,
            Part::Worker => self.workers,
            Part::Publisher => self.publishers,
            Part::Broker => self.brokers,
        }
    }
}

/// One blow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When, from the start of the run.
    pub at: Duration,
    /// On what.
    pub part: Part,
    /// Which of them, from 0.
    pub which: usize,
    /// How.
    pub blow: Blow,
    /// How long it stays away.
    pub lasts: Duration,
}

/// The blows of a run that lasts so long.
pub fn schedule(seed: u64, length: Duration, parts: &Parts) -> Vec<Planned> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut deck = Vec::new();
    let mut at = FIRST;
    let mut plan = Vec::new();
    while at < length {
        if deck.is_empty() {
            deck = full_deck(parts);
            deck.shuffle(&mut random);
        }
        let Some((part, blow)) = deck.pop() else {
            return plan;
        };
        plan.push(Planned {
            at,
            part,
            which: random.random_range(0..parts.count(part)),
            blow,
            lasts: Duration::from_millis(random.random_range(LASTS_MS)),
        });
        at += Duration::from_millis(random.random_range(GAP_MS));
        if deck.is_empty() {
            at += PAUSE;
        }
    }
    plan
}

/// Every blow on every part that there is, the hard ones on what serves twice.
fn full_deck(parts: &Parts) -> Vec<(Part, Blow)> {
    let parts = Part::ALL.iter().filter(|part| parts.count(**part) > 0);
    let cards = parts.flat_map(|part| Blow::ALL.iter().map(|blow| (*part, *blow)));
    let times = |(part, blow): &(Part, Blow)| {
        if is_hard(*blow) && *part != Part::Publisher {
            2
        } else {
            1
        }
    };
    cards.flat_map(|card| std::iter::repeat_n(card, times(&card))).collect()
}

fn is_hard(blow: Blow) -> bool {
    matches!(blow, Blow::Kill | Blow::Freeze)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PARTS: Parts = Parts {
        gateways: 3,
        workers: 4,
        publishers: 2,
        brokers: 1,
    };
    const LENGTH: Duration = Duration::from_secs(600);

    #[test]
    fn a_seed_says_it_all() {
        assert_eq!(schedule(7, LENGTH, &PARTS), schedule(7, LENGTH, &PARTS));
        assert_ne!(schedule(7, LENGTH, &PARTS), schedule(8, LENGTH, &PARTS));
    }

    #[test]
    fn a_short_run_has_every_kind_and_a_long_one_has_many() {
        let kinds = |plan: &[Planned]| plan.iter().map(|blow| (blow.part, blow.blow)).collect::<BTreeSet<_>>();
        for seed in 0..20 {
            let plan = schedule(seed, Duration::from_secs(120), &PARTS);
            assert_eq!(kinds(&plan).len(), 12, "seed {seed}");
            let plan = schedule(seed, LENGTH, &PARTS);
            for part in [Part::Gateway, Part::Worker, Part::Broker] {
                let hard = plan.iter().filter(|blow| is_hard(blow.blow) && blow.part == part);
                assert!(hard.count() >= 20, "seed {seed}: {part}");
            }
        }
    }

    #[test]
    fn what_is_not_there_is_not_struck() {
        let parts = Parts { brokers: 0, ..PARTS };
        let plan = schedule(1, LENGTH, &parts);
        assert!(plan.iter().all(|blow| blow.part != Part::Broker && blow.which < 4));
    }
}
