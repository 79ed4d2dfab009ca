//! The checker of what one reader tells: claims, generations, order, release.
//!
//! Pure: it is told every event and every release (a settled record stays claimed:
//! it must not come again), and says at once which duty
//! an event breaks. It knows nothing of brokers, so that its own tests can show
//! that it finds each breach.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::name::TopicPartition;
use crate::read::{Claim, ReadEvent, ReadRecord};

/// A duty that an event broke.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// A record of a partition or generation that the reader does not have.
    #[error("R3: {0:?} was handed out without an assignment of its generation")]
    Unassigned(Claim),
    /// A record came before one with a lower position.
    #[error("R1: {claim:?} came after position {after}")]
    OutOfOrder {
        /// The record.
        claim: Claim,
        /// What had come before.
        after: u64,
    },
    /// A record came while it was claimed, or after it was settled.
    #[error("R2: {0:?} came again though it was not released")]
    Twice(Claim),
    /// A new record came while a released one had not come again.
    #[error("R1: {claim:?} came before the released position {released}")]
    BeforeReleased {
        /// The record.
        claim: Claim,
        /// What should have come first.
        released: u64,
    },
    /// The count of releases is wrong.
    #[error("{claim:?} says that it was released {said} times, and it was {known}")]
    Releases {
        /// The record.
        claim: Claim,
        /// What the record says.
        said: u32,
        /// What is so.
        known: u32,
    },
    /// An assignment of a generation that is not newer than the last.
    #[error("R3: the generation of {partition} went from {before} to {now}")]
    Generation {
        /// The partition.
        partition: TopicPartition,
        /// The last one.
        before: u64,
        /// The new one.
        now: u64,
    },
    /// An assignment of a partition that the reader has already.
    #[error("R3: {0} was assigned while it was assigned")]
    AssignedTwice(TopicPartition),
    /// A partition went that was not there.
    #[error("R3: {0} was revoked without having been assigned")]
    RevokedUnassigned(TopicPartition),
}

#[derive(Debug, Default)]
struct PartitionHistory {
    generation: u64,
    assigned: bool,
    /// The highest position that was handed out under this generation.
    highest: Option<u64>,
    claimed: BTreeSet<u64>,
    released: BTreeSet<u64>,
    releases: BTreeMap<u64, u32>,
}

/// What one reader has told so far.
#[derive(Debug, Default)]
pub struct History {
    partitions: HashMap<TopicPartition, PartitionHistory>,
}

impl History {
    /// Takes in one event.
    ///
    /// # Errors
    /// [`Breach`] names the duty that the event breaks.
    pub fn told(&mut self, event: &ReadEvent) -> Result<(), Breach> {
        match event {
            ReadEvent::Records(records) => records.iter().try_for_each(|record| self.record(record)),
            ReadEvent::Assigned(assignments) => assignments
                .iter()
                .try_for_each(|assigned| self.assigned(&assigned.partition, assigned.generation)),
            ReadEvent::Revoked(partitions) => partitions.iter().try_for_each(|partition| self.revoked(partition)),
            ReadEvent::Gap(_) => Ok(()),
        }
    }

    fn assigned(&mut self, partition: &TopicPartition, generation: u64) -> Result<(), Breach> {
        let known = self.partitions.entry(partition.clone()).or_default();
        if known.assigned {
            return Err(Breach::AssignedTwice(partition.clone()));
        }
        if generation <= known.generation && known.highest.is_some() {
            let before = known.generation;
            return Err(Breach::Generation {
                partition: partition.clone(),
                before,
                now: generation,
            });
        }
        *known = PartitionHistory {
            generation,
            assigned: true,
            ..PartitionHistory::default()
        };
        Ok(())
    }

    fn revoked(&mut self, partition: &TopicPartition) -> Result<(), Breach> {
        match self.partitions.get_mut(partition) {
            Some(known) if known.assigned => {
                known.assigned = false;
                Ok(())
            }
            _ => Err(Breach::RevokedUnassigned(partition.clone())),
        }
    }

    fn record(&mut self, record: &ReadRecord) -> Result<(), Breach> {
        let claim = &record.claim;
        let position = claim.position;
        let known = self.partitions.get_mut(&claim.partition);
        let Some(known) = known.filter(|known| known.assigned && known.generation == claim.generation) else {
            return Err(Breach::Unassigned(claim.clone()));
        };
        let releases = known.releases.get(&position).copied().unwrap_or(0);
        if record.releases != releases {
            let (said, known) = (record.releases, releases);
            return Err(Breach::Releases {
                claim: claim.clone(),
                said,
                known,
            });
        }
        if !known.released.remove(&position) {
            if known.claimed.contains(&position) {
                return Err(Breach::Twice(claim.clone()));
            }
            if let Some(after) = known.highest.filter(|highest| *highest >= position) {
                return Err(Breach::OutOfOrder {
                    claim: claim.clone(),
                    after,
                });
            }
            if let Some(&released) = known.released.first() {
                return Err(Breach::BeforeReleased {
                    claim: claim.clone(),
                    released,
                });
            }
            known.highest = Some(position);
        }
        known.claimed.insert(position);
        Ok(())
    }

    /// A record was released.
    pub fn released(&mut self, claim: &Claim) {
        if let Some(known) = self.partitions.get_mut(&claim.partition)
            && known.generation == claim.generation
            && known.claimed.remove(&claim.position)
        {
            known.released.insert(claim.position);
            *known.releases.entry(claim.position).or_default() += 1;
        }
    }

    /// The partitions that the reader has.
    pub fn partitions(&self) -> BTreeSet<TopicPartition> {
        let assigned = self.partitions.iter().filter(|(_, known)| known.assigned);
        assigned.map(|(partition, _)| partition.clone()).collect()
    }
}

/// The first time that each number was seen must be in rising order: what
/// remains of order when records may come again after a crash or a rebalance.
///
/// # Errors
/// The two numbers that came in the wrong order, the earlier first.
pub fn first_seen_in_order(numbers: &[usize]) -> Result<(), (usize, usize)> {
    let mut highest = None;
    let mut seen = BTreeSet::new();
    for &number in numbers {
        if seen.insert(number) {
            if let Some(before) = highest.filter(|highest| *highest > number) {
                return Err((before, number));
            }
            highest = Some(number);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
