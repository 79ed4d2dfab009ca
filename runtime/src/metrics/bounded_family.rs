//! A family of metrics whose label values come from outside, kept to a number of label sets. What the labels are is the
//! user's business.
//!
//! What holds: at most the given number of label sets exist, besides the one for what overflowed; a known label set is
//! never pushed out by a new one; each use of a label set that found no room is counted.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// The value that labels have in the label set that takes what found no room.
pub const OVERFLOW: &str = "overflow";

/// A bounded family, made by [`Metrics::register_bounded`](crate::Metrics::register_bounded); clones share it.
pub struct BoundedFamily<S, M> {
    shared: Arc<Shared<S, M>>,
}

struct Shared<S, M> {
    /// What is encoded.
    family: Family<S, M, fn() -> M>,
    /// The same metrics; the family itself does not say how many it has.
    known: RwLock<HashMap<S, M>>,
    max_label_sets: usize,
    overflow: S,
    overflowed: Counter,
}

impl<S: Clone + Hash + Eq, M: Clone> BoundedFamily<S, M> {
    pub(super) fn new(
        family: Family<S, M, fn() -> M>,
        max_label_sets: usize,
        overflow: S,
        overflowed: Counter,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                family,
                known: RwLock::default(),
                max_label_sets,
                overflow,
                overflowed,
            }),
        }
    }

    /// The metric of a label set, or the one for what overflowed if there is no room.
    pub fn get_or_create(&self, labels: &S) -> M {
        let shared = &*self.shared;
        let known = shared.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(metric) = known.get(labels) {
            return metric.clone();
        }
        drop(known);
        let mut known = shared.known.write().unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(labels) && known.len() >= shared.max_label_sets {
            drop(known);
            shared.overflowed.inc();
            return shared.family.get_or_create_owned(&shared.overflow);
        }
        let create = || shared.family.get_or_create_owned(labels);
        known.entry(labels.clone()).or_insert_with(create).clone()
    }

    /// Takes a label set away, because what it stood for is gone, and makes room. Those who hold its metric write
    /// into the void from then on.
    pub fn remove(&self, labels: &S) {
        let shared = &*self.shared;
        let mut known = shared.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.remove(labels).is_some() {
            shared.family.remove(labels);
        }
    }

    /// How many label sets there are, without the one for what overflowed.
    pub fn label_sets(&self) -> usize {
        let known = self.shared.known.read();
        known.unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl<S, M> Clone for BoundedFamily<S, M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S, M> fmt::Debug for BoundedFamily<S, M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BoundedFamily")
            .field("max_label_sets", &self.shared.max_label_sets)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    type Labels = [(&'static str, String); 1];

    fn topic(name: &str) -> Labels {
        [("topic", name.to_owned())]
    }

    #[test]
    fn what_finds_no_room_is_folded_and_counted() {
        let metrics = Metrics::new([("region", "r")]);
        let family = metrics
            .sub_registry("m")
            .register_bounded("events", "x", 2, topic(OVERFLOW), Counter::<u64>::default)
            .unwrap();
        for name in ["a", "b", "c", "d", "a"] {
            family.get_or_create(&topic(name)).inc();
        }
        assert_eq!(family.label_sets(), 2);
        let text = metrics.encode().unwrap();
        assert!(text.contains("m_events_total{region=\"r\",topic=\"a\"} 2"), "{text}");
        assert!(
            text.contains("m_events_total{region=\"r\",topic=\"overflow\"} 2"),
            "{text}"
        );
        assert!(!text.contains("topic=\"c\""), "{text}");
        let counted = "meridian_metrics_label_sets_overflowed_total{region=\"r\",family=\"m_events\"} 2";
        assert!(text.contains(counted), "{text}");

        family.remove(&topic("a"));
        family.get_or_create(&topic("c")).inc();
        let text = metrics.encode().unwrap();
        assert!(
            text.contains("topic=\"c\"} 1") && !text.contains("topic=\"a\""),
            "{text}"
        );
    }

    #[test]
    fn many_threads_do_not_pass_the_limit() {
        let metrics = Metrics::new([("region", "r")]);
        let family = metrics
            .register_bounded("events", "x", 10, topic(OVERFLOW), Counter::<u64>::default)
            .unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let family = family.clone();
                scope.spawn(move || {
                    for number in 0..50 {
                        family.get_or_create(&topic(&format!("{thread}-{number}"))).inc();
                    }
                });
            }
        });
        assert_eq!(family.label_sets(), 10);
        let text = metrics.encode().unwrap();
        let lines = text.lines().filter(|line| line.starts_with("events_total{"));
        let sum: u64 = lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(sum, 200, "nothing is lost");
    }
}
