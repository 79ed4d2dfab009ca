//! The conformance suite over real Kafka clusters.
//!
//! Cases that leave the broker alone share the running cluster `a`; those that
//! disturb it start a cluster of their own, which ends with this process at the latest.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that unwraps fails where it should, and may print"
)]

mod kafka_cluster;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meridian_broker::adapters::kafka::config::{KafkaConfig, KafkaSasl, KafkaSecurity, SaslMechanism};
use meridian_broker::conformance::{Fixture, Need, Settings};
use meridian_broker::{
    Broker, BrokerConfig, BrokerKindConfig, BrokerMetrics, BrokerName, RegionName, TopicPartition, TopicSpec, connect,
};
use meridian_fault_proxy::Proxy;
use meridian_runtime::metrics::Metrics;
use meridian_runtime::{Secret, SystemClock};

use self::kafka_cluster::{Cluster, PASSWORD, USER, running, tool};

meridian_broker::conformance_suite!(KafkaFixture::start);
meridian_broker::log_conformance_suite!(KafkaFixture::start);
meridian_broker::remote_conformance_suite!(KafkaFixture::start);
meridian_broker::faulty_conformance_suite!(KafkaFixture::start);
meridian_broker::guarded_conformance_suite!(KafkaFixture::start);

struct KafkaFixture {
    bootstrap: String,
    /// The cluster that is this case's own.
    own: Option<Cluster>,
}

impl KafkaFixture {
    async fn start(need: Need) -> Self {
        match need {
            Need::Shared => Self {
                bootstrap: running("MERIDIAN_KAFKA_A"),
                own: None,
            },
            Need::Own => {
                let cluster = Cluster::start().await;
                Self {
                    bootstrap: cluster.bootstrap(),
                    own: Some(cluster),
                }
            }
        }
    }

    fn own(&self) -> &Cluster {
        self.own
            .as_ref()
            .expect("a case that disturbs its broker must say that it needs its own")
    }
}

async fn open(bootstrap: &str, settings: &Settings) -> Arc<dyn Broker> {
    open_with(bootstrap, settings, KafkaSecurity::default()).await
}

async fn open_with(bootstrap: &str, settings: &Settings, security: KafkaSecurity) -> Arc<dyn Broker> {
    let mut config = KafkaConfig::new(vec![bootstrap.to_owned()]);
    config.max_in_flight_records = settings.max_in_flight_records;
    config.max_in_flight_bytes = settings.max_in_flight_bytes;
    config.max_record_bytes = settings.max_record_bytes;
    config.delivery_timeout = Some(settings.delivery_timeout);
    config.security = security;
    let config = BrokerConfig {
        region: RegionName::new("us-east").unwrap(),
        name: BrokerName::new("main").unwrap(),
        kind: BrokerKindConfig::Kafka(config),
    };
    let metrics = BrokerMetrics::register(&Metrics::new([("region", "us-east")])).unwrap();
    connect(config, SystemClock::shared(), &metrics).await.unwrap()
}

#[async_trait]
impl Fixture for KafkaFixture {
    async fn connect(&self, settings: &Settings) -> Arc<dyn Broker> {
        open(&self.bootstrap, settings).await
    }

    async fn connect_other(&self) -> Arc<dyn Broker> {
        open(&running("MERIDIAN_KAFKA_B"), &Settings::default()).await
    }

    async fn stop_broker(&self) {
        self.own().command("stop", &[]).await;
    }

    async fn kill_broker(&self) {
        self.own().command("kill", &[]).await;
    }

    async fn start_broker(&self) {
        self.own().start_again().await;
    }

    fn handles_outlive_restarts(&self) -> bool {
        true
    }

    fn forgetful(&self, spec: TopicSpec) -> TopicSpec {
        spec
    }

    async fn forget(&self, _broker: &Arc<dyn Broker>, partition: &TopicPartition, position: u64) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("offsets.json");
        let (topic, number) = (&partition.topic, partition.partition);
        let offsets =
            format!(r#"{{"partitions":[{{"topic":"{topic}","partition":{number},"offset":{position}}}],"version":1}}"#);
        std::fs::write(&file, offsets).unwrap();
        let file = file.to_str().unwrap();
        let class = "org.apache.kafka.tools.DeleteRecordsCommand";
        tool(&[class, "--bootstrap-server", &self.bootstrap, "--offset-json-file", file]).await;
    }

    fn proxy(&self) -> &Proxy {
        self.own().proxy()
    }

    async fn connect_through(&self, settings: &Settings) -> Arc<dyn Broker> {
        open(&self.proxy().address(), settings).await
    }

    fn freeze_broker(&self) {
        self.own().signal("STOP");
    }

    fn thaw_broker(&self) {
        self.own().signal("CONT");
    }

    async fn connect_with_password(&self, right: bool) -> Arc<dyn Broker> {
        let password = if right { PASSWORD } else { "another" };
        let sasl = KafkaSasl {
            mechanism: SaslMechanism::Plain,
            username: USER.to_owned(),
            password: Secret::new(password),
        };
        let security = KafkaSecurity {
            tls: None,
            sasl: Some(sasl),
        };
        let settings = Settings {
            delivery_timeout: Duration::from_secs(3),
            ..Settings::default()
        };
        open_with(&self.own().guarded(), &settings, security).await
    }
}
