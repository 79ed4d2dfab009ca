//! R2, R3 and R8: claims, release, late settlements, and a cancelled `next`.

use std::time::Duration;

use super::fixture::{Fixture, Settings};
use super::reading::{Reading, numbers};
use super::waiting::PATIENCE;
use super::writing::{batch_to, new_topic, store, store_one, unique_group};
use crate::error::SettleError;
use crate::read::{Claim, ReadEvent};

/// R2, A1 of release: a released record comes again, before any that was not handed
/// out yet, and says how often it was released.
pub async fn a_released_record_comes_again_first(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "release", 1).await;
    store(&broker, batch_to(&topic, 0, 0..5)).await;
    let mut reading = Reading::join(&broker, &unique_group("release"), &topic).await;
    let records = reading.take(5).await;
    reading.settle(&records[..1]);
    reading.release(&records[3].claim);
    reading.release(&records[1].claim);
    store_one(&broker, &topic, 0, 5).await;
    let again = reading.take(3).await;
    assert_eq!(numbers(&again), [1, 3, 5]);
    assert_eq!(
        again.iter().map(|record| record.releases).collect::<Vec<_>>(),
        [1, 1, 0]
    );
    reading.release(&again[1].claim);
    let third = reading.take(1).await;
    assert_eq!((numbers(&third), third[0].releases), (vec![3], 2));
    reading.settle(&third);
    reading.close().await;
}

/// R3: the records of a reader that is dropped come again, to whoever has the
/// partition next, and what it had settled and committed does not.
pub async fn the_claims_of_a_dropped_reader_end(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "dropped-reader", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let group = unique_group("dropped-reader");
    let mut first = Reading::join(&broker, &group, &topic).await;
    let records = first.take(10).await;
    first.settle(&records[..4]);
    first.commit().await;
    let settler = std::sync::Arc::clone(&first.settler);
    drop(first);
    let mut second = Reading::join(&broker, &group, &topic).await;
    assert!(numbers(&second.take(6).await).into_iter().eq(4..10));
    // A late settlement changes nothing.
    let late = settler
        .settle(&records[9].claim)
        .expect_err("a dead reader settled a record");
    assert!(matches!(late, SettleError::Stale | SettleError::Closed), "{late:?}");
    drop(second);
    let mut third = Reading::join(&broker, &group, &topic).await;
    assert!(numbers(&third.take(6).await).into_iter().eq(4..10));
}

/// R3: a settlement after the partition has moved is `Stale` and changes nothing.
pub async fn a_late_settlement_is_stale(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "stale", 2).await;
    store(&broker, batch_to(&topic, 0, 0..4)).await;
    store(&broker, batch_to(&topic, 1, 0..4)).await;
    let group = unique_group("stale");
    let mut first = Reading::join(&broker, &group, &topic).await;
    let records = first.take(8).await;
    let other = fixture.connect(&Settings::default()).await;
    let mut second = Reading::join(&other, &group, &topic).await;
    let (kept, moved) = tokio::join!(first.until_partitions(1), second.until_partitions(1));
    assert!(
        kept.is_disjoint(&moved),
        "one partition has two readers: {kept:?}, {moved:?}"
    );
    for record in &records {
        let settled = first.settler.settle(&record.claim);
        if moved.contains(&record.claim.partition) {
            assert_eq!(settled, Err(SettleError::Stale), "{:?}", record.claim);
            assert_eq!(first.settler.release(&record.claim), Err(SettleError::Stale));
        } else if !first.partitions().contains(&record.claim.partition) {
            panic!("nobody has {:?}", record.claim.partition);
        }
    }
    let again = second.take(4).await;
    assert_eq!(numbers(&again), [0, 1, 2, 3], "the moved records must come again");
}

/// A record that was never handed out, or is settled already, cannot be settled.
pub async fn what_is_not_claimed_cannot_be_settled(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "not-claimed", 1).await;
    store(&broker, batch_to(&topic, 0, 0..2)).await;
    let mut reading = Reading::join(&broker, &unique_group("not-claimed"), &topic).await;
    let records = reading.take(2).await;
    reading.settle(&records[..1]);
    let settled = &records[0].claim;
    assert_eq!(reading.settler.settle(settled), Err(SettleError::NotClaimed));
    assert_eq!(reading.settler.release(settled), Err(SettleError::NotClaimed));
    let beyond = Claim {
        position: records[1].claim.position + 1_000,
        ..settled.clone()
    };
    assert_eq!(reading.settler.settle(&beyond), Err(SettleError::NotClaimed));
    let later = Claim {
        generation: settled.generation + 1_000,
        ..records[1].claim.clone()
    };
    assert!(
        reading.settler.settle(&later).is_err(),
        "a claim of another generation was settled"
    );
}

/// R2: nothing that is claimed comes again by itself while the reader lives.
pub async fn a_claimed_record_does_not_come_again(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "claimed", 1).await;
    store(&broker, batch_to(&topic, 0, 0..3)).await;
    let mut reading = Reading::join(&broker, &unique_group("claimed"), &topic).await;
    let held = reading.take(3).await;
    for number in 3..40 {
        store_one(&broker, &topic, 0, number).await;
        let next = reading.take(1).await;
        assert_eq!(numbers(&next), [number]);
        reading.settle(&next);
    }
    reading.settle(&held);
    reading.close().await;
}

/// R8: dropping the future of `next` at any time loses nothing and repeats nothing.
pub async fn a_cancelled_next_loses_nothing(fixture: &dyn Fixture) {
    const RECORDS: usize = 600;
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "cancel", 1).await;
    let group = unique_group("cancel");
    let mut options = super::reading::options(&group, &topic);
    options.max_unsettled_records = 20; // so that there are many small answers
    let mut reading = Reading::open(&broker, options).await;
    // Each batch follows a cancelled call, so that none of them finds all there is at once.
    let turns = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let writer = {
        let (broker, topic, turns) = (std::sync::Arc::clone(&broker), topic.clone(), turns.clone());
        tokio::spawn(async move {
            for first in (0..RECORDS).step_by(10) {
                turns.acquire().await.unwrap().forget();
                store(&broker, batch_to(&topic, 0, first..first + 10)).await;
            }
        })
    };
    let mut seen = Vec::new();
    let mut cancelled = 0;
    let deadline = std::time::Instant::now() + PATIENCE;
    while seen.len() < RECORDS {
        assert!(std::time::Instant::now() < deadline, "{} of {RECORDS} came", seen.len());
        // Short and uneven limits cut `next` at every place where it waits.
        let limit = Duration::from_micros(50 + 37 * (cancelled % 61));
        match reading.event(limit).await.unwrap() {
            Some(ReadEvent::Records(records)) => {
                seen.extend(numbers(&records));
                reading.settle(&records);
            }
            Some(_) => {}
            None => {
                cancelled += 1;
                turns.add_permits(1);
            }
        }
    }
    writer.await.unwrap();
    assert!(cancelled > 0, "nothing was cancelled");
    assert!(seen.into_iter().eq(0..RECORDS));
}
