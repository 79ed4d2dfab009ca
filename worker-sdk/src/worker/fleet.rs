//! Keeps a worker's sessions open over the gateways, and ends them.
//!
//! Each session slot opens on the gateway with the fewest sessions of this
//! worker that is not paused after a failure; a session that ends or is asked
//! to move is opened again elsewhere. A refusal that retrying cannot mend ends
//! the worker.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::balance::{Balancer, PausePolicy};
use crate::error::WorkerError;
use crate::worker::options::Options;
use crate::worker::session::{self, SessionEnd};
use crate::worker::{Handler, WorkerBuilder};

/// A worker, ready to run.
#[derive(Debug)]
pub struct Worker {
    options: Arc<Options>,
}

/// What a worker did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerReport {
    /// Deliveries that were handled and whose settlement the gateway applied.
    pub settled: u64,
    /// Settlements that came too late: the lease was over, or the stream was lost.
    pub stale: u64,
    /// Sessions opened.
    pub sessions: u64,
}

/// Counters shared by the sessions of one worker.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) settled: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) sessions: AtomicU64,
}

impl Tally {
    fn report(&self) -> WorkerReport {
        WorkerReport {
            settled: self.settled.load(Ordering::Relaxed),
            stale: self.stale.load(Ordering::Relaxed),
            sessions: self.sessions.load(Ordering::Relaxed),
        }
    }
}

/// What the slots of one worker share.
struct Fleet<H> {
    options: Arc<Options>,
    handler: Arc<H>,
    balancer: Mutex<Balancer>,
    tally: Tally,
}

impl Worker {
    /// A builder for a group over topics, through these gateways.
    pub fn builder<I, A, T, N>(addresses: I, group: impl Into<String>, topics: T) -> WorkerBuilder
    where
        I: IntoIterator<Item = A>,
        A: Into<String>,
        T: IntoIterator<Item = N>,
        N: Into<String>,
    {
        WorkerBuilder::new(addresses, group, topics)
    }

    pub(crate) fn new(options: Options) -> Self {
        Self {
            options: Arc::new(options),
        }
    }

    /// Runs until `stop` resolves; then finishes what is at work and leaves.
    ///
    /// # Errors
    /// [`WorkerError::Refused`] when a gateway refuses the session for a reason
    /// that retrying cannot mend, such as an unknown topic.
    pub async fn run<H: Handler>(
        self,
        handler: H,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<WorkerReport, WorkerError> {
        let (stopping, stopped) = watch::channel(false);
        let gateways = self.options.gateways.len();
        let fleet = Arc::new(Fleet {
            balancer: Mutex::new(Balancer::new(gateways, PausePolicy::default())),
            handler: Arc::new(handler),
            options: self.options,
            tally: Tally::default(),
        });
        let mut slots = JoinSet::new();
        for slot in 0..fleet.options.sessions {
            slots.spawn(fleet.clone().keep_session(slot, stopped.clone()));
        }
        tokio::pin!(stop);
        let mut result = Ok(());
        loop {
            tokio::select! {
                () = &mut stop, if !*stopped.borrow() => {
                    stopping.send_replace(true);
                }
                ended = slots.join_next() => match ended {
                    None => break,
                    Some(Ok(Ok(()))) => {}
                    Some(Ok(Err(error))) => {
                        stopping.send_replace(true);
                        result = result.and(Err(error));
                    }
                    Some(Err(panic)) => std::panic::resume_unwind(panic.into_panic()),
                },
            }
        }
        result.map(|()| fleet.tally.report())
    }
}

impl<H: Handler> Fleet<H> {
    /// Holds one session open until the worker stops.
    async fn keep_session(self: Arc<Self>, slot: usize, mut stopped: watch::Receiver<bool>) -> Result<(), WorkerError> {
        let mut avoid = None;
        while !*stopped.borrow_and_update() {
            let Some(gateway) = self.pick(avoid.take()) else {
                self.wait_for_gateway(&mut stopped).await;
                continue;
            };
            let end = session::run(
                &self.options.gateways[gateway],
                &self.options,
                self.concurrency_of(slot),
                self.handler.clone(),
                &self.tally,
                stopped.clone(),
            )
            .await;
            self.balancer(|balancer| balancer.answered(gateway, 1));
            match end {
                SessionEnd::Stopped => return Ok(()),
                SessionEnd::AskedToMove => {
                    info!(gateway = self.options.gateways[gateway].address(), "session moves");
                    self.balancer(|balancer| balancer.failed(gateway, Instant::now(), 1.0));
                    avoid = Some(gateway);
                }
                SessionEnd::Lost { was_open, reason } => {
                    warn!(
                        gateway = self.options.gateways[gateway].address(),
                        reason, "session lost"
                    );
                    self.balancer(|balancer| {
                        if was_open {
                            balancer.succeeded(gateway);
                        }
                        balancer.failed(gateway, Instant::now(), rand::random());
                    });
                }
                SessionEnd::Refused(status) => {
                    return Err(WorkerError::Refused {
                        code: status.code(),
                        message: status.message().to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    /// The concurrency is shared out over the slots, the first ones taking the rest.
    fn concurrency_of(&self, slot: usize) -> usize {
        let sessions = self.options.sessions;
        let share = self.options.concurrency / sessions;
        share + usize::from(slot < self.options.concurrency % sessions)
    }

    fn pick(&self, avoid: Option<usize>) -> Option<usize> {
        self.balancer(|balancer| {
            let gateway = balancer
                .pick(Instant::now(), rand::random())
                .filter(|gateway| Some(*gateway) != avoid)?;
            balancer.sent(gateway, 1);
            Some(gateway)
        })
    }

    async fn wait_for_gateway(&self, stopped: &mut watch::Receiver<bool>) {
        let now = Instant::now();
        let at = self
            .balancer(|balancer| balancer.next_available())
            .unwrap_or(now)
            .max(now + Duration::from_millis(10));
        tokio::select! {
            () = tokio::time::sleep_until(at.into()) => {}
            _ = stopped.changed() => {}
        }
    }

    fn balancer<R>(&self, act: impl FnOnce(&mut Balancer) -> R) -> R {
        act(&mut self.balancer.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
