//! R5: a reader holds no more than its options allow.

use std::time::Duration;

use super::fixture::{Fixture, Settings};
use super::reading::{Reading, numbers, options};
use super::waiting::PATIENCE;
use super::writing::{batch_to, new_topic, store, unique_group};

/// How long a reader at its bound is watched.
const WINDOW: Duration = Duration::from_secs(1);

/// R5: at its bound of records a reader hands out no more; it goes on when some
/// are settled, and nothing is lost or reordered by the pause.
pub async fn a_reader_is_bounded_in_records(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "bounded-records", 2).await;
    store(&broker, batch_to(&topic, 0, 0..100)).await;
    store(&broker, batch_to(&topic, 1, 0..100)).await;
    let mut options = options(&unique_group("bounded-records"), &topic);
    options.max_unsettled_records = 10;
    let mut reading = Reading::open(&broker, options).await;
    let mut seen = 0;
    let mut held = Vec::new();
    while seen < 200 {
        held.extend(reading.take_within(1, PATIENCE).await);
        if seen == 0 {
            reading.watch(WINDOW).await;
        }
        held.extend(reading.take_waiting());
        assert!(held.len() <= 10, "{} records are held, and 10 are allowed", held.len());
        seen += held.len();
        reading.settle(&held);
        held.clear();
    }
    assert_eq!(seen, 200);
}

/// R5: the same in bytes; one record beyond the bound may come, for a record
/// larger than the bound must come at all.
pub async fn a_reader_is_bounded_in_bytes(fixture: &dyn Fixture) {
    const SIZE: usize = 10_000;
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "bounded-bytes", 1).await;
    let mut records = batch_to(&topic, 0, 0..40);
    for append in &mut records {
        append.record.headers = vec![meridian_event::Header::new("filler", vec![b'x'; SIZE])];
    }
    store(&broker, records).await;
    let mut options = options(&unique_group("bounded-bytes"), &topic);
    options.max_unsettled_bytes = 3 * SIZE;
    let mut reading = Reading::open(&broker, options).await;
    let mut seen = Vec::new();
    while seen.len() < 40 {
        let mut held = reading.take_within(1, PATIENCE).await;
        if seen.is_empty() {
            reading.watch(WINDOW).await;
        }
        held.extend(reading.take_waiting());
        assert!(held.len() <= 4, "{} records of {SIZE} bytes are held", held.len());
        seen.extend(numbers(&held));
        reading.settle(&held);
    }
    assert!(seen.into_iter().eq(0..40));
}

/// R5: a released record comes again also while the reader is at its bound.
pub async fn a_full_reader_still_repeats_what_is_released(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "bounded-release", 1).await;
    store(&broker, batch_to(&topic, 0, 0..20)).await;
    let mut options = options(&unique_group("bounded-release"), &topic);
    options.max_unsettled_records = 5;
    let mut reading = Reading::open(&broker, options).await;
    let held = reading.take(5).await;
    reading.release(&held[2].claim);
    assert_eq!(numbers(&reading.take(1).await), [2]);
}

/// A reader that is held up for longer than its session keeps its claims: a slow
/// worker is not a dead one.
pub async fn a_reader_at_its_bound_keeps_its_session(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "held-up", 1).await;
    store(&broker, batch_to(&topic, 0, 0..20)).await;
    let mut options = options(&unique_group("held-up"), &topic);
    options.max_unsettled_records = 5;
    let session = options.session_timeout;
    let mut reading = Reading::open(&broker, options).await;
    let held = reading.take(5).await;
    reading.watch(session + Duration::from_secs(2)).await;
    assert!(reading.take_waiting().is_empty(), "it was full");
    assert_eq!(reading.partitions().len(), 1, "it lost its partition");
    reading.settle(&held);
    assert!(numbers(&reading.take(5).await).into_iter().eq(5..10));
}
