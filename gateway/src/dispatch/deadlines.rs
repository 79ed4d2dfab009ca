//! When the next thing falls due. An item has at most one deadline at a time: the end of its lease, of its delay, or of
//! its grace; which of them it is, is in the item's state.
//!
//! What holds: as many entries as there are items with a deadline, however often a lease is renewed, so the memory is
//! bounded by the items.

use std::collections::BTreeSet;
use std::time::Instant;

use super::work::ItemId;

/// Deadlines by time.
#[derive(Debug, Default)]
pub struct Deadlines {
    by_time: BTreeSet<(Instant, ItemId)>,
}

impl Deadlines {
    /// Adds the deadline of an item that has none.
    pub fn set(&mut self, at: Instant, item: ItemId) {
        self.by_time.insert((at, item));
    }

    /// Takes away the deadline of an item.
    pub fn clear(&mut self, at: Instant, item: ItemId) {
        let was_there = self.by_time.remove(&(at, item));
        debug_assert!(was_there, "{item:?} has no deadline at {at:?}");
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the earliest deadline that is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<ItemId> {
        if self.next()? > now {
            return None;
        }
        self.by_time.pop_first().map(|(_, item)| item)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn deadlines_fall_due_in_order_and_not_before_their_time() {
        let start = Instant::now();
        let second = |count| start + Duration::from_secs(count);
        let mut deadlines = Deadlines::default();
        for (at, item) in [(3, 0), (1, 1), (2, 2)] {
            deadlines.set(second(at), ItemId(item));
        }
        deadlines.clear(second(2), ItemId(2));
        assert_eq!(deadlines.next(), Some(second(1)));
        assert_eq!(deadlines.pop_due(start), None);
        assert_eq!(deadlines.pop_due(second(2)), Some(ItemId(1)));
        assert_eq!(deadlines.pop_due(second(2)), None);
        assert_eq!(deadlines.pop_due(second(3)), Some(ItemId(0)));
        assert_eq!(deadlines.next(), None);
    }
}
