//! RabbitMQ's own faults: alarms, connections that are cut, queues that go, and
//! clients that know nothing of Meridian.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    dead_code,
    reason = "a test that unwraps fails where it should, and may print; helpers are shared"
)]

mod rabbitmq_broker;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use meridian_broker::adapters::rabbitmq::RabbitMqConfig;
use meridian_broker::conformance::Settings;
use meridian_broker::conformance::reading::{Reading, numbers, options};
use meridian_broker::conformance::waiting::{PATIENCE, eventually, until_available, within};
use meridian_broker::conformance::writing::{append, batch_to, new_topic, number_of, store, store_one, unique_group};
use meridian_broker::{AdminErrorKind, AppendErrorKind, BrokerState, GroupReset, ReaderState, ResetTarget, Stored};
use meridian_event::Header;
use meridian_runtime::secret::Secret;

use self::rabbitmq_broker::{Server, open, open_with, running};

async fn native(address: &str) -> (Connection, lapin::Channel) {
    let uri = format!("amqp://guest:guest@{address}/%2f");
    let connection = Connection::connect(&uri, ConnectionProperties::default())
        .await
        .unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// An alarm: publishes are refused in time, consuming and settling go on, and all is
/// well when it is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_alarm_stops_publishing_alone() {
    let server = Server::start().await;
    let settings = Settings {
        delivery_timeout: Duration::from_secs(3),
        ..Settings::default()
    };
    let broker = open(&server.address(), &settings).await;
    let topic = new_topic(&broker, "alarm", 1).await;
    let group = unique_group("alarm");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    reading.until_partitions(1).await;
    store(&broker, batch_to(&topic, 0, 0..100)).await;
    let watermark = async |value| {
        let arguments = ["--", "set_vm_memory_high_watermark", value];
        server.command("ctl", &arguments).await
    };
    watermark("0").await;
    eventually(PATIENCE, "noticing the alarm", async || {
        let asked = Instant::now();
        let appended = append(&broker, batch_to(&topic, 0, 1_000..1_001)).await;
        assert!(
            asked.elapsed() < Duration::from_secs(6),
            "it took {:?}",
            asked.elapsed()
        );
        let refused: Vec<_> = appended.refused.iter().map(|refused| &refused.error).collect();
        match refused.as_slice() {
            [error] if error.kind == AppendErrorKind::BrokerUnavailable && error.message.contains("alarm") => Ok(()),
            _ => Err(format!("{refused:?}, {:?}", appended.outcomes)),
        }
    })
    .await;
    match broker.state() {
        BrokerState::Unavailable { reason, .. } => assert!(reason.contains("alarm"), "{reason}"),
        BrokerState::Available => panic!("it says that it is available"),
    }
    let records = reading.take(100).await;
    reading.settle(&records[..60]);
    reading.commit().await;
    assert_eq!(reading.settler.state(), ReaderState::Reading);
    watermark("0.6").await;
    until_available(&broker).await;
    store_one(&broker, &topic, 0, 100).await;
    reading.settle(&records[60..]);
    let mut rest: BTreeSet<_> = BTreeSet::new();
    while !rest.contains(&100) {
        rest.extend(numbers(&reading.take(1).await));
    }
    assert!(
        rest.iter().all(|number| *number >= 100),
        "a settled record came again: {rest:?}"
    );
}

/// Every connection is closed under load: nothing confirmed is lost, what nobody
/// knows is said to be unknown, and the reader is back soon.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_nothing() {
    let server = Server::start().await;
    let broker = open(&server.address(), &Settings::default()).await;
    let topic = new_topic(&broker, "cut", 2).await;
    let mut reading = Reading::join(&broker, &unique_group("cut"), &topic).await;
    reading.until_partitions(2).await;
    let writer = {
        let (broker, topic) = (Arc::clone(&broker), topic.clone());
        tokio::spawn(async move {
            let (mut confirmed, mut refused, mut cuts) = (BTreeSet::new(), BTreeSet::new(), 0);
            let mut pace = tokio::time::interval(Duration::from_millis(2));
            for first in (0..20_000).step_by(20) {
                let partition = (first / 20 % 2) as u32;
                let appended = append(&broker, batch_to(&topic, partition, first..first + 20)).await;
                let indices: BTreeSet<_> = appended.refused.iter().map(|refused| refused.index).collect();
                cuts += usize::from(!indices.is_empty());
                refused.extend(indices.iter().map(|index| first + index));
                let taken = (0..20).filter(|index| !indices.contains(index));
                for (index, outcome) in taken.zip(appended.outcomes) {
                    match outcome {
                        Ok(_) => drop(confirmed.insert(first + index)),
                        Err(error) if error.stored == Stored::No => drop(refused.insert(first + index)),
                        Err(_) => cuts += 1,
                    }
                }
                pace.tick().await; // so that it lasts
            }
            (confirmed, refused, cuts)
        })
    };
    let mut seen = BTreeSet::new();
    let mut cut = 0;
    let mut outcome = None;
    let mut writer = Some(writer);
    let end = Instant::now() + PATIENCE * 2;
    loop {
        reading.watch(Duration::from_millis(20)).await;
        let records = reading.take_waiting();
        seen.extend(records.iter().map(|record| number_of(&record.record)));
        reading.settle_if_held(&records);
        if cut < 2 && seen.len() > 2_000 * (cut + 1) {
            cut += 1;
            server.command("ctl", &["--", "close_all_connections", "test"]).await;
            let cut_at = Instant::now();
            let mut more = Vec::new();
            while more.is_empty() {
                reading.watch(Duration::from_millis(20)).await;
                more = reading.take_waiting();
                assert!(cut_at.elapsed() < Duration::from_secs(10), "the reader is not back");
            }
            seen.extend(more.iter().map(|record| number_of(&record.record)));
            reading.settle_if_held(&more);
        }
        if let Some(ended) = writer.take_if(|writer| writer.is_finished()) {
            outcome = Some(ended.await.unwrap());
        }
        if let Some((confirmed, _, _)) = &outcome
            && confirmed.is_subset(&seen)
        {
            break;
        }
        assert!(Instant::now() < end, "{} were read", seen.len());
    }
    let (_, refused, cuts) = outcome.unwrap();
    assert_eq!(cut, 2, "the connections were not cut under load");
    assert!(cuts > 0, "no append met the cut");
    let ghosts: Vec<_> = refused.intersection(&seen).collect();
    assert!(ghosts.is_empty(), "refused as surely not stored, and read: {ghosts:?}");
}

/// A group's queue is deleted under its reader: it is made again, and what comes
/// then is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_is_made_again() {
    let address = running("MERIDIAN_RABBITMQ_A");
    let broker = open(&address, &Settings::default()).await;
    let topic = new_topic(&broker, "queue-deleted", 1).await;
    let group = unique_group("queue-deleted");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    reading.until_partitions(1).await;
    store_one(&broker, &topic, 0, 0).await;
    let record = reading.take(1).await;
    reading.settle(&record);
    reading.commit().await;
    let (_connection, channel) = native(&address).await;
    let queue = format!("meridian.{topic}:group:{group}:0");
    channel
        .queue_delete(queue.into(), QueueDeleteOptions::default())
        .await
        .unwrap();
    reading.until_partitions(0).await;
    reading.until_partitions(1).await;
    store_one(&broker, &topic, 0, 1).await;
    assert_eq!(numbers(&reading.take(1).await), [1]);
}

/// What is kept for the first group is bounded, and a full topic says why it refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_without_a_group_fills_up_and_says_so() {
    let mut config = RabbitMqConfig::new(vec![running("MERIDIAN_RABBITMQ_A")]);
    config.parked_bytes = 64 * 1024;
    let broker = open_with(config).await;
    let topic = new_topic(&broker, "full", 1).await;
    let mut stored = 0;
    let error = loop {
        let mut batch = batch_to(&topic, 0, stored..stored + 1);
        // The broker counts payloads alone; a number may have zeros before it.
        batch[0].record.value = Some(format!("{stored:04000}").into());
        let mut appended = append(&broker, batch).await;
        assert!(appended.refused.is_empty(), "{:?}", appended.refused);
        match appended.outcomes.remove(0) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 200, "it never fills");
    };
    assert_eq!(
        (error.kind, error.stored),
        (AppendErrorKind::StorageFull, Stored::No),
        "{error}"
    );
    assert!(error.message.contains("no group has read it"), "{error}");
    let mut reading = Reading::join(&broker, &unique_group("full"), &topic).await;
    let records = reading.take(stored).await;
    assert!(numbers(&records).into_iter().eq(0..stored));
    reading.settle(&records);
    store_one(&broker, &topic, 0, stored).await;
    assert_eq!(numbers(&reading.take(1).await), [stored]);
}

/// A native client binds to the exchange by type, reads our spelling, and publishes in
/// every other; a topic without its exchange refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn native_clients_read_and_write() {
    let address = running("MERIDIAN_RABBITMQ_A");
    let broker = open(&address, &Settings::default()).await;
    let topic = new_topic(&broker, "native", 2).await;
    let mut reading = Reading::join(&broker, &unique_group("native"), &topic).await;
    reading.until_partitions(2).await;
    let (_connection, channel) = native(&address).await;
    let exchange = format!("meridian.{topic}");
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel
        .queue_declare("".into(), exclusive, FieldTable::default())
        .await
        .unwrap();
    let key = "*.com.example.order.#".into();
    let bound = channel.queue_bind(
        queue.name().clone(),
        exchange.as_str().into(),
        key,
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.unwrap();
    let mut batch = batch_to(&topic, 1, 0..2);
    batch[0].record.headers = vec![
        Header::new("ce_type", "com.example.order.placed"),
        Header::new("ce_id", "7"),
    ];
    batch[1].record.headers = vec![Header::new("ce_type", "com.example.invoice")];
    store(&broker, batch).await;
    let consume = channel.basic_consume(
        queue.name().clone(),
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let mut native = consume.await.unwrap();
    let delivery = within(PATIENCE, "the native delivery", native.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(delivery.routing_key.as_str(), "1.com.example.order.placed");
    let headers = delivery.properties.headers().as_ref().unwrap().inner();
    assert_eq!(
        headers["cloudEvents_type"],
        AMQPValue::LongString("com.example.order.placed".into())
    );
    assert_eq!(delivery.properties.message_id().as_ref().unwrap().as_str(), "7");
    let second = tokio::time::timeout(Duration::from_millis(300), native.next()).await;
    assert!(second.is_err(), "an event of another type came: {second:?}");
    let ours = reading.take(2).await;
    assert_eq!(numbers(&ours), [0, 1]);
    reading.settle(&ours);

    for (number, prefix) in ["cloudEvents_", "cloudEvents:", "ce-"].into_iter().enumerate() {
        let mut table = FieldTable::default();
        table.insert(format!("{prefix}type").into(), AMQPValue::LongString("foreign".into()));
        table.insert(format!("{prefix}number").into(), AMQPValue::LongInt(-7));
        let properties = BasicProperties::default()
            .with_headers(table)
            .with_content_type("text/plain".into());
        let payload = number.to_string();
        let options = BasicPublishOptions::default();
        let publish = channel.basic_publish(
            exchange.as_str().into(),
            "0.foreign".into(),
            options,
            payload.as_bytes(),
            properties,
        );
        publish.await.unwrap().await.unwrap();
        let record = reading.take(1).await.remove(0);
        assert_eq!(number_of(&record.record), number);
        for (name, value) in [
            ("ce_type", "foreign"),
            ("ce_number", "-7"),
            ("content-type", "text/plain"),
        ] {
            assert_eq!(
                record.record.header(name).map(|value| &value[..]),
                Some(value.as_bytes()),
                "{prefix}{name}"
            );
        }
        reading.settle([&record]);
    }

    // Somebody takes the bindings away: unroutable is refused, surely not stored.
    let unbound = channel.exchange_unbind(
        exchange.as_str().into(),
        format!("{exchange}:gate:2").into(),
        "#".into(),
        lapin::options::ExchangeUnbindOptions::default(),
        FieldTable::default(),
    );
    unbound.await.unwrap();
    let appended = append(&broker, batch_to(&topic, 0, 50..52)).await;
    for outcome in appended.outcomes {
        let error = outcome.expect_err("an unroutable record was confirmed");
        assert_eq!(
            (error.kind, error.stored),
            (AppendErrorKind::BrokerUnavailable, Stored::No),
            "{error}"
        );
    }
    // Making the topic again mends it.
    let spec = meridian_broker::TopicSpec::new(topic.clone(), 2);
    broker.admin().create_topic(&spec).await.unwrap();
    store_one(&broker, &topic, 0, 60).await;
    assert_eq!(numbers(&reading.take(1).await), [60]);
}

/// A wrong password is said, never shown, and tried again without hurry.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told() {
    let mut config = RabbitMqConfig::new(vec![running("MERIDIAN_RABBITMQ_A")]);
    config.password = Secret::new("not-this-one");
    let broker = open_with(config).await;
    eventually(PATIENCE, "the refusal of the password", async || match broker.state() {
        BrokerState::Unavailable { reason, .. } if reason.contains("ACCESS_REFUSED") => {
            assert!(!reason.contains("not-this-one"), "{reason}");
            Ok(())
        }
        other => Err(other),
    })
    .await;
    let topic = meridian_broker::TopicName::new("any").unwrap();
    let appended = append(&broker, batch_to(&topic, 0, 0..1)).await;
    assert_eq!(appended.refused[0].error.kind, AppendErrorKind::NotAuthorized);
    let error = broker.admin().list_topics().await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::NotAuthorized, "{error}");
}

/// A group with members is left alone; without, it can be moved to the latest and
/// deleted, and nowhere else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_moved_to_the_latest_or_deleted() {
    let broker = open(&running("MERIDIAN_RABBITMQ_A"), &Settings::default()).await;
    let admin = broker.admin();
    let topic = new_topic(&broker, "reset", 1).await;
    let group = unique_group("reset");
    let mut reading = Reading::open(&broker, options(&group, &topic)).await;
    store(&broker, batch_to(&topic, 0, 0..5)).await;
    reading.take(1).await;
    let mut reset = GroupReset {
        topic: topic.clone(),
        target: ResetTarget::Latest,
        dry_run: false,
    };
    let error = admin.reset_group(&group, &reset).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::GroupActive, "{error}");
    let error = admin.delete_group(&group).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::GroupActive, "{error}");
    reading.close().await;
    reset.target = ResetTarget::Earliest;
    let error = admin.reset_group(&group, &reset).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::Unsupported, "{error}");
    reset.target = ResetTarget::Latest;
    eventually(PATIENCE, "the reader's leave", async || {
        admin.reset_group(&group, &reset).await.map(|_| ())
    })
    .await;
    let described = admin.describe_group(&group).await.unwrap();
    assert_eq!(described.partitions[0].lag(), 0, "{described:?}");
    admin.delete_group(&group).await.unwrap();
    let error = admin.describe_group(&group).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::GroupNotFound, "{error}");
}
