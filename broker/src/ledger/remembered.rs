//! What a reader knows of partitions that it has no more, so that work that is
//! done does not come again when a lost session gives the partition back.
//!
//! What holds: at most [`MAX_PARTITIONS`] are remembered, the oldest go first;
//! nothing is recalled for a group whose position was moved back meanwhile.

use std::collections::{HashMap, VecDeque};

use super::PendingCommit;
use crate::frontier::Frontier;
use crate::name::TopicPartition;

/// How many revoked partitions are remembered.
pub(super) const MAX_PARTITIONS: usize = 1024;

#[derive(Debug)]
struct Known {
    generation: u64,
    frontier: Frontier,
    /// The highest position that the broker confirmed as the group's.
    committed_next: u64,
}

#[derive(Debug, Default)]
pub(super) struct Remembered {
    known: HashMap<TopicPartition, Known>,
    /// The keys of `known`, oldest first.
    order: VecDeque<TopicPartition>,
}

impl Remembered {
    pub(super) fn remember(&mut self, partition: TopicPartition, last: &PendingCommit, committed_next: u64) {
        self.forget(&partition);
        while self.order.len() >= MAX_PARTITIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(partition.clone());
        let known = Known {
            generation: last.generation,
            frontier: last.frontier.clone(),
            committed_next,
        };
        self.known.insert(partition, known);
    }

    /// What is known, once; nothing if the group stands before what this reader
    /// committed: then somebody moved it back in order to replay.
    pub(super) fn recall(&mut self, partition: &TopicPartition, group_position: u64) -> Option<Frontier> {
        let known = self.known.remove(partition)?;
        self.order.retain(|other| other != partition);
        (group_position >= known.committed_next).then_some(known.frontier)
    }

    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        if self.known.remove(partition).is_some() {
            self.order.retain(|other| other != partition);
        }
    }

    pub(super) fn mark_committed(&mut self, commit: &PendingCommit) {
        if let Some(known) = self.known.get_mut(&commit.partition)
            && known.generation == commit.generation
        {
            known.committed_next = known.committed_next.max(commit.frontier.next());
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
