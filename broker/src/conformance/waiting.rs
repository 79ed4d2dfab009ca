//! Waiting for what happens by itself: a condition, with a deadline.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::seam::{Broker, BrokerState};

/// How long anything that must happen may take; far beyond what it takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How soon a handle must notice that its broker is gone or back.
pub const NOTICE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// `short`, or `full` where the environment has `MERIDIAN_FULL`.
pub fn short_or_full<T>(short: T, full: T) -> T {
    match std::env::var_os("MERIDIAN_FULL") {
        Some(_) => full,
        None => short,
    }
}

/// Lets a fault last: time itself is what is waited for.
pub async fn last(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// A deadline of [`PATIENCE`] from now.
pub fn deadline() -> Instant {
    Instant::now() + PATIENCE
}

/// Waits for a future.
///
/// # Panics
/// When it takes longer than `limit`.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} took longer than {limit:?}"),
    }
}

/// Looks again and again until `look` gives `Ok`; the error is what was seen.
///
/// # Panics
/// After `limit`, with what was seen last.
pub async fn eventually<T, S: Debug>(limit: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<T, S>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if Instant::now() >= deadline => {
                panic!("{what} did not happen within {limit:?}; last seen: {seen:?}")
            }
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Waits until the handle knows that its broker is there.
///
/// # Panics
/// When that takes longer than [`NOTICE`].
pub async fn until_available(broker: &Arc<dyn Broker>) {
    eventually(NOTICE, "noticing that the broker is there", async || {
        match broker.state() {
            BrokerState::Available => Ok(()),
            other => Err(other),
        }
    })
    .await;
}
