//! Which records of a bucket go on when: pure, time comes in as a value.
//!
//! What holds: nothing goes on before its time; everything does at its time, if it is within the window that the reader
//! allows; as many records are held as the reader has handed out and not more.

use std::collections::BTreeMap;

use meridian_broker::{Claim, TopicPartition};

use super::bucket::Bucket;
use super::parked::Parked;

/// A record that waits, and the right to settle it.
#[derive(Clone, Debug)]
pub struct Held {
    /// The right to settle it.
    pub claim: Claim,
    /// The event.
    pub parked: Parked,
}

/// What is to be done with a record whose time in the bucket is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is due: to its topic.
    Arrive,
    /// To a bucket that is not longer than what is left.
    GoOn,
}

impl Step {
    /// What is next for an event that is due then.
    pub fn of(due_ms: i64, now_ms: i64) -> Self {
        if now_ms >= due_ms { Step::Arrive } else { Step::GoOn }
    }
}

/// The records of one bucket that were read and wait.
#[derive(Debug)]
pub struct Waiting {
    bucket: Bucket,
    next: u64,
    /// By the moment at which they go on, then by arrival.
    held: BTreeMap<(i64, u64), Held>,
    not_before_ms: i64,
}

impl Waiting {
    /// Nothing waits yet.
    pub fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            next: 0,
            held: BTreeMap::new(),
            not_before_ms: i64::MIN,
        }
    }

    /// Takes in a record.
    pub fn add(&mut self, held: Held, now_ms: i64) {
        let length = self.bucket.length_ms();
        // A clock that was ahead when it was parked makes it wait no longer than any other.
        let since = held.parked.since_ms.min(now_ms);
        let at = held.parked.aim.due_ms.min(since.saturating_add(length));
        self.held.insert((at, self.next), held);
        self.next += 1;
    }

    /// Takes out records whose time in the bucket is over, at most so many.
    pub fn take_due(&mut self, now_ms: i64, max: usize) -> Vec<Held> {
        let mut due = Vec::new();
        while due.len() < max
            && now_ms >= self.not_before_ms
            && let Some(entry) = self.held.first_entry()
            && entry.key().0 <= now_ms
        {
            due.push(entry.remove());
        }
        due
    }

    /// Gives back what could not be appended; nothing goes on for a while.
    pub fn put_back(&mut self, failed: Vec<Held>, not_before_ms: i64) {
        for held in failed {
            self.held.insert((i64::MIN, self.next), held);
            self.next += 1;
        }
        self.not_before_ms = not_before_ms;
    }

    /// Forgets the records of a partition that were read under another generation than `keep`.
    pub fn revoke(&mut self, partition: &TopicPartition, keep: Option<u64>) {
        self.held
            .retain(|_, held| held.claim.partition != *partition || Some(held.claim.generation) == keep);
    }

    /// Forgets all: the reader is gone.
    pub fn clear(&mut self) {
        self.held.clear();
    }

    /// How long until the next record goes on, in milliseconds; `None` when none waits.
    pub fn next_in_ms(&self, now_ms: i64) -> Option<i64> {
        let (at, _) = self.held.first_key_value()?.0;
        Some((*at).max(self.not_before_ms).saturating_sub(now_ms).max(0))
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use meridian_event::Record;
    use proptest::prelude::*;

    use super::super::parked::{Aim, park};
    use super::*;

    fn held(bucket: Bucket, position: u64, record: Record) -> Held {
        let partition = TopicPartition {
            topic: bucket.topic(),
            partition: 0,
        };
        let claim = Claim {
            partition,
            generation: 1,
            position,
        };
        Held {
            claim,
            parked: Parked::read(record).unwrap(),
        }
    }

    fn aim(due_ms: i64) -> Aim {
        Aim {
            due_ms,
            topic: "orders".parse().unwrap(),
        }
    }

    /// Sends an event through the buckets; each step is late by what `lateness` says. Returns when it arrives, and
    /// after how many steps.
    fn travel(due_ms: i64, start_ms: i64, lateness: &mut dyn FnMut() -> i64) -> (i64, usize) {
        let mut now_ms = start_ms;
        let (mut bucket, mut record) = park(Record::default(), &aim(due_ms), now_ms);
        for step in 1.. {
            let mut waiting = Waiting::new(bucket);
            now_ms += lateness();
            waiting.add(held(bucket, 0, record), now_ms);
            let wait = waiting.next_in_ms(now_ms).unwrap();
            if wait > 0 {
                assert!(waiting.take_due(now_ms + wait - 1, 10).is_empty());
            }
            now_ms += wait + lateness();
            let [held] = &waiting.take_due(now_ms, 10)[..] else {
                panic!("what is due goes on");
            };
            match Step::of(held.parked.aim.due_ms, now_ms) {
                Step::Arrive => return (now_ms, step),
                Step::GoOn => (bucket, record) = park(held.parked.record.clone(), &held.parked.aim, now_ms),
            }
        }
        unreachable!()
    }

    proptest! {
        #[test]
        fn an_event_arrives_at_its_time_and_never_before(
            wait_ms in -10_000..30 * 24 * 3_600_000_i64,
            late_ms in 0..500_i64,
        ) {
            let start_ms = 1_700_000_000_000;
            let due_ms = start_ms + wait_ms;
            let (arrived_ms, steps) = travel(due_ms, start_ms, &mut || late_ms);
            prop_assert!(arrived_ms >= due_ms);
            // Reading it and writing it of the last step, each late once.
            prop_assert!(arrived_ms <= due_ms.max(start_ms) + 2 * late_ms, "{arrived_ms} {due_ms}");
            prop_assert!(steps <= 120 + 40, "{steps} steps");
        }

        #[test]
        fn records_go_on_in_the_order_of_their_time(offsets in prop::collection::vec(0..10_000_i64, 1..50)) {
            let mut waiting = Waiting::new(Bucket::TenSeconds);
            for (position, offset) in (0..).zip(&offsets) {
                let (_, record) = park(Record::default(), &aim(*offset), 0);
                waiting.add(held(Bucket::TenSeconds, position, record), 0);
            }
            let mut seen = Vec::new();
            for now_ms in (0..=10_000).step_by(100) {
                for held in waiting.take_due(now_ms, 7) {
                    prop_assert!(held.parked.aim.due_ms <= now_ms);
                    seen.push(held.parked.aim.due_ms);
                }
            }
            prop_assert!(seen.is_sorted());
        }
    }

    #[test]
    fn what_failed_waits_and_what_is_revoked_is_forgotten() {
        let mut waiting = Waiting::new(Bucket::Second);
        let (_, record) = park(Record::default(), &aim(10), 0);
        waiting.add(held(Bucket::Second, 0, record), 0);
        let due = waiting.take_due(10, 5);
        waiting.put_back(due, 500);
        assert_eq!(waiting.next_in_ms(100), Some(400));
        assert!(waiting.take_due(499, 5).is_empty());
        let partition = TopicPartition {
            topic: Bucket::Second.topic(),
            partition: 0,
        };
        waiting.revoke(&partition, Some(1));
        assert_eq!(waiting.len(), 1);
        waiting.revoke(&partition, Some(2));
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_clock_that_was_ahead_keeps_nobody_waiting() {
        let mut waiting = Waiting::new(Bucket::Second);
        let (_, record) = park(Record::default(), &aim(9_000_000), 8_999_000);
        waiting.add(held(Bucket::Second, 0, record), 1_000);
        assert_eq!(waiting.next_in_ms(1_000), Some(1_000));
    }
}
