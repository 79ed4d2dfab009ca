//! Stopping in order: a signal that all parts can wait for, and a plan of named phases run one after the other under
//! one deadline. What the phases do, and what makes the signal fire, is the caller's business.
//!
//! What holds: the signal fires only when [`Shutdown::trigger`] is called, never because something was dropped; every
//! phase of a plan runs even when an earlier one hangs or panics. After the deadline a phase is still polled once, so
//! that what needs no waiting (a flush, a goodbye already buffered) still happens.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// The owner's end: it alone may ask for the stop.
#[derive(Debug, Default)]
pub struct Shutdown {
    token: CancellationToken,
}

impl Shutdown {
    /// A process that is to go on.
    pub fn new() -> Self {
        Self::default()
    }

    /// A signal to hand to a part.
    pub fn signal(&self) -> ShutdownSignal {
        ShutdownSignal {
            token: self.token.clone(),
        }
    }

    /// Asks everyone to stop. Doing so again changes nothing.
    pub fn trigger(&self) {
        self.token.cancel();
    }
}

/// A part's end: it can be waited for by many.
#[derive(Debug, Clone)]
pub struct ShutdownSignal {
    token: CancellationToken,
}

impl ShutdownSignal {
    /// Waits until the stop is asked for; at once if it already was.
    pub async fn requested(&self) {
        self.token.cancelled().await;
    }

    /// The same as a future that owns what it needs, for servers that take one.
    pub fn requested_owned(self) -> impl Future<Output = ()> + Send + 'static {
        self.token.cancelled_owned()
    }

    /// Whether the stop was asked for.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// A token that is cancelled with this signal, and may be cancelled alone without touching it.
    pub fn child_token(&self) -> CancellationToken {
        self.token.child_token()
    }
}

type PhaseFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An ordered list of phases under one deadline.
pub struct ShutdownPlan {
    within: Duration,
    phases: Vec<(String, PhaseFuture)>,
}

impl ShutdownPlan {
    /// A plan that has `within` for all of its phases together, counted from [`run`](Self::run).
    pub fn new(within: Duration) -> Self {
        Self {
            within,
            phases: Vec::new(),
        }
    }

    /// Adds a phase. It is not polled before its turn.
    pub fn phase(mut self, name: impl Into<String>, work: impl Future<Output = ()> + Send + 'static) -> Self {
        self.phases.push((name.into(), Box::pin(work)));
        self
    }

    /// Runs the phases in order and says how each went.
    pub async fn run(self) -> ShutdownReport {
        let deadline = Instant::now() + self.within;
        let mut phases = Vec::with_capacity(self.phases.len());
        for (name, work) in self.phases {
            let started = Instant::now();
            tracing::info!(phase = %name, "shutdown phase begins");
            let outcome = match timeout_at(deadline, AssertUnwindSafe(work).catch_unwind()).await {
                Ok(Ok(())) => PhaseOutcome::Finished,
                Ok(Err(_)) => PhaseOutcome::Panicked,
                Err(_) => PhaseOutcome::TimedOut,
            };
            let took = started.elapsed();
            match outcome {
                PhaseOutcome::Finished => {
                    tracing::info!(phase = %name, ?took, "shutdown phase finished");
                }
                _ => tracing::warn!(phase = %name, ?took, %outcome, "shutdown phase not finished"),
            }
            phases.push(PhaseReport { name, took, outcome });
        }
        ShutdownReport { phases }
    }
}

impl fmt::Debug for ShutdownPlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.phases.iter().map(|(name, _)| name).collect();
        formatter
            .debug_struct("ShutdownPlan")
            .field("within", &self.within)
            .field("phases", &names)
            .finish()
    }
}

/// How a phase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhaseOutcome {
    /// It did all it had to do.
    Finished,
    /// The deadline passed first; the phase was dropped.
    TimedOut,
    /// It panicked.
    Panicked,
}

impl fmt::Display for PhaseOutcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Finished => "finished",
            Self::TimedOut => "timed out",
            Self::Panicked => "panicked",
        })
    }
}

/// What became of one phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseReport {
    /// Its name in the plan.
    pub name: String,
    /// How long it ran.
    pub took: Duration,
    /// How it ended.
    pub outcome: PhaseOutcome,
}

/// What became of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShutdownReport {
    /// The phases in the order in which they ran.
    pub phases: Vec<PhaseReport>,
}

impl ShutdownReport {
    /// Whether every phase finished.
    pub fn is_clean(&self) -> bool {
        self.phases.iter().all(|phase| phase.outcome == PhaseOutcome::Finished)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[tokio::test]
    async fn the_signal_fires_on_trigger_and_not_on_drop() {
        let shutdown = Shutdown::new();
        let signal = shutdown.signal();
        let child = signal.child_token();
        drop(Shutdown::new());
        assert!(!signal.is_requested());
        assert!(signal.requested().now_or_never().is_none());
        shutdown.trigger();
        assert!(signal.is_requested() && child.is_cancelled());
        signal.clone().requested_owned().await;

        let orphan = Shutdown::new().signal();
        assert!(!orphan.is_requested());
    }

    #[tokio::test(start_paused = true)]
    async fn phases_run_in_order_under_one_deadline() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let note = |name: &'static str, wait: u64| {
            let order = Arc::clone(&order);
            async move {
                if wait > 0 {
                    tokio::time::sleep(Duration::from_secs(wait)).await;
                }
                order.lock().unwrap().push(name);
            }
        };
        let report = ShutdownPlan::new(Duration::from_secs(10))
            .phase("stop reading", note("stop reading", 4))
            .phase("settle", note("settle", 60))
            .phase("release", note("release", 1))
            .phase("flush", note("flush", 0))
            .run()
            .await;
        assert_eq!(*order.lock().unwrap(), ["stop reading", "flush"]);
        let outcomes: Vec<_> = report
            .phases
            .iter()
            .map(|phase| (phase.name.as_str(), phase.took.as_secs(), phase.outcome))
            .collect();
        assert_eq!(
            outcomes,
            [
                ("stop reading", 4, PhaseOutcome::Finished),
                ("settle", 6, PhaseOutcome::TimedOut),
                ("release", 0, PhaseOutcome::TimedOut),
                ("flush", 0, PhaseOutcome::Finished),
            ]
        );
        assert!(!report.is_clean());
    }

    #[tokio::test]
    async fn a_panic_does_not_keep_later_phases_from_running() {
        let report = ShutdownPlan::new(Duration::from_secs(10))
            .phase("breaks", async { panic!("oh") })
            .phase("goes on", async {})
            .run()
            .await;
        assert_eq!(report.phases[0].outcome, PhaseOutcome::Panicked);
        assert_eq!(report.phases[1].outcome, PhaseOutcome::Finished);
    }
}
