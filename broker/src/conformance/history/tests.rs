//! The checker finds each breach, and takes what is right.

use meridian_event::Record;

use super::*;
use crate::name::TopicName;
use crate::read::Assignment;

fn partition() -> TopicPartition {
    TopicPartition {
        topic: TopicName::new("orders").unwrap(),
        partition: 0,
    }
}

fn claim(generation: u64, position: u64) -> Claim {
    Claim {
        partition: partition(),
        generation,
        position,
    }
}

fn records(generation: u64, positions: &[(u64, u32)]) -> ReadEvent {
    let record = |&(position, releases): &(u64, u32)| ReadRecord {
        releases,
        ..ReadRecord::new(claim(generation, position), Record::default())
    };
    ReadEvent::Records(positions.iter().map(record).collect())
}

fn assigned(generation: u64) -> ReadEvent {
    ReadEvent::Assigned(vec![Assignment {
        partition: partition(),
        generation,
        position: 0,
    }])
}

fn reading() -> History {
    let mut history = History::default();
    history.told(&assigned(1)).unwrap();
    history
}

#[test]
fn records_in_order_with_holes_are_right() {
    let mut history = reading();
    history.told(&records(1, &[(0, 0), (1, 0), (5, 0)])).unwrap();
    history.told(&records(1, &[(6, 0)])).unwrap();
    assert_eq!(history.partitions().len(), 1);
}

#[test]
fn a_reordered_history_is_refused() {
    let mut history = reading();
    let breach = history.told(&records(1, &[(0, 0), (2, 0), (1, 0)])).unwrap_err();
    assert_eq!(
        breach,
        Breach::OutOfOrder {
            claim: claim(1, 1),
            after: 2
        }
    );
}

#[test]
fn a_record_that_comes_twice_is_refused() {
    let mut history = reading();
    history.told(&records(1, &[(0, 0)])).unwrap();
    assert_eq!(history.told(&records(1, &[(0, 0)])), Err(Breach::Twice(claim(1, 0))));
}

#[test]
fn a_released_record_comes_first_and_says_how_often() {
    let mut history = reading();
    history.told(&records(1, &[(0, 0), (1, 0)])).unwrap();
    history.released(&claim(1, 0));
    let early = Breach::BeforeReleased {
        claim: claim(1, 2),
        released: 0,
    };
    assert_eq!(history.told(&records(1, &[(2, 0)])), Err(early));
    let silent = Breach::Releases {
        claim: claim(1, 0),
        said: 0,
        known: 1,
    };
    assert_eq!(history.told(&records(1, &[(0, 0)])), Err(silent));
    history.told(&records(1, &[(0, 1), (2, 0)])).unwrap();
}

#[test]
fn claims_end_with_their_generation() {
    let mut history = reading();
    history.told(&records(1, &[(0, 0)])).unwrap();
    history.told(&ReadEvent::Revoked(vec![partition()])).unwrap();
    assert_eq!(
        history.told(&records(1, &[(1, 0)])),
        Err(Breach::Unassigned(claim(1, 1)))
    );
    let again = history.told(&ReadEvent::Revoked(vec![partition()]));
    assert_eq!(again, Err(Breach::RevokedUnassigned(partition())));
    let stale = Breach::Generation {
        partition: partition(),
        before: 1,
        now: 1,
    };
    assert_eq!(history.told(&assigned(1)), Err(stale));
    history.told(&assigned(2)).unwrap();
    history.told(&records(2, &[(0, 0)])).unwrap();
    assert_eq!(history.told(&assigned(3)), Err(Breach::AssignedTwice(partition())));
}

#[test]
fn only_first_sights_must_be_in_order() {
    assert_eq!(first_seen_in_order(&[0, 1, 2, 1, 2, 3]), Ok(()));
    assert_eq!(first_seen_in_order(&[0, 2, 1]), Err((2, 1)));
}
