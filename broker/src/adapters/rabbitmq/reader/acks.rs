//! Which deliveries of a channel are to be acknowledged. Pure.
//!
//! What holds: nothing is acknowledged twice, which would end the channel; a prefix
//! is acknowledged at its last delivery that is not acknowledged yet, since the
//! broker must know the one that it is told; a marker of a growth only when it has
//! been reported. What is settled beyond the frontier is acknowledged one by one,
//! which costs the broker more: so only when the frontier did not come to it soon.

use std::collections::VecDeque;

use crate::frontier::Frontier;

/// The marker of a growth, in the place where it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) tag: u64,
    /// The shard count that the topic grew to.
    pub(super) to: u32,
    /// Whether it lay in the parked queue.
    pub(super) parked: bool,
}

/// How far a plan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The prefix alone.
    Prefix,
    /// Also what was settled beyond the frontier at the last plan of this reach.
    Aged,
    /// Everything.
    All,
}

/// What was acknowledged on one channel. Delivery tags begin at 1.
#[derive(Debug)]
pub(super) struct Acks {
    acknowledged: Frontier,
    /// What was settled at the last plan that reached what had aged.
    aged: Frontier,
    markers: VecDeque<Marker>,
}

/// Acknowledgements to be written, in this order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AckPlan {
    /// All up to here.
    pub(super) up_to: Option<u64>,
    pub(super) singles: Vec<u64>,
}

impl AckPlan {
    pub(super) fn is_empty(&self) -> bool {
        self.up_to.is_none() && self.singles.is_empty()
    }
}

impl Acks {
    pub(super) fn new() -> Self {
        Self {
            acknowledged: Frontier::new(1),
            aged: Frontier::new(1),
            markers: VecDeque::new(),
        }
    }

    pub(super) fn mark(&mut self, marker: Marker) {
        self.markers.push_back(marker);
    }

    /// The first marker, when everything before it is settled: it is to be reported.
    pub(super) fn due_marker(&self, settled: &Frontier) -> Option<&Marker> {
        self.markers.front().filter(|marker| marker.tag <= settled.next())
    }

    /// It was reported.
    pub(super) fn reported(&mut self) {
        self.markers.pop_front();
    }

    /// How many deliveries up to `last_tag` are neither acknowledged nor markers.
    pub(super) fn unsettled(&self, last_tag: u64) -> u64 {
        let acknowledged = self.acknowledged.next() - 1 + self.acknowledged.settled_beyond();
        let markers = self.markers.iter().filter(|marker| marker.tag <= last_tag).count();
        last_tag.saturating_sub(acknowledged).saturating_sub(markers as u64)
    }

    /// What is settled, not acknowledged, and within reach; it counts as acknowledged from now on.
    pub(super) fn plan(&mut self, settled: &Frontier, reach: Reach) -> AckPlan {
        let mut plan = AckPlan::default();
        let held = self.markers.front().map_or(u64::MAX, |marker| marker.tag);
        let prefix_end = settled.next().min(held);
        if prefix_end > self.acknowledged.next() {
            // The last of the prefix that was not acknowledged on its own.
            let mut last = prefix_end - 1;
            for range in self.acknowledged.ranges().rev_ranges() {
                if range.contains(&last) {
                    last = range.start - 1;
                }
            }
            plan.up_to = (last >= self.acknowledged.next()).then_some(last);
            self.acknowledged.skip_to(prefix_end);
        }
        if reach == Reach::Prefix {
            return plan;
        }
        let whole = if settled.next() > prefix_end {
            Some(prefix_end..settled.next())
        } else {
            None
        };
        for range in whole.into_iter().chain(settled.ranges()) {
            for tag in range {
                let is_marker = self.markers.iter().any(|marker| marker.tag == tag);
                let is_within = reach == Reach::All || self.aged.is_settled(tag);
                if is_within && !is_marker && !self.acknowledged.is_settled(tag) {
                    plan.singles.push(tag);
                }
            }
        }
        for tag in &plan.singles {
            self.acknowledged.settle(*tag);
        }
        self.aged.clone_from(settled);
        plan
    }
}

/// The ranges of a frontier from the last to the first.
trait RevRanges {
    fn rev_ranges(self) -> std::iter::Rev<std::vec::IntoIter<std::ops::Range<u64>>>;
}

impl<I: Iterator<Item = std::ops::Range<u64>>> RevRanges for I {
    fn rev_ranges(self) -> std::iter::Rev<std::vec::IntoIter<std::ops::Range<u64>>> {
        self.collect::<Vec<_>>().into_iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a broker does with acknowledgements: an unknown tag ends the channel.
    #[derive(Default)]
    struct Channel(std::collections::BTreeSet<u64>);

    impl Channel {
        fn take(&mut self, plan: &AckPlan) {
            if let Some(up_to) = plan.up_to {
                assert!(self.0.contains(&up_to), "{up_to} is not unacknowledged: {:?}", self.0);
                self.0.retain(|tag| *tag > up_to);
            }
            for tag in &plan.singles {
                assert!(self.0.remove(tag), "{tag} was acknowledged twice");
            }
        }
    }

    #[test]
    fn a_marker_holds_the_prefix_until_it_is_reported() {
        let mut acks = Acks::new();
        let marker = Marker {
            tag: 3,
            to: 5,
            parked: false,
        };
        acks.mark(marker.clone());
        let mut settled = Frontier::new(1);
        settled.settle(1);
        settled.settle(3);
        assert_eq!(acks.due_marker(&settled), None);
        settled.settle(2);
        settled.settle(4);
        assert_eq!(acks.due_marker(&settled), Some(&marker));
        let held = AckPlan {
            up_to: Some(2),
            singles: vec![4],
        };
        assert_eq!(acks.plan(&settled, Reach::All), held);
        assert_eq!(acks.unsettled(5), 1);
        acks.reported();
        let all = AckPlan {
            up_to: Some(3),
            singles: vec![],
        };
        assert_eq!(acks.plan(&settled, Reach::Prefix), all);
        assert!(acks.plan(&settled, Reach::All).is_empty());
    }

    #[test]
    fn what_the_frontier_reaches_soon_is_not_acknowledged_one_by_one() {
        let mut acks = Acks::new();
        let mut settled = Frontier::new(1);
        settled.settle_range(2..5);
        assert!(acks.plan(&settled, Reach::Prefix).is_empty());
        assert!(acks.plan(&settled, Reach::Aged).is_empty());
        settled.settle(6);
        let aged = acks.plan(&settled, Reach::Aged);
        assert_eq!((aged.up_to, &aged.singles[..]), (None, &[2, 3, 4][..]));
        settled.settle(1);
        settled.settle(5);
        let all = acks.plan(&settled, Reach::Aged);
        assert_eq!((all.up_to, &all.singles[..]), (Some(6), &[][..]));
    }

    fn reach() -> impl Strategy<Value = Reach> {
        prop_oneof![Just(Reach::Prefix), Just(Reach::Aged), Just(Reach::All)]
    }

    proptest! {
        #[test]
        fn everything_settled_is_acknowledged_once(
            order in Just((1..60_u64).collect::<Vec<_>>()).prop_shuffle(),
            flushes in prop::collection::vec(prop::option::of(reach()), 60),
        ) {
            let mut channel = Channel((1..60).collect());
            let (mut acks, mut settled) = (Acks::new(), Frontier::new(1));
            for (tag, flush) in order.into_iter().zip(flushes) {
                settled.settle(tag);
                if let Some(reach) = flush {
                    channel.take(&acks.plan(&settled, reach));
                    let unsettled = channel.0.len() as u64;
                    prop_assert_eq!(acks.unsettled(59), unsettled);
                }
            }
            channel.take(&acks.plan(&settled, Reach::All));
            prop_assert!(channel.0.is_empty());
        }
    }
}
