//! What stands on the broker for a topic and its groups, and declaring it.
//!
//! ```text
//! gate (one a shard count) ──#──▶ topic's exchange ──<shard>.#──▶ queue of each group and shard
//!                                        │ no queue is bound
//!                                        └──▶ parking exchange ──<shard>.#──▶ parked queue of the shard
//! ```
//!
//! Records are published to the gate of the shard count that the publisher knows.
//! Growing unbinds the old gate: a publisher that is behind gets its records back
//! as unroutable, and none goes to a shard by the old ring.
//!
//! What holds: every declaration can be made again and changes nothing; queues are
//! durable and replicated, and their own limits on redelivery are not set.

use std::time::Duration;

use lapin::options::{
    ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, ExchangeUnbindOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ExchangeKind};
use tokio::time::timeout;

use super::fault::Fault;
use super::link::Link;
use super::names::{Names, binding_key};
use crate::name::{GroupName, TopicName};

/// How long one declaration may take.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(8);

/// A node of RabbitMQ writes the name of a new queue to its disk half a second later,
/// and makes a queue whose name it lost in a kill anew, empty. Nothing is let into a
/// queue before its name is surely there.
pub(super) const NEW_QUEUE_GRACE: Duration = Duration::from_millis(1100);

/// How a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueCount {
    pub(super) ready: u64,
    pub(super) consumers: u64,
}

/// Waits for an answer at most so long.
pub(super) async fn call<T>(what: impl Future<Output = lapin::Result<T>>) -> Result<T, Fault> {
    match timeout(CALL_LIMIT, what).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Fault::Late(format!("the broker did not answer within {CALL_LIMIT:?}"))),
    }
}

fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    table
}

fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

const DURABLE_EXCHANGE: ExchangeDeclareOptions = ExchangeDeclareOptions {
    passive: false,
    durable: true,
    auto_delete: false,
    internal: false,
    nowait: false,
};

const DURABLE_QUEUE: QueueDeclareOptions = QueueDeclareOptions {
    passive: false,
    durable: true,
    exclusive: false,
    auto_delete: false,
    nowait: false,
};

/// The exchanges of a topic and its parked queues; the gate is not opened.
pub(super) async fn declare_topic(
    channel: &Channel,
    names: &Names,
    topic: &TopicName,
    shards: u32,
    parked_bytes: u64,
) -> Result<(), Fault> {
    let exchange = names.exchange(topic);
    let parking = names.parking_exchange(topic);
    let alternate = table(&[("alternate-exchange", text(&parking))]);
    let declare =
        |name: &str, arguments| channel.exchange_declare(name.into(), ExchangeKind::Topic, DURABLE_EXCHANGE, arguments);
    call(declare(&parking, FieldTable::default())).await?;
    call(declare(&exchange, alternate)).await?;
    call(declare(&names.gate(topic, shards), FieldTable::default())).await?;
    for shard in 0..shards {
        let queue = names.parked_queue(topic, shard);
        let arguments = table(&[
            ("x-queue-type", text("quorum")),
            ("x-single-active-consumer", AMQPValue::Boolean(true)),
            ("x-overflow", text("reject-publish")),
            (
                "x-max-length-bytes",
                AMQPValue::LongLongInt(i64::try_from(parked_bytes).unwrap_or(i64::MAX)),
            ),
        ]);
        call(channel.queue_declare(queue.as_str().into(), DURABLE_QUEUE, arguments)).await?;
        bind_queue(channel, &queue, &parking, &binding_key(shard)).await?;
    }
    Ok(())
}

/// Lets records of this shard count in.
pub(super) async fn open_gate(channel: &Channel, names: &Names, topic: &TopicName, shards: u32) -> Result<(), Fault> {
    let (gate, exchange) = (names.gate(topic, shards), names.exchange(topic));
    call(channel.exchange_bind(
        exchange.into(),
        gate.into(),
        "#".into(),
        ExchangeBindOptions::default(),
        FieldTable::default(),
    ))
    .await
}

/// Lets no record of this shard count in any more.
pub(super) async fn shut_gate(channel: &Channel, names: &Names, topic: &TopicName, shards: u32) -> Result<(), Fault> {
    let (gate, exchange) = (names.gate(topic, shards), names.exchange(topic));
    call(channel.exchange_unbind(
        exchange.into(),
        gate.into(),
        "#".into(),
        ExchangeUnbindOptions::default(),
        FieldTable::default(),
    ))
    .await
}

/// A group's queue of one shard; nothing comes into it before it is bound. Members compete for what is in a shared
/// one; of the other, one has all at a time.
pub(super) async fn declare_group_queue(
    channel: &Channel,
    names: &Names,
    topic: &TopicName,
    group: &GroupName,
    shard: u32,
    shared: bool,
) -> Result<(), Fault> {
    let queue = names.group_queue(topic, group, shard);
    let mut arguments = table(&[("x-queue-type", text("quorum"))]);
    if !shared {
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    }
    let declared = call(channel.queue_declare(queue.as_str().into(), DURABLE_QUEUE, arguments)).await;
    declared
        .map_err(|fault| match fault {
            Fault::Differs(text) => Fault::Differs(format!(
                "the queue {queue} is there with other arguments, such as a delivery limit, or for a group of another \
                 ordering; delete it or choose another name_prefix: {text}"
            )),
            other => other,
        })
        .map(|_| ())
}

/// Has the group's queue take the shard's records from now on.
pub(super) async fn bind_group_queue(
    channel: &Channel,
    names: &Names,
    topic: &TopicName,
    group: &GroupName,
    shard: u32,
) -> Result<(), Fault> {
    let queue = names.group_queue(topic, group, shard);
    bind_queue(channel, &queue, &names.exchange(topic), &binding_key(shard)).await
}

async fn bind_queue(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), Fault> {
    call(channel.queue_bind(
        queue.into(),
        exchange.into(),
        key.into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    ))
    .await
}

/// Where the members of a group talk, and a member's ear there: a queue that ends
/// with its connection. Returns the queue's name.
pub(super) async fn declare_ear(channel: &Channel, names: &Names, group: &GroupName) -> Result<String, Fault> {
    let exchange = names.members_exchange(group);
    let (name, kind) = (exchange.as_str().into(), ExchangeKind::Fanout);
    call(channel.exchange_declare(name, kind, DURABLE_EXCHANGE, FieldTable::default())).await?;
    let options = QueueDeclareOptions {
        durable: false,
        exclusive: true,
        auto_delete: true,
        ..DURABLE_QUEUE
    };
    // Whoever does not listen for a while misses only what is said again each second.
    let arguments = table(&[("x-max-length", AMQPValue::LongLongInt(10_000))]);
    let queue = call(channel.queue_declare("".into(), options, arguments)).await?;
    let name = queue.name().to_string();
    bind_queue(channel, &name, &exchange, "").await?;
    Ok(name)
}

/// The log of the catalog.
pub(super) async fn declare_catalog(channel: &Channel, names: &Names) -> Result<(), Fault> {
    let arguments = table(&[("x-queue-type", text("stream"))]);
    call(channel.queue_declare(names.catalog().into(), DURABLE_QUEUE, arguments)).await?;
    Ok(())
}

/// A queue like a group's, which goes by itself if nobody deletes it.
pub(super) async fn declare_probe(channel: &Channel, queue: &str) -> Result<(), Fault> {
    let arguments = table(&[
        ("x-queue-type", text("quorum")),
        ("x-expires", AMQPValue::LongLongInt(60_000)),
    ]);
    call(channel.queue_declare(queue.into(), DURABLE_QUEUE, arguments)).await?;
    Ok(())
}

/// Counts a queue; `Missing` when it is not there, which ends the channel.
pub(super) async fn count(channel: &Channel, queue: &str) -> Result<QueueCount, Fault> {
    let options = QueueDeclareOptions {
        passive: true,
        ..DURABLE_QUEUE
    };
    let queue = call(channel.queue_declare(queue.into(), options, FieldTable::default())).await?;
    Ok(QueueCount {
        ready: u64::from(queue.message_count()),
        consumers: u64::from(queue.consumer_count()),
    })
}

/// The same on a channel of its own; a queue that is not there is empty.
pub(super) async fn count_or_empty(link: &Link, queue: &str) -> Result<QueueCount, Fault> {
    let channel = link.channel(CALL_LIMIT).await?;
    match count(&channel, queue).await {
        Err(Fault::Missing(_)) => Ok(QueueCount { ready: 0, consumers: 0 }),
        counted => counted,
    }
}

/// Deletes a queue, whatever it holds; one that is not there is no fault.
pub(super) async fn delete_queue(channel: &Channel, queue: &str) -> Result<(), Fault> {
    call(channel.queue_delete(queue.into(), QueueDeleteOptions::default())).await?;
    Ok(())
}

/// Deletes an exchange; one that is not there is no fault.
pub(super) async fn delete_exchange(channel: &Channel, exchange: &str) -> Result<(), Fault> {
    call(channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default())).await
}
