//! Order per key across retries. Pure.
//!
//! Each key with something in flight has a line. While its events go well the
//! line only counts them and names their gateway, so that later events follow
//! the same way. When one fails in a way worth a retry, the line is held: later
//! events wait, those in flight are awaited, and then the failed ones are sent
//! again in order, the waiting ones behind them. A failed event that a later
//! one of its key has overtaken (it is stored) is given back as it failed:
//! sending it again would store it out of order.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

/// What a line holds: anything with a place in the order of `send`.
pub(crate) trait Ordered {
    fn sequence(&self) -> u64;
}

#[derive(Debug)]
struct Line<T> {
    gateway: usize,
    in_flight: usize,
    highest_stored: Option<u64>,
    failed: Vec<T>,
    waiting: VecDeque<T>,
}

impl<T> Line<T> {
    /// Whether later events must wait: behind a failed one, or behind others that wait.
    fn is_held(&self) -> bool {
        !self.failed.is_empty() || !self.waiting.is_empty()
    }
}

/// The lines of all keys with something in flight.
#[derive(Debug)]
pub(crate) struct Lines<T> {
    lines: HashMap<Bytes, Line<T>>,
}

/// Where an event that is offered shall go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offer<T> {
    /// Send it; to this gateway, if its key is bound to one.
    Send(T, Option<usize>),
    /// Its key is held; the line keeps it.
    Held,
}

/// What to do when the last event in flight of a held line is answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Recovery<T> {
    /// Overtaken by a later event of the key: these end with their last error.
    pub(crate) overtaken: Vec<T>,
    /// True when there are events to send again: after a pause, `resume` the key.
    pub(crate) resume: bool,
}

impl<T: Ordered> Lines<T> {
    pub(crate) fn new() -> Self {
        Self { lines: HashMap::new() }
    }

    /// Asks where an event of this key shall go.
    pub(crate) fn offer(&mut self, key: &Bytes, event: T) -> Offer<T> {
        match self.lines.get_mut(key) {
            Some(line) if line.is_held() => {
                line.waiting.push_back(event);
                Offer::Held
            }
            Some(line) if line.in_flight > 0 => Offer::Send(event, Some(line.gateway)),
            _ => Offer::Send(event, None),
        }
    }

    /// An event of this key was given to a gateway.
    pub(crate) fn sent(&mut self, key: &Bytes, gateway: usize) {
        let line = self.lines.entry(key.clone()).or_insert_with(|| Line {
            gateway,
            in_flight: 0,
            highest_stored: None,
            failed: Vec::new(),
            waiting: VecDeque::new(),
        });
        line.gateway = gateway;
        line.in_flight += 1;
    }

    /// An event of this key is stored.
    pub(crate) fn stored(&mut self, key: &Bytes, sequence: u64) -> Option<Recovery<T>> {
        let line = self.lines.get_mut(key)?;
        line.highest_stored = line.highest_stored.max(Some(sequence));
        self.answered(key)
    }

    /// An event of this key ended without being stored, for good.
    pub(crate) fn ended(&mut self, key: &Bytes) -> Option<Recovery<T>> {
        self.answered(key)
    }

    /// An event of this key failed and is worth a retry: holds the line.
    pub(crate) fn failed(&mut self, key: &Bytes, event: T) -> Option<Recovery<T>> {
        self.lines.get_mut(key)?.failed.push(event);
        self.answered(key)
    }

    fn answered(&mut self, key: &Bytes) -> Option<Recovery<T>> {
        let line = self.lines.get_mut(key)?;
        line.in_flight = line.in_flight.saturating_sub(1);
        if line.in_flight > 0 {
            return None;
        }
        if !line.is_held() {
            self.lines.remove(key);
            return None;
        }
        line.failed.sort_by_key(Ordered::sequence);
        let stored = line.highest_stored.take();
        let overtaken_count = line
            .failed
            .iter()
            .take_while(|event| Some(event.sequence()) < stored)
            .count();
        let overtaken = line.failed.drain(..overtaken_count).collect();
        let resume = line.is_held();
        if !resume {
            self.lines.remove(key);
        }
        Some(Recovery { overtaken, resume })
    }

    /// Ends the hold of a key: what to send again, in order.
    pub(crate) fn resume(&mut self, key: &Bytes) -> Vec<T> {
        match self.lines.get(key) {
            Some(line) if line.in_flight == 0 => {}
            _ => return Vec::new(),
        }
        let Some(line) = self.lines.remove(key) else {
            return Vec::new();
        };
        line.failed.into_iter().chain(line.waiting).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Ordered for u64 {
        fn sequence(&self) -> u64 {
            *self
        }
    }

    fn key() -> Bytes {
        Bytes::from_static(b"customer-7")
    }

    #[test]
    fn later_events_follow_the_gateway_of_those_in_flight() {
        let mut lines = Lines::new();
        assert_eq!(lines.offer(&key(), 1), Offer::Send(1, None));
        lines.sent(&key(), 2);
        assert_eq!(lines.offer(&key(), 2), Offer::Send(2, Some(2)));
        lines.sent(&key(), 2);
        assert_eq!(lines.stored(&key(), 1), None);
        assert_eq!(lines.stored(&key(), 2), None);
        assert_eq!(lines.offer(&key(), 3), Offer::Send(3, None), "the line has ended");
    }

    #[test]
    fn failed_events_come_again_in_order_before_those_that_waited() {
        let mut lines = Lines::new();
        for _ in 1..=3 {
            lines.sent(&key(), 0);
        }
        assert_eq!(lines.failed(&key(), 2), None);
        assert_eq!(lines.offer(&key(), 4), Offer::Held);
        assert_eq!(lines.failed(&key(), 1), None);
        let recovery = lines.failed(&key(), 3).unwrap();
        assert_eq!(
            recovery,
            Recovery {
                overtaken: vec![],
                resume: true
            }
        );
        assert_eq!(lines.resume(&key()), [1, 2, 3, 4]);
        assert_eq!(lines.offer(&key(), 5), Offer::Send(5, None));
    }

    #[test]
    fn an_overtaken_event_is_given_back() {
        let mut lines = Lines::new();
        for _ in 1..=3 {
            lines.sent(&key(), 0);
        }
        assert_eq!(lines.failed(&key(), 1), None);
        assert_eq!(lines.stored(&key(), 2), None);
        let recovery = lines.failed(&key(), 3).unwrap();
        assert_eq!(
            recovery,
            Recovery {
                overtaken: vec![1],
                resume: true
            }
        );
        assert_eq!(lines.resume(&key()), [3]);
    }

    #[test]
    fn a_line_whose_failures_were_all_overtaken_still_frees_the_waiting() {
        let mut lines = Lines::new();
        lines.sent(&key(), 0);
        lines.sent(&key(), 0);
        assert_eq!(lines.failed(&key(), 1), None);
        assert_eq!(lines.offer(&key(), 3), Offer::Held);
        let recovery = lines.stored(&key(), 2).unwrap();
        assert_eq!(
            recovery,
            Recovery {
                overtaken: vec![1],
                resume: true
            }
        );
        assert_eq!(lines.resume(&key()), [3]);
    }

    #[test]
    fn what_is_offered_before_the_waiting_resume_waits_behind_them() {
        let mut lines = Lines::new();
        lines.sent(&key(), 0);
        lines.sent(&key(), 0);
        assert_eq!(lines.failed(&key(), 1), None);
        assert_eq!(lines.offer(&key(), 3), Offer::Held);
        assert!(lines.stored(&key(), 2).unwrap().resume);
        assert_eq!(lines.offer(&key(), 4), Offer::Held);
        assert_eq!(lines.resume(&key()), [3, 4]);
        assert_eq!(lines.offer(&key(), 5), Offer::Send(5, None));
    }

    #[test]
    fn keys_do_not_hold_one_another() {
        let mut lines = Lines::new();
        lines.sent(&key(), 0);
        lines.sent(&key(), 0);
        lines.failed(&key(), 1);
        assert_eq!(lines.offer(&Bytes::from_static(b"other"), 9), Offer::Send(9, None));
    }
}
