//! Failed attempts of records that this gateway does not hold at the moment: their partition moved, or their group ended
//! with its last session. A record that kills its only worker each time would otherwise start over at attempt 1 with
//! every reconnect, and never reach the dead-letter topic.
//!
//! A memory, not a promise: it is bounded, forgets the oldest first, and dies with the process (a gateway that is
//! killed counts no attempt).

use std::collections::{HashMap, VecDeque};

use meridian_broker::{Claim, TopicPartition};

/// Failed attempts by partition and position.
#[derive(Clone, Debug)]
pub struct AttemptMemory {
    max_records: usize,
    failures: HashMap<(TopicPartition, u64), u32>,
    order: VecDeque<(TopicPartition, u64)>,
}

impl AttemptMemory {
    /// An empty memory of at most so many records.
    pub fn new(max_records: usize) -> Self {
        Self {
            max_records,
            failures: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Remembers that deliveries of this record failed so often.
    pub fn remember(&mut self, claim: &Claim, failures: u32) {
        if failures == 0 || self.max_records == 0 {
            return;
        }
        if self.order.len() == self.max_records
            && let Some(oldest) = self.order.pop_front()
        {
            self.failures.remove(&oldest);
        }
        let name = (claim.partition.clone(), claim.position);
        self.order.push_back(name.clone());
        self.failures.insert(name, failures);
    }

    /// Gives up what is known of this record; 0 when nothing is.
    pub fn recall(&mut self, claim: &Claim) -> u32 {
        if self.failures.is_empty() {
            return 0;
        }
        let name = (claim.partition.clone(), claim.position);
        self.failures.remove(&name).unwrap_or(0)
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.failures.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(position: u64, generation: u64) -> Claim {
        let partition = TopicPartition {
            topic: "orders".parse().unwrap(),
            partition: 0,
        };
        Claim {
            partition,
            generation,
            position,
        }
    }

    #[test]
    fn what_is_remembered_is_recalled_once_under_any_generation() {
        let mut memory = AttemptMemory::new(10);
        memory.remember(&claim(7, 1), 3);
        assert_eq!(memory.recall(&claim(8, 1)), 0);
        assert_eq!(memory.recall(&claim(7, 2)), 3);
        assert_eq!(memory.recall(&claim(7, 2)), 0);
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_is_no_more_room() {
        let mut memory = AttemptMemory::new(2);
        for position in 0..3 {
            memory.remember(&claim(position, 1), 1);
        }
        assert_eq!(memory.recall(&claim(0, 1)), 0);
        assert_eq!(memory.recall(&claim(2, 1)), 1);
        assert_eq!(memory.failures.len(), 1);
        assert!(memory.order.len() <= 2);
    }
}
