//! A budget of bytes in flight, shared by all who take from it. What happens to a refused request is the caller's
//! choice.
//!
//! What holds: the permits out never exceed the budget; waiting is first come, first served, so a large request is not
//! starved by small ones; the number of those who wait is bounded; a request that could never fit is refused at once; a
//! permit gives its bytes back when it is dropped, and only then.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// How many may wait for a budget that was not told otherwise.
pub const DEFAULT_MAX_WAITERS: usize = 4096;

/// Why bytes were not granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ByteBudgetError {
    /// The request exceeds the whole budget, so that waiting is of no use.
    #[error("{requested_bytes} bytes can never fit into a budget of {max_bytes} bytes")]
    TooLarge {
        /// What was asked for.
        requested_bytes: u64,
        /// The most that one request may have.
        max_bytes: u64,
    },
    /// The deadline passed before enough was given back.
    #[error("no {requested_bytes} bytes became free in time; {in_use_bytes} of {max_bytes} bytes are in use")]
    DeadlinePassed {
        /// What was asked for.
        requested_bytes: u64,
        /// What is out at the moment.
        in_use_bytes: u64,
        /// The whole budget.
        max_bytes: u64,
    },
    /// As many as may wait do so already.
    #[error("{max_waiters} requests wait for bytes already")]
    TooManyWaiters {
        /// The bound on those who wait.
        max_waiters: usize,
    },
}

/// A budget; clones share it.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// One permit a byte. Tokio's semaphore is fair: permits given back go to the first in line, and `try_acquire`
    /// finds none while anyone waits.
    semaphore: Arc<Semaphore>,
    max_bytes: u64,
    waiters: AtomicUsize,
    max_waiters: usize,
}

impl ByteBudget {
    /// A budget of `max_bytes`. One request may have at most 4 GiB of it.
    pub fn new(max_bytes: u64) -> Self {
        Self::with_max_waiters(max_bytes, DEFAULT_MAX_WAITERS)
    }

    /// A budget for which at most `max_waiters` requests wait.
    pub fn with_max_waiters(max_bytes: u64, max_waiters: usize) -> Self {
        let permits = usize::try_from(max_bytes)
            .unwrap_or(usize::MAX)
            .min(Semaphore::MAX_PERMITS);
        Self {
            shared: Arc::new(Shared {
                semaphore: Arc::new(Semaphore::new(permits)),
                max_bytes: permits as u64, // usize is at most 64 bits wide
                waiters: AtomicUsize::new(0),
                max_waiters,
            }),
        }
    }

    /// Takes bytes if they are free and nobody waits for them. A request larger than
    /// [`max_request_bytes`](Self::max_request_bytes) never succeeds.
    pub fn try_acquire(&self, bytes: u64) -> Option<BytePermit> {
        let permits = self.permits(bytes).ok()?;
        let semaphore = Arc::clone(&self.shared.semaphore);
        let permit = semaphore.try_acquire_many_owned(permits).ok()?;
        Some(BytePermit { permit })
    }

    /// Takes bytes, waiting in line until `deadline`. Giving up the future gives up the place in line.
    pub async fn acquire(&self, bytes: u64, deadline: Instant) -> Result<BytePermit, ByteBudgetError> {
        let permits = self.permits(bytes)?;
        if let Some(permit) = self.try_acquire(bytes) {
            return Ok(permit);
        }
        let _waiting = self.wait_in_line()?;
        let semaphore = Arc::clone(&self.shared.semaphore);
        match timeout_at(deadline, semaphore.acquire_many_owned(permits)).await {
            Ok(Ok(permit)) => Ok(BytePermit { permit }),
            // The semaphore is never closed, so this is the deadline.
            Ok(Err(_)) | Err(_) => Err(ByteBudgetError::DeadlinePassed {
                requested_bytes: bytes,
                in_use_bytes: self.in_use(),
                max_bytes: self.max_bytes(),
            }),
        }
    }

    /// The bytes that are out. Those gathered for the first in line count as out.
    pub fn in_use(&self) -> u64 {
        let free = self.shared.semaphore.available_permits() as u64;
        self.shared.max_bytes.saturating_sub(free)
    }

    /// The whole budget.
    pub fn max_bytes(&self) -> u64 {
        self.shared.max_bytes
    }

    /// The most that one request may have.
    pub fn max_request_bytes(&self) -> u64 {
        self.shared.max_bytes.min(u32::MAX.into())
    }

    /// How many wait.
    pub fn waiters(&self) -> usize {
        self.shared.waiters.load(Ordering::Relaxed)
    }

    fn permits(&self, bytes: u64) -> Result<u32, ByteBudgetError> {
        let max_bytes = self.max_request_bytes();
        match u32::try_from(bytes) {
            Ok(permits) if bytes <= max_bytes => Ok(permits),
            _ => Err(ByteBudgetError::TooLarge {
                requested_bytes: bytes,
                max_bytes,
            }),
        }
    }

    fn wait_in_line(&self) -> Result<Waiting<'_>, ByteBudgetError> {
        let max_waiters = self.shared.max_waiters;
        let one_more = |waiters: usize| (waiters < max_waiters).then_some(waiters + 1);
        self.shared
            .waiters
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map(|_| Waiting(&self.shared.waiters))
            .map_err(|_| ByteBudgetError::TooManyWaiters { max_waiters })
    }
}

/// A place in line, given up on drop.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes taken from a budget; dropping it gives them back.
#[derive(Debug)]
#[must_use = "dropping the permit gives the bytes back"]
pub struct BytePermit {
    permit: OwnedSemaphorePermit,
}

impl BytePermit {
    /// How many bytes it stands for.
    pub fn bytes(&self) -> u64 {
        self.permit.num_permits() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[test]
    fn bytes_come_back_when_the_permit_is_dropped() {
        let budget = ByteBudget::new(100);
        let first = budget.try_acquire(60).unwrap();
        assert_eq!((first.bytes(), budget.in_use()), (60, 60));
        assert!(budget.try_acquire(41).is_none());
        let second = budget.try_acquire(40).unwrap();
        drop(first);
        assert_eq!(budget.in_use(), 40);
        drop(second);
        assert_eq!(budget.in_use(), 0);
    }

    #[tokio::test]
    async fn what_can_never_fit_is_refused_at_once() {
        let budget = ByteBudget::new(100);
        let refused = budget.acquire(101, soon()).now_or_never().unwrap();
        let too_large = ByteBudgetError::TooLarge {
            requested_bytes: 101,
            max_bytes: 100,
        };
        assert_eq!(refused.unwrap_err(), too_large);
        assert!(budget.try_acquire(101).is_none());
        let huge = ByteBudget::new(u64::MAX);
        assert!(huge.try_acquire(u64::from(u32::MAX) + 1).is_none());
    }

    #[tokio::test]
    async fn the_large_request_that_came_first_goes_first() {
        let budget = ByteBudget::new(100);
        let held = budget.try_acquire(50).unwrap();
        let mut large = Box::pin(budget.acquire(80, soon()));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(budget.try_acquire(1).is_none(), "nobody passes one who waits");
        let mut small = Box::pin(budget.acquire(10, soon()));
        assert!(small.as_mut().now_or_never().is_none());
        assert_eq!(budget.waiters(), 2);
        drop(held);
        let large = large.await.unwrap();
        let small = small.await.unwrap();
        assert_eq!(large.bytes() + small.bytes(), budget.in_use());
        assert_eq!(budget.waiters(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_ends_the_wait_and_gives_up_the_place() {
        let budget = ByteBudget::new(100);
        let held = budget.try_acquire(70).unwrap();
        let refused = budget.acquire(50, soon()).await.unwrap_err();
        let expected = ByteBudgetError::DeadlinePassed {
            requested_bytes: 50,
            in_use_bytes: 70,
            max_bytes: 100,
        };
        assert_eq!(refused, expected);
        assert_eq!(budget.waiters(), 0);
        assert!(budget.try_acquire(30).is_some());
        drop(held);
    }

    #[tokio::test]
    async fn the_line_is_bounded() {
        let budget = ByteBudget::with_max_waiters(10, 1);
        let _held = budget.try_acquire(10).unwrap();
        let mut first = Box::pin(budget.acquire(1, soon()));
        assert!(first.as_mut().now_or_never().is_none());
        let refused = budget.acquire(1, soon()).now_or_never().unwrap();
        assert_eq!(refused.unwrap_err(), ByteBudgetError::TooManyWaiters { max_waiters: 1 });
        drop(first);
        assert_eq!(budget.waiters(), 0);
    }
}
