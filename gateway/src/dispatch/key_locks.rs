//! One lock for each key (or partition): its holder is the one item that may be in flight, parked or on its way to the
//! dead-letter topic; the others wait behind it in the order of their arrival.
//!
//! A lock is one key, not a range of hashes: what happens to its holder concerns no other key, and a worker that joins
//! has the free keys at once. What the holder is doing is the dispatcher's business.
//!
//! What holds: a lock that is there has a holder; an item is in at most one place; no lock is kept for a key that no
//! item has, so the memory is bounded by the items.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use meridian_broker::TopicPartition;
use meridian_event::Record;

use super::work::{DeliveryOrdering, ItemId};

/// What is locked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LockName {
    /// The key of records, whatever their topic.
    Key(Bytes),
    /// A partition.
    Partition(TopicPartition),
}

impl LockName {
    /// The lock that a record needs; `None` for a record that nothing binds.
    pub fn of(ordering: DeliveryOrdering, partition: &TopicPartition, record: &Record) -> Option<Self> {
        match ordering {
            DeliveryOrdering::Key => record.key.clone().map(LockName::Key),
            DeliveryOrdering::Partition => Some(LockName::Partition(partition.clone())),
            DeliveryOrdering::Unordered => None,
        }
    }
}

#[derive(Debug)]
struct Lock {
    holder: ItemId,
    waiting: VecDeque<ItemId>,
}

/// All locks of a group.
#[derive(Debug, Default)]
pub struct KeyLocks {
    locks: HashMap<LockName, Lock>,
}

impl KeyLocks {
    /// True when the item holds the lock now; else it waits behind the others.
    pub fn enter(&mut self, name: &LockName, item: ItemId) -> bool {
        if let Some(lock) = self.locks.get_mut(name) {
            lock.waiting.push_back(item);
            return false;
        }
        let lock = Lock {
            holder: item,
            waiting: VecDeque::new(),
        };
        self.locks.insert(name.clone(), lock);
        true
    }

    /// The holder is done with; the next one holds the lock and is returned.
    pub fn leave(&mut self, name: &LockName, item: ItemId) -> Option<ItemId> {
        let lock = self.locks.get_mut(name)?;
        debug_assert_eq!(lock.holder, item, "only the holder leaves");
        match lock.waiting.pop_front() {
            Some(next) => {
                lock.holder = next;
                Some(next)
            }
            None => {
                self.locks.remove(name);
                None
            }
        }
    }

    /// Takes out all items that are gone, and returns those that hold a lock in the place of one that is.
    pub fn forget(&mut self, is_gone: impl Fn(ItemId) -> bool) -> Vec<ItemId> {
        let mut holders = Vec::new();
        self.locks.retain(|_, lock| {
            lock.waiting.retain(|item| !is_gone(*item));
            if !is_gone(lock.holder) {
                return true;
            }
            let next = lock.waiting.pop_front();
            if let Some(next) = next {
                lock.holder = next;
                holders.push(next);
            }
            next.is_some()
        });
        holders.sort_unstable();
        holders
    }

    /// How many keys (or partitions) are locked.
    pub fn len(&self) -> usize {
        self.locks.len()
    }

    /// Whether nothing is locked.
    pub fn is_empty(&self) -> bool {
        self.locks.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &'static str) -> LockName {
        LockName::Key(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn items_of_a_key_hold_its_lock_one_after_another_in_order_of_arrival() {
        let mut locks = KeyLocks::default();
        assert!(locks.enter(&key("a"), ItemId(1)));
        assert!(!locks.enter(&key("a"), ItemId(2)));
        assert!(locks.enter(&key("b"), ItemId(3)));
        assert!(!locks.enter(&key("a"), ItemId(4)));
        assert_eq!(locks.leave(&key("a"), ItemId(1)), Some(ItemId(2)));
        assert_eq!(locks.leave(&key("a"), ItemId(2)), Some(ItemId(4)));
        assert_eq!(locks.leave(&key("a"), ItemId(4)), None);
        assert_eq!(locks.len(), 1);
        assert_eq!(locks.leave(&key("b"), ItemId(3)), None);
        assert!(locks.is_empty());
    }

    #[test]
    fn items_that_are_gone_hand_their_locks_on() {
        let mut locks = KeyLocks::default();
        for item in 1..=4 {
            locks.enter(&key("a"), ItemId(item));
        }
        locks.enter(&key("b"), ItemId(5));
        locks.enter(&key("c"), ItemId(6));
        let gone = [ItemId(1), ItemId(2), ItemId(4), ItemId(6)];
        assert_eq!(locks.forget(|item| gone.contains(&item)), [ItemId(3)]);
        assert_eq!(locks.len(), 2);
        assert_eq!(locks.leave(&key("a"), ItemId(3)), None);
    }

    #[test]
    fn an_empty_key_is_a_key_and_no_key_is_free() {
        let partition = TopicPartition {
            topic: "orders".parse().unwrap(),
            partition: 0,
        };
        let none = Record::default();
        let empty = Record {
            key: Some(Bytes::new()),
            ..Record::default()
        };
        let of = |record| LockName::of(DeliveryOrdering::Key, &partition, record);
        assert_eq!(of(&none), None);
        assert_eq!(of(&empty), Some(LockName::Key(Bytes::new())));
    }
}
