//! The pauses that operators have put on groups, for all groups of a gateway: also for those that nobody reads now.
//!
//! What holds: bounded; a pause with an end is over when the wall clock says so, whether anybody looks or not; where
//! there is none, asking costs one atomic load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::terms::GroupKey;
use crate::fault::{FaultCode, Refusal};

/// The most pauses in force.
const MAX_PAUSES: usize = 10_000;

/// A group is not read on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Since when.
    pub since: SystemTime,
    /// When it ends by itself; `None` when an operator has to end it.
    pub until: Option<SystemTime>,
    /// Why, for people; may be empty.
    pub reason: String,
}

impl Pause {
    fn is_over(&self, now: SystemTime) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// In the words that workers and operators are told.
    pub fn words(&self) -> String {
        let until = match self.until {
            Some(until) => format!(" until {}", rfc3339(until)),
            None => String::new(),
        };
        let reason = match self.reason.as_str() {
            "" => String::new(),
            reason => format!(": {reason}"),
        };
        format!("paused by an operator{until}{reason}")
    }
}

/// All pauses.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    count: AtomicUsize,
    by_group: Mutex<BTreeMap<GroupKey, Pause>>,
}

impl Pauses {
    /// Puts a pause on a group; one that is in force keeps its beginning.
    pub(super) fn set(&self, key: GroupKey, pause: Pause, now: SystemTime) -> Result<Pause, Refusal> {
        let mut pauses = self.locked();
        pauses.retain(|_, pause| !pause.is_over(now));
        if pauses.len() >= MAX_PAUSES && !pauses.contains_key(&key) {
            let words = format!("{MAX_PAUSES} groups are paused, which is the limit; resume some");
            return Err(Refusal::new(FaultCode::TooManyPauses, words));
        }
        let since = pauses.get(&key).map_or(pause.since, |before| before.since);
        let pause = Pause { since, ..pause };
        pauses.insert(key, pause.clone());
        self.count.store(pauses.len(), Ordering::Release);
        Ok(pause)
    }

    /// Takes a pause back.
    pub(super) fn clear(&self, key: &GroupKey, now: SystemTime) -> Option<Pause> {
        let mut pauses = self.locked();
        let pause = pauses.remove(key).filter(|pause| !pause.is_over(now));
        self.count.store(pauses.len(), Ordering::Release);
        pause
    }

    /// The pause of a group that is in force.
    pub(super) fn of(&self, key: &GroupKey, now: SystemTime) -> Option<Pause> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.locked().get(key).filter(|pause| !pause.is_over(now)).cloned()
    }

    /// All that are in force.
    pub(super) fn all(&self, now: SystemTime) -> Vec<(GroupKey, Pause)> {
        let pauses = self.locked();
        let in_force = pauses.iter().filter(|(_, pause)| !pause.is_over(now));
        in_force.map(|(key, pause)| (key.clone(), pause.clone())).collect()
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<GroupKey, Pause>> {
        self.by_group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A time as RFC 3339 writes it, in UTC and to the second.
fn rfc3339(time: SystemTime) -> String {
    let mut timestamp = prost_types::Timestamp::from(time);
    timestamp.nanos = 0;
    timestamp.to_string()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use meridian_broker::{BrokerName, GroupName};

    use super::*;

    fn key(group: &str) -> GroupKey {
        GroupKey {
            broker: BrokerName::new("main").unwrap(),
            group: GroupName::new(group).unwrap(),
        }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn pause(since: u64, until: Option<u64>) -> Pause {
        Pause {
            since: at(since),
            until: until.map(at),
            reason: "the database moves".to_owned(),
        }
    }

    #[test]
    fn a_pause_ends_by_the_clock_or_by_an_operator() {
        let pauses = Pauses::default();
        assert_eq!(pauses.of(&key("a"), at(10)), None);
        pauses.set(key("a"), pause(10, Some(20)), at(10)).unwrap();
        pauses.set(key("b"), pause(10, None), at(10)).unwrap();
        assert!(pauses.of(&key("a"), at(19)).is_some());
        assert_eq!(pauses.all(at(19)).len(), 2);
        assert_eq!(pauses.of(&key("a"), at(20)), None);
        assert_eq!(pauses.all(at(20)).len(), 1);
        assert_eq!(pauses.clear(&key("a"), at(20)), None, "it was over");
        assert_eq!(pauses.clear(&key("b"), at(1_000)), Some(pause(10, None)));
        assert_eq!(pauses.clear(&key("b"), at(1_000)), None);
    }

    #[test]
    fn pausing_again_keeps_the_beginning() {
        let pauses = Pauses::default();
        pauses.set(key("a"), pause(10, Some(20)), at(10)).unwrap();
        let again = pauses.set(key("a"), pause(15, None), at(15)).unwrap();
        assert_eq!(again, pause(10, None));
        pauses.set(key("a"), pause(15, Some(16)), at(15)).unwrap();
        let anew = pauses.set(key("a"), pause(30, None), at(30)).unwrap();
        assert_eq!(anew.since, at(30), "the earlier one was over");
    }

    #[test]
    fn pauses_are_bounded() {
        let pauses = Pauses::default();
        for number in 0..MAX_PAUSES {
            pauses
                .set(key(&format!("g{number}")), pause(10, Some(20)), at(10))
                .unwrap();
        }
        let refused = pauses.set(key("one-more"), pause(10, None), at(10)).unwrap_err();
        assert_eq!(refused.code(), FaultCode::TooManyPauses);
        pauses.set(key("g1"), pause(10, None), at(10)).unwrap();
        pauses.set(key("one-more"), pause(20, None), at(20)).unwrap();
    }

    #[test]
    fn the_words_say_until_when_and_why() {
        assert_eq!(
            pause(0, Some(1_700_000_000)).words(),
            "paused by an operator until 2023-11-14T22:13:20Z: the database moves"
        );
        let plain = Pause {
            reason: String::new(),
            ..pause(0, None)
        };
        assert_eq!(plain.words(), "paused by an operator");
    }
}
