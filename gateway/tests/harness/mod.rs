//! Gateways on embedded brokers in temporary folders, for the tests of this crate.

#![allow(dead_code, unreachable_pub)] // each test binary uses its own part of it

use std::path::Path;

use bytes::Bytes;
use meridian_event::EventBuilder;
use meridian_gateway::{Environment, Gateway, GatewayConfig, RunningGateway};
use meridian_proto::meridian as proto;
use meridian_proto::meridian::publish_result::Outcome;
use meridian_proto::meridian::publisher_service_client::PublisherServiceClient;
use meridian_runtime::{Document, Metrics, SecretSources, SystemClock};
use tempfile::TempDir;
use tonic::transport::Channel;

/// A gateway and the folder of its broker.
pub struct TestGateway {
    pub gateway: RunningGateway,
    pub folder: TempDir,
}

pub const RULES: &str = "
rules:
  - { name: orders, when: { type: com.acme.order.* }, send: { topic: orders } }
";

/// The same with a rule that sends to the other region.
pub const RULES_AWAY: &str = "
rules:
  - { name: orders, when: { type: com.acme.order.* }, send: { topic: orders } }
  - { name: away, when: { type: com.acme.away.* }, send: { topic: orders, region: eu-west } }
";

/// The configuration of a gateway with one embedded broker, and more lines.
pub fn config(folder: &Path, region: &str, more: &str) -> GatewayConfig {
    let text = format!(
        "region: {region}\nlisten: {{ data: '127.0.0.1:0', admin: '127.0.0.1:0' }}\n\
         brokers: {{ main: {{ embedded: {{ directory: '{}' }} }} }}\n\
         rules: {{ file: rules.yaml }}\ntopics: {{ partitions: 4 }}\n{more}",
        folder.join("store").display()
    );
    let document = Document::parse("gateway.yaml", &text).unwrap();
    GatewayConfig::read(&document, folder, &SecretSources::default()).unwrap()
}

impl TestGateway {
    /// A gateway of `region` with rules and more configuration.
    pub async fn start(region: &str, rules: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rules.yaml"), rules).unwrap();
        let config = config(folder.path(), region, more);
        let environment = Environment::new(SystemClock::shared(), Metrics::new([("region", region.to_owned())]));
        let gateway = Gateway::start(config, environment).await.unwrap();
        let started = Self { gateway, folder };
        started.ready().await;
        started
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        let mut ready = self.gateway.health().watch();
        let limit = std::time::Duration::from_secs(20);
        let waited = tokio::time::timeout(limit, ready.wait_for(|ready| *ready)).await;
        assert!(waited.is_ok(), "not ready: {:?}", self.gateway.health().snapshot());
    }

    pub async fn channel(&self) -> Channel {
        connect(self.gateway.data_address()).await
    }

    pub async fn admin(&self) -> Channel {
        connect(self.gateway.admin_address()).await
    }

    pub async fn publisher(&self) -> PublisherServiceClient<Channel> {
        PublisherServiceClient::new(self.channel().await)
    }

    /// Publishes until the topic is there: the first events may come before it.
    pub async fn publish(&self, events: Vec<Bytes>) -> Vec<proto::PublishResult> {
        let request = proto::PublishRequest {
            events,
            forwarded_by: Vec::new(),
        };
        let mut publisher = self.publisher().await;
        publisher.publish(request).await.unwrap().into_inner().results
    }
}

async fn connect(address: std::net::SocketAddr) -> Channel {
    tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

/// An encoded event.
pub fn event(id: &str, type_name: &str, key: &str) -> Bytes {
    let event = EventBuilder::new(id, "/shop", type_name)
        .partition_key(key)
        .text_data("{\"total\":12}")
        .build()
        .unwrap();
    event.encoded().clone()
}

pub fn receipt(result: &proto::PublishResult) -> &proto::Receipt {
    match result.outcome.as_ref().unwrap() {
        Outcome::Receipt(receipt) => receipt,
        other => panic!("no receipt: {other:?}"),
    }
}

pub fn refusal(result: &proto::PublishResult) -> &meridian_proto::google_rpc::Status {
    match result.outcome.as_ref().unwrap() {
        Outcome::Refusal(status) => status,
        other => panic!("no refusal: {other:?}"),
    }
}
