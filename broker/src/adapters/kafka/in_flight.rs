//! Records that were handed to a producer and have no outcome yet, by batch.
//!
//! A record's number is its batch's slot and its place in the batch, so that a
//! delivery report finds both without a search and a record costs no allocation
//! of its own.
//!
//! What holds: a batch's commit is resolved once, when it is complete (its
//! admission is over) and nothing of it is outstanding.

use std::time::Duration;

use super::error::{Fault, fault_of};
use super::native::produce::{Delivery, Persisted};
use super::standstill::{Lane, Lanes};
use crate::append::{AppendOutcome, CommitSender, Position};
use crate::error::{AppendError, AppendErrorKind};

/// Batches with records on their way.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    batches: Vec<Option<Batch>>,
    free: Vec<u32>,
    records: usize,
    /// Which partitions answer.
    pub(super) lanes: Lanes,
}

/// What one admission took.
#[derive(Debug, Default)]
struct Batch {
    outcomes: Vec<AppendOutcome>,
    sizes: Vec<u32>,
    lanes: Vec<Lane>,
    outstanding: usize,
    complete: bool,
    sender: Option<CommitSender>,
}

/// A batch whose outcomes are all known.
#[derive(Debug)]
pub(super) struct Settled {
    sender: Option<CommitSender>,
    outcomes: Vec<AppendOutcome>,
}

impl Settled {
    pub(super) fn resolve(self) {
        if let Some(sender) = self.sender {
            sender.resolve(self.outcomes);
        }
    }
}

/// What delivery reports gave back.
#[derive(Debug, Default)]
pub(super) struct Freed {
    pub(super) records: usize,
    pub(super) bytes: usize,
    pub(super) settled: Vec<Settled>,
}

impl InFlight {
    /// A batch of nothing yet.
    pub(super) fn open(&mut self) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.batches[slot as usize] = Some(Batch::default());
                slot
            }
            None => {
                self.batches.push(Some(Batch::default()));
                (self.batches.len() - 1) as u32 // bounded by the records in flight
            }
        }
    }

    /// Adds a record to a batch; returns its number. None when the batch was abandoned.
    pub(super) fn add(&mut self, slot: u32, size: usize, lane: Lane, now: Duration) -> Option<usize> {
        let batch = self.batches.get_mut(slot as usize)?.as_mut()?;
        let number = (slot as usize) << 32 | batch.outcomes.len();
        batch.outcomes.push(Ok(Position {
            partition: 0,
            position: 0,
        }));
        batch.sizes.push(u32::try_from(size).unwrap_or(u32::MAX));
        batch.lanes.push(lane);
        batch.outstanding += 1;
        self.records += 1;
        self.lanes.sent(lane, now);
        Some(number)
    }

    /// The last `count` records of a batch were not taken after all. False when the
    /// batch was abandoned, which gave their room back.
    pub(super) fn take_back(&mut self, slot: u32, count: usize) -> bool {
        let Some(batch) = self.batches.get_mut(slot as usize).and_then(Option::as_mut) else {
            return false;
        };
        let kept = batch.outcomes.len() - count;
        batch.outcomes.truncate(kept);
        batch.sizes.truncate(kept);
        batch.lanes.drain(kept..).for_each(|lane| self.lanes.taken_back(lane));
        batch.outstanding -= count;
        self.records -= count;
        true
    }

    /// No more records come to the batch.
    pub(super) fn complete(&mut self, slot: u32, sender: Option<CommitSender>) -> Option<Settled> {
        let batch = self.batches.get_mut(slot as usize)?.as_mut()?;
        batch.complete = true;
        batch.sender = sender;
        self.take_settled(slot)
    }

    /// A record has its outcome.
    pub(super) fn deliver(&mut self, delivery: &Delivery, now: Duration, freed: &mut Freed) {
        let unanswered = |code| matches!(fault_of(code), Fault::TimedOut | Fault::Unavailable | Fault::GivenUp);
        let answered = !delivery.error.is_some_and(unanswered);
        if let Some(lane) = self.set(delivery.number, outcome_of(delivery), freed) {
            self.lanes.ended(lane, answered, now);
        }
    }

    /// A record was refused by the producer itself.
    pub(super) fn refuse(&mut self, number: usize, error: AppendError, freed: &mut Freed) {
        if let Some(lane) = self.set(number, Err(error), freed) {
            self.lanes.taken_back(lane);
        }
    }

    /// Sets an outcome; tells the record's lane.
    fn set(&mut self, number: usize, outcome: AppendOutcome, freed: &mut Freed) -> Option<Lane> {
        let (slot, index) = (number >> 32, number & 0xffff_ffff);
        let batch = self.batches.get_mut(slot).and_then(Option::as_mut)?;
        let lane = batch.lanes.get(index).copied()?;
        let (place, size) = (batch.outcomes.get_mut(index)?, batch.sizes.get_mut(index)?);
        *place = outcome;
        batch.outstanding -= 1;
        self.records -= 1;
        freed.records += 1;
        freed.bytes += std::mem::take(size) as usize;
        if batch.complete && batch.outstanding == 0 {
            freed.settled.extend(self.take_settled(slot as u32));
        }
        Some(lane)
    }

    fn take_settled(&mut self, slot: u32) -> Option<Settled> {
        let place = self.batches.get_mut(slot as usize)?;
        let batch = place.take_if(|batch| batch.complete && batch.outstanding == 0)?;
        self.free.push(slot);
        Some(Settled {
            sender: batch.sender,
            outcomes: batch.outcomes,
        })
    }

    /// Records without an outcome.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    /// Gives up waiting: the senders are dropped, which makes every outcome that
    /// is not known yet, and the others of the same batch, unknown.
    pub(super) fn abandon(&mut self) -> Freed {
        let mut freed = Freed {
            records: self.records,
            ..Freed::default()
        };
        // The slots stay taken, for a late report or admission may still name them.
        for batch in self.batches.iter_mut().filter_map(Option::take) {
            freed.bytes += batch.sizes.iter().map(|size| *size as usize).sum::<usize>();
        }
        self.records = 0;
        self.lanes = Lanes::default();
        freed
    }
}

fn outcome_of(delivery: &Delivery) -> AppendOutcome {
    let position = (u32::try_from(delivery.partition), u64::try_from(delivery.offset));
    match (delivery.error, position) {
        (None, (Ok(partition), Ok(position))) => Ok(Position { partition, position }),
        (None, _) => Err(AppendError::unknown(
            AppendErrorKind::Internal,
            "the broker has seen the record before and does not say where",
        )),
        (Some(code), _) => {
            let kind = fault_of(code).append_kind();
            let message = format!("the record was not confirmed: {code}");
            Err(match delivery.persisted {
                Persisted::No => AppendError::refused(kind, message),
                Persisted::Maybe | Persisted::Yes => AppendError::unknown(kind, message),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::kafka::native::Code;
    use crate::append::Commit;
    use crate::error::Stored;

    const NOW: Duration = Duration::from_secs(1);

    fn delivery(number: usize, error: Option<Code>, persisted: Persisted) -> Delivery {
        Delivery {
            number,
            partition: 3,
            offset: 7,
            error,
            persisted,
        }
    }

    #[tokio::test]
    async fn a_commit_resolves_when_all_of_its_batch_is_known() {
        let mut in_flight = InFlight::default();
        let slot = in_flight.open();
        let first = in_flight.add(slot, 10, 0, NOW).unwrap();
        let second = in_flight.add(slot, 20, 0, NOW).unwrap();
        in_flight.add(slot, 40, 0, NOW);
        assert!(in_flight.take_back(slot, 1));
        let mut freed = Freed::default();
        in_flight.deliver(&delivery(first, None, Persisted::Yes), NOW, &mut freed);
        let (sender, commit) = Commit::pair(2);
        assert!(in_flight.complete(slot, Some(sender)).is_none());
        let lost = Some(Code::MessageTimedOut);
        in_flight.deliver(&delivery(second, lost, Persisted::Maybe), NOW, &mut freed);
        assert_eq!((freed.records, freed.bytes, in_flight.records()), (2, 30, 0));
        freed.settled.into_iter().for_each(Settled::resolve);
        let outcomes = commit.await;
        assert_eq!(
            *outcomes[0].as_ref().unwrap(),
            Position {
                partition: 3,
                position: 7
            }
        );
        let error = outcomes[1].as_ref().unwrap_err();
        assert_eq!(
            (error.kind, error.stored),
            (AppendErrorKind::DeadlineExceeded, Stored::Unknown)
        );
        assert_eq!(in_flight.open(), slot, "the slot is used again");
    }

    #[tokio::test]
    async fn what_is_abandoned_is_unknown_and_gives_its_room_back() {
        let mut in_flight = InFlight::default();
        let slot = in_flight.open();
        let first = in_flight.add(slot, 30, 0, NOW).unwrap();
        in_flight.deliver(&delivery(first, None, Persisted::Yes), NOW, &mut Freed::default());
        in_flight.add(slot, 10, 0, NOW);
        let (sender, commit) = Commit::pair(2);
        in_flight.complete(slot, Some(sender));
        let freed = in_flight.abandon();
        assert_eq!((freed.records, freed.bytes), (1, 10));
        assert_eq!(commit.await[0].as_ref().unwrap_err().stored, Stored::Unknown);
        assert!(
            in_flight.add(slot, 10, 0, NOW).is_none(),
            "an abandoned batch takes no more"
        );
        assert_ne!(in_flight.open(), slot);
    }
}
