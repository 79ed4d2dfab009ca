//! What all parts of one embedded broker share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use meridian_runtime::{ByteBudget, SharedClock};

use super::config::EmbeddedConfig;
use super::groups::Groups;
use super::log::{Topics, locked};
use super::queue::Queue;
use super::store::{Store, StoreError};
use crate::seam::{BrokerIdentity, BrokerProfile, BrokerState};

/// The shared parts.
pub(super) struct Core {
    pub(super) profile: BrokerProfile,
    pub(super) identity: BrokerIdentity,
    pub(super) config: EmbeddedConfig,
    pub(super) clock: SharedClock,
    pub(super) topics: Topics,
    pub(super) groups: Groups,
    pub(super) queue: Queue,
    /// Records in flight.
    pub(super) record_budget: ByteBudget,
    /// Bytes in flight.
    pub(super) byte_budget: ByteBudget,
    /// Absent while the writer mends it, and after the end.
    store: RwLock<Option<Arc<Store>>>,
    health: Mutex<Health>,
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct Health {
    state: BrokerState,
    is_full: bool,
}

impl Core {
    pub(super) fn new(
        profile: BrokerProfile,
        identity: BrokerIdentity,
        config: EmbeddedConfig,
        clock: SharedClock,
        store: Store,
        groups: Groups,
    ) -> Self {
        Self {
            record_budget: ByteBudget::new(config.max_in_flight_records as u64),
            byte_budget: ByteBudget::new(config.max_in_flight_bytes as u64),
            profile,
            identity,
            config,
            clock,
            topics: Topics::default(),
            groups,
            queue: Queue::default(),
            store: RwLock::new(Some(Arc::new(store))),
            health: Mutex::new(Health {
                state: BrokerState::Available,
                is_full: false,
            }),
            is_closed: AtomicBool::new(false),
        }
    }

    /// The store, unless it is being mended or the broker is closed. To be held
    /// for one read only: mending waits for it.
    pub(super) fn store(&self) -> Option<Arc<Store>> {
        self.store.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn take_store(&self) -> Option<Arc<Store>> {
        self.store.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn put_store(&self, store: Store) {
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(store));
    }

    pub(super) fn state(&self) -> BrokerState {
        locked(&self.health).state.clone()
    }

    /// Whether appends are refused for want of disk.
    pub(super) fn is_full(&self) -> bool {
        locked(&self.health).is_full
    }

    /// The store cannot be written, for this reason.
    pub(super) fn set_unavailable(&self, error: &StoreError) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(self.clock.wall_millis().max(0).unsigned_abs());
        let mut health = locked(&self.health);
        health.is_full = matches!(error, StoreError::Full(_));
        let since = match &health.state {
            BrokerState::Unavailable { since, .. } => *since,
            BrokerState::Available => now,
        };
        let reason = format!(
            "the store in {} cannot be written: {error}; free disk space or mend the disk, it is tried again by itself",
            self.config.directory.display()
        );
        health.state = BrokerState::Unavailable { since, reason };
    }

    pub(super) fn set_available(&self) {
        *locked(&self.health) = Health {
            state: BrokerState::Available,
            is_full: false,
        };
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Nothing is admitted, read or administered from now on; what was admitted
    /// has its outcome. Blocks nobody.
    pub(super) fn begin_close(&self) {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return;
        }
        self.groups.close(&self.queue);
        self.queue.end();
    }
}
