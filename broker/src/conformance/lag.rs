//! M4: lag counts what is committed, and never says less than is unsettled.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::fixture::{Fixture, Settings};
use super::reading::Reading;
use super::waiting::{PATIENCE, eventually};
use super::writing::{batch_to, new_topic, now_ms, store, unique_group};
use crate::admin::PartitionLag;
use crate::error::AdminErrorKind;

/// M4: lag is what is not settled, over every partition, with what is settled beyond.
pub async fn lag_counts_what_is_not_settled(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "lag", 2).await;
    let positions = store(&broker, batch_to(&topic, 0, 0..10)).await;
    store(&broker, batch_to(&topic, 1, 10..14)).await;
    let group = unique_group("lag");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let records = reading.take(14).await;
    let mut first: Vec<_> = records
        .iter()
        .filter(|record| record.claim.partition.partition == 0)
        .collect();
    first.sort_by_key(|record| record.claim.position);
    reading.settle(first[..3].iter().copied());
    reading.settle(first[6..8].iter().copied());
    reading.commit().await;
    let seen = describe(&broker, &group).await;
    assert_eq!(seen.len(), 2, "{seen:?}");
    let of_first = &seen[0];
    assert_eq!(of_first.partition.partition, 0);
    if broker.profile().capabilities.replay {
        assert_eq!(of_first.settled_position, positions[3].position, "{of_first:?}");
        assert_eq!(of_first.end_position, positions[9].position + 1, "{of_first:?}");
        assert_eq!(of_first.settled_beyond, 2, "{of_first:?}");
    }
    assert_eq!((of_first.lag(), seen[1].lag()), (5, 4), "{seen:?}");

    // What is settled and not committed is lag still, for it may come again; what is
    // appended is lag at once, also when nobody reads.
    reading.close().await;
    store(&broker, batch_to(&topic, 0, 20..23)).await;
    let seen = describe(&broker, &group).await;
    assert_eq!((seen[0].lag(), seen[1].lag()), (8, 4), "{seen:?}");

    let mut reading = Reading::join(&broker, &group, &topic).await;
    let rest = reading.take(12).await;
    reading.settle(&rest);
    reading.close().await;
    let seen = describe(&broker, &group).await;
    assert_eq!(seen.iter().map(PartitionLag::lag).sum::<u64>(), 0, "{seen:?}");
}

async fn describe(broker: &std::sync::Arc<dyn crate::Broker>, group: &crate::GroupName) -> Vec<PartitionLag> {
    let mut described = broker.admin().describe_group(group).await.unwrap();
    assert_eq!(&described.name, group);
    described
        .partitions
        .sort_by(|one, two| one.partition.cmp(&two.partition));
    described.partitions
}

/// A group that nobody has used is not found, and one that was used is listed.
pub async fn groups_are_listed(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let admin = broker.admin();
    let group = unique_group("listed");
    let error = admin.describe_group(&group).await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::GroupNotFound, "{error}");
    assert!(!admin.list_groups().await.unwrap().contains(&group));
    let topic = new_topic(&broker, "listed", 1).await;
    store(&broker, batch_to(&topic, 0, 0..1)).await;
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let records = reading.take(1).await;
    reading.settle(&records);
    reading.close().await;
    let groups = admin.list_groups().await.unwrap();
    assert!(groups.contains(&group), "{groups:?}");
    assert!(groups.is_sorted(), "{groups:?}");
}

/// The age of a lag: the time of the oldest record that is not settled is told, and none
/// when all is. Brokers that cannot look at old records may tell none.
pub async fn the_time_of_the_oldest_unsettled_record_is_told(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "oldest", 2).await;
    let began_ms = now_ms();
    store(&broker, batch_to(&topic, 0, 0..2)).await;
    // The third record is younger, whoever times it.
    let later_ms = eventually(PATIENCE, "time", async || {
        Some(now_ms()).filter(|now| *now >= began_ms + 500).ok_or(())
    })
    .await;
    store(&broker, batch_to(&topic, 0, 2..3)).await;
    let group = unique_group("oldest");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let records = reading.take(3).await;
    reading.commit().await;
    let known = broker.profile().capabilities.replay;
    let near = |told: Option<SystemTime>, wanted_ms: i64| {
        let wanted = UNIX_EPOCH + Duration::from_millis(u64::try_from(wanted_ms).unwrap());
        match told {
            // Brokers may round, and have clocks of their own.
            Some(told) => told + Duration::from_millis(50) >= wanted && told < wanted + Duration::from_millis(400),
            None => !known,
        }
    };
    let seen = eventually(PATIENCE, "the group's description", async || {
        let seen = describe(&broker, &group).await;
        if seen.len() == 2 { Ok(seen) } else { Err(seen) }
    })
    .await;
    assert!(near(seen[0].oldest_unsettled, began_ms), "{began_ms}: {seen:?}");
    assert_eq!(seen[1].oldest_unsettled, None, "nothing waits there: {seen:?}");
    reading.settle(&records[..2]);
    reading.commit().await;
    let seen = describe(&broker, &group).await;
    assert!(near(seen[0].oldest_unsettled, later_ms), "{later_ms}: {seen:?}");
    reading.settle(&records[2..]);
    reading.commit().await;
    let seen = describe(&broker, &group).await;
    assert_eq!(seen[0].oldest_unsettled, None, "all is settled: {seen:?}");
    reading.close().await;
}
