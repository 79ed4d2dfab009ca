//! M1 to M3 and M5: topics.

use std::sync::Arc;

use super::fixture::{Fixture, Settings};
use super::reading::{Reading, numbers};
use super::waiting::{PATIENCE, eventually};
use super::writing::{append, batch, batch_to, new_topic, store, unique_group, unique_topic};
use crate::admin::{TopicDescription, TopicSpec};
use crate::error::{AdminErrorKind, AppendErrorKind};
use crate::seam::Broker;

/// M1: making a topic again changes nothing; with another number of partitions it is
/// `AlreadyExists`.
pub async fn making_a_topic_again_changes_nothing(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let admin = broker.admin();
    let spec = TopicSpec::new(unique_topic("again"), 2);
    let first = admin.create_topic(&spec).await.unwrap();
    store(&broker, batch(&spec.name, 0..5, 5)).await;
    let second = admin.create_topic(&spec).await.unwrap();
    assert_eq!(
        (&second.name, &second.id, second.partitions),
        (&first.name, &first.id, 2)
    );
    assert_eq!(admin.describe_topic(&spec.name).await.unwrap().records, 5);
    let other = TopicSpec::new(spec.name.clone(), 3);
    let error = admin.create_topic(&other).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::AlreadyExists, "{error}");
}

/// M2: a topic takes records as soon as it is made.
pub async fn a_new_topic_takes_records_at_once(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let other = fixture.connect(&Settings::default()).await;
    for _ in 0..5 {
        let topic = new_topic(&broker, "at-once", 3).await;
        store(&broker, batch(&topic, 0..9, 9)).await;
        store(&other, batch(&topic, 0..9, 9)).await;
    }
}

/// M3: topics are listed by name, without the broker's own; one is described with its
/// partitions and records.
pub async fn topics_are_listed_without_the_brokers_own(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "listed", 3).await;
    store(&broker, batch(&topic, 0..30, 30)).await;
    let admin = broker.admin();
    let topics = admin.list_topics().await.unwrap();
    assert!(topics.is_sorted_by(|one, two| one.name < two.name), "not by name");
    assert!(topics.iter().all(|topic| !topic.name.as_str().starts_with("__")));
    let listed = topics
        .into_iter()
        .find(|listed| listed.name == topic)
        .expect("not listed");
    let described = admin.describe_topic(&topic).await.unwrap();
    assert_eq!(listed, described);
    assert_eq!((described.partitions, described.records), (3, 30));
}

/// What is not there is `TopicNotFound`, and what cannot be made is `InvalidRequest`.
pub async fn wrong_requests_are_refused(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let admin = broker.admin();
    let nowhere = unique_topic("nowhere");
    for error in [
        admin.describe_topic(&nowhere).await.unwrap_err(),
        admin.delete_topic(&nowhere).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, AdminErrorKind::TopicNotFound, "{error}");
        assert!(error.to_string().contains(nowhere.as_str()), "{error}");
    }
    let error = admin.create_topic(&TopicSpec::new(nowhere, 0)).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::InvalidRequest, "{error}");
}

/// A deleted topic is gone with its records, and one of the same name is another.
pub async fn a_topic_made_anew_is_another(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let admin = broker.admin();
    let topic = new_topic(&broker, "anew", 1).await;
    store(&broker, batch_to(&topic, 0, 0..5)).await;
    let before = admin.describe_topic(&topic).await.unwrap();
    admin.delete_topic(&topic).await.unwrap();
    eventually(PATIENCE, "the topic's end", async || {
        let appended = append(&broker, batch_to(&topic, 0, 5..6)).await;
        let refused = appended.refused.into_iter().map(|refused| refused.error);
        let mut errors = refused.chain(appended.outcomes.into_iter().filter_map(Result::err));
        match errors.next() {
            Some(error) if error.kind == AppendErrorKind::TopicNotFound => Ok(()),
            other => Err(other),
        }
    })
    .await;
    let spec = TopicSpec::new(topic.clone(), 1);
    let after = eventually(PATIENCE, "the topic anew", async || {
        admin.create_topic(&spec).await // the broker may still be deleting
    })
    .await;
    assert_ne!(after.id, before.id);
    store(&broker, batch_to(&topic, 0, 0..1)).await;
    assert_eq!(admin.describe_topic(&topic).await.unwrap().records, 1);
}

/// M5: a topic gets more partitions and keeps its records and its identity; the same
/// number changes nothing, fewer are refused.
pub async fn a_topic_only_ever_grows(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let admin = broker.admin();
    let topic = new_topic(&broker, "grown", 2).await;
    store(&broker, batch(&topic, 0..20, 20)).await;
    let before = admin.describe_topic(&topic).await.unwrap();
    assert_eq!(admin.grow_topic(&topic, 2).await.unwrap(), before);
    let error = admin.grow_topic(&topic, 1).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::InvalidRequest, "{error}");
    let nowhere = unique_topic("nowhere");
    let error = admin.grow_topic(&nowhere, 3).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::TopicNotFound, "{error}");

    let grown = admin.grow_topic(&topic, 5).await.unwrap();
    assert_eq!((grown.partitions, &grown.id), (5, &before.id));
    assert_holds(&broker, &grown, 20);
    store(&broker, batch_to(&topic, 4, 20..23)).await;
    let described = admin.describe_topic(&topic).await.unwrap();
    assert_eq!(described.partitions, 5);
    assert_holds(&broker, &described, 23);
    // Another gateway comes to know it by itself.
    let other = fixture.connect(&Settings::default()).await;
    eventually(PATIENCE, "another handle's use of the new partition", async || {
        let appended = append(&other, batch_to(&topic, 3, 23..24)).await;
        let refused = appended.refused.into_iter().map(|refused| refused.error);
        match refused
            .chain(appended.outcomes.into_iter().filter_map(Result::err))
            .next()
        {
            None => Ok(()),
            Some(error) => Err(error),
        }
    })
    .await;
    let mut reading = Reading::join(&other, &unique_group("grown"), &topic).await;
    let mut read = Vec::new();
    while read.len() < 24 {
        let records = reading.take(1).await;
        // A new shard may wait until the old ones are settled, for the sake of keys that moved.
        reading.settle(&records);
        read.extend(numbers(&records));
    }
    read.sort_unstable();
    assert!(read.into_iter().eq(0..24));
}

/// M5: a reader that is there gets the new partitions, and one that comes later misses
/// nothing of those that came while it was away.
pub async fn a_grown_topic_is_read_whole(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "grown-read", 1).await;
    store(&broker, batch_to(&topic, 0, 0..3)).await;
    let group = unique_group("grown-read");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let records = reading.take(3).await;
    reading.settle(&records);
    broker.admin().grow_topic(&topic, 2).await.unwrap();
    store(&broker, batch_to(&topic, 1, 3..6)).await;
    let records = reading.take(3).await;
    assert!(numbers(&records).into_iter().eq(3..6));
    reading.settle(&records);
    reading.close().await;
    // Grown while nobody reads.
    broker.admin().grow_topic(&topic, 3).await.unwrap();
    store(&broker, batch_to(&topic, 2, 6..9)).await;
    let mut reading = Reading::join(&broker, &group, &topic).await;
    assert!(numbers(&reading.take(3).await).into_iter().eq(6..9));
}

/// The topic holds so many records; queues may count their own marks with them.
fn assert_holds(broker: &Arc<dyn Broker>, described: &TopicDescription, records: u64) {
    match broker.profile().capabilities.replay {
        true => assert_eq!(described.records, records),
        false => assert!((records..records + 10).contains(&described.records), "{described:?}"),
    }
}
