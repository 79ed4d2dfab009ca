//! Order per key across retries. Pure.
//!
//! Each key with something in flight has a line. While its events go well the
//! line only counts them and names their gateway, so that later events follow
//! the same way. When one fails in a way worth a retry, the line is held: later
//! events wait, and those in flight are awaited. Then the oldest goes alone, for
//! as long as the fault lasts: were several under way when it ends, an earlier
//! one could be refused and a later one stored. Once it is stored the others
//! follow, in order. A failed event that a later one of its key has overtaken (it
//! is stored) is given back as it failed: sending it again would store it out of
//! order.

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
    /// The oldest of a held line, on its way alone.
    probe: Option<u64>,
}

impl<T> Line<T> {
    /// Whether later events must wait: behind a failed one, or behind others that wait.
    fn is_held(&self) -> bool {
        self.probe.is_some() || !self.failed.is_empty() || !self.waiting.is_empty()
    }
}

/// The lines of all keys with something in flight.
#[derive(Debug)]
pub(crate) struct Lines<T> {
    lines: HashMap<Bytes, Line<T>>,
    /// How many of them have a failed event.
    failing: usize,
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
    /// What becomes of the others.
    pub(crate) next: Next<T>,
}

/// How a held line goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next<T> {
    /// The fault is over: offer these again, in order, at once.
    Release(Vec<T>),
    /// After a pause, `resume` the key.
    Resume,
}

impl<T: Ordered> Lines<T> {
    pub(crate) fn new() -> Self {
        Self {
            lines: HashMap::new(),
            failing: 0,
        }
    }

    /// Asks where an event of this key shall go.
    pub(crate) fn offer(&mut self, key: &Bytes, event: T) -> Offer<T> {
        match self.lines.get_mut(key) {
            // The line's own probe, which had to wait for a gateway.
            Some(line) if line.probe == Some(event.sequence()) => Offer::Send(event, None),
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
            probe: None,
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
        let line = self.lines.get_mut(key)?;
        self.failing += usize::from(line.failed.is_empty());
        line.failed.push(event);
        self.answered(key)
    }

    /// Whether any event must stay behind an earlier one that failed.
    pub(crate) fn is_any_failing(&self) -> bool {
        self.failing > 0
    }

    /// Whether an event of this key that was given to a gateway, and not sent yet,
    /// must stay behind an earlier one: then it fails too.
    pub(crate) fn must_stay(&self, key: &Bytes) -> bool {
        self.lines.get(key).is_some_and(|line| !line.failed.is_empty())
    }

    fn answered(&mut self, key: &Bytes) -> Option<Recovery<T>> {
        let line = self.lines.get_mut(key)?;
        line.in_flight = line.in_flight.saturating_sub(1);
        if line.in_flight > 0 {
            return None;
        }
        line.probe = None;
        if !line.is_held() {
            self.lines.remove(key);
            return None;
        }
        self.failing -= usize::from(!line.failed.is_empty());
        line.failed.sort_by_key(Ordered::sequence);
        let stored = line.highest_stored.take();
        let overtaken_count = line
            .failed
            .iter()
            .take_while(|event| Some(event.sequence()) < stored)
            .count();
        let overtaken = line.failed.drain(..overtaken_count).collect();
        if !line.failed.is_empty() || stored.is_none() {
            for event in line.failed.drain(..).rev() {
                line.waiting.push_front(event);
            }
            return Some(Recovery {
                overtaken,
                next: Next::Resume,
            });
        }
        let waiting = self
            .lines
            .remove(key)
            .map(|line| line.waiting.into())
            .unwrap_or_default();
        Some(Recovery {
            overtaken,
            next: Next::Release(waiting),
        })
    }

    /// The oldest event of a held key, to be sent alone. None when nothing is held,
    /// or something is on its way.
    pub(crate) fn resume(&mut self, key: &Bytes) -> Option<T> {
        let line = self.lines.get_mut(key)?;
        if line.in_flight > 0 || line.probe.is_some() {
            return None;
        }
        match line.waiting.pop_front() {
            Some(oldest) => {
                line.probe = Some(oldest.sequence());
                Some(oldest)
            }
            None => {
                self.lines.remove(key);
                None
            }
        }
    }

    /// What `resume` gave was not sent and never will be: another may be resumed.
    pub(crate) fn dropped(&mut self, key: &Bytes) {
        if let Some(line) = self.lines.get_mut(key)
            && line.in_flight == 0
        {
            line.probe = None;
        }
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

    fn held(overtaken: &[u64]) -> Option<Recovery<u64>> {
        let overtaken = overtaken.to_vec();
        Some(Recovery {
            overtaken,
            next: Next::Resume,
        })
    }

    fn released(overtaken: &[u64], events: &[u64]) -> Option<Recovery<u64>> {
        let (overtaken, next) = (overtaken.to_vec(), Next::Release(events.to_vec()));
        Some(Recovery { overtaken, next })
    }

    #[test]
    fn the_oldest_goes_alone_until_it_is_stored_and_the_others_follow_in_order() {
        let mut lines = Lines::new();
        for _ in 1..=3 {
            lines.sent(&key(), 0);
        }
        assert_eq!(lines.failed(&key(), 2), None);
        assert_eq!(lines.offer(&key(), 4), Offer::Held);
        assert_eq!(lines.failed(&key(), 1), None);
        assert_eq!(lines.failed(&key(), 3), held(&[]));
        for _ in 0..2 {
            assert_eq!(lines.resume(&key()), Some(1));
            assert_eq!(lines.resume(&key()), None, "it is on its way");
            lines.sent(&key(), 1);
            assert_eq!(lines.failed(&key(), 1), held(&[]));
        }
        assert_eq!(lines.resume(&key()), Some(1));
        assert_eq!(
            lines.offer(&key(), 1),
            Offer::Send(1, None),
            "it had waited for a gateway"
        );
        lines.sent(&key(), 1);
        assert_eq!(lines.offer(&key(), 5), Offer::Held);
        assert_eq!(lines.stored(&key(), 1), released(&[], &[2, 3, 4, 5]));
        assert_eq!(lines.offer(&key(), 2), Offer::Send(2, None));
    }

    #[test]
    fn what_ends_for_good_is_no_sign_that_the_fault_is_over() {
        let mut lines = Lines::new();
        lines.sent(&key(), 0);
        lines.sent(&key(), 0);
        lines.failed(&key(), 1);
        assert_eq!(lines.failed(&key(), 2), held(&[]));
        assert_eq!(lines.resume(&key()), Some(1));
        lines.sent(&key(), 0);
        assert_eq!(lines.ended(&key()), held(&[]));
        assert_eq!(lines.resume(&key()), Some(2));
        lines.dropped(&key());
        assert_eq!(lines.resume(&key()), None);
        assert_eq!(lines.offer(&key(), 3), Offer::Send(3, None), "the line has ended");
    }

    #[test]
    fn an_overtaken_event_is_given_back() {
        let mut lines = Lines::new();
        for _ in 1..=3 {
            lines.sent(&key(), 0);
        }
        assert_eq!(lines.failed(&key(), 1), None);
        assert_eq!(lines.stored(&key(), 2), None);
        assert_eq!(lines.failed(&key(), 3), held(&[1]));
        assert_eq!(lines.resume(&key()), Some(3));
    }

    #[test]
    fn a_line_whose_failures_were_all_overtaken_still_frees_the_waiting() {
        let mut lines = Lines::new();
        lines.sent(&key(), 0);
        lines.sent(&key(), 0);
        assert_eq!(lines.failed(&key(), 1), None);
        assert_eq!(lines.offer(&key(), 3), Offer::Held);
        assert_eq!(lines.stored(&key(), 2), released(&[1], &[3]));
    }

    #[test]
    fn a_probe_without_company_keeps_later_events_behind_it() {
        let mut lines = Lines::new();
        lines.sent(&key(), 0);
        assert_eq!(lines.failed(&key(), 1), held(&[]));
        assert_eq!(lines.resume(&key()), Some(1));
        lines.sent(&key(), 0);
        assert_eq!(lines.offer(&key(), 2), Offer::Held);
        assert_eq!(lines.failed(&key(), 1), held(&[]));
        assert_eq!(lines.resume(&key()), Some(1));
        lines.sent(&key(), 0);
        assert_eq!(lines.stored(&key(), 1), released(&[], &[2]));
    }

    #[test]
    fn what_was_not_sent_stays_behind_what_failed() {
        let mut lines = Lines::new();
        for _ in 1..=3 {
            lines.sent(&key(), 0);
        }
        assert!(!lines.is_any_failing());
        assert_eq!(lines.failed(&key(), 2), None);
        assert!(lines.is_any_failing() && lines.must_stay(&key()));
        assert_eq!(lines.failed(&key(), 3), None, "it was not sent");
        assert_eq!(lines.stored(&key(), 1), held(&[]));
        assert!(!lines.is_any_failing());
        assert_eq!(lines.resume(&key()), Some(2));
        assert!(!lines.must_stay(&key()), "the probe itself is sent");
        lines.sent(&key(), 0);
        assert_eq!(lines.stored(&key(), 2), released(&[], &[3]));
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
