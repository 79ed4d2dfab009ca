//! Gateways on embedded brokers in temporary folders, for the tests of this crate.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test binary uses its own part of it

pub mod scripted;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use meridian_event::EventBuilder;
use meridian_gateway::{Environment, Gateway, GatewayConfig, RunningGateway};
use meridian_proto::meridian as proto;
use meridian_proto::meridian::publish_result::Outcome;
use meridian_proto::meridian::publisher_service_client::PublisherServiceClient;
use meridian_runtime::{Document, Metrics, SecretSources, SystemClock};
use tempfile::TempDir;
use tonic::transport::Channel;

/// What happens at all happens within this.
pub const SOON: Duration = Duration::from_secs(20);

/// A gateway and the folder of its broker.
pub struct TestGateway {
    pub gateway: RunningGateway,
    pub folder: TempDir,
    pub metrics: Metrics,
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
         rules: {{ file: rules.yaml }}\n{more}",
        folder.join("store").display()
    ) + if more.contains("topics:") {
        ""
    } else {
        "topics: { partitions: 4 }\n"
    };
    let document = Document::parse("gateway.yaml", &text).unwrap();
    GatewayConfig::read(&document, folder, &SecretSources::default()).unwrap()
}

impl TestGateway {
    /// A gateway of `region` with rules and more configuration.
    pub async fn start(region: &str, rules: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rules.yaml"), rules).unwrap();
        Self::start_in(folder, region, more).await
    }

    async fn start_in(folder: TempDir, region: &str, more: &str) -> Self {
        let config = config(folder.path(), region, more);
        let metrics = Metrics::new([("region", region.to_owned())]);
        let environment = Environment::new(SystemClock::shared(), metrics.clone());
        let gateway = Gateway::start(config, environment).await.unwrap();
        let started = Self {
            gateway,
            folder,
            metrics,
        };
        started.ready().await;
        started
    }

    /// The same on a broker whose appends follow a script.
    pub async fn start_scripted(region: &str, rules: &str, more: &str) -> (Self, scripted::Script) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rules.yaml"), rules).unwrap();
        let config = config(folder.path(), region, more);
        let metrics = Metrics::new([("region", region.to_owned())]);
        let (brokers, script) = scripted::brokers(&config, &metrics).await;
        let environment = Environment::new(SystemClock::shared(), metrics.clone()).with_brokers(brokers);
        let gateway = Gateway::start(config, environment).await.unwrap();
        let started = Self {
            gateway,
            folder,
            metrics,
        };
        started.ready().await;
        (started, script)
    }

    /// Stops it, and starts another one on the same folder.
    pub async fn restart(self, region: &str, more: &str) -> Self {
        let Self { gateway, folder, .. } = self;
        assert!(gateway.shutdown().await.is_clean());
        Self::start_in(folder, region, more).await
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        let mut ready = self.gateway.health().watch();
        let waited = tokio::time::timeout(SOON, ready.wait_for(|ready| *ready)).await;
        assert!(waited.is_ok(), "not ready: {:?}", self.gateway.health().snapshot());
    }

    /// A metric's value, summed over its label sets.
    pub fn metric(&self, name: &str) -> i64 {
        let text = self.metrics.encode().unwrap();
        let lines = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as i64)
            .sum()
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

    /// Publishes one batch.
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

pub fn unknown(result: &proto::PublishResult) -> &meridian_proto::google_rpc::Status {
    match result.outcome.as_ref().unwrap() {
        Outcome::Unknown(status) => status,
        other => panic!("not unknown: {other:?}"),
    }
}

/// The details of a status within an answer.
pub fn details(status: &meridian_proto::google_rpc::Status) -> tonic_types::ErrorDetails {
    use prost::Message as _;
    let code = tonic::Code::from_i32(status.code);
    let whole = tonic::Status::with_details(code, &status.message, status.encode_to_vec().into());
    tonic_types::StatusExt::get_error_details(&whole)
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    let waited = tokio::time::timeout(SOON, async {
        while !holds().await {
            looks.tick().await;
        }
    });
    assert!(waited.await.is_ok(), "in vain: {what}");
}

/// One answer of the admin port over HTTP/1: status line and body.
pub async fn http_get(address: std::net::SocketAddr, path: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}
