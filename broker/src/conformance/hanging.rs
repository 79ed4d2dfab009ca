//! A5 and R6 while the broker is there and does not answer: behind a link that is down
//! both ways or one way, or with its process stopped. `MERIDIAN_FULL` stops it for 30 s.

use std::time::{Duration, Instant};

use meridian_fault_proxy::{Flow, Script};

use super::absence::{FAST, eventually_watching, impatient, refuses_within, until_unavailable};
use super::fixture::{Fixture, Settings};
use super::network::{read_all, through};
use super::reading::Reading;
use super::restarts::under_load;
use super::waiting::{last, short_or_full, until_available};
use super::writing::{append, batch_to, new_topic, store, unique_group};
use crate::read::ReaderState;

/// How long the broker's process stands still.
fn freeze() -> Duration {
    short_or_full(Duration::from_secs(8), Duration::from_secs(30))
}

/// Nothing goes either way.
pub async fn a_black_hole_both_ways_is_told_and_heals(fixture: &dyn Fixture) {
    black_hole(fixture, Script::both(Flow::hold())).await;
}

/// The broker hears nothing.
pub async fn a_black_hole_for_requests_is_told_and_heals(fixture: &dyn Fixture) {
    black_hole(fixture, Script::requests(Flow::hold())).await;
}

/// The broker hears all, and is not heard.
pub async fn a_black_hole_for_replies_is_told_and_heals(fixture: &dyn Fixture) {
    black_hole(fixture, Script::replies(Flow::hold())).await;
}

async fn black_hole(fixture: &dyn Fixture, script: Script) {
    let proxy = fixture.proxy();
    is_told_and_heals(fixture, || proxy.set(script), || proxy.heal()).await;
}

/// The broker's process stands still with its connections open.
pub async fn a_frozen_broker_is_told_and_heals(fixture: &dyn Fixture) {
    is_told_and_heals(fixture, || fixture.freeze_broker(), || fixture.thaw_broker()).await;
}

/// Every outcome comes in time, the handle and the reader say that and why they are cut off,
/// and all goes on by itself when the fault is over.
async fn is_told_and_heals(fixture: &dyn Fixture, strike: impl Fn(), heal: impl Fn()) {
    let broker = through(fixture).await;
    let topic = new_topic(&broker, "hanging", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let mut reading = Reading::join(&broker, &unique_group("hanging"), &topic).await;
    let records = reading.take(10).await;
    reading.settle(&records);
    reading.commit().await;

    strike();
    let asked = Instant::now();
    let appended = append(&broker, batch_to(&topic, 0, 500..510)).await;
    let took = asked.elapsed();
    let limit = impatient().delivery_timeout + Duration::from_secs(5);
    assert!(took < limit, "the outcomes took {took:?}");
    assert!(appended.outcomes.iter().all(Result::is_err), "{:?}", appended.outcomes);
    until_unavailable(&broker).await;
    refuses_within(FAST, &broker, batch_to(&topic, 0, 600..610)).await;
    let state = "the reader's state";
    eventually_watching(
        &mut reading,
        state,
        |state| matches!(state, ReaderState::NotReading { reason, .. } if !reason.is_empty()),
    )
    .await;

    heal();
    until_available(&broker).await;
    store(&broker, batch_to(&topic, 0, 10..20)).await;
    let mut read = read_all(&mut reading, 10..20).await;
    assert!(
        read.iter().all(|number| !(600..610).contains(number)),
        "a refused record was stored: {read:?}"
    );
    read.retain(|number| *number < 500);
    assert!(read.iter().copied().eq(10..20), "{read:?}");
    eventually_watching(&mut reading, state, |state| *state == ReaderState::Reading).await;
}

/// A1, A2, R1: the broker stands still under load, and goes on.
pub async fn a_freeze_under_load_loses_nothing(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let freeze = async || {
        fixture.freeze_broker();
        last(freeze()).await;
        fixture.thaw_broker();
    };
    under_load(fixture, broker, freeze).await;
}
