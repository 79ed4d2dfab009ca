//! A2, A4, A6, R6 and R7 over a network that swallows, cuts, slices and slows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_fault_proxy::{Flow, Script};

use super::absence::impatient;
use super::fixture::{Fixture, Settings};
use super::reading::{Reading, numbers};
use super::restarts::under_load;
use super::waiting::{NOTICE, PATIENCE, eventually, last, until_available, within};
use super::writing::{Appended, append, batch_to, new_topic, store, store_one, unique_group};
use crate::error::{AppendErrorKind, Stored};
use crate::read::ReaderState;
use crate::seam::Broker;

/// A2: what the broker stored and whose confirmation was lost is unknown, never refused, and
/// nobody doubles it.
pub async fn swallowed_replies_leave_the_outcome_unknown(fixture: &dyn Fixture) {
    let direct = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&direct, "swallowed", 1).await;
    let broker = fixture.connect_through(&impatient()).await;
    until_available(&broker).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;

    fixture.proxy().set(Script::replies(Flow::swallow()));
    let appended = append(&broker, batch_to(&topic, 0, 10..20)).await;
    fixture.proxy().heal();
    let at_admission: BTreeSet<_> = appended.refused.iter().map(|refused| 10 + refused.index).collect();
    let admitted = (10..20).filter(|number| !at_admission.contains(number));
    let (mut unknown, mut refused) = (BTreeSet::new(), at_admission.clone());
    for (number, outcome) in admitted.zip(appended.outcomes) {
        let error = outcome.expect_err("a confirmation that nobody heard");
        match error.stored {
            Stored::Unknown => unknown.insert(number),
            Stored::No => refused.insert(number),
        };
    }
    until_available(&broker).await;
    // The connection that heard nothing may end only now; what it refuses is not stored.
    eventually(PATIENCE, "storing again", async || {
        let Appended { refused, outcomes } = append(&broker, batch_to(&topic, 0, 20..21)).await;
        let refused = refused.into_iter().map(|refused| refused.error);
        match refused.chain(outcomes.into_iter().filter_map(Result::err)).next() {
            None => Ok(()),
            Some(error) if error.stored == Stored::No => Err(error),
            Some(error) => panic!("nobody knows: {error:?}"),
        }
    })
    .await;

    let mut reading = Reading::join(&direct, &unique_group("swallowed"), &topic).await;
    let mut times = BTreeMap::<usize, u32>::new();
    while !times.contains_key(&20) {
        for number in numbers(&reading.take(1).await) {
            *times.entry(number).or_default() += 1;
        }
    }
    let stored: BTreeSet<_> = times.keys().copied().collect();
    let lied: Vec<_> = refused.intersection(&stored).collect();
    assert!(lied.is_empty(), "said not to be stored, and read: {lied:?}");
    let shown = unknown.intersection(&stored).count();
    assert!(
        shown > 0,
        "no record was stored without a confirmation: {unknown:?} {stored:?}"
    );
    assert!(
        times.values().all(|times| *times == 1),
        "stored more than once: {times:?}"
    );
}

/// A6, R6: connections are reset again and again while records are appended and read.
pub async fn connections_cut_under_load_lose_nothing(fixture: &dyn Fixture) {
    let broker = fixture.connect_through(&Settings::default()).await;
    let cut = async || {
        for _ in 0..5 {
            fixture.proxy().cut();
            last(Duration::from_millis(300)).await;
        }
        fixture.proxy().set(Script::refusing());
        fixture.proxy().cut();
        last(Duration::from_secs(1)).await;
        fixture.proxy().heal();
    };
    under_load(fixture, broker, cut).await;
}

/// A6, R6: connections end in the middle of a request or an answer.
pub async fn connections_cut_at_any_byte_lose_nothing(fixture: &dyn Fixture) {
    let broker = fixture.connect_through(&Settings::default()).await;
    let cut = async || {
        for flow in [Flow::cut_within(60_000), Flow::cut_within(5_000)] {
            fixture.proxy().set(Script::both(flow));
            last(Duration::from_secs(2)).await;
        }
        fixture.proxy().heal();
    };
    under_load(fixture, broker, cut).await;
}

/// Whatever comes in small pieces is the same as a whole.
pub async fn sliced_traffic_is_whole(fixture: &dyn Fixture) {
    fixture.proxy().set(Script::both(Flow::sliced(7)));
    let broker = fixture.connect_through(&Settings::default()).await;
    let topic = new_topic(&broker, "sliced", 1).await;
    store(&broker, batch_to(&topic, 0, 0..200)).await;
    let mut reading = Reading::join(&broker, &unique_group("sliced"), &topic).await;
    let records = reading.take(200).await;
    assert!(numbers(&records).into_iter().eq(0..200));
    reading.settle(&records);
    reading.commit().await;
    reading.close().await;
}

/// A4, A5: a slow way fills the appender up to its bound and no more; what was taken is confirmed.
pub async fn a_slow_broker_is_waited_for_within_bounds(fixture: &dyn Fixture) {
    const BOUND: usize = 40;
    let settings = Settings {
        max_in_flight_records: BOUND,
        delivery_timeout: Duration::from_secs(30),
        ..Settings::default()
    };
    let broker = fixture.connect_through(&settings).await;
    let topic = new_topic(&broker, "slow", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    fixture.proxy().set(Script::requests(Flow::slow(10_000)));
    let mut batch = batch_to(&topic, 0, 10..310);
    for append in &mut batch {
        let filler = meridian_event::Header::new("filler", vec![b'x'; 1_000]);
        append.record.headers.push(filler);
    }
    let deadline = Instant::now() + Duration::from_secs(1);
    let admit = broker.appender();
    let admission = within(Duration::from_secs(5), "admit", admit.admit(batch, deadline)).await;
    let admitted = admission.commit.admitted();
    // In the second that admission waited, ten records' worth of bytes went out.
    assert!((1..=2 * BOUND).contains(&admitted), "{admitted} were admitted");
    for refused in &admission.refused {
        assert_eq!(refused.error.kind, AppendErrorKind::Overloaded, "{}", refused.error);
        assert_eq!(refused.error.stored, Stored::No);
    }
    let outcomes = within(PATIENCE, "the commit", admission.commit).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    fixture.proxy().heal();
    store_one(&broker, &topic, 0, 1_000).await;
    let mut reading = Reading::join(&broker, &unique_group("slow"), &topic).await;
    let read = numbers(&reading.take(10 + admitted + 1).await);
    assert!(read.into_iter().eq((0..10 + admitted).chain([1_000])));
}

/// R6, R7: the group of a gateway that is cut off says so, and the other reads on.
pub async fn one_groups_black_hole_leaves_another_alone(fixture: &dyn Fixture) {
    let direct = fixture.connect(&Settings::default()).await;
    let cut_off = fixture.connect_through(&impatient()).await;
    let topic = new_topic(&direct, "sibling", 1).await;
    let mut well = Reading::join(&direct, &unique_group("well"), &topic).await;
    let mut struck = Reading::join(&cut_off, &unique_group("struck"), &topic).await;
    for reading in [&mut well, &mut struck] {
        reading.until_partitions(1).await; // queues have what comes after their group did
    }
    store(&direct, batch_to(&topic, 0, 0..10)).await;
    for reading in [&mut well, &mut struck] {
        let records = reading.take(10).await;
        reading.settle(&records);
        reading.commit().await;
    }
    fixture.proxy().set(Script::both(Flow::hold()));
    let mut next = 10;
    eventually(NOTICE, "the struck group's state", async || {
        // All the while the other has its records at once, and reads.
        store_one(&direct, &topic, 0, next).await;
        let records = well.take_within(1, Duration::from_secs(5)).await;
        assert_eq!(numbers(&records), [next]);
        well.settle(&records);
        assert_eq!(well.settler.state(), ReaderState::Reading);
        next += 1;
        struck.watch(Duration::from_millis(50)).await;
        match struck.settler.state() {
            ReaderState::NotReading { reason, .. } if !reason.is_empty() => Ok(()),
            other => Err(other),
        }
    })
    .await;
    fixture.proxy().heal();
    until_available(&cut_off).await;
    assert!(numbers(&struck.take(next - 10).await).into_iter().eq(10..next));
}

/// Reads until every wanted number has come; all that came.
pub(super) async fn read_all(reading: &mut Reading, wanted: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut missing: BTreeSet<_> = wanted.into_iter().collect();
    let mut read = Vec::new();
    while !missing.is_empty() {
        for number in numbers(&reading.take(1).await) {
            missing.remove(&number);
            read.push(number);
        }
    }
    read
}

/// A handle through the proxy that knows that its broker is there.
pub(super) async fn through(fixture: &dyn Fixture) -> Arc<dyn Broker> {
    let broker = fixture.connect_through(&impatient()).await;
    until_available(&broker).await;
    broker
}
