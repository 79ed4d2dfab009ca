//! One heavy test at a time: two chaos tests at once on two cores would measure each other.

use tokio::sync::{Mutex, MutexGuard};

static TURN: Mutex<()> = Mutex::const_new(());

/// Waits for the turn and holds it until the guard is dropped.
pub async fn alone() -> MutexGuard<'static, ()> {
    TURN.lock().await
}
