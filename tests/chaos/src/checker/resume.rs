//! How long deliveries take to come back after a gateway was killed.
//!
//! Told for each group by its partitions: the time from the kill until an event that
//! was published after it has come from that partition. The slowest partition counts,
//! for it is the one that the dead gateway had.

use std::collections::{BTreeMap, BTreeSet};

/// Only the last few kills can still wait for something.
const FOLLOWED: usize = 8;

/// One kill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// When the gateway was killed.
    pub killed_ms: u64,
    /// The group.
    pub group: String,
    /// From the kill to the slowest partition's first fresh event; `None` when the run ended the wait.
    pub after_ms: Option<u64>,
    /// Another blow on a gateway or the broker fell in that time, and may have made it longer.
    pub disturbed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Partitions that have ever delivered, by group.
    partitions: BTreeMap<String, BTreeSet<u32>>,
    kills: Vec<Kill>,
}

#[derive(Debug)]
struct Kill {
    at_ms: u64,
    /// When the next blow on a gateway or the broker fell.
    disturbed_ms: Option<u64>,
    /// What has not come yet, by group, and the time of the last that came.
    waiting: BTreeMap<String, (BTreeSet<u32>, u64)>,
}

impl Watch {
    pub(super) fn disturbed(&mut self, at_ms: u64) {
        for kill in self.kills.iter_mut().rev().take(FOLLOWED) {
            kill.disturbed_ms.get_or_insert(at_ms);
        }
    }

    pub(super) fn killed(&mut self, at_ms: u64) {
        self.disturbed(at_ms);
        let waiting = self.partitions.iter().map(|(group, partitions)| {
            let waiting = (partitions.clone(), at_ms);
            (group.clone(), waiting)
        });
        let waiting = waiting.collect();
        self.kills.push(Kill {
            at_ms,
            disturbed_ms: None,
            waiting,
        });
    }

    pub(super) fn delivered(&mut self, group: &str, partition: u32, attempted_ms: u64, at_ms: u64) {
        if !self.partitions.contains_key(group) {
            self.partitions.insert(group.to_owned(), BTreeSet::new());
        }
        if let Some(partitions) = self.partitions.get_mut(group) {
            partitions.insert(partition);
        }
        for kill in self.kills.iter_mut().rev().take(FOLLOWED) {
            if attempted_ms > kill.at_ms
                && let Some((waiting, last_ms)) = kill.waiting.get_mut(group)
                && waiting.remove(&partition)
            {
                *last_ms = at_ms;
            }
        }
    }

    pub(super) fn figures(&self) -> Vec<Resume> {
        let of_kill = |kill: &Kill| {
            let resumes = kill.waiting.iter().map(|(group, (waiting, last_ms))| Resume {
                killed_ms: kill.at_ms,
                group: group.clone(),
                after_ms: waiting.is_empty().then(|| last_ms - kill.at_ms),
                disturbed: kill
                    .disturbed_ms
                    .is_some_and(|at_ms| at_ms < *last_ms || !waiting.is_empty()),
            });
            resumes.collect::<Vec<_>>()
        };
        self.kills.iter().flat_map(of_kill).collect()
    }
}
