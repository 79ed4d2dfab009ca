//! Which gateway gets the next work: the one with the least outstanding.
//!
//! Pure: the caller tells what it sent, what was answered and what failed, and
//! passes time in. A gateway that failed is left alone until its pause is over,
//! unless all are paused: then the one whose pause ends first is tried.

use std::time::{Duration, Instant};

/// The load and health of each gateway, by index.
#[derive(Clone, Debug)]
pub struct Balancer {
    gateways: Vec<Load>,
    policy: PausePolicy,
}

/// How long a failing gateway is left alone.
#[derive(Clone, Copy, Debug)]
pub struct PausePolicy {
    /// After the first failure.
    pub initial: Duration,
    /// At most; each failure in a row doubles the pause.
    pub maximum: Duration,
}

impl Default for PausePolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            maximum: Duration::from_secs(5),
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Load {
    outstanding: u64,
    failures: u32,
    paused_until: Option<Instant>,
}

impl Balancer {
    /// A balancer over so many gateways, all idle and well.
    pub fn new(gateways: usize, policy: PausePolicy) -> Self {
        Self {
            gateways: vec![Load::default(); gateways],
            policy,
        }
    }

    /// The gateway with the least outstanding work among those not paused; ties
    /// go to the one `tie_break` points at. `None` when every gateway is paused.
    pub fn pick(&self, now: Instant, tie_break: u64) -> Option<usize> {
        let available = |load: &Load| load.paused_until.is_none_or(|until| until <= now);
        let least = self
            .gateways
            .iter()
            .filter(|load| available(load))
            .map(|load| load.outstanding)
            .min()?;
        let tied: Vec<usize> = self
            .gateways
            .iter()
            .enumerate()
            .filter(|(_, load)| available(load) && load.outstanding == least)
            .map(|(index, _)| index)
            .collect();
        let chosen = usize::try_from(tie_break % tied.len() as u64).ok()?;
        tied.get(chosen).copied()
    }

    /// When the first paused gateway may be tried again.
    pub fn next_available(&self) -> Option<Instant> {
        self.gateways.iter().filter_map(|load| load.paused_until).min()
    }

    /// Work was sent.
    pub fn sent(&mut self, gateway: usize, amount: u64) {
        self.gateways[gateway].outstanding += amount;
    }

    /// Work was answered, however.
    pub fn answered(&mut self, gateway: usize, amount: u64) {
        let load = &mut self.gateways[gateway];
        load.outstanding = load.outstanding.saturating_sub(amount);
    }

    /// The gateway answers well: its failures are forgotten.
    pub fn succeeded(&mut self, gateway: usize) {
        self.gateways[gateway].failures = 0;
        self.gateways[gateway].paused_until = None;
    }

    /// The connection failed: pause the gateway. `jitter` in 0..=1 spreads
    /// clients that failed at the same time over half the pause.
    pub fn failed(&mut self, gateway: usize, now: Instant, jitter: f64) {
        let load = &mut self.gateways[gateway];
        let doublings = load.failures.min(16);
        let pause = self
            .policy
            .initial
            .saturating_mul(1 << doublings)
            .min(self.policy.maximum);
        load.failures = load.failures.saturating_add(1);
        load.paused_until = Some(now + pause.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0));
    }

    /// What is outstanding at each gateway.
    pub fn outstanding(&self) -> Vec<u64> {
        self.gateways.iter().map(|load| load.outstanding).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_outstanding_gateway_is_picked() {
        let now = Instant::now();
        let mut balancer = Balancer::new(3, PausePolicy::default());
        balancer.sent(0, 5);
        balancer.sent(1, 2);
        balancer.sent(2, 9);
        assert_eq!(balancer.pick(now, 7), Some(1));
        balancer.answered(2, 9);
        assert_eq!(balancer.pick(now, 7), Some(2));
    }

    #[test]
    fn ties_follow_the_tie_break() {
        let now = Instant::now();
        let balancer = Balancer::new(3, PausePolicy::default());
        let picked: Vec<_> = (0..3).map(|tie| balancer.pick(now, tie)).collect();
        assert_eq!(picked, [Some(0), Some(1), Some(2)]);
    }

    #[test]
    fn a_failed_gateway_is_left_alone_for_longer_each_time() {
        let start = Instant::now();
        let mut balancer = Balancer::new(2, PausePolicy::default());
        balancer.failed(0, start, 1.0);
        assert_eq!(balancer.pick(start, 0), Some(1));
        let first = balancer.next_available().unwrap() - start;
        balancer.failed(0, start, 1.0);
        let second = balancer.next_available().unwrap() - start;
        assert_eq!(first, Duration::from_millis(100));
        assert_eq!(second, Duration::from_millis(200));
        assert_eq!(balancer.pick(start + second, 0), Some(0));
    }

    #[test]
    fn nothing_is_picked_while_all_are_paused() {
        let start = Instant::now();
        let mut balancer = Balancer::new(1, PausePolicy::default());
        for _ in 0..40 {
            balancer.failed(0, start, 0.0);
        }
        assert_eq!(balancer.pick(start, 0), None);
        let wait = balancer.next_available().unwrap() - start;
        assert_eq!(wait, Duration::from_millis(2_500));
        balancer.succeeded(0);
        assert_eq!(balancer.pick(start, 0), Some(0));
    }
}
