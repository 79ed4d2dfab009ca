//! Waiting for what happens by itself: a condition, with a deadline.

use std::fmt::Debug;
use std::future::Future;
use std::time::{Duration, Instant};

/// How long anything that must happen may take; far beyond what it takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

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
pub async fn eventually<T, S: Debug>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, S>,
) -> T {
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
