//! The composition root: everything of one gateway put together, started, and
//! stopped in order.
//!
//! What holds: a gateway starts while brokers and peers are away; it stops in a
//! fixed order under one deadline: take no more, hand sessions over, finish what
//! is in flight, flush, close.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_broker::metrics::BrokerMetrics;
use meridian_broker::{Broker, BrokerName, ConnectError, connect};
use meridian_runtime::{
    BindError, Faults, Health, Metrics, RegisterError, SharedClock, ShutdownPlan, ShutdownReport, bind,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use crate::admin::{Fleet, health};
use crate::assembly::{Assembly, assemble};
use crate::brokers::{Brokers, UnknownDefaultBroker};
use crate::config::GatewayConfig;
use crate::delay::DelayDesk;
use crate::idempotence::windows::WindowsError;
use crate::server::{Port, Server};
use crate::subscription::Subscriptions;

/// How long a broker may take to close after all else is done.
const BROKER_CLOSE_WITHIN: Duration = Duration::from_secs(10);
/// How long probes and operators may take for their last answer.
const ADMIN_CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// What a process hands to its gateway.
#[derive(Clone)]
pub struct Environment {
    /// Time.
    pub clock: SharedClock,
    /// Where the gateway's metrics are registered.
    pub metrics: Metrics,
    /// Brokers that are connected already and stay the caller's to close; `None`
    /// has the gateway connect those of its configuration.
    pub brokers: Option<Brokers>,
}

impl Environment {
    /// An environment in which the gateway connects its own brokers.
    pub fn new(clock: SharedClock, metrics: Metrics) -> Self {
        Self {
            clock,
            metrics,
            brokers: None,
        }
    }

    /// The same with brokers that are connected already.
    #[must_use]
    pub fn with_brokers(mut self, brokers: Brokers) -> Self {
        self.brokers = Some(brokers);
        self
    }
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A broker cannot be used at all; one that is away is no error.
    #[error(transparent)]
    Broker(#[from] ConnectError),
    /// The configuration names a default broker that is not there.
    #[error(transparent)]
    DefaultBroker(#[from] UnknownDefaultBroker),
    /// The rules have faults.
    #[error("the rules have faults, and nothing is started on faulty rules:\n{0}")]
    Rules(Faults),
    /// The rules cannot be read.
    #[error("the rules cannot be used: {0}")]
    RulesUnreadable(String),
    /// A port cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Two gateways share one registry.
    #[error(transparent)]
    Metrics(#[from] RegisterError),
    /// The windows of idempotent publishing cannot be opened.
    #[error(transparent)]
    Windows(#[from] WindowsError),
    /// The descriptors that were compiled in cannot be read.
    #[error("reflection cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A gateway.
#[derive(Debug)]
pub struct Gateway;

/// A gateway that runs. Dropping it leaves its tasks running; [`shutdown`](Self::shutdown) ends them.
pub struct RunningGateway {
    data_address: SocketAddr,
    admin_address: SocketAddr,
    health: Health,
    draining: CancellationToken,
    subscriptions: Arc<Subscriptions>,
    delays: Arc<DelayDesk>,
    brokers: Brokers,
    owns_brokers: bool,
    clock: SharedClock,
    shutdown_deadline: Duration,
    background: CancellationToken,
    data: PortTask,
    admin: PortTask,
}

/// A port that is being served.
struct PortTask {
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Gateway {
    /// Starts a gateway; both ports listen when this returns.
    ///
    /// # Errors
    /// [`StartError`]; nothing runs then.
    pub async fn start(config: GatewayConfig, environment: Environment) -> Result<RunningGateway, StartError> {
        let Environment {
            clock,
            metrics,
            brokers,
        } = environment;
        let data = bind(&config.listen.data).await?;
        let admin = bind(&config.listen.admin).await?;
        let owns_brokers = brokers.is_none();
        let brokers = match brokers {
            Some(brokers) => brokers,
            None => connect_brokers(&config, &clock, &metrics).await?,
        };
        let background = CancellationToken::new();
        let assembled = assemble(&config, &clock, &metrics, &brokers, &background);
        let assembly = match assembled {
            Ok(assembly) => assembly,
            Err(error) => {
                background.cancel();
                close_brokers(&brokers, owns_brokers).await;
                return Err(error);
            }
        };
        // Before the first session: a pause outlives every gateway but the last.
        Fleet::new(&config.admin_siblings)
            .learn_pauses(&assembly.subscriptions)
            .await;
        Ok(run(
            config,
            clock,
            brokers,
            owns_brokers,
            background,
            assembly,
            (data, admin),
        ))
    }
}

fn run(
    config: GatewayConfig,
    clock: SharedClock,
    brokers: Brokers,
    owns_brokers: bool,
    background: CancellationToken,
    assembly: Assembly,
    (data, admin): (TcpListener, TcpListener),
) -> RunningGateway {
    let address = |listener: &TcpListener, text: &str| {
        listener
            .local_addr()
            .unwrap_or_else(|_| text.parse().unwrap_or(UNKNOWN))
    };
    let (data_address, admin_address) = (
        address(&data, &config.listen.data),
        address(&admin, &config.listen.admin),
    );
    for (reporter, services) in assembly.health_reporters {
        tokio::spawn(health::follow(
            assembly.health.clone(),
            reporter,
            services,
            background.clone(),
        ));
    }
    let serve = |port, routes, listener| {
        let stop = CancellationToken::new();
        let server = Server::new(port, routes, &config.limits, assembly.metrics.clone());
        PortTask {
            stop: stop.clone(),
            serving: tokio::spawn(server.run(listener, stop)),
        }
    };
    let data = serve(Port::Data, assembly.data_routes, data);
    let admin = serve(Port::Admin, assembly.admin_routes, admin);
    tracing::info!(region = %config.region, data = %data_address, admin = %admin_address, "the gateway listens");
    RunningGateway {
        data_address,
        admin_address,
        health: assembly.health,
        draining: assembly.draining,
        subscriptions: assembly.subscriptions,
        delays: assembly.delays,
        brokers,
        owns_brokers,
        clock,
        shutdown_deadline: config.shutdown_deadline,
        background,
        data,
        admin,
    }
}

const UNKNOWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

async fn connect_brokers(
    config: &GatewayConfig,
    clock: &SharedClock,
    metrics: &Metrics,
) -> Result<Brokers, StartError> {
    let broker_metrics = BrokerMetrics::register(metrics)?;
    let mut by_name: BTreeMap<BrokerName, Arc<dyn Broker>> = BTreeMap::new();
    for broker in &config.brokers {
        match connect(broker.clone(), clock.clone(), &broker_metrics).await {
            Ok(connected) => {
                by_name.insert(broker.name.clone(), connected);
            }
            Err(error) => {
                let closing = by_name.values().map(|broker| broker.close(BROKER_CLOSE_WITHIN));
                futures::future::join_all(closing).await;
                return Err(error.into());
            }
        }
    }
    Ok(Brokers::new(
        config.region.clone(),
        config.default_broker.clone(),
        by_name,
    )?)
}

async fn close_brokers(brokers: &Brokers, owned: bool) {
    if owned {
        let closing = brokers.iter().map(|(_, broker)| broker.close(BROKER_CLOSE_WITHIN));
        futures::future::join_all(closing).await;
    }
}

impl RunningGateway {
    /// Where publishers and workers connect.
    pub fn data_address(&self) -> SocketAddr {
        self.data_address
    }

    /// Where operators and probes connect.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// The process's health.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Takes no more events and hands every session over; the process stays.
    pub async fn drain(&self, reason: &str) {
        self.health.drain();
        self.draining.cancel();
        let deadline = self.clock.now() + self.shutdown_deadline / 2;
        self.subscriptions.drain(reason, deadline).await;
    }

    /// Stops in order under the configured deadline.
    pub async fn shutdown(self) -> ShutdownReport {
        let Self {
            health,
            draining,
            subscriptions,
            delays,
            brokers,
            owns_brokers,
            clock,
            background,
            data,
            admin,
            ..
        } = self;
        let within = self.shutdown_deadline;
        // Half of the time belongs to workers, the rest to what comes after them.
        let began = clock.now();
        let [sessions_end, groups_end, publishes_end, flush_end] =
            [8, 11, 13, 14].map(|sixteenths| began + within * sixteenths / 16);
        let (draining_sessions, closing_groups) = (Arc::clone(&subscriptions), subscriptions);
        let (flushing, closing) = (brokers.clone(), brokers);
        ShutdownPlan::new(within)
            .phase("take no more", async move {
                health.drain();
                draining.cancel();
            })
            .phase("drain sessions", async move {
                draining_sessions.drain("the gateway stops", sessions_end).await;
            })
            .phase("settle and leave groups", async move {
                // Side by side: neither waits for the other.
                let (_, ()) = tokio::join!(closing_groups.close(groups_end), delays.close(groups_end));
            })
            .phase("finish publishes", data.end(publishes_end))
            .phase("flush brokers", async move {
                let flush = |broker: &Arc<dyn Broker>| {
                    let appender = broker.appender();
                    async move { appender.flush(flush_end).await }
                };
                let flushed = futures::future::join_all(flushing.iter().map(|(_, broker)| flush(broker))).await;
                if flushed.contains(&false) {
                    tracing::warn!("some records have no outcome yet");
                }
            })
            .phase(
                "close brokers",
                async move { close_brokers(&closing, owns_brokers).await },
            )
            .phase("close the admin port", async move {
                background.cancel();
                admin.end(clock.now() + ADMIN_CLOSE_WITHIN).await;
            })
            .run()
            .await
    }
}

impl PortTask {
    /// Listens no more; connections finish what they serve, and are cut at `by`,
    /// for a client that watches something would hold up what comes after.
    async fn end(mut self, by: Instant) {
        self.stop.cancel();
        match timeout_at(by.into(), &mut self.serving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "serving a port failed"),
            Err(_) => {
                self.serving.abort();
                tracing::warn!("connections were still open, and are cut");
            }
        }
    }
}
