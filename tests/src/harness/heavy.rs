//! One heavy test at a time: two chaos tests at once on two cores would measure each other.
//! And how heavy: `MERIDIAN_FULL=1` asks for the full form of each.

use tokio::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::const_new(());

/// Waits for the turn and holds it until the guard is dropped.
pub async fn alone() -> MutexGuard<'static, ()> {
    TURN.lock().await
}

/// `short`, or `full` where `MERIDIAN_FULL` is set.
pub fn short_or_full<T>(short: T, full: T) -> T {
    match std::env::var_os("MERIDIAN_FULL") {
        Some(_) => full,
        None => short,
    }
}
