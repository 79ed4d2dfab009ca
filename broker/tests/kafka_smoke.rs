//! The conformance suite over a real Kafka cluster that is there already.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meridian_broker::adapters::kafka::{KafkaConfig, connect};
use meridian_broker::conformance::{Fixture, Need, Settings};
use meridian_broker::{Broker, BrokerName, RegionName, TopicPartition, TopicSpec};
use meridian_runtime::SystemClock;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::{Offset, TopicPartitionList};

meridian_broker::conformance_suite!(Running::start);

struct Running;

impl Running {
    async fn start(need: Need) -> Self {
        assert_eq!(need, Need::Shared);
        Self
    }
}

fn server(name: &str, otherwise: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

async fn open(bootstrap: String, settings: &Settings) -> Arc<dyn Broker> {
    let mut config = KafkaConfig::new(vec![bootstrap]);
    config.max_in_flight_records = settings.max_in_flight_records;
    config.max_in_flight_bytes = settings.max_in_flight_bytes;
    config.max_record_bytes = settings.max_record_bytes;
    config.delivery_timeout = Some(settings.delivery_timeout);
    let (region, name) = (RegionName::new("us-east").unwrap(), BrokerName::new("main").unwrap());
    connect(region, name, config, SystemClock::shared()).await.unwrap()
}

#[async_trait]
impl Fixture for Running {
    async fn connect(&self, settings: &Settings) -> Arc<dyn Broker> {
        open(server("MERIDIAN_KAFKA_A", "127.0.0.1:19092"), settings).await
    }

    async fn connect_other(&self) -> Arc<dyn Broker> {
        open(server("MERIDIAN_KAFKA_B", "127.0.0.1:29092"), &Settings::default()).await
    }

    async fn stop_broker(&self) {
        panic!("the cluster is shared");
    }

    async fn kill_broker(&self) {
        panic!("the cluster is shared");
    }

    async fn start_broker(&self) {
        panic!("the cluster is shared");
    }

    fn handles_outlive_restarts(&self) -> bool {
        true
    }

    fn forgetful(&self, spec: TopicSpec) -> TopicSpec {
        spec
    }

    async fn forget(&self, _broker: &Arc<dyn Broker>, partition: &TopicPartition, position: u64) {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", server("MERIDIAN_KAFKA_A", "127.0.0.1:19092"))
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        let offset = Offset::Offset(position as i64);
        list.add_partition_offset(partition.topic.as_str(), partition.partition as i32, offset).unwrap();
        let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)));
        admin.delete_records(&list, &options).await.unwrap();
    }
}
