//! Another Kafka client and ours over one real cluster: kcat writes and reads what
//! we read and write.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that unwraps fails where it should, and may print"
)]

#[expect(dead_code, reason = "these cases start no cluster of their own")]
mod kafka_cluster;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_broker::adapters::kafka::{KafkaConfig, connect};
use meridian_broker::{
    AppendRecord, Broker, BrokerName, GroupName, ReadErrorKind, ReadEvent, ReaderOptions, RegionName, TopicName,
    TopicSpec,
};
use meridian_event::Record;
use meridian_runtime::SystemClock;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use self::kafka_cluster::running;

const PATIENCE: Duration = Duration::from_secs(60);
const KEYS: usize = 200;
const PARTITIONS: u32 = 7;

async fn open() -> Arc<dyn Broker> {
    let config = KafkaConfig::new(vec![running("MERIDIAN_KAFKA_A")]);
    let (region, name) = (RegionName::new("us-east").unwrap(), BrokerName::new("main").unwrap());
    connect(region, name, config, SystemClock::shared()).await.unwrap()
}

fn unique(what: &str) -> String {
    format!("foreign-{what}-{}", uuid::Uuid::new_v4())
}

async fn new_topic(broker: &Arc<dyn Broker>, name: &str) -> TopicName {
    let topic = TopicName::new(name).unwrap();
    let spec = TopicSpec::new(topic.clone(), PARTITIONS);
    broker.admin().create_topic(&spec).await.unwrap();
    topic
}

/// Runs kcat with `input`; its output.
async fn kcat(arguments: &[&str], input: String) -> String {
    let bootstrap = running("MERIDIAN_KAFKA_A");
    let mut child = Command::new("kcat")
        .args(["-b", &bootstrap])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("kcat is needed: run deploy/local/install-packages");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .expect("kcat hangs")
        .unwrap();
    assert!(output.status.success(), "kcat {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn append(broker: &Arc<dyn Broker>, topic: &TopicName, keys: impl Iterator<Item = usize>) {
    let record = |number: usize| AppendRecord {
        topic: topic.clone(),
        partition: None,
        record: Record {
            key: Some(format!("key-{number}").into()),
            value: Some("ours".into()),
            ..Record::default()
        },
    };
    let admission = broker
        .appender()
        .admit(keys.map(record).collect(), Instant::now() + PATIENCE)
        .await;
    assert!(admission.refused.is_empty(), "{:?}", admission.refused);
    assert!(admission.commit.await.iter().all(Result::is_ok));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_to_one_partition_whoever_writes_it() {
    let broker = open().await;
    let topic = new_topic(&broker, &unique("keys")).await;
    append(&broker, &topic, 0..KEYS).await;
    let theirs: String = (0..KEYS).map(|number| format!("key-{number}:theirs\n")).collect();
    let produce = ["-P", "-t", topic.as_str(), "-K:", "-X", "partitioner=murmur2_random"];
    kcat(&produce, theirs).await;
    let read = kcat(
        &["-C", "-t", topic.as_str(), "-e", "-q", "-f", "%k %s %p\n"],
        String::new(),
    )
    .await;
    let mut partitions: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for line in read.lines() {
        let [key, who, partition] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        partitions.entry(key).or_default().insert(who, partition);
    }
    assert_eq!(partitions.len(), KEYS);
    for (key, by) in partitions {
        assert_eq!(by["ours"], by["theirs"], "{key}");
    }
    broker.admin().delete_topic(&topic).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_client_writes_is_read_to_the_byte() {
    let broker = open().await;
    let topic = new_topic(&broker, &unique("bytes")).await;
    let produce = ["-P", "-t", topic.as_str(), "-K:", "-H", "colour=blue", "-H", "empty="];
    kcat(&produce, "a key:a value\n".to_owned()).await;
    let group = GroupName::new(&unique("bytes")).unwrap();
    let mut reader = broker
        .open_reader(ReaderOptions::new(group, vec![topic.clone()]))
        .await
        .unwrap();
    let read = async {
        loop {
            if let ReadEvent::Records(mut records) = reader.next().await.unwrap() {
                return records.remove(0).record;
            }
        }
    };
    let record = tokio::time::timeout(PATIENCE, read).await.expect("nothing was read");
    assert_eq!(record.key.as_deref(), Some(b"a key".as_slice()));
    assert_eq!(record.value.as_deref(), Some(b"a value".as_slice()));
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|header| (&*header.name, header.value.as_deref()))
        .collect();
    assert_eq!(
        headers,
        [("colour", Some(b"blue".as_slice())), ("empty", Some(b"".as_slice()))]
    );
    reader.close(PATIENCE).await.unwrap();
    broker.admin().delete_topic(&topic).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_a_topic_that_is_made_anew_ends() {
    let broker = open().await;
    let topic = new_topic(&broker, &unique("anew")).await;
    append(&broker, &topic, 0..50).await;
    let group = GroupName::new(&unique("anew")).unwrap();
    let mut reader = broker
        .open_reader(ReaderOptions::new(group, vec![topic.clone()]))
        .await
        .unwrap();
    let settler = reader.settler();
    let mut read = 0;
    while read < 50 {
        let next = tokio::time::timeout(PATIENCE, reader.next())
            .await
            .expect("nothing was read")
            .unwrap();
        if let ReadEvent::Records(records) = next {
            read += records.len();
            records.iter().for_each(|record| settler.settle(&record.claim).unwrap());
        }
    }
    settler.commit(PATIENCE).await.unwrap();
    broker.admin().delete_topic(&topic).await.unwrap();
    new_topic(&broker, topic.as_str()).await;
    append(&broker, &topic, 0..500).await;
    let end = async {
        loop {
            if let Err(error) = reader.next().await {
                return error;
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, end)
        .await
        .expect("the reader goes on with another topic");
    assert_eq!(error.kind, ReadErrorKind::ContinuityBroken, "{error}");
    broker.admin().delete_topic(&topic).await.unwrap();
}
