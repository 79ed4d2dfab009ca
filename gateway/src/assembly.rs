//! What a gateway is made of: rules, topics, publishing, subscriptions, and the
//! services of both ports. Starts what runs in the background; listens nowhere.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use meridian_broker::BrokerState;
use meridian_proto::meridian::operations_service_server::{OperationsServiceServer, SERVICE_NAME as OPERATIONS};
use meridian_proto::meridian::publisher_service_server::SERVICE_NAME as PUBLISHER;
use meridian_proto::meridian::routing_service_server::{RoutingServiceServer, SERVICE_NAME as ROUTING};
use meridian_proto::meridian::subscriber_service_server::SERVICE_NAME as SUBSCRIBER;
use meridian_runtime::{Health, HealthComponent, Metrics, SharedClock, admin_routes};
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use tonic_health::server::HealthReporter;

use crate::admin::{DeadLetters, Fleet, Operations, Routing, health, reflection};
use crate::app::StartError;
use crate::brokers::Brokers;
use crate::config::{GatewayConfig, RulesSource};
use crate::delay::DelayDesk;
use crate::idempotence::Windows;
use crate::ingress::{Gate, PublisherService};
use crate::metrics::GatewayMetrics;
use crate::publishing::{Peers, Publishing, PublishingParts};
use crate::routing::rule_book::Reload;
use crate::routing::rule_file::RuleFile;
use crate::routing::{ApplyError, RuleBook, RuleContext, TopicKeeper, rule_watch};
use crate::subscription::lag::watch_idle_groups;
use crate::subscription::{Parts, Subscriptions};

const HEALTH: &str = "grpc.health.v1.Health";
/// How often the brokers' states are looked at for the process's health.
const BROKER_LOOK: Duration = Duration::from_millis(250);
/// Text of the largest rules, and what stands around it.
const MAX_ADMIN_MESSAGE_BYTES: usize = 2 * 1024 * 1024;

/// A gateway that listens nowhere yet.
pub(crate) struct Assembly {
    pub(crate) health: Health,
    pub(crate) draining: CancellationToken,
    pub(crate) metrics: GatewayMetrics,
    pub(crate) subscriptions: Arc<Subscriptions>,
    pub(crate) delays: Arc<DelayDesk>,
    pub(crate) data_routes: Router,
    pub(crate) admin_routes: Router,
    /// One for each port, with the services that it reports.
    pub(crate) health_reporters: Vec<(HealthReporter, Vec<&'static str>)>,
}

/// Puts everything together and starts what runs until `background` is cancelled.
pub(crate) fn assemble(
    config: &GatewayConfig,
    clock: &SharedClock,
    registry: &Metrics,
    brokers: &Brokers,
    background: &CancellationToken,
) -> Result<Assembly, StartError> {
    let metrics = GatewayMetrics::register(registry)?;
    registry.register_build_info(
        env!("CARGO_PKG_VERSION"),
        option_env!("MERIDIAN_REVISION").unwrap_or("unknown"),
    )?;
    registry.register_process()?;
    let health = Health::new(clock.clone());
    let book = rules(config, brokers, &metrics, &health)?;
    let keeper = Arc::new(TopicKeeper::new(
        Arc::clone(&book),
        brokers.clone(),
        config.topics.clone(),
        metrics.clone(),
        &health,
    ));
    let draining = CancellationToken::new();
    let windows = Windows::open(&config.idempotence, config.limits.publish_deadline, clock, registry)?;
    let delays = DelayDesk::new(brokers, config.topics.partitions, clock.clone(), registry)?;
    let publishing = Arc::new(Publishing::new(PublishingParts {
        book: Arc::clone(&book),
        keeper: Arc::clone(&keeper),
        peers: Arc::new(Peers::new(&config.peers, &config.limits)),
        brokers: brokers.clone(),
        windows,
        limits: config.limits.event.clone(),
        max_wait: config.limits.max_deliver_at,
        delays: Arc::clone(&delays),
        clock: clock.clone(),
        metrics: metrics.clone(),
    }));
    let subscriptions = Subscriptions::new(
        config.subscriptions.clone(),
        brokers.clone(),
        Parts {
            clock: clock.clone(),
            metrics: registry.clone(),
            health: health.clone(),
            region: config.region.clone(),
            kafka_lag_alias: config.metrics.kafka_lag_alias,
            delays: Arc::clone(&delays),
        },
    )?;
    delays.start();
    tokio::spawn(watch_idle_groups(
        Arc::clone(&subscriptions),
        config.metrics.idle_lag_interval,
        background.clone(),
    ));
    tokio::spawn(rule_watch::follow(Arc::clone(&book), background.clone()));
    tokio::spawn(keeper.run(rand::random(), background.clone()));
    tokio::spawn(watch_brokers(brokers.clone(), health.clone(), background.clone()));

    let gate = Gate::new(&config.limits, draining.clone());
    let publisher = PublisherService::new(publishing, gate, &config.limits, clock.clone(), metrics.clone());
    let mut data = RoutesBuilder::default();
    data.add_service(publisher).add_service(subscriptions.service());
    let data_reporter = add_health(&mut data);
    let data_services = vec![PUBLISHER, SUBSCRIBER];
    reflection::add(&mut data, &with_health(&data_services))?;

    let operations = Operations {
        brokers: brokers.clone(),
        subscriptions: Arc::clone(&subscriptions),
        health: health.clone(),
        draining: draining.clone(),
        clock: clock.clone(),
        fleet: Fleet::new(&config.admin_siblings),
        dead_letters: DeadLetters::new(config.subscriptions.dead_letter_topic.clone(), clock.clone()),
    };
    let routing = Routing::new(book, config.limits.event.clone());
    let mut admin = RoutesBuilder::default();
    admin
        .add_service(RoutingServiceServer::new(routing).max_decoding_message_size(MAX_ADMIN_MESSAGE_BYTES))
        .add_service(OperationsServiceServer::new(operations));
    let admin_reporter = add_health(&mut admin);
    let admin_services = vec![ROUTING, OPERATIONS];
    reflection::add(&mut admin, &with_health(&admin_services))?;

    Ok(Assembly {
        data_routes: data.routes().prepare().into_axum_router(),
        admin_routes: admin
            .routes()
            .prepare()
            .into_axum_router()
            .merge(admin_routes(health.clone(), registry.clone())),
        health,
        draining,
        metrics,
        subscriptions,
        delays,
        health_reporters: vec![(data_reporter, data_services), (admin_reporter, admin_services)],
    })
}

fn add_health(routes: &mut RoutesBuilder) -> HealthReporter {
    let (reporter, service) = health::service();
    routes.add_service(service);
    reporter
}

fn with_health(services: &[&'static str]) -> Vec<&'static str> {
    services.iter().copied().chain([HEALTH]).collect()
}

/// The rules at start: faulty ones are refused, absent ones may come.
fn rules(
    config: &GatewayConfig,
    brokers: &Brokers,
    metrics: &GatewayMetrics,
    health: &Health,
) -> Result<Arc<RuleBook>, StartError> {
    let context = RuleContext::new(brokers, config.peers.keys().cloned());
    let file = match &config.rules {
        RulesSource::File(path) => Some(RuleFile::new(path)),
        RulesSource::Document(_) | RulesSource::Applied => None,
    };
    let is_there = file.as_ref().is_some_and(|file| file.path().exists());
    let book = RuleBook::new(context, file, metrics.clone(), health);
    if let RulesSource::Document(text) = &config.rules {
        book.apply(text, 0).map_err(|error| match error {
            ApplyError::Refused(faults) => StartError::Rules(faults),
            other => StartError::RulesUnreadable(other.to_string()),
        })?;
    }
    if is_there {
        config.check_rules().map_err(StartError::Rules)?;
        if let Reload::Refused { reason } = book.reload() {
            return Err(StartError::RulesUnreadable(reason));
        }
    }
    Ok(Arc::new(book))
}

/// Keeps the health of each broker: the default one is needed to be ready.
async fn watch_brokers(brokers: Brokers, health: Health, token: CancellationToken) {
    let component = |name: &meridian_broker::BrokerName| {
        let label = format!("broker {name}");
        match name == brokers.default_name() {
            true => health.component(label),
            false => health.optional_component(label),
        }
    };
    let watched: Vec<(HealthComponent, _)> = brokers
        .iter()
        .map(|(name, broker)| (component(name), Arc::clone(broker)))
        .collect();
    let mut look = tokio::time::interval(BROKER_LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        for (component, broker) in &watched {
            match broker.state() {
                BrokerState::Available => component.ready(),
                BrokerState::Unavailable { reason, .. } => component.not_ready(reason),
            }
        }
        tokio::select! {
            () = token.cancelled() => return,
            _ = look.tick() => {}
        }
    }
}
