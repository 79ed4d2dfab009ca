//! R9 and `close`: how a reader leaves.

use std::time::{Duration, Instant};

use super::fixture::{Fixture, Settings};
use super::reading::{Reading, SESSION, numbers};
use super::writing::{batch_to, new_topic, store, unique_group};
use crate::error::SettleError;

/// How soon another reader must have what an orderly close gave up: far below the
/// shortest session.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A closed reader gives up its claims at once: a member that waits has the records
/// long before a session could run out, and what was settled does not come again.
pub async fn a_closed_reader_gives_up_its_claims_at_once(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "leaving", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let group = unique_group("leaving");
    let mut first = Reading::join(&broker, &group, &topic).await;
    let records = first.take(10).await;
    first.settle(&records[..3]);
    first.settle(&records[6..7]);
    let settler = std::sync::Arc::clone(&first.settler);
    let closing = Instant::now();
    first.close().await;
    let closed = closing.elapsed();
    assert!(closed < AT_ONCE, "closing took {closed:?}");
    let late = settler
        .settle(&records[9].claim)
        .expect_err("a closed reader settled a record");
    assert!(matches!(late, SettleError::Closed | SettleError::Stale), "{late:?}");
    let joining = Instant::now();
    let mut second = Reading::join(&broker, &group, &topic).await;
    let again = second.take_within(6, SESSION).await;
    let waited = joining.elapsed();
    assert_eq!(numbers(&again), [3, 4, 5, 7, 8, 9]);
    assert!(waited < AT_ONCE, "the next reader waited {waited:?}");
}

/// R9: a reader that is dropped blocks nobody while it leaves: dropping returns at
/// once, and its records come to another within its session.
pub async fn a_dropped_reader_blocks_nobody(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "crash", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let group = unique_group("crash");
    let mut first = Reading::join(&broker, &group, &topic).await;
    first.take(10).await;
    let dropping = Instant::now();
    drop(first);
    let dropped = dropping.elapsed();
    assert!(dropped < Duration::from_millis(500), "dropping took {dropped:?}");
    let mut second = Reading::join(&broker, &group, &topic).await;
    let limit = SESSION + Duration::from_secs(10); // the session, and a rebalance
    assert!(numbers(&second.take_within(10, limit).await).into_iter().eq(0..10));
}

/// A reader that has read nothing yet, and one whose topic is empty, close at once.
pub async fn a_fresh_reader_closes_at_once(fixture: &dyn Fixture) {
    let broker = fixture.connect(&Settings::default()).await;
    let topic = new_topic(&broker, "fresh", 1).await;
    for _ in 0..3 {
        let reading = Reading::join(&broker, &unique_group("fresh"), &topic).await;
        let closing = Instant::now();
        reading.close().await;
        let closed = closing.elapsed();
        assert!(closed < AT_ONCE * 2, "closing took {closed:?}");
    }
}
