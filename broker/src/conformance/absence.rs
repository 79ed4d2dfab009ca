//! A5, A6, B1 and R6 for brokers in another process: absent at start, gone, back.
//! `MERIDIAN_FULL` keeps one absent for five minutes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fixture::{Fixture, Settings};
use super::reading::{Reading, numbers};
use super::waiting::{NOTICE, PATIENCE, eventually, short_or_full, until_available, within};
use super::writing::{append, batch_to, new_topic, store, store_one, unique_group};
use crate::error::{AdminErrorKind, AppendErrorKind, Stored};
use crate::read::ReaderState;
use crate::seam::{Broker, BrokerState};

/// How soon a call must say that the broker is gone, when that is known.
pub(super) const FAST: Duration = Duration::from_secs(1);

/// How long a handle may try before it knows that nobody answers.
const FIRST: Duration = Duration::from_secs(5);

pub(super) fn impatient() -> Settings {
    Settings {
        delivery_timeout: Duration::from_secs(3),
        ..Settings::default()
    }
}

pub(super) async fn until_unavailable(broker: &Arc<dyn Broker>) {
    eventually(NOTICE, "noticing that the broker is gone", async || {
        match broker.state() {
            BrokerState::Unavailable { reason, .. } if !reason.is_empty() => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

/// B1, R6: a broker that is absent at start is `Unavailable`, refuses fast, lets
/// readers open, and is used by itself when it appears.
pub async fn a_broker_absent_at_start_is_used_when_it_appears(fixture: &dyn Fixture) {
    let before = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&before, "absent", 1).await;
    store(&before, batch_to(&topic, 0, 0..5)).await;
    before.close(PATIENCE).await;
    drop(before);
    fixture.stop_broker().await;

    let settings = impatient();
    let connecting = fixture.connect(&settings);
    let broker = within(FAST * 3, "connecting to a broker that is absent", connecting).await;
    let group = unique_group("absent");
    let joining = Reading::join(&broker, &group, &topic);
    let mut reading = within(FAST * 3, "opening a reader", joining).await;
    until_unavailable(&broker).await;
    // The first may wait for the first answer; from then on it is known.
    refuses_within(FIRST, &broker, batch_to(&topic, 0, 5..6)).await;
    refuses_within(FAST, &broker, batch_to(&topic, 0, 6..7)).await;
    let identity = within(PATIENCE, "identity", broker.identity()).await;
    let error = identity.expect_err("a broker that is absent has told its identity");
    let expected = [AdminErrorKind::BrokerUnavailable, AdminErrorKind::DeadlineExceeded];
    assert!(expected.contains(&error.kind), "{error:?}");
    reading
        .watch(short_or_full(Duration::from_secs(1), Duration::from_secs(300)))
        .await;
    assert_says_why(&reading);

    fixture.start_broker().await;
    until_available(&broker).await;
    store_one(&broker, &topic, 0, 5).await;
    assert!(numbers(&reading.take(6).await).into_iter().eq(0..6));
    assert_eq!(reading.settler.state(), ReaderState::Reading);
}

pub(super) fn assert_says_why(reading: &Reading) {
    match reading.settler.state() {
        ReaderState::NotReading { reason, .. } => assert!(!reason.is_empty(), "no reason"),
        ReaderState::Reading => panic!("the reader says that it reads"),
    }
}

pub(super) async fn refuses_within(limit: Duration, broker: &Arc<dyn Broker>, batch: Vec<crate::AppendRecord>) {
    refuses_as_within(&[AppendErrorKind::BrokerUnavailable], limit, broker, batch).await;
}

/// The same for one of these reasons.
pub(super) async fn refuses_as_within(
    expected: &[AppendErrorKind],
    limit: Duration,
    broker: &Arc<dyn Broker>,
    batch: Vec<crate::AppendRecord>,
) {
    let asked = Instant::now();
    let appended = append(broker, batch).await;
    let took = asked.elapsed();
    assert!(took < limit, "the refusal took {took:?}");
    assert!(appended.outcomes.is_empty(), "it was admitted: {:?}", appended.outcomes);
    for refused in &appended.refused {
        assert!(expected.contains(&refused.error.kind), "{:?}", refused.error);
        assert_eq!(refused.error.stored, Stored::No);
    }
}

/// A5, A6, R6: when the broker goes, every commit resolves within the delivery
/// time-out, later appends are refused fast, and all mends itself when it is back.
pub async fn a_broker_that_goes_is_told_fast_and_used_again(fixture: &dyn Fixture) {
    let settings = impatient();
    let broker = fixture.connect(&settings).await;
    let topic = new_topic(&broker, "gone", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let mut reading = Reading::join(&broker, &unique_group("gone"), &topic).await;
    let records = reading.take(10).await;
    reading.settle(&records);
    reading.commit().await;

    fixture.kill_broker().await;
    // Whatever is admitted before anybody knows has its outcome in time.
    let asked = Instant::now();
    let appended = append(&broker, batch_to(&topic, 0, 500..510)).await;
    let took = asked.elapsed();
    let limit = settings.delivery_timeout + Duration::from_secs(5);
    assert!(took < limit, "the outcomes took {took:?}");
    assert!(appended.outcomes.iter().all(Result::is_err), "{:?}", appended.outcomes);
    let unknown = appended.outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
    let unknown = unknown.filter(|error| error.stored == Stored::Unknown).count();
    until_unavailable(&broker).await;
    refuses_within(FAST, &broker, batch_to(&topic, 0, 600..610)).await;
    let back = "the reader's state";
    eventually_watching(&mut reading, back, |state| {
        matches!(state, ReaderState::NotReading { .. })
    })
    .await;

    fixture.start_broker().await;
    until_available(&broker).await;
    store(&broker, batch_to(&topic, 0, 10..20)).await;
    let mut read = numbers(&reading.take(10).await);
    if unknown > 0 && read.first().is_some_and(|number| *number >= 500) {
        let doubtful = read.iter().filter(|number| **number >= 500).count();
        read.extend(numbers(&reading.take(doubtful).await));
    }
    assert!(
        read.iter().all(|number| !(600..610).contains(number)),
        "a refused record was stored: {read:?}"
    );
    read.retain(|number| *number < 500);
    assert!(read.into_iter().eq(10..20));
    eventually_watching(&mut reading, back, |state| *state == ReaderState::Reading).await;
}

pub(super) async fn eventually_watching(reading: &mut Reading, what: &str, wanted: impl Fn(&ReaderState) -> bool) {
    let deadline = Instant::now() + NOTICE;
    while !wanted(&reading.settler.state()) {
        let state = reading.settler.state();
        assert!(Instant::now() < deadline, "{what} stays {state:?}");
        reading.watch(Duration::from_millis(50)).await;
    }
}

/// A4: while the broker does not answer, admission is bounded: it waits for room
/// until its deadline and refuses with `Overloaded`, or says that the broker is gone.
pub async fn a_silent_broker_fills_the_appender_and_no_more(fixture: &dyn Fixture) {
    let settings = Settings {
        max_in_flight_records: 50,
        ..impatient()
    };
    let broker = fixture.connect(&settings).await;
    let topic = new_topic(&broker, "silent", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    fixture.kill_broker().await;
    let deadline = Instant::now() + Duration::from_millis(500);
    let admit = broker.appender();
    let admit = admit.admit(batch_to(&topic, 0, 100..400), deadline);
    let admission = within(Duration::from_secs(3), "admit with a deadline of 500 ms", admit).await;
    assert!(
        admission.commit.admitted() <= 50,
        "{} were admitted",
        admission.commit.admitted()
    );
    for refused in &admission.refused {
        let expected = [AppendErrorKind::Overloaded, AppendErrorKind::BrokerUnavailable];
        assert!(expected.contains(&refused.error.kind), "{}", refused.error);
        assert_eq!(refused.error.stored, Stored::No);
    }
    let outcomes = within(PATIENCE, "the commit", admission.commit).await;
    assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
    fixture.start_broker().await;
    until_available(&broker).await;
    store(&broker, batch_to(&topic, 0, 10..20)).await;
}

/// R6: a reader's close while the broker is gone returns within its limit.
pub async fn closing_does_not_wait_for_a_broker_that_is_gone(fixture: &dyn Fixture) {
    let broker = fixture.connect(&impatient()).await;
    let topic = new_topic(&broker, "close-gone", 1).await;
    store(&broker, batch_to(&topic, 0, 0..5)).await;
    let group = unique_group("close-gone");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let records = reading.take(5).await;
    fixture.kill_broker().await;
    reading.settle(&records[..2]);
    let limit = Duration::from_secs(2);
    let closing = Instant::now();
    let _ = reading.close_within(limit).await; // an error: the commit could not be made
    let took = closing.elapsed();
    assert!(
        took < limit + Duration::from_secs(2),
        "closing the reader took {took:?}"
    );
    let closing = Instant::now();
    broker.close(limit).await;
    let took = closing.elapsed();
    assert!(
        took < limit + Duration::from_secs(2),
        "closing the broker took {took:?}"
    );
    fixture.start_broker().await;
    let broker = fixture.connect(&Settings::default()).await;
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let again = numbers(&reading.take(3).await);
    assert!(again.ends_with(&[2, 3, 4]) || again == [0, 1, 2], "{again:?}");
}
