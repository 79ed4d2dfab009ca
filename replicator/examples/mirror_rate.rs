//! How fast one link mirrors between two embedded brokers: records of 256 bytes
//! and 6 attributes, read, stamped, appended with fsync, settled.
//!
//! `cargo run --release -p meridian-replicator --example mirror_rate -- 1000000`

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_broker::adapters::embedded::EmbeddedConfig;
use meridian_broker::config::BrokerKindConfig;
use meridian_broker::metrics::BrokerMetrics;
use meridian_broker::{AppendRecord, Broker, BrokerConfig, BrokerName, RegionName, TopicName, TopicSpec, connect};
use meridian_event::{Header, Record};
use meridian_replicator::{LinkName, LinkSpec, Links, Parts, ReplicatorMetrics};
use meridian_runtime::{Health, Metrics, SystemClock};

const PARTITIONS: u32 = 8;
const CHUNK_RECORDS: u64 = 1_000;
const APPEND_WITHIN: Duration = Duration::from_secs(60);

async fn broker(region: &str, folder: &std::path::Path) -> Result<Arc<dyn Broker>, Box<dyn Error>> {
    let metrics = BrokerMetrics::register(&Metrics::new([("region", region.to_owned())]))?;
    let config = BrokerConfig {
        region: RegionName::new(region)?,
        name: BrokerName::new("main")?,
        kind: BrokerKindConfig::Embedded(EmbeddedConfig::new(folder.join(region))),
    };
    Ok(connect(config, SystemClock::shared(), &metrics).await?)
}

fn record(number: u64) -> Record {
    let id = number.to_string();
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", &id),
        ("ce_source", "/shop/checkout"),
        ("ce_type", "com.acme.order.placed"),
        ("ce_partitionkey", &id),
        ("ce_originregion", "us-east"),
    ];
    Record {
        key: Some(id.clone().into_bytes().into()),
        headers: headers
            .map(|(name, value)| Header::new(name, value.as_bytes().to_vec()))
            .into(),
        value: Some(vec![b'x'; 256].into()),
        timestamp_ms: 1_700_000_000_000,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let total: u64 = std::env::args().nth(1).map_or(Ok(500_000), |total| total.parse())?;
    let folder = tempfile::tempdir()?;
    let (source, target) = (
        broker("us-east", folder.path()).await?,
        broker("eu-west", folder.path()).await?,
    );
    let topic = TopicName::new("orders")?;
    source
        .admin()
        .create_topic(&TopicSpec::new(topic.clone(), PARTITIONS))
        .await?;
    for start in (0..total).step_by(CHUNK_RECORDS as usize) {
        let chunk = (start..total.min(start + CHUNK_RECORDS)).map(|number| AppendRecord {
            topic: topic.clone(),
            partition: None,
            record: record(number),
        });
        let admission = source
            .appender()
            .admit(chunk.collect(), Instant::now() + APPEND_WITHIN)
            .await;
        for outcome in admission.commit.await {
            outcome?;
        }
    }
    let clock = SystemClock::shared();
    let metrics = Metrics::new([("process", "replicator")]);
    let parts = Parts {
        clock: clock.clone(),
        metrics: ReplicatorMetrics::register(&metrics)?,
        health: Health::new(clock),
        seed: 1,
    };
    let began = Instant::now();
    let spec = LinkSpec::new(LinkName::new("us-to-eu")?, source, target, vec!["orders".parse()?]);
    let links = Links::start(vec![spec], parts)?;
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    while links.status().iter().any(|link| link.mirrored_records < total) {
        ticks.tick().await;
    }
    let seconds = began.elapsed().as_secs_f64();
    links.close(Instant::now() + APPEND_WITHIN).await;
    writeln!(
        std::io::stdout(),
        "{total} records in {seconds:.2} s: {:.0} records/s",
        total as f64 / seconds
    )?;
    Ok(())
}
