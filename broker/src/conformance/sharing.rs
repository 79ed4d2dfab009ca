//! R1, R2 and R7: members share partitions, and groups do not affect one another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fixture::{Fixture, Settings};
use super::history::first_seen_in_order;
use super::reading::{Reading, numbers};
use super::waiting::PATIENCE;
use super::writing::{batch_to, new_topic, number_of, store, unique_group};

pub(super) const PARTITIONS: u32 = 4;

/// R1, R2: a second member takes some partitions from the first while records flow;
/// nothing is lost, nothing is reordered, and no partition has two readers.
pub async fn two_members_share_the_partitions(fixture: &dyn Fixture) {
    const RECORDS: usize = 400;
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "sharing", PARTITIONS).await;
    let group = unique_group("sharing");
    let writer = {
        let (broker, topic) = (Arc::clone(&broker), topic.clone());
        tokio::spawn(async move {
            for first in (0..RECORDS).step_by(10) {
                for partition in 0..PARTITIONS {
                    store(&broker, batch_to(&topic, partition, first..first + 10)).await;
                }
            }
        })
    };
    let mut seen = Seen::default();
    let mut first = Reading::join(&broker, &group, &topic).await;
    first.until_partitions(PARTITIONS as usize).await;
    let early = first.take(20).await;
    seen.add(&early);
    first.settle_if_held(&early);
    let other = fixture.connect(&Settings::default()).await;
    let mut second = Reading::join(&other, &group, &topic).await;
    let deadline = Instant::now() + PATIENCE;
    while !seen.all(RECORDS) || !shared(&first, &second) {
        assert!(
            Instant::now() < deadline,
            "{seen:?}; {:?}, {:?}",
            first.partitions(),
            second.partitions()
        );
        for reading in [&mut first, &mut second] {
            reading.watch(Duration::from_millis(10)).await;
            let records = reading.take_waiting();
            seen.add(&records);
            reading.settle_if_held(&records);
        }
    }
    writer.await.unwrap();
    seen.in_order();
    // When one leaves, the other has all.
    second.close().await;
    first.until_partitions(PARTITIONS as usize).await;
}

fn shared(first: &Reading, second: &Reading) -> bool {
    let (first, second) = (first.partitions(), second.partitions());
    !first.is_empty()
        && !second.is_empty()
        && first.len() + second.len() == PARTITIONS as usize
        && first.is_disjoint(&second)
}

/// What was read of each partition, in the order of reading.
#[derive(Debug, Default)]
pub(super) struct Seen(BTreeMap<u32, Vec<usize>>);

impl Seen {
    pub(super) fn add(&mut self, records: &[crate::read::ReadRecord]) {
        for record in records {
            let partition = self.0.entry(record.claim.partition.partition).or_default();
            partition.push(number_of(&record.record));
        }
    }

    pub(super) fn all(&self, records: usize) -> bool {
        let complete =
            |numbers: &Vec<usize>| numbers.iter().collect::<std::collections::BTreeSet<_>>().len() == records;
        self.0.len() == PARTITIONS as usize && self.0.values().all(complete)
    }

    pub(super) fn in_order(&self) {
        for (partition, numbers) in &self.0 {
            if let Err((before, number)) = first_seen_in_order(numbers) {
                panic!("partition {partition}: {number} was first seen after {before}");
            }
        }
    }
}

/// R2: a member more than there are partitions waits, has nothing, and takes over
/// when the other leaves.
pub async fn a_spare_member_waits_and_takes_over(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "spare", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let group = unique_group("spare");
    let mut first = Reading::join(&broker, &group, &topic).await;
    let held = first.take(10).await;
    first.settle(&held[..5]);
    let other = fixture.connect(&Settings::default()).await;
    let mut second = Reading::join(&other, &group, &topic).await;
    tokio::join!(
        first.watch(Duration::from_secs(1)),
        second.watch(Duration::from_secs(1))
    );
    let has = [first.partitions().len(), second.partitions().len()];
    assert_eq!(has.iter().sum::<usize>(), 1, "one partition, and they have {has:?}");
    let (leaving, mut staying) = if has[0] == 1 { (first, second) } else { (second, first) };
    leaving.close().await;
    staying.until_partitions(1).await;
    let rest = staying.take(5).await;
    assert!(numbers(&rest).into_iter().eq(5..10));
}

/// R7: two groups read, each for itself: what one settles, the other has still.
pub async fn two_groups_do_not_affect_one_another(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "groups", 1).await;
    let (one, two) = (unique_group("one"), unique_group("two"));
    let mut first = Reading::join(&broker, &one, &topic).await;
    let mut second = Reading::join(&broker, &two, &topic).await;
    first.until_partitions(1).await;
    second.until_partitions(1).await;
    store(&broker, batch_to(&topic, 0, 0..50)).await;
    let records = first.take(50).await;
    first.settle(&records);
    first.close().await;
    let records = second.take(50).await;
    assert!(numbers(&records).into_iter().eq(0..50));
    second.settle(&records[..10]);
    second.close().await;
    let mut first = Reading::join(&broker, &one, &topic).await;
    store(&broker, batch_to(&topic, 0, 50..51)).await;
    assert_eq!(numbers(&first.take(1).await), [50]);
    let mut second = Reading::join(&broker, &two, &topic).await;
    assert!(numbers(&second.take(41).await).into_iter().eq(10..51));
}

/// R7: a group that comes later reads everything, whatever others have settled.
pub async fn a_later_group_reads_everything(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "groups", 1).await;
    store(&broker, batch_to(&topic, 0, 0..50)).await;
    let (one, two) = (unique_group("one"), unique_group("two"));
    let mut first = Reading::join(&broker, &one, &topic).await;
    let records = first.take(50).await;
    first.settle(&records);
    first.close().await;
    let mut second = Reading::join(&broker, &two, &topic).await;
    let records = second.take(50).await;
    assert!(numbers(&records).into_iter().eq(0..50));
    second.settle(&records[..10]);
    second.close().await;
    let mut first = Reading::join(&broker, &one, &topic).await;
    store(&broker, batch_to(&topic, 0, 50..51)).await;
    assert_eq!(numbers(&first.take(1).await), [50]);
}

/// One group reads two topics.
pub async fn one_group_reads_several_topics(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topics = [
        new_topic(&broker, "several-a", 1).await,
        new_topic(&broker, "several-b", 2).await,
    ];
    let group = unique_group("several");
    let mut options = super::reading::options(&group, &topics[0]);
    options.topics = topics.to_vec();
    let mut reading = Reading::open(&broker, options).await;
    reading.until_partitions(3).await;
    store(&broker, batch_to(&topics[0], 0, 0..10)).await;
    store(&broker, batch_to(&topics[1], 1, 0..10)).await;
    let records = reading.take(20).await;
    let of_first = records
        .iter()
        .filter(|record| record.claim.partition.topic == topics[0]);
    assert_eq!(of_first.count(), 10);
}
