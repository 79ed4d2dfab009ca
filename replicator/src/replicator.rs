//! A replicator as a process: brokers connected, links started, the admin port
//! served; stopped in order under one deadline.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meridian_broker::metrics::BrokerMetrics;
use meridian_broker::{Broker, ConnectError, connect};
use meridian_runtime::{Health, Metrics, RegisterError, SharedClock, ShutdownPlan, ShutdownReport};

use crate::admin::{AdminError, RunningAdmin, serve_admin};
use crate::config::{End, ReplicatorConfig};
use crate::links::{Links, Parts, RunningLinks, StartLinksError};
use crate::metrics::ReplicatorMetrics;
use crate::spec::LinkSpec;

/// How long a broker may take to close.
const BROKER_CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// What a process hands to its replicator.
#[derive(Clone)]
pub struct Environment {
    /// Time.
    pub clock: SharedClock,
    /// Where metrics are registered.
    pub metrics: Metrics,
}

impl Environment {
    /// An environment.
    pub fn new(clock: SharedClock, metrics: Metrics) -> Self {
        Self { clock, metrics }
    }
}

/// Why a replicator does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A broker cannot be used at all; one that is away is no error.
    #[error(transparent)]
    Broker(#[from] ConnectError),
    /// The links contradict one another.
    #[error(transparent)]
    Links(#[from] StartLinksError),
    /// The admin port cannot be served.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Two replicators share one registry.
    #[error(transparent)]
    Metrics(#[from] RegisterError),
}

/// A replicator.
#[derive(Debug)]
pub struct Replicator;

/// A replicator that runs.
pub struct RunningReplicator {
    links: RunningLinks,
    admin: RunningAdmin,
    brokers: Vec<Arc<dyn Broker>>,
    health: Health,
    clock: SharedClock,
    shutdown_deadline: Duration,
}

impl Replicator {
    /// Starts a replicator; its admin port listens when this returns. Brokers may be away.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: ReplicatorConfig, environment: Environment) -> Result<RunningReplicator, StartError> {
        let Environment { clock, metrics } = environment;
        metrics.register_build_info(
            env!("CARGO_PKG_VERSION"),
            option_env!("MERIDIAN_REVISION").unwrap_or("unknown"),
        )?;
        metrics.register_process()?;
        let broker_metrics = BrokerMetrics::register(&metrics)?;
        let link_metrics = ReplicatorMetrics::register(&metrics)?;
        let mut brokers: BTreeMap<End, Arc<dyn Broker>> = BTreeMap::new();
        for (end, broker) in config.brokers {
            brokers.insert(end, connect(broker, clock.clone(), &broker_metrics).await?);
        }
        let specs = config.links.into_iter().filter_map(|link| {
            // The configuration has checked that both are there.
            let (source, target) = (brokers.get(&link.source)?, brokers.get(&link.target)?);
            Some(LinkSpec {
                name: link.name,
                source: Arc::clone(source),
                target: Arc::clone(target),
                options: link.options,
            })
        });
        let health = Health::new(clock.clone());
        // The process is ready when it serves; what its links do is told by each of them.
        health.component("links").ready();
        let parts = Parts {
            clock: clock.clone(),
            metrics: link_metrics,
            health: health.clone(),
            seed: clock.wall_millis().unsigned_abs(),
        };
        let links = Links::start(specs.collect(), parts)?;
        let admin = serve_admin(&config.listen_admin, links.clone(), health.clone(), metrics).await?;
        tracing::info!(admin = %admin.address(), "the replicator listens");
        Ok(RunningReplicator {
            links,
            admin,
            brokers: brokers.into_values().collect(),
            health,
            clock,
            shutdown_deadline: config.shutdown_deadline,
        })
    }
}

impl RunningReplicator {
    /// Where operators and probes connect.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The process's health.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The links.
    pub fn links(&self) -> &RunningLinks {
        &self.links
    }

    /// Stops in order: no more is read, what is in flight is settled, groups are left, brokers closed.
    pub async fn shutdown(self) -> ShutdownReport {
        let Self {
            links,
            admin,
            brokers,
            health,
            clock,
            shutdown_deadline,
        } = self;
        let links_end = clock.now() + shutdown_deadline / 2;
        ShutdownPlan::new(shutdown_deadline)
            .phase("say so", async move { health.drain() })
            .phase("finish the links", async move {
                if !links.close(links_end).await {
                    tracing::warn!("a link had not ended in time; what it had in flight comes twice");
                }
            })
            .phase("close brokers", async move {
                let closing = brokers.iter().map(|broker| broker.close(BROKER_CLOSE_WITHIN));
                futures::future::join_all(closing).await;
            })
            .phase("close the admin port", admin.close())
            .run()
            .await
    }
}
