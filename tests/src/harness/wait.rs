//! Waiting for a condition with a deadline: the only waiting that tests do.

use std::future::Future;
use std::time::{Duration, Instant};

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Waits until `condition` holds.
///
/// # Panics
/// When the deadline passes first; the message says what was waited for.
pub async fn eventually<F: Future<Output = bool>>(deadline: Duration, what: &str, mut condition: impl FnMut() -> F) {
    eventually_some(deadline, what, || {
        let met = condition();
        async { met.await.then_some(()) }
    })
    .await;
}

/// Waits until `look` finds something.
///
/// # Panics
/// When the deadline passes first; the message says what was waited for.
pub async fn eventually_some<T, F: Future<Output = Option<T>>>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        let waited = started.elapsed();
        assert!(waited < deadline, "waited {waited:.1?} in vain for: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Lets traffic flow for a while: time itself is what is waited for.
pub async fn flow(duration: Duration) {
    tokio::time::sleep(duration).await;
}
