//! R1, R2, R3 and R6 while members of a group come and go all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::fixture::{Fixture, Settings};
use super::reading::{Reading, numbers};
use super::sharing::{PARTITIONS, Seen};
use super::waiting::{PATIENCE, last, short_or_full};
use super::writing::{batch_to, new_topic, store, store_one, unique_group};

/// How long a visitor stays.
const STAY: Duration = Duration::from_secs(2);
/// Between two rounds of records.
const PACE: Duration = Duration::from_millis(20);
/// Each so manyth visitor goes as if its process had been killed.
const KILLED: usize = 4;

/// R1, R2, R3, R6: one member stays, and others join for two seconds and leave, some as
/// if they had been killed, while records flow. Nothing is lost, first sights are in order, and
/// what was settled does not come again when all is over.
pub async fn members_that_come_and_go_lose_and_reorder_nothing(fixture: &dyn Fixture) {
    let visits = short_or_full(4, 150);
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "storm", PARTITIONS).await;
    let group = unique_group("storm");
    let mut staying = Reading::join(&broker, &group, &topic).await;
    staying.until_partitions(PARTITIONS as usize).await;
    let writing = Arc::new(AtomicBool::new(true));
    let writer = {
        let (broker, topic, writing) = (Arc::clone(&broker), topic.clone(), Arc::clone(&writing));
        tokio::spawn(async move {
            let mut next = 0;
            while writing.load(Ordering::SeqCst) {
                for partition in 0..PARTITIONS {
                    store(&broker, batch_to(&topic, partition, next..next + 5)).await;
                }
                next += 5;
                last(PACE).await;
            }
            next
        })
    };
    let mut seen = Seen::default();
    for visit in 1..=visits {
        let other = fixture.connect(&Settings::default()).await;
        let mut visitor = Reading::join(&other, &group, &topic).await;
        let leaves_at = Instant::now() + STAY;
        while Instant::now() < leaves_at {
            for member in [&mut staying, &mut visitor] {
                serve(member, &mut seen).await;
            }
        }
        if visit % KILLED == KILLED - 1 {
            drop(visitor);
        } else {
            visitor.close().await;
        }
    }
    writing.store(false, Ordering::SeqCst);
    let written = writer.await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !seen.all(written) {
        assert!(Instant::now() < deadline, "not all of {written} came: {seen:?}");
        serve(&mut staying, &mut seen).await;
    }
    seen.in_order();
    staying.until_partitions(PARTITIONS as usize).await;
    // What a visitor held that was killed comes again, and is settled now.
    staying.watch(STAY).await;
    serve(&mut staying, &mut seen).await;
    staying.commit().await;
    staying.close().await;
    store_one(&broker, &topic, 0, written).await;
    let mut late = Reading::join(&broker, &group, &topic).await;
    assert_eq!(numbers(&late.take(1).await), [written], "what was settled came again");
}

async fn serve(member: &mut Reading, seen: &mut Seen) {
    member.watch(Duration::from_millis(10)).await;
    let records = member.take_waiting();
    seen.add(&records);
    member.settle_if_held(&records);
}
