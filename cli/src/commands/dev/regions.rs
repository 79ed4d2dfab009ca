//! Starts and stops the two regions and the links between them.
//!
//! A region's embedded broker is shared by its gateway and the links, for a store
//! has one opener. Stops in order: links, gateways, brokers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use meridian_broker::adapters::embedded::EmbeddedConfig;
use meridian_broker::config::BrokerKindConfig;
use meridian_broker::metrics::BrokerMetrics;
use meridian_broker::{Broker, BrokerConfig, BrokerName, RegionName, connect};
use meridian_gateway::{Brokers, Environment, Gateway, GatewayConfig, RunningGateway};
use meridian_replicator::{
    LinkName, LinkSpec, Links, Parts, ReplicatorMetrics, RunningAdmin, RunningLinks, TopicPattern, serve_admin,
};
use meridian_runtime::{Document, Health, Metrics, SecretSources, SharedClock, SystemClock};

use super::layout::{Layout, RegionLayout};
use crate::commands::process::verdict;
use crate::demo::{MIRRORED_TOPICS, Site, Sites};
use crate::failure::Failure;
use crate::output::Output;

const BROKER: &str = "main";
const LINKS_CLOSE_WITHIN: Duration = Duration::from_secs(10);
const BROKER_CLOSE_WITHIN: Duration = Duration::from_secs(10);
const READY_WITHIN: Duration = Duration::from_secs(30);
/// A mirrored topic appears soon after its first event.
const REFRESH_TOPICS: Duration = Duration::from_secs(1);

/// Two regions that run, and the links between them.
pub(super) struct Regions {
    pub(super) sites: Sites,
    gateways: Vec<RunningGateway>,
    brokers: Vec<Arc<dyn Broker>>,
    links: RunningLinks,
    admin: RunningAdmin,
    clock: SharedClock,
}

impl Regions {
    /// Starts everything; all of it is ready when this returns.
    pub(super) async fn start(layout: &Layout) -> Result<Self, Failure> {
        let clock = SystemClock::shared();
        let mut gateways = Vec::new();
        let mut brokers = Vec::new();
        let mut sites = Vec::new();
        for region in &layout.regions {
            let (broker, gateway) = start_region(region, layout.peer_of(region), &clock).await?;
            sites.push(Site {
                region: region.region.to_owned(),
                gateways: vec![gateway.data_address().to_string()],
                admin: gateway.admin_address().to_string(),
            });
            brokers.push(broker);
            gateways.push(gateway);
        }
        let (links, admin) = start_links(layout, &brokers, &clock).await?;
        for gateway in &gateways {
            await_ready(gateway.health()).await?;
        }
        let sites = Sites {
            regions: sites,
            replicator: admin.address().to_string(),
        };
        Ok(Self {
            sites,
            gateways,
            brokers,
            links,
            admin,
            clock,
        })
    }

    /// Says where everything is.
    pub(super) fn introduce(&self, folder: &Path, output: Output) -> Result<(), Failure> {
        output.value(&self.sites, || {
            let mut lines = vec!["two regions are running, with a link each way:".to_owned()];
            for site in &self.sites.regions {
                let data = site.gateways.join(",");
                lines.push(format!(
                    "  {:<8} publish and subscribe at {data}, operate at {}",
                    site.region, site.admin
                ));
            }
            lines.push(format!("  links    operate at {}", self.sites.replicator));
            lines.push(format!("  rules    {}", folder.join("rules-<region>.yaml").display()));
            lines.push(
                "try: meridian publish --type com.acme.order.placed --source /shop --data '{\"total\":12}'".to_owned(),
            );
            lines.push("stop with Ctrl-C".to_owned());
            lines.join("\n")
        })
    }

    /// Stops everything in order.
    pub(super) async fn stop(self) -> Result<(), Failure> {
        let Self {
            gateways,
            brokers,
            links,
            admin,
            clock,
            ..
        } = self;
        let links_ended = links.close(clock.now() + LINKS_CLOSE_WITHIN).await;
        admin.close().await;
        let mut outcome = match links_ended {
            true => Ok(()),
            false => Err(Failure::failed("a link had not ended in time")),
        };
        for gateway in gateways {
            outcome = outcome.and(verdict(&gateway.shutdown().await));
        }
        for broker in brokers {
            broker.close(BROKER_CLOSE_WITHIN).await;
        }
        outcome
    }
}

async fn start_region(
    region: &RegionLayout,
    peer: &RegionLayout,
    clock: &SharedClock,
) -> Result<(Arc<dyn Broker>, RunningGateway), Failure> {
    let name = RegionName::new(region.region).map_err(Failure::failed)?;
    let broker_name = BrokerName::new(BROKER).map_err(Failure::failed)?;
    let metrics = Metrics::new([("region", region.region)]);
    let broker_metrics = BrokerMetrics::register(&metrics).map_err(Failure::failed)?;
    let config = BrokerConfig {
        region: name.clone(),
        name: broker_name.clone(),
        kind: BrokerKindConfig::Embedded(EmbeddedConfig::new(&region.store)),
    };
    let broker = connect(config, clock.clone(), &broker_metrics)
        .await
        .map_err(Failure::failed)?;
    let by_name = BTreeMap::from([(broker_name.clone(), Arc::clone(&broker))]);
    let brokers = Brokers::new(name, broker_name, by_name).map_err(Failure::failed)?;
    let document = Document::parse("dev", &region.configuration(peer)).map_err(Failure::configuration)?;
    let config =
        GatewayConfig::read(&document, Path::new(""), &SecretSources::default()).map_err(Failure::configuration)?;
    let environment = Environment::new(clock.clone(), metrics).with_brokers(brokers);
    let gateway = Gateway::start(config, environment).await.map_err(Failure::failed)?;
    Ok((broker, gateway))
}

async fn start_links(
    layout: &Layout,
    brokers: &[Arc<dyn Broker>],
    clock: &SharedClock,
) -> Result<(RunningLinks, RunningAdmin), Failure> {
    let [first, second] = brokers else {
        return Err(Failure::failed("a link has two ends"));
    };
    let metrics = Metrics::new([("process", "replicator")]);
    let health = Health::new(clock.clone());
    health.component("links").ready();
    let parts = Parts {
        clock: clock.clone(),
        metrics: ReplicatorMetrics::register(&metrics).map_err(Failure::failed)?,
        health: health.clone(),
        seed: rand::random(),
    };
    let specs = vec![link("us-to-eu", first, second)?, link("eu-to-us", second, first)?];
    let links = Links::start(specs, parts).map_err(Failure::failed)?;
    let address = layout.replicator.to_string();
    let admin = serve_admin(&address, links.clone(), health, metrics)
        .await
        .map_err(Failure::failed)?;
    Ok((links, admin))
}

fn link(name: &str, source: &Arc<dyn Broker>, target: &Arc<dyn Broker>) -> Result<LinkSpec, Failure> {
    let name = LinkName::new(name).map_err(Failure::failed)?;
    let topics: Result<Vec<TopicPattern>, _> = MIRRORED_TOPICS.iter().map(|topic| topic.parse()).collect();
    let topics = topics.map_err(Failure::failed)?;
    let mut link = LinkSpec::new(name, Arc::clone(source), Arc::clone(target), topics);
    link.options.refresh_topics = REFRESH_TOPICS;
    Ok(link)
}

async fn await_ready(health: &Health) -> Result<(), Failure> {
    let mut ready = health.watch();
    let waited = tokio::time::timeout(READY_WITHIN, ready.wait_for(|ready| *ready)).await;
    match waited {
        Ok(Ok(_)) => Ok(()),
        _ => Err(Failure::failed(format!(
            "a gateway is not ready: {:?}",
            health.snapshot()
        ))),
    }
}
