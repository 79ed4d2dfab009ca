//! R4: never settle ahead, and keep what is settled beyond.

use std::collections::BTreeSet;

use super::fixture::{Fixture, Settings};
use super::reading::{Reading, numbers, options};
use super::waiting::{PATIENCE, eventually};
use super::writing::{batch_to, new_topic, store, store_one, unique_group};

/// R4: settlements beyond an unsettled record survive the reader's end and do not
/// come again; the unsettled ones do.
pub async fn out_of_order_settlements_survive_a_close(fixture: &dyn Fixture) {
    out_of_order(fixture, Ending::Close).await;
}

/// R4: the same when the reader crashes after a commit.
pub async fn out_of_order_settlements_survive_a_crash(fixture: &dyn Fixture) {
    out_of_order(fixture, Ending::CommitAndCrash).await;
}

enum Ending {
    Close,
    CommitAndCrash,
}

async fn out_of_order(fixture: &dyn Fixture, ending: Ending) {
    const RECORDS: usize = 200;
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "beyond", 1).await;
    store(&broker, batch_to(&topic, 0, 0..RECORDS)).await;
    let group = unique_group("beyond");
    let unsettled: BTreeSet<usize> = [3, 4, 50, 51, 52, 120, 199].into();
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let records = reading.take(RECORDS).await;
    let pairs = records.iter().enumerate();
    let settled = pairs
        .filter(|(number, _)| !unsettled.contains(number))
        .map(|(_, record)| record);
    let mut settled: Vec<_> = settled.collect();
    settled.reverse(); // the last first: the order of settling does not matter
    reading.settle(settled);
    match ending {
        Ending::Close => reading.close().await,
        Ending::CommitAndCrash => {
            reading.commit().await;
            drop(reading);
        }
    }

    let mut reading = Reading::join(&broker, &group, &topic).await;
    store_one(&broker, &topic, 0, RECORDS).await;
    let again = reading.take(unsettled.len() + 1).await;
    let expected: Vec<_> = unsettled.iter().copied().chain([RECORDS]).collect();
    assert_eq!(numbers(&again), expected);
    reading.settle(&again);
    reading.close().await;
    let mut reading = Reading::join(&broker, &group, &topic).await;
    store_one(&broker, &topic, 0, RECORDS + 1).await;
    assert_eq!(numbers(&reading.take(1).await), [RECORDS + 1]);
}

/// R4: without a commit of its own, a settlement is durable soon after the commit
/// interval.
pub async fn settlements_become_durable_by_themselves(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "interval", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let group = unique_group("interval");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let records = reading.take(10).await;
    reading.settle(&records[..6]);
    let admin = broker.admin();
    eventually(PATIENCE, "the commit by interval", async || {
        let group = admin.describe_group(&group).await.map_err(|error| error.to_string())?;
        match group.partitions.first() {
            Some(partition) if partition.lag() == 4 => Ok(()),
            _ => Err(format!("{group:?}")),
        }
    })
    .await;
    drop(reading);
    let mut reading = Reading::join(&broker, &group, &topic).await;
    assert!(numbers(&reading.take(4).await).into_iter().eq(6..10));
}

/// `commit` makes all settlements so far durable at once, though the interval is
/// far away.
pub async fn a_commit_is_durable_at_once(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "commit", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let group = unique_group("commit");
    let mut options = options(&group, &topic);
    options.commit_interval = std::time::Duration::from_secs(3_600);
    let mut reading = Reading::open(&broker, options).await;
    let records = reading.take(10).await;
    reading.settle(&records[..7]);
    reading.commit().await;
    let seen = broker.admin().describe_group(&group).await.unwrap();
    assert_eq!(seen.partitions[0].lag(), 3, "{seen:?}");
    drop(reading);
    let mut reading = Reading::join(&broker, &group, &topic).await;
    assert!(numbers(&reading.take(3).await).into_iter().eq(7..10));
}

/// The reader's own view of the group: what is settled, what beyond, what there is.
pub async fn positions_tell_where_the_group_stands(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "standing", 1).await;
    let positions = store(&broker, batch_to(&topic, 0, 0..10)).await;
    let mut reading = Reading::join(&broker, &unique_group("standing"), &topic).await;
    let records = reading.take(10).await;
    reading.settle(&records[..2]);
    reading.settle(&records[5..8]);
    let seen = reading.settler.positions();
    assert_eq!(seen.len(), 1, "{seen:?}");
    // Where positions name no places, those of the claims count.
    let position = |index: usize| match broker.profile().capabilities.replay {
        true => positions[index].position,
        false => records[index].claim.position,
    };
    assert_eq!(seen[0].settled_position, position(2), "{seen:?}");
    assert_eq!(seen[0].settled_beyond, 3, "{seen:?}");
    assert_eq!(seen[0].end_position, position(9) + 1, "{seen:?}");
}
