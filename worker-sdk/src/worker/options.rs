//! Settings of a worker.

use std::future::Future;
use std::time::Duration;

use meridian_proto::meridian::{MissingPositionPolicy, OpenSession, Ordering, RetryPolicy, StartPosition};

use crate::endpoint::Gateway;
use crate::error::{ConfigurationError, WorkerError};
use crate::worker::{Handler, Worker, WorkerReport};

/// Checked settings.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) open: OpenSession,
    pub(crate) concurrency: usize,
    pub(crate) sessions: usize,
    pub(crate) drain_deadline: Duration,
}

/// Builds a [`Worker`].
#[derive(Clone, Debug)]
pub struct WorkerBuilder {
    addresses: Vec<String>,
    open: OpenSession,
    concurrency: usize,
    sessions: usize,
    drain_deadline: Duration,
}

impl WorkerBuilder {
    pub(crate) fn new<I, A, T, N>(addresses: I, group: impl Into<String>, topics: T) -> Self
    where
        I: IntoIterator<Item = A>,
        A: Into<String>,
        T: IntoIterator<Item = N>,
        N: Into<String>,
    {
        let open = OpenSession {
            group: group.into(),
            topics: topics.into_iter().map(Into::into).collect(),
            credit_bytes: 16 * 1024 * 1024,
            ..OpenSession::default()
        };
        Self {
            addresses: addresses.into_iter().map(Into::into).collect(),
            open,
            concurrency: 16,
            sessions: 1,
            drain_deadline: Duration::from_secs(20),
        }
    }

    /// Handlers at work at the same time, over all sessions. Default 16. It is
    /// also the credit: nothing waits in a buffer with its lease running.
    #[must_use]
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers;
        self
    }

    /// Sessions to hold, spread over the gateways. Default 1.
    #[must_use]
    pub fn sessions(mut self, sessions: usize) -> Self {
        self.sessions = sessions;
        self
    }

    /// The most bytes of events in flight. Default 16 MiB.
    #[must_use]
    pub fn max_in_flight_bytes(mut self, bytes: u64) -> Self {
        self.open.credit_bytes = bytes;
        self
    }

    /// A name for operators, stable across restarts. Default: a random one.
    #[must_use]
    pub fn worker_id(mut self, worker_id: impl Into<String>) -> Self {
        self.open.worker_id = worker_id.into();
        self
    }

    /// How deliveries are ordered. Default: by key.
    #[must_use]
    pub fn ordering(mut self, ordering: Ordering) -> Self {
        self.open.ordering = ordering.into();
        self
    }

    /// How long a delivery is leased; renewed at a third of it. Default: the server's.
    #[must_use]
    pub fn lease_seconds(mut self, seconds: u32) -> Self {
        self.open.lease_seconds = seconds;
        self
    }

    /// Where a new group begins. Default: at the oldest record.
    #[must_use]
    pub fn start_position(mut self, start: StartPosition) -> Self {
        self.open.start_position = start.into();
        self
    }

    /// What to do when the group's position is gone. Default: fail.
    #[must_use]
    pub fn missing_position(mut self, policy: MissingPositionPolicy) -> Self {
        self.open.missing_position_policy = policy.into();
        self
    }

    /// Deliveries of an event before it goes to the dead letters. Default: the server's.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.open.max_attempts = attempts;
        self
    }

    /// Delays between the attempts of an event when the handler names none:
    /// exponential, with full jitter, from `initial` to `maximum`. Default: the
    /// server's.
    #[must_use]
    pub fn retry_backoff(mut self, initial: Duration, maximum: Duration, multiplier: f64) -> Self {
        self.open.retry_policy = Some(RetryPolicy {
            initial_backoff: prost_types::Duration::try_from(initial).ok(),
            max_backoff: prost_types::Duration::try_from(maximum).ok(),
            multiplier,
        });
        self
    }

    /// The broker of the topics. Default: the region's default broker.
    #[must_use]
    pub fn broker(mut self, broker: impl Into<String>) -> Self {
        self.open.broker = broker.into();
        self
    }

    /// How long a stop waits for handlers before it gives back what they hold.
    /// Default 20 s.
    #[must_use]
    pub fn drain_deadline(mut self, deadline: Duration) -> Self {
        self.drain_deadline = deadline;
        self
    }

    /// Checks the settings.
    ///
    /// # Errors
    /// [`ConfigurationError`] names the setting.
    pub fn build(self) -> Result<Worker, ConfigurationError> {
        let refuse = |setting, fault| Err(ConfigurationError::BadSetting { setting, fault });
        if self.open.group.is_empty() {
            return refuse("group", "must not be empty");
        }
        if self.open.topics.is_empty() {
            return refuse("topics", "must name at least one topic");
        }
        if self.concurrency == 0 || self.concurrency > 100_000 {
            return refuse("concurrency", "must be between 1 and 100,000");
        }
        if self.sessions == 0 || self.sessions > self.concurrency {
            return refuse("sessions", "must be between 1 and the concurrency");
        }
        let mut open = self.open;
        if open.worker_id.is_empty() {
            open.worker_id = format!("worker-{:016x}", rand::random::<u64>());
        }
        Ok(Worker::new(Options {
            gateways: Gateway::parse_all(self.addresses)?,
            open,
            concurrency: self.concurrency,
            sessions: self.sessions,
            drain_deadline: self.drain_deadline,
        }))
    }

    /// Builds the worker and runs it until `stop` resolves; then it finishes
    /// what is at work and leaves.
    ///
    /// # Errors
    /// [`WorkerError`] when the settings are wrong, or the gateway refuses the
    /// session for a reason that retrying cannot mend.
    pub async fn run<H: Handler>(
        self,
        handler: H,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<WorkerReport, WorkerError> {
        self.build()?.run(handler, stop).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_named() {
        let builder = || WorkerBuilder::new(["127.0.0.1:1"], "group", ["topic"]);
        let fault = |builder: WorkerBuilder| builder.build().unwrap_err().to_string();
        assert!(fault(builder().concurrency(0)).starts_with("concurrency must be"));
        assert!(fault(builder().sessions(17)).starts_with("sessions must be"));
        let none: [&str; 0] = [];
        let no_topics = WorkerBuilder::new(["127.0.0.1:1"], "group", none);
        assert_eq!(fault(no_topics), "topics must name at least one topic");
        assert!(builder().build().is_ok());
    }
}
