//! What is settled in one partition: everything before a frontier, and islands
//! beyond it.
//!
//! ```text
//! position   0  1  2  3  4  5  6  7  8  9
//! settled    x  x  x  .  x  x  .  .  x
//!                     ^next = 3       ranges = 4..6, 8..9   settled_beyond = 3
//! ```
//!
//! Pure arithmetic; who may settle is the ledger's business, how it is stored
//! the adapters' and [`metadata`](crate::metadata)'s.
//!
//! What holds: `next` never passes a position that was not settled (or declared
//! a hole); ranges are not empty, do not touch, and begin beyond `next`. There
//! is at most one range more than there are unsettled positions below the
//! highest settled one, so the memory is bounded by what a reader may hold.
//! Positions lie below `u64::MAX`, which settles nothing.

use std::collections::BTreeMap;
use std::ops::Range;

/// Everything before `next` is settled, and so are the ranges beyond it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Frontier {
    next: u64,
    /// Start to end of each settled range beyond `next`.
    ranges: BTreeMap<u64, u64>,
    /// The lengths of all ranges together.
    beyond: u64,
}

impl Frontier {
    /// Everything before `next` is settled, and nothing beyond.
    pub fn new(next: u64) -> Self {
        Self {
            next,
            ranges: BTreeMap::new(),
            beyond: 0,
        }
    }

    /// The first position that is not settled: what may be committed.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many positions beyond `next` are settled.
    pub fn settled_beyond(&self) -> u64 {
        self.beyond
    }

    /// The settled ranges beyond `next`, in order; they neither touch nor overlap.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|(start, end)| *start..*end)
    }

    /// The end of the last settled range, or `next`: nothing is settled from here on.
    pub fn settled_end(&self) -> u64 {
        self.ranges.last_key_value().map_or(self.next, |(_, end)| *end)
    }

    /// Whether the position is settled.
    pub fn is_settled(&self, position: u64) -> bool {
        position < self.next
            || self
                .ranges
                .range(..=position)
                .next_back()
                .is_some_and(|(_, end)| position < *end)
    }

    /// Settles one position. True when it was not settled before.
    pub fn settle(&mut self, position: u64) -> bool {
        if position == self.next && position < u64::MAX {
            // The common case: in order.
            self.next += 1;
            self.absorb();
            return true;
        }
        if self.is_settled(position) || position == u64::MAX {
            return false;
        }
        self.insert(position, position + 1);
        true
    }

    /// Settles a range, such as a hole that compaction or a transaction marker
    /// left. Returns how many of its positions were not settled before.
    pub fn settle_range(&mut self, range: Range<u64>) -> u64 {
        let start = range.start.max(self.next);
        if start >= range.end {
            return 0;
        }
        let before = self.next + self.beyond; // cannot overflow: these positions are disjoint
        if start == self.next {
            self.raise(range.end);
        } else {
            self.insert(start, range.end);
        }
        self.next + self.beyond - before
    }

    /// Everything before `position` counts as settled, because it is gone or
    /// because the group was told to go on there. Never goes back.
    pub fn skip_to(&mut self, position: u64) {
        if position > self.next {
            self.raise(position);
        }
    }

    /// Settles all that `other` has settled.
    pub fn merge(&mut self, other: &Frontier) {
        self.skip_to(other.next);
        for range in other.ranges() {
            self.settle_range(range);
        }
    }

    /// Moves `next` up and takes in the ranges that it reaches.
    fn raise(&mut self, next: u64) {
        self.next = next;
        while let Some(first) = self.ranges.first_entry() {
            if *first.key() > self.next {
                break;
            }
            let (start, end) = first.remove_entry();
            self.beyond -= end - start;
            self.next = self.next.max(end);
        }
    }

    /// Takes in the first range when `next` has come to touch it.
    fn absorb(&mut self) {
        if let Some(first) = self.ranges.first_entry()
            && *first.key() == self.next
        {
            let (start, end) = first.remove_entry();
            self.beyond -= end - start;
            self.next = end;
        }
    }

    /// Adds `start..end`, which begins beyond `next`, and joins what it touches.
    fn insert(&mut self, mut start: u64, mut end: u64) {
        if let Some((&left, &left_end)) = self.ranges.range(..=start).next_back()
            && left_end >= start
        {
            start = left;
            end = end.max(left_end);
            self.ranges.remove(&left);
            self.beyond -= left_end - left;
        }
        while let Some((&right, &right_end)) = self.ranges.range(start..=end).next() {
            end = end.max(right_end);
            self.ranges.remove(&right);
            self.beyond -= right_end - right;
        }
        self.ranges.insert(start, end);
        self.beyond += end - start;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn next_waits_for_the_unsettled_and_then_takes_in_what_lies_beyond() {
        let mut frontier = Frontier::new(3);
        assert!(frontier.settle(5));
        assert!(frontier.settle(4));
        assert!(frontier.settle(8));
        assert!(!frontier.settle(5));
        assert!(!frontier.settle(2));
        assert_eq!((frontier.next(), frontier.settled_beyond()), (3, 3));
        assert_eq!(frontier.ranges().collect::<Vec<_>>(), [4..6, 8..9]);
        assert!(frontier.settle(3));
        assert_eq!((frontier.next(), frontier.settled_beyond()), (6, 1));
        assert_eq!(frontier.settle_range(6..8), 2);
        assert_eq!((frontier.next(), frontier.settled_beyond()), (9, 0));
        assert_eq!(frontier.ranges().len(), 0);
    }

    #[test]
    fn the_last_position_settles_nothing() {
        let mut frontier = Frontier::new(u64::MAX - 1);
        assert!(frontier.settle(u64::MAX - 1));
        assert!(!frontier.settle(u64::MAX));
        assert!(!Frontier::new(0).settle(u64::MAX));
        assert_eq!(frontier.next(), u64::MAX);
        assert_eq!(frontier.settle_range(0..u64::MAX), 0);
    }

    /// One step of a random life.
    #[derive(Clone, Debug)]
    enum Step {
        Settle(u64),
        Range(u64, u64),
        Skip(u64),
        Merge(u64, Vec<u64>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..60u64).prop_map(Step::Settle),
            2 => (0..60u64, 0..12u64).prop_map(|(start, length)| Step::Range(start, start + length)),
            1 => (0..20u64).prop_map(Step::Skip),
            1 => (0..10u64, prop::collection::vec(0..60u64, 0..8)).prop_map(|(next, beyond)| Step::Merge(next, beyond)),
        ]
    }

    fn check(frontier: &Frontier, model: &BTreeSet<u64>) {
        let next = (0..).find(|position| !model.contains(position)).unwrap();
        assert_eq!(frontier.next(), next, "next is the first position that is not settled");
        let beyond: Vec<u64> = model.range(next..).copied().collect();
        assert_eq!(frontier.settled_beyond(), beyond.len() as u64);
        assert_eq!(frontier.ranges().flatten().collect::<Vec<_>>(), beyond);
        for position in 0..100 {
            assert_eq!(frontier.is_settled(position), model.contains(&position), "{position}");
        }
        let mut before = next;
        for range in frontier.ranges() {
            assert!(range.start > before && range.end > range.start, "{frontier:?}");
            before = range.end;
        }
        assert_eq!(frontier.settled_end(), before);
    }

    proptest! {
        #[test]
        fn it_does_what_a_set_of_settled_positions_does(start in 0..10u64, steps in prop::collection::vec(step(), 0..80)) {
            let mut frontier = Frontier::new(start);
            let mut model: BTreeSet<u64> = (0..start).collect();
            for step in steps {
                match step {
                    Step::Settle(position) => assert_eq!(frontier.settle(position), model.insert(position)),
                    Step::Range(start, end) => {
                        let newly = (start..end).filter(|position| model.insert(*position)).count();
                        assert_eq!(frontier.settle_range(start..end), newly as u64);
                    }
                    Step::Skip(position) => {
                        frontier.skip_to(position);
                        model.extend(0..position);
                    }
                    Step::Merge(next, beyond) => {
                        let mut other = Frontier::new(next);
                        for position in &beyond {
                            other.settle(*position);
                        }
                        frontier.merge(&other);
                        model.extend((0..next).chain(beyond));
                    }
                }
                check(&frontier, &model);
            }
        }
    }
}
