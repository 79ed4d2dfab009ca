//! Makes the topics that rules send to on brokers of this region, where the
//! configuration allows it, and goes on trying while a broker is away.
//!
//! Publishing never waits for it: an event for a topic that is not there yet is
//! refused with a delay. A gateway that starts is ready once the topics of its first
//! rules are there, or are somebody's to mend. What holds: each topic is tried alone, so that one that
//! cannot be made keeps no other back; tries are spaced by a capped backoff.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use meridian_broker::{AdminError, AdminErrorKind, BrokerName, TopicName, TopicSpec};
use meridian_runtime::{Backoff, BackoffPolicy, Health, HealthComponent};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::rule_book::RuleBook;
use crate::brokers::Brokers;
use crate::config::TopicDefaults;
use crate::metrics::GatewayMetrics;

/// Between two looks that publishers have asked for.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Soon, for publishers are refused meanwhile.
const TRIES: BackoffPolicy = BackoffPolicy {
    initial: Duration::from_millis(200),
    maximum: Duration::from_secs(3),
    multiplier: 2.0,
    jitter: 0.5,
};

/// What came of a try to make all topics.
#[derive(Default)]
struct Tried {
    missing: usize,
    /// Of the missing, those that may come without anybody's doing.
    retryable: usize,
}

/// Keeps the topics of the rules made.
#[derive(Debug)]
pub struct TopicKeeper {
    book: Arc<RuleBook>,
    brokers: Brokers,
    defaults: TopicDefaults,
    metrics: GatewayMetrics,
    /// Needed to be ready until the first topics are there, then a fact to show.
    first_topics: HealthComponent,
    health: HealthComponent,
    missed: Notify,
    /// The revision whose topics are all there.
    kept: watch::Sender<u64>,
}

impl TopicKeeper {
    /// A keeper of the topics of `book` on `brokers`.
    pub fn new(
        book: Arc<RuleBook>,
        brokers: Brokers,
        defaults: TopicDefaults,
        metrics: GatewayMetrics,
        health: &Health,
    ) -> Self {
        Self {
            book,
            brokers,
            defaults,
            metrics,
            first_topics: health.component("first topics"),
            health: health.optional_component("topics"),
            missed: Notify::new(),
            kept: watch::Sender::new(0),
        }
    }

    /// Whether missing topics are made.
    pub fn creates(&self) -> bool {
        self.defaults.create
    }

    /// An append found no topic: look again, for somebody may have deleted it.
    pub fn missed(&self) {
        self.missed.notify_one();
    }

    /// Waits until the topics of a revision, or a later one, are there; false when
    /// they are not within `limit`.
    pub async fn wait_for(&self, revision: u64, limit: Duration) -> bool {
        let mut kept = self.kept.subscribe();
        let there = kept.wait_for(|kept| *kept >= revision);
        matches!(tokio::time::timeout(limit, there).await, Ok(Ok(_)))
    }

    /// Keeps them until the token is cancelled.
    pub async fn run(self: Arc<Self>, seed: u64, token: CancellationToken) {
        let mut backoff = Backoff::new(TRIES, seed);
        let mut revision = self.book.watch();
        loop {
            let seen = *revision.borrow_and_update();
            let tried = self.make_all().await;
            if tried.missing == 0 {
                backoff.reset();
                self.kept.send_replace(seen);
            }
            if seen > 0 && tried.retryable == 0 {
                self.first_topics.ready();
            }
            let again = async {
                match tried.missing {
                    0 => {
                        self.missed.notified().await;
                        tokio::time::sleep(LOOK_AGAIN).await;
                    }
                    _ => tokio::time::sleep(backoff.next_delay()).await,
                }
            };
            tokio::select! {
                () = token.cancelled() => return,
                changed = revision.changed() => if changed.is_err() { return },
                () = again => {}
            }
        }
    }

    /// Makes what is missing and says how much still is.
    async fn make_all(&self) -> Tried {
        let mut tried = Tried::default();
        if !self.defaults.create {
            self.health.ready();
            return tried;
        }
        let mut faults = BTreeSet::new();
        for (broker, topic) in self.book.current().local_topics() {
            if let Err(fault) = self.make(&broker, topic).await {
                tried.missing += 1;
                tried.retryable += usize::from(fault.kind.retryable());
                faults.insert(format!("broker {broker}: {fault}"));
            }
        }
        self.metrics
            .topics_missing
            .set(i64::try_from(tried.missing).unwrap_or(i64::MAX));
        match faults.first() {
            None => self.health.ready(),
            Some(first) => {
                let reason = format!("{} topics cannot be made: {first}", tried.missing);
                self.health.not_ready(reason);
            }
        }
        tried
    }

    async fn make(&self, broker: &BrokerName, topic: TopicName) -> Result<(), AdminError> {
        let Some(broker) = self.brokers.get(broker.as_str()) else {
            return Ok(()); // rules name only brokers that are there
        };
        let spec = TopicSpec {
            replication_factor: self.defaults.replication_factor,
            ..TopicSpec::new(topic, self.defaults.partitions)
        };
        match broker.admin().create_topic(&spec).await {
            Ok(_) => Ok(()),
            // With another number of partitions, which is as good.
            Err(error) if error.kind == AdminErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(AdminError {
                message: format!("{}: {}", spec.name, error.message),
                ..error
            }),
        }
    }
}
