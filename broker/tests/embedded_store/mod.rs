//! What the tests of the embedded broker's disk share: open a store, append to
//! it, read all that it has, find its files.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_broker::adapters::embedded::{EmbeddedConfig, connect};
use meridian_broker::connect::ConnectError;
use meridian_broker::{
    AppendOutcome, AppendRecord, Broker, BrokerName, GroupName, ReadError, ReadEvent, ReadRecord, ReaderOptions,
    RegionName, TopicName, TopicSpec,
};
use meridian_event::Record;
use meridian_runtime::SystemClock;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn topic() -> TopicName {
    TopicName::new("orders").unwrap()
}

pub(crate) async fn try_open(config: EmbeddedConfig) -> Result<Arc<dyn Broker>, ConnectError> {
    let region = RegionName::new("us-east").unwrap();
    connect(region, BrokerName::new("main").unwrap(), config, SystemClock::shared()).await
}

/// Opens a store and makes its topic.
pub(crate) async fn open(config: EmbeddedConfig, partitions: u32) -> Arc<dyn Broker> {
    let broker = try_open(config).await.unwrap();
    broker
        .admin()
        .create_topic(&TopicSpec::new(topic(), partitions))
        .await
        .unwrap();
    broker
}

/// A record that says in its value which it is, of about so many bytes.
pub(crate) fn record(number: u64, bytes: usize) -> AppendRecord {
    let mut value = format!("{number:016}").into_bytes();
    value.extend((16..bytes).map(|index| (index as u64).wrapping_mul(31).wrapping_add(number) as u8));
    AppendRecord {
        topic: topic(),
        partition: None,
        record: Record {
            key: Some(format!("key-{}", number % 97).into()),
            value: Some(value.into()),
            timestamp_ms: 1_700_000_000_000 + number as i64,
            ..Record::default()
        },
    }
}

/// Which record it is, after a look at every byte of it.
pub(crate) fn number_of(read: &Record) -> u64 {
    let value = read.value.as_ref().unwrap();
    let number = std::str::from_utf8(&value[..16]).unwrap().parse().unwrap();
    assert_eq!(
        *read,
        record(number, value.len()).record,
        "record {number} came back changed"
    );
    number
}

pub(crate) async fn append(broker: &Arc<dyn Broker>, batch: Vec<AppendRecord>) -> Vec<AppendOutcome> {
    let admission = broker.appender().admit(batch, Instant::now() + PATIENCE).await;
    assert!(admission.refused.is_empty(), "{:?}", admission.refused[0].error);
    admission.commit.await
}

/// Appends records by number, in batches, and sees each confirmed.
pub(crate) async fn append_all(broker: &Arc<dyn Broker>, numbers: std::ops::Range<u64>, bytes: usize) {
    let numbers: Vec<u64> = numbers.collect();
    for batch in numbers.chunks(64) {
        for outcome in append(broker, batch.iter().map(|number| record(*number, bytes)).collect()).await {
            outcome.unwrap();
        }
    }
}

/// Reads, with a group of its own, until the ends that the topic has now.
pub(crate) async fn read_all(broker: &Arc<dyn Broker>, group: &str) -> Result<Vec<ReadRecord>, ReadError> {
    let expected = broker.admin().describe_topic(&topic()).await.unwrap().records;
    let mut options = ReaderOptions::new(GroupName::new(group).unwrap(), vec![topic()]);
    options.max_unsettled_records = usize::MAX;
    options.max_unsettled_bytes = usize::MAX;
    let mut reader = broker.open_reader(options).await?;
    let mut records = Vec::new();
    while (records.len() as u64) < expected {
        let event = tokio::time::timeout(PATIENCE, reader.next())
            .await
            .expect("the reader stands still")?;
        if let ReadEvent::Records(more) = event {
            records.extend(more);
        }
    }
    Ok(records)
}

/// All files below a folder, with their sizes.
pub(crate) fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => found.extend(files(&entry.path())),
            Ok(metadata) => found.push((entry.path(), metadata.len())),
            Err(_) => {} // gone since it was listed
        }
    }
    found
}

/// The file with the newest journal.
pub(crate) fn journal(directory: &Path) -> PathBuf {
    let files = files(&directory.join("store"));
    let journals = files
        .into_iter()
        .filter(|(path, _)| path.extension().is_some_and(|end| end == "jnl"));
    let number = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    journals
        .map(|(path, _)| path)
        .max_by_key(number)
        .expect("a store has a journal")
}

/// Where `needle` first is in a file.
pub(crate) fn find(path: &Path, needle: &[u8]) -> Option<usize> {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// Changes one bit of a file.
pub(crate) fn flip(path: &Path, offset: usize) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset as u64).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset as u64).unwrap();
}
