//! A decorator around any broker: metrics, spans, and deadlines where the seam
//! has none. It changes no record, no order and no outcome.
//!
//! Appends and settlements carry their deadlines with them, and cutting an
//! `admit` short would lose the batch; so only calls of administration are
//! bounded here. Metric names are in [`metrics`](crate::metrics).
//!
//! What holds: every admitted record leaves the in-flight gauges exactly once,
//! also when its [`Commit`](crate::Commit) is dropped; nothing is looked up by label on the hot
//! path; `next` stays cancel safe, for nothing awaits but the inner reader.

mod append;
mod read;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meridian_runtime::clock::SharedClock;
use tracing::Instrument;

use self::append::InstrumentedAppender;
use self::read::InstrumentedReader;
use crate::admin::{Admin, GroupDescription, GroupReset, PartitionLag, TopicDescription, TopicSpec};
use crate::append::Appender;
use crate::error::{AdminError, AdminErrorKind, ReadError};
use crate::metrics::{BrokerMetrics, BrokerSeries};
use crate::name::{GroupName, TopicName};
use crate::read::{Reader, ReaderOptions};
use crate::seam::{Broker, BrokerIdentity, BrokerProfile, BrokerState};

/// How long a call of administration may take.
pub const ADMIN_DEADLINE: Duration = Duration::from_secs(10);

/// Wraps a broker. The result counts for as long as it is held.
pub fn instrument(broker: Arc<dyn Broker>, metrics: &BrokerMetrics, clock: SharedClock) -> Arc<dyn Broker> {
    let context = Arc::new(Context {
        series: metrics.of(broker.profile()),
        metrics: metrics.clone(),
        clock,
    });
    let wrapped: Arc<dyn Broker> = Arc::new(InstrumentedBroker {
        appender: Arc::new(InstrumentedAppender::new(
            broker.appender(),
            broker.profile(),
            Arc::clone(&context),
        )),
        admin: Arc::new(InstrumentedAdmin {
            inner: broker.admin(),
            broker: Arc::clone(&broker),
            context: Arc::clone(&context),
        }),
        inner: broker,
        context,
    });
    metrics.watch_broker(&wrapped);
    wrapped
}

/// What every part of one decorated broker shares.
struct Context {
    series: BrokerSeries,
    metrics: BrokerMetrics,
    clock: SharedClock,
}

impl Context {
    /// Runs a call of administration under the deadline, and counts it.
    async fn administer<T>(
        &self,
        profile: &BrokerProfile,
        operation: &'static str,
        call: impl Future<Output = Result<T, AdminError>> + Send,
    ) -> Result<T, AdminError> {
        let span = tracing::debug_span!("broker_admin", broker = %profile.name, region = %profile.region, operation);
        let began = self.clock.now();
        let timed = tokio::time::timeout(ADMIN_DEADLINE, call).instrument(span).await;
        let result = timed.unwrap_or_else(|_| {
            let message = format!(
                "broker {} of region {} did not answer {operation} within {} s; see whether it is overloaded, then try again",
                profile.name,
                profile.region,
                ADMIN_DEADLINE.as_secs()
            );
            Err(AdminError::new(AdminErrorKind::DeadlineExceeded, message))
        });
        let seconds = self.clock.now().saturating_duration_since(began).as_secs_f64();
        let fault = result.as_ref().err().map(|error| error.kind);
        self.series.admin_call(operation, fault, seconds);
        result
    }
}

struct InstrumentedBroker {
    inner: Arc<dyn Broker>,
    appender: Arc<InstrumentedAppender>,
    admin: Arc<InstrumentedAdmin>,
    context: Arc<Context>,
}

#[async_trait]
impl Broker for InstrumentedBroker {
    fn profile(&self) -> &BrokerProfile {
        self.inner.profile()
    }

    fn state(&self) -> BrokerState {
        self.inner.state()
    }

    fn client_rebuilds(&self) -> u64 {
        self.inner.client_rebuilds()
    }

    async fn identity(&self) -> Result<BrokerIdentity, AdminError> {
        let call = self.inner.identity();
        self.context.administer(self.profile(), "identity", call).await
    }

    fn appender(&self) -> Arc<dyn Appender> {
        Arc::clone(&self.appender) as Arc<dyn Appender>
    }

    async fn open_reader(&self, options: ReaderOptions) -> Result<Box<dyn Reader>, ReadError> {
        let group = options.group.clone();
        let inner = self.inner.open_reader(options).await?;
        let reader = InstrumentedReader::new(inner, group, self.profile(), Arc::clone(&self.context));
        Ok(Box::new(reader))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        Arc::clone(&self.admin) as Arc<dyn Admin>
    }

    async fn close(&self, limit: Duration) {
        let profile = self.profile();
        let span = tracing::info_span!("broker_close", broker = %profile.name, region = %profile.region);
        self.inner.close(limit).instrument(span).await;
    }
}

struct InstrumentedAdmin {
    inner: Arc<dyn Admin>,
    /// For its profile.
    broker: Arc<dyn Broker>,
    context: Arc<Context>,
}

impl InstrumentedAdmin {
    async fn administer<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, AdminError>> + Send,
    ) -> Result<T, AdminError> {
        self.context.administer(self.broker.profile(), operation, call).await
    }
}

#[async_trait]
impl Admin for InstrumentedAdmin {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<TopicDescription, AdminError> {
        self.administer("create_topic", self.inner.create_topic(spec)).await
    }

    async fn delete_topic(&self, name: &TopicName) -> Result<(), AdminError> {
        self.administer("delete_topic", self.inner.delete_topic(name)).await
    }

    async fn list_topics(&self) -> Result<Vec<TopicDescription>, AdminError> {
        self.administer("list_topics", self.inner.list_topics()).await
    }

    async fn describe_topic(&self, name: &TopicName) -> Result<TopicDescription, AdminError> {
        self.administer("describe_topic", self.inner.describe_topic(name)).await
    }

    async fn list_groups(&self) -> Result<Vec<GroupName>, AdminError> {
        self.administer("list_groups", self.inner.list_groups()).await
    }

    async fn describe_group(&self, name: &GroupName) -> Result<GroupDescription, AdminError> {
        self.administer("describe_group", self.inner.describe_group(name)).await
    }

    async fn grow_topic(&self, name: &TopicName, partitions: u32) -> Result<TopicDescription, AdminError> {
        self.administer("grow_topic", self.inner.grow_topic(name, partitions))
            .await
    }

    async fn reset_group(&self, name: &GroupName, reset: &GroupReset) -> Result<Vec<PartitionLag>, AdminError> {
        self.administer("reset_group", self.inner.reset_group(name, reset))
            .await
    }

    async fn delete_group(&self, name: &GroupName) -> Result<(), AdminError> {
        self.administer("delete_group", self.inner.delete_group(name)).await
    }
}

#[cfg(test)]
mod tests;
