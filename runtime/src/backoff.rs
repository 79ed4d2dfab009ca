//! Bounded exponential backoff with jitter. It counts delays; it does not sleep, and how often to try is the caller's
//! bound.
//!
//! The ceiling of attempt n is `min(maximum, initial * multiplier^n)`, and the delay is drawn evenly from the top
//! `jitter` share of it: `jitter` 1.0 is "full jitter" (0 to the ceiling), 0.5 is "equal jitter" (half to all of it),
//! 0.0 is none. Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
//!
//! What holds: no delay exceeds `maximum`; one seed gives one sequence; a senseless policy is bent into a safe one.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The numbers behind a backoff.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BackoffPolicy {
    /// The ceiling of the first delay.
    pub initial: Duration,
    /// The ceiling of every delay.
    pub maximum: Duration,
    /// What the ceiling grows by from one delay to the next; less than 1, or no number, counts as 1.
    pub multiplier: f64,
    /// The share of the ceiling that is left to chance, from 0 to 1; no number counts as 1.
    pub jitter: f64,
}

impl Default for BackoffPolicy {
    /// 100 ms doubling up to 30 s, with full jitter.
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            maximum: Duration::from_secs(30),
            multiplier: 2.0,
            jitter: 1.0,
        }
    }
}

/// A sequence of delays.
#[derive(Debug, Clone)]
pub struct Backoff {
    policy: BackoffPolicy,
    ceiling: Duration,
    attempts: u64,
    random: StdRng,
}

impl Backoff {
    /// A sequence under `policy` whose chance is fixed by `seed`.
    pub fn new(policy: BackoffPolicy, seed: u64) -> Self {
        let at_least_one = policy.multiplier.max(1.0); // `max` also turns NaN into 1.0
        let jitter = if policy.jitter.is_nan() {
            1.0
        } else {
            policy.jitter.clamp(0.0, 1.0)
        };
        let policy = BackoffPolicy {
            initial: policy.initial.min(policy.maximum),
            maximum: policy.maximum,
            multiplier: at_least_one,
            jitter,
        };
        Self {
            policy,
            ceiling: policy.initial,
            attempts: 0,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// How long to wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.ceiling;
        self.attempts = self.attempts.saturating_add(1);
        self.ceiling = Duration::try_from_secs_f64(ceiling.as_secs_f64() * self.policy.multiplier)
            .unwrap_or(self.policy.maximum) // out of Duration's range, so surely above the maximum
            .min(self.policy.maximum);
        let share = 1.0 - self.policy.jitter * self.random.random::<f64>();
        ceiling.mul_f64(share).min(ceiling)
    }

    /// How many delays were handed out since the start or the last [`reset`](Self::reset).
    pub fn attempts(&self) -> u64 {
        self.attempts
    }

    /// Starts over from the initial ceiling, after a success. Chance goes on where it was.
    pub fn reset(&mut self) {
        self.ceiling = self.policy.initial;
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(jitter: f64) -> BackoffPolicy {
        BackoffPolicy {
            initial: Duration::from_millis(100),
            maximum: Duration::from_secs(1),
            multiplier: 2.0,
            jitter,
        }
    }

    #[test]
    fn without_jitter_it_doubles_up_to_the_maximum_and_resets() {
        let mut backoff = Backoff::new(policy(0.0), 1);
        let millis: Vec<_> = (0..6).map(|_| backoff.next_delay().as_millis()).collect();
        assert_eq!(millis, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.attempts(), 6);
        backoff.reset();
        assert_eq!(backoff.next_delay(), Duration::from_millis(100));
    }

    #[test]
    fn one_seed_gives_one_sequence_and_two_seeds_differ() {
        let draw = |seed| {
            let mut backoff = Backoff::new(policy(1.0), seed);
            (0..8).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn full_jitter_reaches_both_halves_and_equal_jitter_only_the_upper() {
        let flat = |jitter| BackoffPolicy {
            initial: Duration::from_secs(1),
            ..policy(jitter)
        };
        let below_half = |jitter| {
            let mut backoff = Backoff::new(flat(jitter), 3);
            (0..200)
                .filter(|_| backoff.next_delay() < Duration::from_millis(500))
                .count()
        };
        assert!((60..140).contains(&below_half(1.0)), "{}", below_half(1.0));
        assert_eq!(below_half(0.5), 0);
    }

    proptest! {
        #[test]
        fn no_policy_exceeds_its_maximum(
            initial in any::<u32>(), maximum in any::<u32>(),
            multiplier in any::<f64>(), jitter in any::<f64>(), seed in any::<u64>(),
        ) {
            let maximum = Duration::from_millis(maximum.into());
            let initial = Duration::from_millis(initial.into());
            let mut backoff = Backoff::new(BackoffPolicy { initial, maximum, multiplier, jitter }, seed);
            for _ in 0..40 {
                prop_assert!(backoff.next_delay() <= maximum);
            }
        }
    }
}
