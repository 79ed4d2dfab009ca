//! Tests of health: what makes a process ready, what does not, and who is told.

use super::*;
use crate::clock::{Clock, ManualClock};

fn health() -> (Health, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(0));
    (Health::new(clock.clone()), clock)
}

#[test]
fn ready_needs_every_required_component_and_at_least_one() {
    let (health, _) = health();
    assert!(!health.is_ready(), "nothing has reported");
    let optional = health.optional_component("cache");
    optional.ready();
    assert!(!health.is_ready(), "nothing required has reported");
    let broker = health.component("broker main");
    let rules = health.component("rules");
    broker.ready();
    assert!(!health.is_ready());
    rules.ready();
    assert!(health.is_ready());
    optional.not_ready("gone");
    assert!(health.is_ready());
    rules.not_ready("etcd is away");
    assert!(!health.is_ready());
    health.remove_component("rules");
    rules.not_ready("still");
    assert!(health.is_ready());
}

#[test]
fn dropping_a_handle_changes_nothing() {
    let (health, _) = health();
    drop(health.component("broker"));
    assert!(!health.is_ready());
    let again = health.component("broker");
    again.ready();
    drop(again);
    assert!(health.is_ready());
    health.component("broker");
    assert!(health.is_ready(), "asking for a handle again does not reset the state");
}

#[test]
fn draining_and_dying_end_readiness_but_only_dying_ends_life() {
    let (health, _) = health();
    health.component("broker").ready();
    health.drain();
    assert!(!health.is_ready() && health.is_live());
    health.not_live("stuck");
    assert!(!health.is_live());
    assert_eq!(health.snapshot().not_live.as_deref(), Some("stuck"));
}

#[test]
fn since_when_survives_a_change_of_the_reason() {
    let (health, clock) = health();
    let broker = health.component("broker");
    let start = clock.now();
    broker.not_ready("refused");
    clock.advance(Duration::from_secs(5));
    broker.not_ready("timed out");
    let seen = &health.snapshot().components[0];
    let expected = ComponentState::NotReady {
        reason: "timed out".to_owned(),
        since: start,
    };
    assert_eq!((&seen.state, seen.state_for), (&expected, Duration::from_secs(5)));
    broker.ready();
    assert_eq!(health.snapshot().components[0].state_for, Duration::ZERO);
}

#[test]
fn the_watch_tells_of_changes_only() {
    let (health, _) = health();
    let mut watch = health.watch();
    assert!(!*watch.borrow_and_update());
    let broker = health.component("broker");
    broker.not_ready("x");
    assert!(!watch.has_changed().unwrap());
    broker.ready();
    assert!(watch.has_changed().unwrap() && *watch.borrow_and_update());
    broker.ready();
    assert!(!watch.has_changed().unwrap());
    broker.draining();
    assert!(watch.has_changed().unwrap() && !*watch.borrow_and_update());
}
