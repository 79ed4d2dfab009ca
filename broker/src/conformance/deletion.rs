//! M6, and R6 and R7 when a topic is deleted and made anew under its reader: that is no fault
//! which heals, so its reader ends and says why; the reader of another topic reads on.

use std::time::{Duration, Instant};

use super::fixture::{Fixture, Settings};
use super::reading::{Reading, numbers};
use super::waiting::{PATIENCE, eventually};
use super::writing::{append, batch_to, new_topic, store, store_one, unique_group};
use crate::admin::TopicSpec;
use crate::error::{AdminErrorKind, ReadErrorKind};
use crate::read::ReadEvent;

/// A reader of the old topic never takes the new one's records for its own.
pub async fn a_topic_made_anew_ends_its_reader_and_no_other(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "deleted", 1).await;
    let other = new_topic(&broker, "sibling", 1).await;
    let mut reading = Reading::join(&broker, &unique_group("deleted"), &topic).await;
    let mut sibling = Reading::join(&broker, &unique_group("sibling"), &other).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    store_one(&broker, &other, 0, 0).await;
    let records = reading.take(10).await;
    reading.settle(&records);
    reading.commit().await;
    assert_eq!(numbers(&sibling.take(1).await), [0]);

    broker.admin().delete_topic(&topic).await.unwrap();
    // Under load: what is appended in between is refused or lost with the old topic.
    append(&broker, batch_to(&topic, 0, 100..110)).await;
    let spec = TopicSpec::new(topic.clone(), 1);
    eventually(PATIENCE, "the topic anew", async || {
        broker.admin().create_topic(&spec).await // the broker may still be deleting
    })
    .await;
    eventually(PATIENCE, "the new topic's first records", async || {
        let appended = append(&broker, batch_to(&topic, 0, 200..210)).await;
        match appended.refused.is_empty() && appended.outcomes.iter().all(Result::is_ok) {
            true => Ok(()),
            false => Err(appended),
        }
    })
    .await;
    let end = Instant::now() + PATIENCE;
    let error = loop {
        assert!(
            Instant::now() < end,
            "the reader of a topic that is another one reads on"
        );
        match reading.event(Duration::from_millis(100)).await {
            Ok(Some(ReadEvent::Records(records))) => {
                let read = numbers(&records);
                assert!(
                    read.iter().all(|number| *number < 200),
                    "records of the new topic were taken for the old one's: {read:?}"
                );
            }
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ReadErrorKind::ContinuityBroken, "{error}");
    assert!(!error.message.is_empty());
    store_one(&broker, &other, 0, 1).await;
    assert_eq!(numbers(&sibling.take(1).await), [1]);
}

/// M6: a group that somebody reads for is not deleted, and its reader goes on where it was.
pub async fn a_group_that_is_read_is_not_deleted(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "kept", 1).await;
    let group = unique_group("kept");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let records = reading.take(10).await;
    reading.settle(&records);
    reading.commit().await;
    // As another gateway, or an operator, would ask.
    let other = fixture.connect(&Settings::default()).await;
    let error = other.admin().delete_group(&group).await;
    let error = error.expect_err("a group that is read was deleted");
    assert_eq!(error.kind, AdminErrorKind::GroupActive, "{error:?}");
    store(&broker, batch_to(&topic, 0, 10..20)).await;
    let records = reading.take(10).await;
    assert!(numbers(&records).into_iter().eq(10..20));
    reading.settle(&records);
    reading.close().await;
    // Its positions are kept: nothing comes again.
    store_one(&broker, &topic, 0, 20).await;
    let mut reading = Reading::join(&other, &group, &topic).await;
    assert_eq!(numbers(&reading.take(1).await), [20]);
}
