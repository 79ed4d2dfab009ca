//! The conformance suite over the embedded broker, in folders of its own.
//!
//! The broker is in this process: stopping it is closing its store, and killing it
//! is opening a copy of the files as they are while it runs.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that unwraps fails where it should, and may print"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_broker::adapters::embedded::EmbeddedConfig;
use meridian_broker::conformance::reading::{Reading, numbers, options};
use meridian_broker::conformance::waiting::PATIENCE;
use meridian_broker::conformance::writing::{batch_to, new_topic, store, unique_group};
use meridian_broker::conformance::{Fixture, Need, Settings};
use meridian_broker::{
    Broker, BrokerConfig, BrokerKindConfig, BrokerMetrics, BrokerName, RegionName, StartPosition, TopicPartition,
    TopicSpec, connect,
};
use meridian_runtime::SystemClock;
use meridian_runtime::metrics::Metrics;
use tempfile::TempDir;
use tokio::sync::Mutex;

meridian_broker::conformance_suite!(EmbeddedFixture::start);
meridian_broker::log_conformance_suite!(EmbeddedFixture::start);

/// A forgetful topic keeps no more bytes in a partition.
const KEPT_BYTES: u64 = 20_000;

struct EmbeddedFixture {
    folder: TempDir,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Which copy of the store is the broker's.
    copy: usize,
    open: Option<(Settings, Arc<dyn Broker>)>,
}

impl EmbeddedFixture {
    async fn start(_need: Need) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            state: Mutex::default(),
        }
    }

    fn directory(&self, copy: usize) -> PathBuf {
        self.folder.path().join(format!("store-{copy}"))
    }
}

async fn open(directory: PathBuf, settings: &Settings) -> Arc<dyn Broker> {
    let mut config = EmbeddedConfig::new(directory);
    config.max_in_flight_records = settings.max_in_flight_records;
    config.max_in_flight_bytes = settings.max_in_flight_bytes;
    config.max_record_bytes = settings.max_record_bytes;
    config.delivery_timeout = settings.delivery_timeout;
    config.retention_interval = Duration::from_millis(50);
    let config = BrokerConfig {
        region: RegionName::new("us-east").unwrap(),
        name: BrokerName::new("fast").unwrap(),
        kind: BrokerKindConfig::Embedded(config),
    };
    let metrics = BrokerMetrics::register(&Metrics::new([("region", "us-east")])).unwrap();
    connect(config, SystemClock::shared(), &metrics).await.unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[async_trait]
impl Fixture for EmbeddedFixture {
    async fn connect(&self, settings: &Settings) -> Arc<dyn Broker> {
        let mut state = self.state.lock().await;
        if let Some((known, broker)) = &state.open
            && known == settings
        {
            return Arc::clone(broker);
        }
        if let Some((_, broker)) = state.open.take() {
            broker.close(PATIENCE).await;
        }
        let broker = open(self.directory(state.copy), settings).await;
        state.open = Some((settings.clone(), Arc::clone(&broker)));
        broker
    }

    async fn connect_other(&self) -> Arc<dyn Broker> {
        open(self.folder.path().join("other"), &Settings::default()).await
    }

    async fn stop_broker(&self) {
        if let Some((_, broker)) = self.state.lock().await.open.take() {
            broker.close(PATIENCE).await;
        }
    }

    async fn kill_broker(&self) {
        let mut state = self.state.lock().await;
        copy_folder(&self.directory(state.copy), &self.directory(state.copy + 1));
        state.copy += 1;
        state.open = None;
    }

    async fn start_broker(&self) {} // `connect` opens it

    fn handles_outlive_restarts(&self) -> bool {
        false
    }

    fn forgetful(&self, mut spec: TopicSpec) -> TopicSpec {
        spec.retention_bytes = Some(KEPT_BYTES);
        spec
    }

    async fn forget(&self, broker: &Arc<dyn Broker>, partition: &TopicPartition, position: u64) {
        let mut last = 0;
        for _ in 0..2 {
            let mut filler = batch_to(&partition.topic, partition.partition, 0..1);
            filler[0].record.value = Some(vec![b'x'; KEPT_BYTES as usize + 10_000].into());
            last = store(broker, filler).await[0].position;
        }
        let admin = broker.admin();
        let deadline = Instant::now() + PATIENCE;
        let mut look = tokio::time::interval(Duration::from_millis(20));
        loop {
            let described = admin.describe_topic(&partition.topic).await.unwrap();
            if (last + 1).saturating_sub(described.records) >= position {
                return;
            }
            assert!(Instant::now() < deadline, "retention keeps {described:?}");
            look.tick().await;
        }
    }
}

/// A group that began at the latest record misses nothing of partitions that came after
/// it began, whether it read then or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_the_latest_skips_nothing_of_partitions_that_came_later() {
    let fixture = EmbeddedFixture::start(Need::Shared).await;
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "grown-latest", 1).await;
    store(&broker, batch_to(&topic, 0, 0..3)).await;
    let mut options = options(&unique_group("grown-latest"), &topic);
    options.start = StartPosition::Latest;
    let mut reading = Reading::open(&broker, options.clone()).await;
    reading.until_partitions(1).await;
    broker.admin().grow_topic(&topic, 2).await.unwrap();
    store(&broker, batch_to(&topic, 1, 3..6)).await;
    let records = reading.take(3).await;
    assert!(numbers(&records).into_iter().eq(3..6));
    reading.settle(&records);
    reading.close().await;
    broker.admin().grow_topic(&topic, 3).await.unwrap();
    store(&broker, batch_to(&topic, 2, 6..9)).await;
    let mut reading = Reading::open(&broker, options).await;
    assert!(numbers(&reading.take(3).await).into_iter().eq(6..9));
}
