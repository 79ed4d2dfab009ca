//! lapin without Meridian: what a program reaches that publishes the same records
//! with confirms to quorum queues of the same broker, and consumes them with
//! acknowledgements, itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use meridian_event::Record;
use tokio::task::JoinSet;

use crate::clients::records::records;
use crate::events::EventPool;
use crate::failure::{Failure, While as _};
use crate::gateway::PARTITIONS;

/// Channels of one connection.
const CHANNELS: usize = 4;
const IN_FLIGHT_PER_CHANNEL: usize = 1_000;
const PREFETCH: u16 = 2_000;
const ACKS_AT_ONCE: u64 = 100;

async fn connect(address: &str) -> Result<Connection, Failure> {
    let uri = format!("amqp://guest:guest@{address}/%2f");
    Connection::connect(&uri, ConnectionProperties::default())
        .await
        .during(format!("connecting to RabbitMQ at {address}"))
}

fn queue(topic: &str, shard: u32) -> String {
    format!("raw.{topic}.{shard}")
}

/// A topic exchange, and a quorum queue for each shard.
pub(crate) async fn make(address: &str, topic: &str) -> Result<(), Failure> {
    let connection = connect(address).await?;
    let channel = connection.create_channel().await.during("opening a channel")?;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let exchange = format!("raw.{topic}");
    channel
        .exchange_declare(
            exchange.as_str().into(),
            ExchangeKind::Topic,
            durable,
            FieldTable::default(),
        )
        .await
        .during("declaring an exchange")?;
    for shard in 0..PARTITIONS {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let (queue, key) = (queue(topic, shard), format!("{shard}.#"));
        let declared = channel.queue_declare(queue.as_str().into(), durable, arguments).await;
        declared.during("declaring a queue")?;
        channel
            .queue_bind(
                queue.as_str().into(),
                exchange.as_str().into(),
                key.as_str().into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .during("binding a queue")?;
    }
    connection.close(200, "done".into()).await.during("leaving RabbitMQ")
}

/// Removes them.
pub(crate) async fn delete(address: &str, topic: &str) -> Result<(), Failure> {
    let connection = connect(address).await?;
    let channel = connection.create_channel().await.during("opening a channel")?;
    for shard in 0..PARTITIONS {
        let queue = queue(topic, shard);
        let deleted = channel
            .queue_delete(queue.as_str().into(), QueueDeleteOptions::default())
            .await;
        deleted.during("deleting a queue")?;
    }
    let exchange = format!("raw.{topic}");
    let deleted = channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default());
    deleted.await.during("deleting an exchange")?;
    connection.close(200, "done".into()).await.during("leaving RabbitMQ")
}

struct Message {
    routing_key: String,
    properties: BasicProperties,
    body: Vec<u8>,
}

fn message(number: usize, record: &Record) -> Message {
    let mut headers = FieldTable::default();
    for header in &record.headers {
        let value = header.value.as_deref().unwrap_or_default();
        let value = AMQPValue::LongString(String::from_utf8_lossy(value).into_owned().into());
        headers.insert(header.name.to_string().into(), value);
    }
    Message {
        routing_key: format!("{}.com.acme.order.placed", number % PARTITIONS as usize),
        properties: BasicProperties::default().with_delivery_mode(2).with_headers(headers),
        body: record.value.as_deref().unwrap_or_default().to_vec(),
    }
}

/// Channels at work.
pub(crate) struct RawRabbit {
    confirmed: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    lanes: JoinSet<Result<(), Failure>>,
    connection: Connection,
}

impl RawRabbit {
    /// Connects and begins to publish.
    pub(crate) async fn start(address: &str, topic: &str, pool: &EventPool) -> Result<Self, Failure> {
        let (confirmed, stopping) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let records = records(pool);
        let messages = records.iter().enumerate();
        let messages = messages.map(|(number, record)| message(number, record));
        let messages: Arc<Vec<Message>> = Arc::new(messages.collect());
        let connection = connect(address).await?;
        let mut lanes = JoinSet::new();
        for lane in 0..CHANNELS {
            let channel = connection.create_channel().await.during("opening a channel")?;
            let selected = channel.confirm_select(ConfirmSelectOptions::default()).await;
            selected.during("asking for confirms")?;
            let first = messages.len() / CHANNELS * lane;
            let exchange = format!("raw.{topic}");
            lanes.spawn(publish(
                channel,
                exchange,
                messages.clone(),
                first,
                confirmed.clone(),
                stopping.clone(),
            ));
        }
        Ok(Self {
            confirmed,
            stopping,
            lanes,
            connection,
        })
    }

    /// Messages that RabbitMQ has confirmed so far.
    pub(crate) fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Relaxed)
    }

    /// Publishes nothing more and waits for what is in flight.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        self.stopping.store(true, Ordering::Relaxed);
        while let Some(lane) = self.lanes.join_next().await {
            lane.during("publishing to RabbitMQ")??;
        }
        self.connection
            .close(200, "done".into())
            .await
            .during("leaving RabbitMQ")
    }
}

async fn publish(
    channel: Channel,
    exchange: String,
    messages: Arc<Vec<Message>>,
    first: usize,
    confirmed: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
) -> Result<(), Failure> {
    let mut next = first;
    let mut in_flight = FuturesUnordered::new();
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    loop {
        while in_flight.len() < IN_FLIGHT_PER_CHANNEL && !stopping.load(Ordering::Relaxed) {
            let message = &messages[next % messages.len()];
            let published = channel.basic_publish(
                exchange.as_str().into(),
                message.routing_key.as_str().into(),
                options,
                &message.body,
                message.properties.clone(),
            );
            in_flight.push(published.await.during("publishing to RabbitMQ")?);
            next += 1;
        }
        let Some(confirmation) = in_flight.next().await else {
            // A channel that only ends by itself makes an orderly end of the connection fail.
            return channel.close(200, "done".into()).await.during("leaving RabbitMQ");
        };
        if !confirmation.during("publishing to RabbitMQ")?.is_ack() {
            return Err(Failure::new("publishing to RabbitMQ", "a message was not confirmed"));
        }
        confirmed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Consumes `total` messages of the topic's queues and acknowledges them in batches;
/// `on_settled` is told how many are done so far.
pub(crate) async fn consume(
    address: &str,
    topic: &str,
    total: u64,
    on_settled: impl Fn(u64) + Send + Sync + 'static,
) -> Result<(), Failure> {
    let connection = connect(address).await?;
    let (settled, on_settled) = (Arc::new(AtomicU64::new(0)), Arc::new(on_settled));
    let mut lanes = JoinSet::new();
    for shard in 0..PARTITIONS {
        let channel = connection.create_channel().await.during("opening a channel")?;
        let quality = channel.basic_qos(PREFETCH, BasicQosOptions::default()).await;
        quality.during("setting the prefetch")?;
        let queue = queue(topic, shard);
        let consumer = channel.basic_consume(
            queue.as_str().into(),
            "raw".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let mut consumer = consumer.await.during("consuming")?;
        let (settled, on_settled) = (settled.clone(), on_settled.clone());
        lanes.spawn(async move {
            let mut waiting = 0;
            while let Some(delivery) = consumer.next().await {
                let delivery = delivery.during("consuming")?;
                waiting += 1;
                if waiting == ACKS_AT_ONCE {
                    let acknowledged = delivery.ack(BasicAckOptions { multiple: true }).await;
                    acknowledged.during("acknowledging")?;
                    on_settled(settled.fetch_add(waiting, Ordering::Relaxed) + waiting);
                    waiting = 0;
                }
            }
            Ok::<(), Failure>(())
        });
    }
    // The last few of each queue stay unacknowledged: the figure ends before them.
    let enough = total.saturating_sub(u64::from(PARTITIONS) * ACKS_AT_ONCE);
    while settled.load(Ordering::Relaxed) < enough {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    lanes.abort_all();
    // Channels that end now would make an orderly close fail; the connection ends with its last channel.
    drop(connection);
    Ok(())
}
