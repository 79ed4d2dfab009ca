//! Room for records that are admitted and not committed, in records and bytes;
//! for adapters whose broker is in another process.
//!
//! What holds: those who wait are served in order of arrival; what was taken is
//! given back once, by the delivery report, or at once if nothing was sent.

use std::time::Instant;

use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout_at;

#[derive(Debug)]
pub(crate) struct Room {
    records: Semaphore,
    bytes: Semaphore,
    max_records: usize,
    max_bytes: usize,
    emptied: Notify,
}

impl Room {
    pub(crate) fn new(max_records: usize, max_bytes: usize) -> Self {
        let max_records = max_records.clamp(1, u32::MAX as usize);
        let max_bytes = max_bytes.clamp(1, u32::MAX as usize);
        Self {
            records: Semaphore::new(max_records),
            bytes: Semaphore::new(max_bytes),
            max_records,
            max_bytes,
            emptied: Notify::new(),
        }
    }

    /// What a record costs: the whole room at most, so that one that is larger goes alone.
    pub(crate) fn cost(&self, size: usize) -> usize {
        size.min(self.max_bytes)
    }

    /// How many records are taken in one step at most. Fewer than there is room
    /// for, so that a large batch does not wait for all of the room.
    pub(crate) fn step(&self) -> usize {
        (self.max_records / 8).clamp(1, 512)
    }

    pub(crate) fn step_bytes(&self) -> usize {
        (self.max_bytes / 8).max(1)
    }

    /// Takes room, waiting for it until `deadline`. False when there was none.
    pub(crate) async fn take(&self, records: usize, bytes: usize, deadline: Instant) -> bool {
        if self.try_take(records, bytes) {
            return true;
        }
        let taken = async {
            let records = self.records.acquire_many(clamp(records)).await.ok()?;
            let bytes = self.bytes.acquire_many(clamp(bytes)).await.ok()?;
            records.forget();
            bytes.forget();
            Some(())
        };
        matches!(timeout_at(deadline.into(), taken).await, Ok(Some(())))
    }

    /// Takes room if it is there.
    pub(crate) fn try_take(&self, records: usize, bytes: usize) -> bool {
        let Ok(records) = self.records.try_acquire_many(clamp(records)) else {
            return false;
        };
        let Ok(bytes) = self.bytes.try_acquire_many(clamp(bytes)) else {
            return false;
        };
        records.forget();
        bytes.forget();
        true
    }

    pub(crate) fn give_back(&self, records: usize, bytes: usize) {
        self.bytes.add_permits(bytes);
        self.records.add_permits(records);
        if self.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    fn is_empty(&self) -> bool {
        self.records.available_permits() >= self.max_records
    }

    /// Waits until nothing is in it. False when `deadline` came first.
    pub(crate) async fn emptied(&self, deadline: Instant) -> bool {
        loop {
            let emptied = self.emptied.notified();
            if self.is_empty() {
                return true;
            }
            if timeout_at(deadline.into(), emptied).await.is_err() {
                return self.is_empty();
            }
        }
    }
}

fn clamp(permits: usize) -> u32 {
    u32::try_from(permits).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn room_is_waited_for_until_the_deadline_and_given_back() {
        let room = Room::new(2, 100);
        let soon = || Instant::now() + Duration::from_millis(50);
        assert!(room.take(1, 90, soon()).await);
        assert!(!room.take(1, 20, soon()).await, "too few bytes");
        assert!(
            room.take(1, 10, soon()).await,
            "the record that found no bytes left its place"
        );
        assert!(!room.take(1, 0, soon()).await, "too few records");
        assert!(!room.emptied(soon()).await);
        room.give_back(2, 100);
        assert!(room.emptied(soon()).await);
        assert_eq!(room.cost(5_000), 100);
    }
}
