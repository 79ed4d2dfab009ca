//! Partitions that take nothing although records wait for them: librdkafka can
//! lose the leader of one partition, or all its brokers, for good, and says so to
//! nobody. Pure: the session asks here, asks the cluster who leads, and acts.
//!
//! What holds: a partition that has answered anything, also a refusal, does not
//! stand; a record's time-out is no answer; what was tried once long ago and is
//! tried again gets its time anew.

use std::collections::HashMap;
use std::time::Duration;

use crate::name::TopicName;

/// A partition that has taken nothing for so long, while others have, is looked at.
const ALONE_AFTER: Duration = Duration::from_secs(10);

/// The same where no other has.
const ALL_AFTER: Duration = Duration::from_secs(30);

/// How long a partition that is tried anew is left in peace.
const TRIED_FOR: Duration = Duration::from_secs(3);

/// After so long without a record, what was before says nothing about now.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// The number of a partition among those that a session sends to.
pub(super) type Lane = u32;

/// All partitions that a session has sent to; times are since the session began.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    numbers: HashMap<TopicName, Vec<Option<Lane>>>,
    lanes: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    topic: TopicName,
    partition: i32,
    /// Records on their way.
    outstanding: usize,
    /// It has answered nothing since then.
    since: Duration,
    /// There have been records on their way since then.
    tried_since: Duration,
    emptied: Duration,
    answered: Option<Duration>,
}

impl Lanes {
    /// The number of a partition.
    pub(super) fn lane(&mut self, topic: &TopicName, partition: i32) -> Lane {
        let index = usize::try_from(partition).unwrap_or(0);
        if !self.numbers.contains_key(topic) {
            self.numbers.insert(topic.clone(), Vec::new());
        }
        let next = Lane::try_from(self.lanes.len()).unwrap_or(Lane::MAX);
        // Bounded by the partitions of the cluster, of each of which librdkafka holds more.
        let Some(numbers) = self.numbers.get_mut(topic) else {
            return next;
        };
        if numbers.len() <= index {
            numbers.resize(index + 1, None);
        }
        if let Some(lane) = numbers[index] {
            return lane;
        }
        numbers[index] = Some(next);
        self.lanes.push(Place {
            topic: topic.clone(),
            partition,
            outstanding: 0,
            since: Duration::ZERO,
            tried_since: Duration::ZERO,
            emptied: Duration::ZERO,
            answered: None,
        });
        next
    }

    /// A record is on its way.
    pub(super) fn sent(&mut self, lane: Lane, now: Duration) {
        let Some(place) = self.lanes.get_mut(lane as usize) else {
            return;
        };
        if place.outstanding == 0 {
            let is_new = place.emptied.is_zero() || place.answered == Some(place.since);
            if is_new || now.saturating_sub(place.emptied) > FORGOTTEN_AFTER {
                place.since = now;
            }
            place.tried_since = now;
        }
        place.outstanding += 1;
    }

    /// A record was not handed over after all.
    pub(super) fn taken_back(&mut self, lane: Lane) {
        if let Some(place) = self.lanes.get_mut(lane as usize) {
            place.outstanding = place.outstanding.saturating_sub(1);
        }
    }

    /// A record has its outcome; `answered` when the broker gave it.
    pub(super) fn ended(&mut self, lane: Lane, answered: bool, now: Duration) {
        let Some(place) = self.lanes.get_mut(lane as usize) else {
            return;
        };
        place.outstanding = place.outstanding.saturating_sub(1);
        if place.outstanding == 0 {
            place.emptied = now;
        }
        if answered {
            place.since = now;
            place.answered = Some(now);
        }
    }

    /// Nothing is expected of any partition up to now.
    pub(super) fn excuse(&mut self, now: Duration) {
        for place in &mut self.lanes {
            place.since = now;
        }
    }

    /// Nothing is expected of this one up to now.
    pub(super) fn excuse_one(&mut self, lane: Lane, now: Duration) {
        if let Some(place) = self.lanes.get_mut(lane as usize) {
            place.since = now;
        }
    }

    /// The partition that has stood for longest, if one stands for too long.
    pub(super) fn standing(&self, now: Duration) -> Option<(Lane, TopicName, i32)> {
        let others_answer = self
            .lanes
            .iter()
            .filter_map(|place| place.answered)
            .any(|at| now.saturating_sub(at) < ALONE_AFTER);
        let limit = if others_answer { ALONE_AFTER } else { ALL_AFTER };
        let stands = |place: &&Place| {
            place.outstanding > 0
                && now.saturating_sub(place.since) >= limit
                && now.saturating_sub(place.tried_since) >= TRIED_FOR
        };
        let place = self.lanes.iter().filter(stands).min_by_key(|place| place.since)?;
        let lane = self.numbers.get(&place.topic)?.get(place.partition as usize)?;
        Some(((*lane)?, place.topic.clone(), place.partition))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn two() -> (Lanes, Lane, Lane) {
        let topic = TopicName::new("orders").unwrap();
        let mut lanes = Lanes::default();
        let (good, bad) = (lanes.lane(&topic, 0), lanes.lane(&topic, 3));
        assert_ne!(good, bad);
        assert_eq!(lanes.lane(&topic, 3), bad);
        (lanes, good, bad)
    }

    fn answers(lanes: &mut Lanes, lane: Lane, now: u64) {
        lanes.sent(lane, at(now));
        lanes.ended(lane, true, at(now));
    }

    #[test]
    fn a_partition_that_stands_while_others_move_is_found() {
        let (mut lanes, good, bad) = two();
        lanes.sent(bad, at(1));
        answers(&mut lanes, good, 9);
        assert_eq!(lanes.standing(at(10)), None);
        let (lane, topic, partition) = lanes.standing(at(11)).unwrap();
        assert_eq!((lane, topic.as_str(), partition), (bad, "orders", 3));
    }

    #[test]
    fn time_outs_are_no_answers_however_short_they_are() {
        let (mut lanes, good, bad) = two();
        for now in 1..=11 {
            lanes.sent(bad, at(now));
            lanes.ended(bad, false, at(now));
            answers(&mut lanes, good, now);
        }
        assert_eq!(lanes.standing(at(12)), None, "nothing waits for it now");
        lanes.sent(bad, at(12));
        assert_eq!(lanes.standing(at(13)), None, "the last try is young");
        assert!(lanes.standing(at(15)).is_some());
    }

    #[test]
    fn a_refusal_is_an_answer() {
        let (mut lanes, good, bad) = two();
        lanes.sent(bad, at(1));
        lanes.sent(bad, at(1));
        lanes.ended(bad, true, at(8));
        answers(&mut lanes, good, 12);
        assert_eq!(lanes.standing(at(12)), None);
    }

    #[test]
    fn where_none_moves_it_takes_longer() {
        let (mut lanes, good, bad) = two();
        lanes.sent(good, at(1));
        lanes.sent(bad, at(1));
        assert_eq!(lanes.standing(at(30)), None);
        assert!(lanes.standing(at(31)).is_some());
        lanes.excuse(at(31));
        assert_eq!(lanes.standing(at(60)), None);
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let (mut lanes, good, bad) = two();
        lanes.sent(bad, at(1));
        lanes.ended(bad, false, at(11));
        answers(&mut lanes, good, 100);
        lanes.sent(bad, at(100));
        assert_eq!(lanes.standing(at(109)), None);
        answers(&mut lanes, bad, 109);
        lanes.ended(bad, true, at(109));
        answers(&mut lanes, good, 300);
        lanes.sent(bad, at(300));
        assert_eq!(
            lanes.standing(at(305)),
            None,
            "a partition that answered begins anew with the next record"
        );
    }
}
