//! R6, A1, A2 and A6 while the broker restarts under load.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::fixture::{Fixture, Settings};
use super::reading::{Reading, numbers, options};
use super::waiting::{PATIENCE, within};
use super::writing::{batch_to, new_topic, number_of, store, unique_group};
use crate::append::AppendOutcome;
use crate::error::{ReadErrorKind, Stored};
use crate::name::TopicName;
use crate::seam::Broker;

const PARTITIONS: u32 = 2;

/// R4, R6: a reader that restarts has what was not settled, and only that, also
/// when the broker restarted in between.
pub async fn a_reader_goes_on_after_a_restart(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "go-on", 1).await;
    store(&broker, batch_to(&topic, 0, 0..30)).await;
    let group = unique_group("go-on");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let records = reading.take(30).await;
    reading.settle(&records[..10]);
    reading.settle(&records[20..]);
    reading.close().await;
    drop(broker);
    fixture.stop_broker().await;
    fixture.start_broker().await;
    let broker = fixture.connect(&Settings::default()).await;
    store(&broker, batch_to(&topic, 0, 30..31)).await;
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let again = numbers(&reading.take(11).await);
    assert!(again.into_iter().eq((10..20).chain([30])));
}

/// A1, A2, A6, R1, R6: the broker restarts in an orderly way while records are
/// appended and read; nothing confirmed is lost, nothing refused is stored, and
/// everybody goes on by themselves.
pub async fn a_restart_under_load_loses_nothing(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let restart = async || {
        fixture.stop_broker().await;
        fixture.start_broker().await;
    };
    under_load(fixture, broker, restart).await;
}

/// The same when the broker's process is killed.
pub async fn a_kill_under_load_loses_nothing(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let restart = async || {
        fixture.kill_broker().await;
        fixture.start_broker().await;
    };
    under_load(fixture, broker, restart).await;
}

/// Appends and reads by one handle; disturbs, and has all mended when `disturb` returns.
pub(super) async fn under_load(fixture: &dyn Fixture, broker: Arc<dyn Broker>, disturb: impl AsyncFn()) {
    let load = Load::start(broker).await;
    let group = unique_group("load");
    let writing = AtomicBool::new(true);
    let disturbing = async {
        load.until_confirmed(300).await;
        load.until_read().await;
        disturb().await;
        load.release_broker(fixture).await;
        let before = load.confirmed();
        load.until_confirmed(before + 300).await;
        writing.store(false, Ordering::SeqCst);
    };
    let all = async {
        let ((), (), seen) = tokio::join!(disturbing, load.write(&writing), load.read(fixture, &group, &writing));
        seen
    };
    let seen = within(PATIENCE * 3, "writing and reading through a fault", all).await;
    load.check(&seen);
}

/// Writers and a reader, each of which goes on when the broker comes back.
struct Load {
    broker: std::sync::Mutex<Arc<dyn Broker>>,
    topic: TopicName,
    outcomes: std::sync::Mutex<Outcomes>,
    /// Told when the broker is away on purpose.
    reachable: tokio::sync::watch::Sender<u64>,
    /// Whether the reader has seen a record.
    has_read: AtomicBool,
}

#[derive(Debug, Default)]
struct Outcomes {
    confirmed: BTreeSet<usize>,
    refused: BTreeSet<usize>,
    unknown: BTreeSet<usize>,
}

impl Load {
    async fn start(broker: Arc<dyn Broker>) -> Self {
        let topic = new_topic(&broker, "load", PARTITIONS).await;
        Self {
            broker: std::sync::Mutex::new(broker),
            topic,
            outcomes: std::sync::Mutex::default(),
            reachable: tokio::sync::watch::channel(0).0,
            has_read: AtomicBool::new(false),
        }
    }

    fn broker(&self) -> Arc<dyn Broker> {
        Arc::clone(&self.broker.lock().unwrap())
    }

    /// After a restart: a handle that does not outlive it is opened anew.
    async fn release_broker(&self, fixture: &dyn Fixture) {
        if !fixture.handles_outlive_restarts() {
            let fresh = fixture.connect(&Settings::default()).await;
            *self.broker.lock().unwrap() = fresh;
        }
        self.reachable.send_modify(|restarts| *restarts += 1);
    }

    fn confirmed(&self) -> usize {
        self.outcomes.lock().unwrap().confirmed.len()
    }

    async fn until_confirmed(&self, count: usize) {
        super::waiting::eventually(PATIENCE * 2, "appending", async || {
            let confirmed = self.confirmed();
            if confirmed >= count {
                Ok(())
            } else {
                Err((confirmed, self.broker().state()))
            }
        })
        .await;
    }

    /// Waits until the group is read, so that the reader is disturbed as well.
    async fn until_read(&self) {
        super::waiting::eventually(PATIENCE * 2, "reading", async || {
            match self.has_read.load(Ordering::SeqCst) {
                true => Ok(()),
                false => Err(self.broker().state()),
            }
        })
        .await;
    }

    /// Appends without end, some batches in flight at once; a record that was refused
    /// is not tried again, so that it can be seen whether it was stored.
    async fn write(&self, writing: &AtomicBool) {
        let mut next = 0;
        let mut pace = tokio::time::interval(Duration::from_millis(5));
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while writing.load(Ordering::SeqCst) {
            let partition = (next / 10 % PARTITIONS as usize) as u32;
            let mut batch = batch_to(&self.topic, partition, next..next + 10);
            for append in &mut batch {
                append
                    .record
                    .headers
                    .push(meridian_event::Header::new("filler", vec![b'x'; 100]));
            }
            let appender = self.broker().appender();
            let deadline = Instant::now() + Duration::from_secs(1);
            let admission = within(PATIENCE, "admit", appender.admit(batch, deadline)).await;
            let indices: BTreeSet<_> = admission.refused.iter().map(|refused| refused.index).collect();
            let outcomes = within(PATIENCE, "commit", admission.commit).await;
            self.count(next, &indices, outcomes);
            next += 10;
            pace.tick().await;
        }
    }

    /// Counts the outcomes of the ten records from `first` on.
    fn count(&self, first: usize, refused: &BTreeSet<usize>, outcomes: Vec<AppendOutcome>) {
        let mut tally = self.outcomes.lock().unwrap();
        tally.refused.extend(refused.iter().map(|index| first + index));
        let admitted = (0..10).filter(|index| !refused.contains(index));
        for (index, outcome) in admitted.zip(outcomes) {
            let number = first + index;
            match outcome {
                Ok(_) => tally.confirmed.insert(number),
                Err(error) if error.stored == Stored::No => tally.refused.insert(number),
                Err(_) => tally.unknown.insert(number),
            };
        }
    }

    /// Reads until everything confirmed was seen; settles all.
    async fn read(
        &self,
        fixture: &dyn Fixture,
        group: &crate::GroupName,
        writing: &AtomicBool,
    ) -> BTreeMap<u32, Vec<usize>> {
        let mut seen = BTreeMap::<u32, Vec<usize>>::new();
        let mut restarts = self.reachable.subscribe();
        let mut reading = Reading::open(&self.broker(), options(group, &self.topic)).await;
        loop {
            match reading.event(Duration::from_millis(100)).await {
                Ok(Some(crate::read::ReadEvent::Records(records))) => {
                    for record in &records {
                        let numbers = seen.entry(record.claim.partition.partition).or_default();
                        numbers.push(number_of(&record.record));
                    }
                    reading.settle_if_held(&records);
                    self.has_read.store(true, Ordering::SeqCst);
                }
                Ok(_) => {}
                Err(error) if error.kind == ReadErrorKind::Closed && !fixture.handles_outlive_restarts() => {
                    restarts.changed().await.unwrap();
                    reading = Reading::open(&self.broker(), options(group, &self.topic)).await;
                }
                Err(error) => panic!("the reader ended: {error:?}"),
            }
            if !writing.load(Ordering::SeqCst) && self.all_seen(&seen) {
                return seen;
            }
        }
    }

    fn all_seen(&self, seen: &BTreeMap<u32, Vec<usize>>) -> bool {
        let seen: BTreeSet<_> = seen.values().flatten().copied().collect();
        self.outcomes.lock().unwrap().confirmed.is_subset(&seen)
    }

    fn check(&self, seen: &BTreeMap<u32, Vec<usize>>) {
        let outcomes = self.outcomes.lock().unwrap();
        let all: BTreeSet<_> = seen.values().flatten().copied().collect();
        let ghosts: Vec<_> = outcomes.refused.intersection(&all).collect();
        assert!(ghosts.is_empty(), "refused as surely not stored, and read: {ghosts:?}");
        for (partition, numbers) in seen {
            if let Err((before, number)) = super::history::first_seen_in_order(numbers) {
                panic!("partition {partition}: {number} was first seen after {before}");
            }
        }
    }
}
