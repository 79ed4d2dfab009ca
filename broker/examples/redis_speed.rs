//! How fast the Redis adapter appends and reads, beside fred alone: run by hand,
//! `MERIDIAN_REDIS_A=127.0.0.1:16379 cargo run --release -p meridian-broker --example redis_speed`.
//!
//! Prints records a second of each, and their ratio.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints what it found"
)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use fred::clients::Client;
use fred::interfaces::{ClientLike, Resp3Frame};
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use meridian_broker::adapters::redis::RedisConfig;
use meridian_broker::{
    AppendRecord, Broker, BrokerConfig, BrokerKindConfig, BrokerMetrics, BrokerName, GroupName, ReadEvent,
    ReaderOptions, RegionName, TopicName, TopicSpec, connect,
};
use meridian_event::{Header, Record};
use meridian_runtime::SystemClock;
use meridian_runtime::metrics::Metrics;

const RECORDS: usize = 200_000;
const BATCH: usize = 400;

fn record(number: usize) -> Record {
    let headers = [
        ("ce_id", "0191f3a2-1111-7aaa-8bbb-123456789012"),
        ("ce_source", "/shop/orders"),
        ("ce_specversion", "1.0"),
        ("ce_type", "com.example.order.created"),
        ("ce_time", "2026-11-24T16:00:00Z"),
        ("content-type", "application/json"),
    ];
    Record {
        key: Some(format!("customer-{}", number % 1_000).into()),
        headers: headers.map(|(name, value)| Header::new(name, value)).to_vec(),
        value: Some(vec![b'x'; 400].into()),
        timestamp_ms: 1_795_536_000_000,
    }
}

fn fields(record: &Record) -> Vec<Value> {
    let mut fields = vec![Value::Bytes("timestamp".into()), Value::Bytes("1795536000000".into())];
    fields.extend([Value::Bytes("key".into()), Value::Bytes(record.key.clone().unwrap())]);
    for header in &record.headers {
        fields.extend([
            Value::Bytes(header.name.as_bytes().clone()),
            Value::Bytes(header.value.clone().unwrap()),
        ]);
    }
    fields.extend([Value::Bytes("data".into()), Value::Bytes(record.value.clone().unwrap())]);
    fields
}

fn command(name: &'static str) -> CustomCommand {
    CustomCommand::new_static(name, ClusterHash::Random, false)
}

fn words<const COUNT: usize>(words: [&str; COUNT]) -> Vec<Value> {
    words.map(|word| Value::Bytes(word.to_owned().into())).to_vec()
}

async fn fred_alone(address: &str, shards: usize) -> (f64, f64) {
    let mut config = fred::types::config::Config::from_url(&format!("redis://{address}")).unwrap();
    config.version = fred::types::RespVersion::RESP3;
    let client: Client = Builder::from_config(config).build().unwrap();
    client.init().await.unwrap();
    let run = uuid::Uuid::new_v4().simple().to_string();
    let names: Vec<_> = (0..shards).map(|shard| format!("speed:{run}:{shard}")).collect();
    for name in &names {
        let create = words(["CREATE", name, "g", "0", "MKSTREAM"]);
        client.custom::<Value, _>(command("XGROUP"), create).await.unwrap();
    }
    let began = Instant::now();
    let mut under_way = VecDeque::new();
    for first in (0..RECORDS).step_by(BATCH) {
        let pipeline = client.pipeline();
        for number in first..first + BATCH {
            let mut arguments = words([&names[number % shards], "*"]);
            arguments.extend(fields(&record(number)));
            pipeline.custom::<(), _>(command("XADD"), arguments).await.unwrap();
        }
        under_way.push_back(tokio::spawn(async move { pipeline.all::<Value>().await.unwrap() }));
        if under_way.len() == 4 {
            under_way.pop_front().unwrap().await.unwrap();
        }
    }
    for pipeline in under_way {
        pipeline.await.unwrap();
    }
    let written = RECORDS as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    let mut acknowledged = 0;
    for name in &names {
        loop {
            let read = words(["GROUP", "g", "c", "COUNT", "500", "STREAMS", name, ">"]);
            let reply = client.custom_raw(command("XREADGROUP"), read).await.unwrap();
            let Resp3Frame::Map { data, .. } = reply else { break };
            let (_, entries) = data.into_iter().next().unwrap();
            let Resp3Frame::Array { data: entries, .. } = entries else {
                break;
            };
            acknowledged += entries.len();
            let mut ack = words([name, "g"]);
            for entry in &entries {
                let Resp3Frame::Array { data, .. } = entry else {
                    continue;
                };
                let Resp3Frame::BlobString { data: id, .. } = &data[0] else {
                    continue;
                };
                ack.push(Value::Bytes(id.clone()));
            }
            client.custom::<Value, _>(command("XACK"), ack).await.unwrap();
        }
    }
    assert_eq!(acknowledged, RECORDS, "not all was read");
    let read = RECORDS as f64 / began.elapsed().as_secs_f64();
    for name in &names {
        client.custom::<Value, _>(command("DEL"), words([name])).await.unwrap();
    }
    (written, read)
}

async fn adapter(address: &str, shards: u32) -> (f64, f64) {
    let config = BrokerConfig {
        region: RegionName::new("us-east").unwrap(),
        name: BrokerName::new("cache").unwrap(),
        kind: BrokerKindConfig::Redis(RedisConfig::new(vec![address.to_owned()])),
    };
    let metrics = BrokerMetrics::register(&Metrics::new([("region", "us-east")])).unwrap();
    let broker: Arc<dyn Broker> = connect(config, SystemClock::shared(), &metrics).await.unwrap();
    let name = format!("speed.{}", uuid::Uuid::new_v4().simple());
    let topic = TopicName::new(&name).unwrap();
    broker
        .admin()
        .create_topic(&TopicSpec::new(topic.clone(), shards))
        .await
        .unwrap();
    let appender = broker.appender();
    let began = Instant::now();
    let mut commits = VecDeque::new();
    for first in (0..RECORDS).step_by(BATCH) {
        let batch = (first..first + BATCH).map(|number| AppendRecord {
            topic: topic.clone(),
            partition: None,
            record: record(number),
        });
        let deadline = Instant::now() + std::time::Duration::from_secs(10);
        let admission = appender.admit(batch.collect(), deadline).await;
        assert!(admission.refused.is_empty());
        commits.push_back(admission.commit);
        if commits.len() == 8 {
            assert!(commits.pop_front().unwrap().await.iter().all(Result::is_ok));
        }
    }
    for commit in commits {
        assert!(commit.await.iter().all(Result::is_ok));
    }
    let written = RECORDS as f64 / began.elapsed().as_secs_f64();
    let mut options = ReaderOptions::new(GroupName::new(&name).unwrap(), vec![topic.clone()]);
    options.max_unsettled_records = 20_000;
    let mut reader = broker.open_reader(options).await.unwrap();
    let settler = reader.settler();
    let (mut began, mut count) = (None, 0);
    while count < RECORDS {
        if let ReadEvent::Records(records) = reader.next().await.unwrap() {
            began.get_or_insert_with(Instant::now);
            count += records.len();
            records.iter().for_each(|record| settler.settle(&record.claim).unwrap());
        }
    }
    settler.commit(std::time::Duration::from_secs(10)).await.unwrap();
    let read = RECORDS as f64 / began.unwrap().elapsed().as_secs_f64();
    reader.close(std::time::Duration::from_secs(5)).await.unwrap();
    broker.admin().delete_topic(&topic).await.unwrap();
    (written, read)
}

#[tokio::main]
async fn main() {
    let address = std::env::var("MERIDIAN_REDIS_A").unwrap_or_else(|_| "127.0.0.1:16379".to_owned());
    for _ in 0..3 {
        let alone = fred_alone(&address, 8).await;
        let ours = adapter(&address, 8).await;
        for (what, alone, ours) in [("append", alone.0, ours.0), ("read", alone.1, ours.1)] {
            println!(
                "{what}: fred {alone:.0}/s, adapter {ours:.0}/s, ratio {:.2}",
                ours / alone
            );
        }
    }
}
