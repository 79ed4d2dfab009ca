//! rdkafka without Meridian: what a program reaches that writes the same records
//! to the same cluster itself.
//!
//! The records are the gateway's own bindings of the same events, made beforehand;
//! key, headers and value are handed over for each send, as a program must. The
//! settings are those of the gateway's producer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use meridian_event::Record;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use crate::clients::records::records;
use crate::events::EventPool;
use crate::failure::{Failure, While as _};

const FLUSH_DEADLINE: Duration = Duration::from_secs(30);
const QUEUE_FULL_POLL: Duration = Duration::from_millis(1);
/// Reports are taken each time that so many records were handed over.
const SENDS_PER_POLL: u64 = 64;

/// Makes a topic, for the raw producer and the gateway alike.
pub(crate) async fn make_topic(bootstrap: &str, topic: &str, partitions: u32) -> Result<(), Failure> {
    let partitions = i32::try_from(partitions).during("reading a number of partitions")?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    // Deleted segments leave the disk at once, or the next run would share it with them.
    let new = new.set("file.delete.delay.ms", "100");
    let results = admin(bootstrap)?.create_topics([&new], &options()).await;
    let results = results.during(format!("making the topic {topic}"))?;
    for result in results {
        result.map_err(|(topic, code)| Failure::new(format!("making the topic {topic}"), code))?;
    }
    Ok(())
}

/// Deletes a topic.
pub(crate) async fn delete_topic(bootstrap: &str, topic: &str) -> Result<(), Failure> {
    let results = admin(bootstrap)?.delete_topics(&[topic], &options()).await;
    results.during(format!("deleting the topic {topic}"))?;
    Ok(())
}

fn admin(bootstrap: &str) -> Result<AdminClient<DefaultClientContext>, Failure> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config.create().during(format!("connecting to Kafka at {bootstrap}"))
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(FLUSH_DEADLINE))
}

/// Counts reports.
#[derive(Debug, Default)]
struct Counters {
    confirmed: AtomicU64,
    failed: AtomicU64,
}

struct Reports(Arc<Counters>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        let counter = if result.is_ok() {
            &self.0.confirmed
        } else {
            &self.0.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A producer at work, on a thread of its own.
pub(crate) struct RawProducer {
    counters: Arc<Counters>,
    stopping: Arc<AtomicBool>,
    thread: JoinHandle<Result<(), KafkaError>>,
}

impl RawProducer {
    /// Connects and begins to produce.
    pub(crate) fn start(bootstrap: &str, topic: &str, pool: &EventPool) -> Result<Self, Failure> {
        let counters = Arc::new(Counters::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let config = settings(bootstrap);
        let producer: BaseProducer<Reports> = config
            .create_with_context(Reports(counters.clone()))
            .during("making a raw producer")?;
        let records = records(pool);
        let (topic, stop) = (topic.to_owned(), stopping.clone());
        let thread = std::thread::spawn(move || produce(&producer, &topic, &records, &stop));
        Ok(Self {
            counters,
            stopping,
            thread,
        })
    }

    /// Records that Kafka has confirmed so far.
    pub(crate) fn confirmed(&self) -> u64 {
        self.counters.confirmed.load(Ordering::Relaxed)
    }

    /// Sends nothing more and waits for what is in flight.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        self.stopping.store(true, Ordering::Relaxed);
        let thread = self.thread;
        let ended = tokio::task::spawn_blocking(move || thread.join())
            .await
            .during("waiting for the raw producer")?;
        let produced = ended.map_err(|_| Failure::new("waiting for the raw producer", "its thread panicked"))?;
        produced.during("producing to Kafka")?;
        match self.counters.failed.load(Ordering::Relaxed) {
            0 => Ok(()),
            failed => Err(Failure::new("producing to Kafka", format!("{failed} records failed"))),
        }
    }
}

/// As the gateway's producer has them: broker/src/adapters/kafka/settings.rs.
fn settings(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in [
        ("bootstrap.servers", bootstrap),
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("max.in.flight.requests.per.connection", "5"),
        ("partitioner", "murmur2_random"),
        ("linger.ms", "2"),
        ("batch.size", "262144"),
        ("compression.codec", "none"),
        ("message.timeout.ms", "10000"),
        ("socket.nagle.disable", "true"),
        ("queue.buffering.max.messages", "200000"),
        ("queue.buffering.max.kbytes", "131072"),
    ] {
        config.set(name, value);
    }
    config
}

fn produce(
    producer: &BaseProducer<Reports>,
    topic: &str,
    records: &[Record],
    stopping: &AtomicBool,
) -> Result<(), KafkaError> {
    let mut sent = 0_u64;
    for record in records.iter().cycle() {
        if stopping.load(Ordering::Relaxed) {
            break;
        }
        let mut message = message(topic, record);
        while let Err((error, back)) = producer.send(message) {
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(error);
            }
            producer.poll(QUEUE_FULL_POLL);
            message = back;
        }
        sent += 1;
        if sent.is_multiple_of(SENDS_PER_POLL) {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(FLUSH_DEADLINE)
}

fn message<'a>(topic: &'a str, record: &'a Record) -> BaseRecord<'a, [u8], [u8]> {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for header in &record.headers {
        headers = headers.insert(Header {
            key: &header.name,
            value: header.value.as_deref(),
        });
    }
    let mut message = BaseRecord::to(topic).headers(headers).timestamp(record.timestamp_ms);
    if let Some(key) = &record.key {
        message = message.key(&key[..]);
    }
    if let Some(value) = &record.value {
        message = message.payload(&value[..]);
    }
    message
}
