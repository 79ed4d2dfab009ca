//! The buckets of all brokers: made on first use, read where they are there.
//!
//! Every gateway looks for buckets on each of its brokers, so what one gateway parked goes on when that one is gone.
//! What holds: a bucket has one line in this process; when [`DelayDesk::close`] returns, the lines have left their
//! brokers' groups, or had the time to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meridian_broker::{AdminError, AdminErrorKind, Broker, BrokerName, TopicSpec};
use meridian_runtime::{Metrics, RegisterError, SharedClock, latency_histogram};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bucket::Bucket;
use super::line::Line;
use crate::brokers::Brokers;
use crate::metrics::take;

/// How often a gateway looks for buckets that another one made.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// How long records of a bucket are kept beside their wait, for a region whose gateways are all away.
const KEPT_BEYOND: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Of which there are as many as brokers and buckets.
pub(super) type BucketLabels = [(&'static str, String); 2];

/// What the lines count.
#[derive(Clone, Debug)]
pub struct DelayMetrics {
    /// Events that reached their topic.
    pub(super) arrived: Counter,
    /// Events that went on to another bucket.
    pub(super) moved: Counter,
    /// Appends that failed and are tried again.
    pub(super) failed: Counter,
    /// Times that a bucket was left alone because its next event was far.
    pub(super) naps: Counter,
    /// Events that are held in memory, by broker and bucket.
    pub(super) held: Family<BucketLabels, Gauge>,
    /// From the due time to the arrival.
    pub(super) late_seconds: Histogram,
}

impl DelayMetrics {
    fn register(metrics: &Metrics) -> Result<Self, RegisterError> {
        let registry = metrics.sub_registry("meridian_delay");
        let late_seconds = latency_histogram();
        registry.register(
            "late_seconds",
            "From an event's due time to its arrival in its topic",
            late_seconds.clone(),
        )?;
        Ok(Self {
            arrived: take(&registry, "arrived_events", "Events whose wait ended in their topic")?,
            moved: take(&registry, "moved_events", "Events that went on to another bucket")?,
            failed: take(
                &registry,
                "failed_appends",
                "Appends of waiting events that failed and are tried again",
            )?,
            naps: take(
                &registry,
                "naps",
                "Times that a bucket was left alone because its next event was far",
            )?,
            held: take(&registry, "held_events", "Waiting events that are held in memory")?,
            late_seconds,
        })
    }
}

/// The buckets of one broker.
#[derive(Debug)]
pub struct BrokerDelays {
    name: BrokerName,
    pub(super) broker: BrokerHandle,
    known: [AtomicBool; Bucket::ALL.len()],
    look: Notify,
}

/// A broker that can be shown.
pub(super) struct BrokerHandle(pub(super) Arc<dyn Broker>);

impl std::fmt::Debug for BrokerHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Broker")
    }
}

impl BrokerDelays {
    /// The buckets of a broker, of which none is known yet.
    pub fn new(name: BrokerName, broker: Arc<dyn Broker>) -> Self {
        Self {
            name,
            broker: BrokerHandle(broker),
            known: Default::default(),
            look: Notify::new(),
        }
    }

    /// Of which broker.
    pub fn name(&self) -> &BrokerName {
        &self.name
    }

    /// Makes a bucket's topic unless it is known to be there, and has it read.
    ///
    /// # Errors
    /// [`AdminError`] when it cannot be made now.
    pub async fn ensure(&self, bucket: Bucket) -> Result<(), AdminError> {
        if self.knows(bucket) {
            return Ok(());
        }
        let spec = TopicSpec {
            retention: Some(bucket.length() + KEPT_BEYOND),
            ..TopicSpec::new(bucket.topic(), 1)
        };
        make(&self.broker.0, &spec).await?;
        self.set_known(bucket, true);
        self.look.notify_one();
        Ok(())
    }

    /// An append did not find the bucket: it is made again on the next use.
    pub fn missed(&self, bucket: Bucket) {
        self.set_known(bucket, false);
    }

    fn knows(&self, bucket: Bucket) -> bool {
        self.known[bucket.index()].load(Ordering::Acquire)
    }

    fn set_known(&self, bucket: Bucket, known: bool) {
        self.known[bucket.index()].store(known, Ordering::Release);
    }

    async fn find(&self, bucket: Bucket) -> bool {
        let there = self.broker.0.admin().describe_topic(&bucket.topic()).await;
        let found = self.knows(bucket) || there.is_ok();
        if found {
            self.set_known(bucket, true);
        }
        found
    }
}

/// Makes a topic; one that is there is as good, however many partitions it has.
pub(super) async fn make(broker: &Arc<dyn Broker>, spec: &TopicSpec) -> Result<(), AdminError> {
    match broker.admin().create_topic(spec).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind == AdminErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// The buckets of all brokers, and the lines that read them.
#[derive(Debug)]
pub struct DelayDesk {
    by_name: BTreeMap<BrokerName, Arc<BrokerDelays>>,
    metrics: DelayMetrics,
    clock: SharedClock,
    /// Partitions of a topic that is made for an event that arrives.
    partitions: u32,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl DelayDesk {
    /// Nothing runs yet.
    ///
    /// # Errors
    /// [`RegisterError`] when the metrics are registered already.
    pub fn new(
        brokers: &Brokers,
        partitions: u32,
        clock: SharedClock,
        registry: &Metrics,
    ) -> Result<Arc<Self>, RegisterError> {
        let delays = |(name, broker): (&BrokerName, &Arc<dyn Broker>)| {
            let delays = BrokerDelays::new(name.clone(), Arc::clone(broker));
            (name.clone(), Arc::new(delays))
        };
        Ok(Arc::new(Self {
            by_name: brokers.iter().map(delays).collect(),
            metrics: DelayMetrics::register(registry)?,
            clock,
            partitions,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }))
    }

    /// The buckets of a broker.
    pub fn of(&self, broker: &BrokerName) -> Option<&Arc<BrokerDelays>> {
        self.by_name.get(broker)
    }

    /// The buckets of all brokers, by name: the order of [`Brokers::iter`].
    pub fn all(&self) -> impl Iterator<Item = &Arc<BrokerDelays>> {
        self.by_name.values()
    }

    /// Starts reading what is there, and what comes to be there.
    pub fn start(self: &Arc<Self>) {
        for delays in self.by_name.values() {
            let (desk, delays) = (Arc::clone(self), Arc::clone(delays));
            self.tasks.spawn(async move { desk.watch(delays).await });
        }
    }

    async fn watch(self: Arc<Self>, delays: Arc<BrokerDelays>) {
        let mut running = [false; Bucket::ALL.len()];
        while !running.iter().all(|running| *running) {
            for bucket in Bucket::ALL {
                if !running[bucket.index()] && delays.find(bucket).await {
                    running[bucket.index()] = true;
                    let line = Line {
                        delays: Arc::clone(&delays),
                        bucket,
                        clock: self.clock.clone(),
                        metrics: self.metrics.clone(),
                        partitions: self.partitions,
                        stop: self.stop.clone(),
                    };
                    self.tasks.spawn(line.run(rand::random()));
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = delays.look.notified() => {}
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }

    /// Stops all lines; what they hold stays on the brokers.
    pub async fn close(&self, deadline: Instant) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout_at(deadline.into(), self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("delayed events were still being moved; some may arrive twice");
        }
    }
}
