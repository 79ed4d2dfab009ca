//! A record that the dispatcher holds, and where it is. Moving it from state to state is left to `transitions`.

use std::sync::Arc;
use std::time::Instant;

use meridian_runtime::BackoffPolicy;

use super::key_locks::LockName;
use super::work::{Destination, SessionId, Work};

#[derive(Debug)]
pub(super) enum State {
    /// Behind the holder of its lock.
    Waiting,
    /// May be handed over.
    Ready,
    /// With a session, until the lease ends.
    InFlight {
        session: SessionId,
        delivery_id: u64,
        until: Instant,
    },
    /// To be delivered again, after a delay.
    Parked { until: Instant },
    /// No session can take it; it waits for one that can.
    Oversize { until: Instant },
    /// On its way to another topic: the dead letters, or the due-time topics.
    Leaving,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) work: Work,
    pub(super) size: u64,
    pub(super) lock: Option<LockName>,
    pub(super) state: State,
    /// Deliveries that failed and count.
    pub(super) failures: u32,
    /// As the session that had it last asked for.
    pub(super) max_attempts: u32,
    pub(super) worker: Option<Arc<str>>,
    pub(super) error: String,
    /// The session whose lease on it ended: another one is better.
    pub(super) avoid: Option<SessionId>,
    pub(super) told: Vec<SessionId>,
    pub(super) destination: Option<Destination>,
    /// When it was handed over first, and last.
    pub(super) handed_over: Option<(Instant, Instant)>,
    /// The delays between its attempts, as the session that had it last asked for.
    pub(super) retry: BackoffPolicy,
}

/// How many records are where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// All records that are held.
    pub records: usize,
    /// With sessions.
    pub in_flight: usize,
    /// May be handed over, and wait for credit.
    pub ready: usize,
    /// On their way to another topic: the dead letters, or the due-time topics.
    pub leaving: usize,
    /// Locked keys or partitions.
    pub locks: usize,
}
