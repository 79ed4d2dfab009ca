//! A1: what was confirmed is there, whatever happened to the broker since.

use super::fixture::{Fixture, Settings};
use super::reading::{Reading, numbers};
use super::writing::{append, batch, new_topic, store, unique_group};

const RECORDS: usize = 500;

/// A1: every record is durable at commit: a handle opened later reads it.
pub async fn what_is_confirmed_is_read(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "durability", 3).await;
    let positions = store(&broker, batch(&topic, 0..RECORDS, 20)).await;
    let other = fixture.connect(&Settings::default()).await;
    let mut reading = Reading::join(&other, &unique_group("durability"), &topic).await;
    let records = reading.take(RECORDS).await;
    for record in &records {
        let number = super::writing::number_of(&record.record);
        let confirmed = positions[number];
        assert_eq!(record.claim.partition.partition, confirmed.partition, "record {number}");
        if broker.profile().capabilities.replay {
            assert_eq!(record.claim.position, confirmed.position, "record {number}");
        }
    }
}

/// A1: what was confirmed survives an orderly restart of the broker.
pub async fn what_is_confirmed_survives_a_restart(fixture: &dyn Fixture) {
    survives(fixture, async || fixture.stop_broker().await).await;
}

/// A1: what was confirmed survives a kill of the broker's process.
pub async fn what_is_confirmed_survives_a_kill(fixture: &dyn Fixture) {
    survives(fixture, async || fixture.kill_broker().await).await;
}

async fn survives(fixture: &dyn Fixture, end: impl AsyncFn()) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "durability", 2).await;
    store(&broker, batch(&topic, 0..RECORDS, 20)).await;
    end().await;
    drop(broker);
    fixture.start_broker().await;
    let broker = fixture.connect(&Settings::default()).await;
    let mut reading = Reading::join(&broker, &unique_group("durability"), &topic).await;
    let mut read = numbers(&reading.take(RECORDS).await);
    read.sort_unstable();
    assert!(read.into_iter().eq(0..RECORDS), "a confirmed record is lost or doubled");
    // It goes on where it ended: new records have new positions.
    let more = append(&broker, batch(&topic, RECORDS..RECORDS + 50, 20))
        .await
        .all_stored();
    assert_eq!(more.len(), 50);
    let mut read = numbers(&reading.take(50).await);
    read.sort_unstable();
    assert!(read.into_iter().eq(RECORDS..RECORDS + 50));
}
