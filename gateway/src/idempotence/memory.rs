//! The windows of one gateway, in its memory: what another gateway stored is not
//! known here.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use meridian_runtime::SharedClock;
use prometheus_client::metrics::gauge::Gauge;

use super::claim::{Claim, Ending, Known, StoreUnreachable, WindowStore};
use super::window::Window;

/// A [`Window`] behind a lock.
pub struct MemoryStore {
    window: Mutex<Window>,
    clock: SharedClock,
    remembered: Gauge,
    forgotten_early: Gauge,
}

impl MemoryStore {
    /// An empty one; the gauges tell how full it is.
    pub fn new(
        max_ids: usize,
        claim_lease: Duration,
        clock: SharedClock,
        remembered: Gauge,
        forgotten_early: Gauge,
    ) -> Self {
        Self {
            window: Mutex::new(Window::new(max_ids, claim_lease)),
            clock,
            remembered,
            forgotten_early,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, window: &Window) {
        self.remembered.set(i64::try_from(window.len()).unwrap_or(i64::MAX));
        self.forgotten_early
            .set(i64::try_from(window.forgotten_early()).unwrap_or(i64::MAX));
    }
}

#[async_trait]
impl WindowStore for MemoryStore {
    async fn claim(&self, claims: &[Claim]) -> Result<Vec<Known>, StoreUnreachable> {
        let now = self.clock.now();
        let mut window = self.lock();
        let known = claims.iter().map(|claim| window.claim(claim, now)).collect();
        self.tell(&window);
        Ok(known)
    }

    async fn look(&self, claim: &Claim) -> Result<Known, StoreUnreachable> {
        Ok(self.lock().look(claim))
    }

    async fn end(&self, ended: Vec<(Claim, Ending)>) {
        let now = self.clock.now();
        let mut window = self.lock();
        for (claim, ending) in ended {
            window.end(&claim, ending, now);
        }
        self.tell(&window);
    }
}
