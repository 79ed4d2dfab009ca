//! The clock that is handed to everything that asks for the time, so that simulations and tests can drive it.
//! It tells time; it does not sleep: waiting is tokio's business, whose time tests pause.
//!
//! What holds: [`Clock::now`] never goes back. [`Clock::wall_millis`] may, as wall clocks do, so nothing may measure a
//! span with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A source of time.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The monotonic time, for spans and deadlines.
    fn now(&self) -> Instant;
    /// The wall clock, in milliseconds since the Unix epoch; negative before it.
    fn wall_millis(&self) -> i64;
}

/// A clock that many parts share.
pub type SharedClock = Arc<dyn Clock>;

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// The clock of the machine, ready to be shared.
    pub fn shared() -> SharedClock {
        Arc::new(SystemClock)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_millis(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => millis(since),
            Err(before) => -millis(before.duration()),
        }
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct ManualClock {
    state: Mutex<ManualTime>,
}

#[derive(Debug, Clone, Copy)]
struct ManualTime {
    now: Instant,
    wall_millis: i64,
}

impl ManualClock {
    /// A clock whose wall shows `wall_millis`. Its monotonic time starts at an arbitrary instant.
    pub fn new(wall_millis: i64) -> Self {
        let now = Instant::now();
        Self {
            state: Mutex::new(ManualTime { now, wall_millis }),
        }
    }

    /// Moves both times on.
    pub fn advance(&self, by: Duration) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now += by;
        state.wall_millis = state.wall_millis.saturating_add(millis(by));
    }

    /// Sets the wall alone, back or forth, as an operator or a time daemon may do; monotonic time stays.
    pub fn set_wall_millis(&self, wall_millis: i64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.wall_millis = wall_millis;
    }

    fn read(&self) -> ManualTime {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.read().now
    }

    fn wall_millis(&self) -> i64 {
        self.read().wall_millis
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_time_moves_only_when_told() {
        let clock = ManualClock::new(1_000);
        let start = clock.now();
        assert_eq!(clock.now(), start);
        clock.advance(Duration::from_millis(250));
        assert_eq!(clock.now() - start, Duration::from_millis(250));
        assert_eq!(clock.wall_millis(), 1_250);
    }

    #[test]
    fn setting_the_wall_back_leaves_monotonic_time_alone() {
        let clock = ManualClock::new(1_000);
        let start = clock.now();
        clock.set_wall_millis(-5);
        assert_eq!(clock.wall_millis(), -5);
        assert_eq!(clock.now(), start);
    }

    #[test]
    fn the_system_wall_is_past_the_year_2020() {
        assert!(SystemClock.wall_millis() > 1_577_836_800_000);
    }
}
