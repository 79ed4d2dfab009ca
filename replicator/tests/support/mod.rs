//! What the tests of links share: brokers of regions, records that can be told
//! apart, and a judge of what arrived.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(unreachable_pub, reason = "a module of tests")]

pub mod faulty;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_broker::adapters::embedded::EmbeddedConfig;
use meridian_broker::config::BrokerKindConfig;
use meridian_broker::metrics::BrokerMetrics;
use meridian_broker::{
    AppendRecord, Broker, BrokerConfig, BrokerName, GroupName, ReadEvent, ReadRecord, ReaderOptions, RegionName,
    TopicName, TopicSpec, connect,
};
use meridian_event::{Header, Record};
use meridian_replicator::{LinkName, LinkSpec, LinkState, LinkStatus, Links, Parts, ReplicatorMetrics, RunningLinks};
use meridian_runtime::{Health, Metrics, SystemClock};
use tempfile::TempDir;

/// The longest that anything here takes.
pub const LIMIT: Duration = Duration::from_secs(90);

/// A broker of one region, and its store.
pub struct Site {
    pub broker: Arc<dyn Broker>,
    _store: TempDir,
}

pub fn region(name: &str) -> RegionName {
    RegionName::new(name).unwrap()
}

pub fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

pub async fn connect_to(region_name: &str, kind: BrokerKindConfig) -> Arc<dyn Broker> {
    let metrics = BrokerMetrics::register(&Metrics::new([("region", region_name.to_owned())])).unwrap();
    let config = BrokerConfig {
        region: region(region_name),
        name: BrokerName::new("main").unwrap(),
        kind,
    };
    connect(config, SystemClock::shared(), &metrics).await.unwrap()
}

pub async fn embedded(region_name: &str) -> Site {
    let store = TempDir::new().unwrap();
    let config = EmbeddedConfig::new(store.path().join("store"));
    Site {
        broker: connect_to(region_name, BrokerKindConfig::Embedded(config)).await,
        _store: store,
    }
}

/// A broker that takes only small records.
pub async fn embedded_with_limit(region_name: &str, max_record_bytes: usize) -> Site {
    let store = TempDir::new().unwrap();
    let config = EmbeddedConfig {
        max_record_bytes,
        ..EmbeddedConfig::new(store.path().join("store"))
    };
    Site {
        broker: connect_to(region_name, BrokerKindConfig::Embedded(config)).await,
        _store: store,
    }
}

pub async fn make_topic(broker: &Arc<dyn Broker>, name: &str, partitions: u32) {
    broker
        .admin()
        .create_topic(&TopicSpec::new(topic(name), partitions))
        .await
        .unwrap();
}

/// Looks again and again until something is found; what was not found in time is told.
pub async fn wait_until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let looking = async {
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    match tokio::time::timeout(LIMIT, looking).await {
        Ok(found) => found,
        Err(_) => panic!("{what} did not come about within {LIMIT:?}"),
    }
}

/// A mirror is there once its link has made it.
async fn wait_for_topic(broker: &Arc<dyn Broker>, name: &str) {
    let look = async || broker.admin().describe_topic(&topic(name)).await.ok();
    wait_until(&format!("topic {name}"), look).await;
}

/// Record `number`: its key is one of seven, its value is the number.
pub fn record(number: u64) -> Record {
    Record {
        key: Some(format!("key-{}", number % 7).into_bytes().into()),
        headers: vec![
            Header::new("ce_id", format!("event-{number}").into_bytes()),
            Header::new("ce_type", "com.acme.order.placed".as_bytes().to_vec()),
            Header {
                name: "x-null".into(),
                value: None,
            },
            Header::new("x-twice", "one".as_bytes().to_vec()),
            Header::new("x-twice", "two".as_bytes().to_vec()),
        ],
        value: Some(number.to_string().into_bytes().into()),
        timestamp_ms: 1_700_000_000_000 + i64::try_from(number).unwrap(),
    }
}

pub fn number_of(record: &Record) -> u64 {
    std::str::from_utf8(record.value.as_ref().unwrap())
        .unwrap()
        .parse()
        .unwrap()
}

/// Appends durably, in order.
pub async fn append(broker: &Arc<dyn Broker>, name: &str, records: impl IntoIterator<Item = Record>) {
    let topic = topic(name);
    let batch: Vec<AppendRecord> = records
        .into_iter()
        .map(|record| AppendRecord {
            topic: topic.clone(),
            partition: None,
            record,
        })
        .collect();
    for chunk in batch.chunks(1_000) {
        let admission = broker.appender().admit(chunk.to_vec(), Instant::now() + LIMIT).await;
        assert!(admission.refused.is_empty(), "{:?}", admission.refused);
        for outcome in admission.commit.await {
            outcome.unwrap();
        }
    }
}

pub async fn append_numbers(broker: &Arc<dyn Broker>, name: &str, numbers: std::ops::Range<u64>) {
    append(broker, name, numbers.map(record)).await;
}

/// Reads a topic from its beginning, until `enough` says so; what was read, in order of each partition.
pub async fn read_until(
    broker: &Arc<dyn Broker>,
    name: &str,
    enough: impl Fn(&[ReadRecord]) -> bool,
) -> Vec<ReadRecord> {
    let group = GroupName::new(&format!("judge-{}", uuid::Uuid::new_v4())).unwrap();
    wait_for_topic(broker, name).await;
    let mut reader = broker
        .open_reader(ReaderOptions::new(group, vec![topic(name)]))
        .await
        .unwrap();
    let settler = reader.settler();
    let mut records = Vec::new();
    let reading = async {
        while !enough(&records) {
            if let ReadEvent::Records(more) = reader.next().await.unwrap() {
                for record in &more {
                    settler.settle(&record.claim).unwrap();
                }
                records.extend(more);
            }
        }
    };
    if tokio::time::timeout(LIMIT, reading).await.is_err() {
        let distinct: BTreeSet<u64> = records.iter().map(|read| number_of(&read.record)).collect();
        panic!(
            "{name} has only {} records, {} of them distinct",
            records.len(),
            distinct.len()
        );
    }
    reader.close(LIMIT).await.unwrap();
    records
}

/// Reads until every number of the range has come at least once.
pub async fn read_numbers(broker: &Arc<dyn Broker>, name: &str, numbers: std::ops::Range<u64>) -> Vec<ReadRecord> {
    let wanted = usize::try_from(numbers.end - numbers.start).unwrap();
    let seen = std::cell::RefCell::new((0, BTreeSet::new()));
    let records = read_until(broker, name, |records| {
        let mut seen = seen.borrow_mut();
        let (looked_at, numbers) = &mut *seen;
        numbers.extend(records[*looked_at..].iter().map(|read| number_of(&read.record)));
        *looked_at = records.len();
        numbers.len() >= wanted
    })
    .await;
    let distinct: BTreeSet<u64> = records.iter().map(|read| number_of(&read.record)).collect();
    assert_eq!(distinct, numbers.collect::<BTreeSet<u64>>());
    records
}

/// What came in which order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Records that came more than once.
    pub duplicates: usize,
    /// Records that came for the first time after a later one of their key.
    pub overtaken: usize,
}

pub fn judge(records: &[ReadRecord]) -> Verdict {
    let mut last: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut verdict = Verdict::default();
    for read in records {
        let number = number_of(&read.record);
        let key = read.record.key.as_ref().unwrap().to_vec();
        if !seen.insert(number) {
            verdict.duplicates += 1;
            continue;
        }
        let last = last.entry(key).or_insert(number);
        if number < *last {
            verdict.overtaken += 1;
        }
        *last = (*last).max(number);
    }
    verdict
}

/// Links that run, with what they report to.
pub struct Running {
    pub links: RunningLinks,
    pub metrics: Metrics,
    pub health: Health,
}

pub fn link(name: &str, source: &Arc<dyn Broker>, target: &Arc<dyn Broker>, topics: &[&str]) -> LinkSpec {
    let topics = topics.iter().map(|topic| topic.parse().unwrap()).collect();
    let mut spec = LinkSpec::new(
        LinkName::new(name).unwrap(),
        Arc::clone(source),
        Arc::clone(target),
        topics,
    );
    spec.options.refresh_topics = Duration::from_millis(200);
    spec
}

pub fn start(specs: Vec<LinkSpec>) -> Running {
    let clock = SystemClock::shared();
    let metrics = Metrics::new([("process", "replicator")]);
    let health = Health::new(clock.clone());
    let parts = Parts {
        clock,
        metrics: ReplicatorMetrics::register(&metrics).unwrap(),
        health: health.clone(),
        seed: 7,
    };
    Running {
        links: Links::start(specs, parts).unwrap(),
        metrics,
        health,
    }
}

impl Running {
    pub fn status(&self, name: &str) -> LinkStatus {
        self.links
            .status()
            .into_iter()
            .find(|status| status.name.as_str() == name)
            .unwrap()
    }

    /// Waits until a link's status is as wanted, and gives it.
    pub async fn wait(&self, name: &str, what: &str, wanted: impl Fn(&LinkStatus) -> bool) -> LinkStatus {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        let deadline = Instant::now() + LIMIT;
        loop {
            ticks.tick().await;
            let status = self.status(name);
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "link {name} is not {what}: {status:?}");
        }
    }

    pub async fn wait_for(&self, name: &str, state: LinkState) -> LinkStatus {
        self.wait(name, state.as_str(), |status| status.state == state).await
    }

    pub async fn close(&self) {
        assert!(
            self.links.close(Instant::now() + LIMIT).await,
            "a link did not end in time"
        );
    }
}
