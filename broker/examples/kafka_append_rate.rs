//! How many records a second the Kafka adapter appends, next to a plain producer
//! of librdkafka with the same settings. Run it in release, alone on the machine:
//!
//! ```text
//! cargo run --release -p meridian-broker --example kafka_append_rate -- 127.0.0.1:19092 1000000 256
//! ```

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_broker::adapters::kafka::{KafkaConfig, connect};
use meridian_broker::{
    AppendRecord, Broker, BrokerName, GroupName, ReadEvent, ReaderOptions, RegionName, TopicName, TopicSpec,
};
use meridian_event::Record;
use meridian_runtime::SystemClock;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const BATCH_RECORDS: usize = 256;
const LANES: usize = 4;
const LIMIT: Duration = Duration::from_secs(60);

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let bootstrap = arguments.next().unwrap_or_else(|| "127.0.0.1:19092".to_owned());
    let records: usize = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let bytes: usize = arguments.next().map_or(Ok(256), |text| text.parse())?;
    let config = KafkaConfig::new(vec![bootstrap]);
    let broker = connect(
        RegionName::new("here")?,
        BrokerName::new("main")?,
        config.clone(),
        SystemClock::shared(),
    )
    .await?;
    for round in 1..=3 {
        let plain = new_topic(&broker, "plain").await?;
        let rate = append_plainly(&config, &plain, records, bytes)?;
        let topic = new_topic(&broker, "adapter").await?;
        let ours = append(&broker, &topic, records, bytes).await?;
        println!(
            "round {round}: plain producer {rate:.0}/s, adapter {ours:.0}/s, ratio {:.2}",
            ours / rate
        );
        let read = read(&broker, &topic, records).await?;
        println!("round {round}: read and settled {read:.0}/s");
        broker.admin().delete_topic(&plain).await?;
        broker.admin().delete_topic(&topic).await?;
    }
    broker.close(LIMIT).await;
    Ok(())
}

async fn new_topic(broker: &Arc<dyn Broker>, name: &str) -> Outcome<TopicName> {
    let topic = TopicName::new(&format!("append-rate-{name}-{}", uuid::Uuid::new_v4()))?;
    broker.admin().create_topic(&TopicSpec::new(topic.clone(), 4)).await?;
    Ok(topic)
}

fn append_plainly(config: &KafkaConfig, topic: &TopicName, records: usize, bytes: usize) -> Outcome<f64> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", config.bootstrap.join(","))
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", config.linger_milliseconds.to_string())
        .set("queue.buffering.max.messages", config.max_in_flight_records.to_string())
        .create()?;
    let value = vec![b'v'; bytes];
    let begun = Instant::now();
    for number in 0..records {
        let key = format!("key-{}", number % 1000);
        let mut record = BaseRecord::to(topic.as_str()).key(&key).payload(&value);
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
        if number % 1000 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(LIMIT)?;
    Ok(records as f64 / begun.elapsed().as_secs_f64())
}

async fn append(broker: &Arc<dyn Broker>, topic: &TopicName, records: usize, bytes: usize) -> Outcome<f64> {
    let begun = Instant::now();
    let lanes: Vec<_> = (0..LANES)
        .map(|lane| {
            tokio::spawn(append_lane(
                Arc::clone(broker),
                topic.clone(),
                lane,
                records / LANES,
                bytes,
            ))
        })
        .collect();
    for lane in lanes {
        lane.await??;
    }
    Ok(records as f64 / begun.elapsed().as_secs_f64())
}

/// Appends batch after batch; outcomes are awaited beside.
async fn append_lane(
    broker: Arc<dyn Broker>,
    topic: TopicName,
    lane: usize,
    records: usize,
    bytes: usize,
) -> Outcome<()> {
    let appender = broker.appender();
    let value = bytes::Bytes::from(vec![b'v'; bytes]);
    let mut commits = tokio::task::JoinSet::new();
    for first in (0..records).step_by(BATCH_RECORDS) {
        let record = |number: usize| AppendRecord {
            topic: topic.clone(),
            partition: None,
            record: Record {
                key: Some(format!("key-{lane}-{}", number % 250).into()),
                value: Some(value.clone()),
                ..Record::default()
            },
        };
        let batch = (first..records.min(first + BATCH_RECORDS)).map(record).collect();
        let admission = appender.admit(batch, Instant::now() + LIMIT).await;
        if let Some(refused) = admission.refused.into_iter().next() {
            return Err(refused.error.into());
        }
        commits.spawn(admission.commit);
        while let Some(outcomes) = commits.try_join_next() {
            outcomes?.into_iter().try_for_each(|outcome| outcome.map(|_| ()))?;
        }
    }
    while let Some(outcomes) = commits.join_next().await {
        outcomes?.into_iter().try_for_each(|outcome| outcome.map(|_| ()))?;
    }
    Ok(())
}

async fn read(broker: &Arc<dyn Broker>, topic: &TopicName, records: usize) -> Outcome<f64> {
    let group = GroupName::new(&format!("append-rate-{}", uuid::Uuid::new_v4()))?;
    let mut reader = broker
        .open_reader(ReaderOptions::new(group, vec![topic.clone()]))
        .await?;
    let settler = reader.settler();
    let (mut begun, mut read) = (Instant::now(), 0);
    while read < records / LANES * LANES {
        match reader.next().await? {
            ReadEvent::Records(records) => {
                read += records.len();
                records.iter().try_for_each(|record| settler.settle(&record.claim))?;
            }
            _ => begun = Instant::now(), // the joining of the group is not counted
        }
    }
    settler.commit(LIMIT).await?;
    let rate = read as f64 / begun.elapsed().as_secs_f64();
    reader.close(LIMIT).await?;
    Ok(rate)
}
