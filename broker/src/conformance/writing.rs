//! Numbered records, and appending them: every case knows its records by number.

use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use meridian_event::Record;

use super::waiting::{PATIENCE, deadline, within};
use crate::admin::TopicSpec;
use crate::append::{Admission, AppendOutcome, AppendRecord, Position};
use crate::name::{GroupName, TopicName};
use crate::seam::Broker;

/// A topic name that nobody used before.
pub fn unique_topic(theme: &str) -> TopicName {
    TopicName::new(&unique(theme)).unwrap()
}

/// A group name that nobody used before.
pub fn unique_group(theme: &str) -> GroupName {
    GroupName::new(&unique(theme)).unwrap()
}

fn unique(theme: &str) -> String {
    format!("conformance.{theme}.{}", uuid::Uuid::new_v4().simple())
}

/// Makes a topic of its own for a case.
pub async fn new_topic(broker: &Arc<dyn Broker>, theme: &str, partitions: u32) -> TopicName {
    make_topic(broker, TopicSpec::new(unique_topic(theme), partitions)).await
}

/// Makes this topic.
pub async fn make_topic(broker: &Arc<dyn Broker>, spec: TopicSpec) -> TopicName {
    let made = within(PATIENCE, "create_topic", broker.admin().create_topic(&spec)).await;
    let made = made.unwrap_or_else(|error| panic!("the topic was not made: {error:?}"));
    assert_eq!((&made.name, made.partitions), (&spec.name, spec.partitions));
    spec.name
}

/// The time now, as records have it.
pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

/// Record `number`, whose key is one of `keys`.
pub fn numbered(topic: &TopicName, number: usize, keys: usize) -> AppendRecord {
    AppendRecord {
        topic: topic.clone(),
        partition: None,
        record: Record {
            key: Some(format!("key-{}", number % keys).into()),
            headers: Vec::new(),
            value: Some(number.to_string().into()),
            timestamp_ms: now_ms(),
        },
    }
}

/// Records of these numbers over `keys` keys.
pub fn batch(topic: &TopicName, numbers: Range<usize>, keys: usize) -> Vec<AppendRecord> {
    numbers.map(|number| numbered(topic, number, keys)).collect()
}

/// Records of these numbers, all to one partition.
pub fn batch_to(topic: &TopicName, partition: u32, numbers: Range<usize>) -> Vec<AppendRecord> {
    let mut batch = batch(topic, numbers, 1);
    for append in &mut batch {
        append.partition = Some(partition);
    }
    batch
}

/// The number of a record made by [`numbered`].
pub fn number_of(record: &Record) -> usize {
    let value = record.value.as_deref().unwrap_or_default();
    let text = std::str::from_utf8(value).unwrap_or_default();
    text.parse()
        .unwrap_or_else(|_| panic!("no numbered record: {record:?}"))
}

/// Admits a batch and waits for its outcomes, whatever they are.
pub async fn append(broker: &Arc<dyn Broker>, batch: Vec<AppendRecord>) -> Appended {
    let given = batch.len();
    let admission = within(PATIENCE * 2, "admit", broker.appender().admit(batch, deadline())).await;
    let Admission { refused, commit } = admission;
    assert_eq!(refused.len() + commit.admitted(), given, "a record has no outcome");
    let admitted = commit.admitted();
    let outcomes = within(PATIENCE, "commit", commit).await;
    assert_eq!(outcomes.len(), admitted, "a record has no outcome");
    Appended { refused, outcomes }
}

/// What became of a batch.
#[derive(Debug)]
pub struct Appended {
    /// Refused at admission.
    pub refused: Vec<crate::append::RefusedRecord>,
    /// The outcomes of the others.
    pub outcomes: Vec<AppendOutcome>,
}

impl Appended {
    /// The positions of a batch that must be stored whole.
    pub fn all_stored(self) -> Vec<Position> {
        assert!(self.refused.is_empty(), "refused: {:?}", self.refused);
        let stored: Result<Vec<_>, _> = self.outcomes.into_iter().collect();
        stored.unwrap_or_else(|error| panic!("not stored: {error:?}"))
    }
}

/// Appends a batch that must be stored whole.
pub async fn store(broker: &Arc<dyn Broker>, batch: Vec<AppendRecord>) -> Vec<Position> {
    append(broker, batch).await.all_stored()
}

/// Appends one record to a partition, to be read as the last of a case.
pub async fn store_one(broker: &Arc<dyn Broker>, topic: &TopicName, partition: u32, number: usize) -> Position {
    store(broker, batch_to(topic, partition, number..number + 1)).await[0]
}
