//! The outcomes of one admitted batch, whose records may go by several channels.
//!
//! What holds: a batch's commit is resolved once, when its admission is over and
//! every record that was taken has its outcome; each outcome gives its room back.

use std::sync::{Arc, Mutex, PoisonError};

use crate::append::{AppendOutcome, Commit, CommitSender};
use crate::error::{AppendError, AppendErrorKind};
use crate::room::Room;

/// A batch on its way.
#[derive(Debug)]
pub(super) struct Batch {
    room: Arc<Room>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    outcomes: Vec<Option<AppendOutcome>>,
    outstanding: usize,
    sender: Option<CommitSender>,
}

/// One record's place in its batch. Dropping it without an outcome says that nobody
/// knows what became of the record.
#[derive(Debug)]
pub(super) struct Ticket {
    batch: Arc<Batch>,
    index: usize,
    cost: usize,
    settled: bool,
}

impl Batch {
    pub(super) fn new(room: &Arc<Room>) -> Arc<Self> {
        Arc::new(Self {
            room: Arc::clone(room),
            inner: Mutex::default(),
        })
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more record, which holds so much room in bytes.
    pub(super) fn add(self: &Arc<Self>, cost: usize) -> Ticket {
        let mut inner = self.inner();
        inner.outcomes.push(None);
        inner.outstanding += 1;
        Ticket {
            batch: Arc::clone(self),
            index: inner.outcomes.len() - 1,
            cost,
            settled: false,
        }
    }

    /// No more records come.
    pub(super) fn complete(&self) -> Commit {
        let mut inner = self.inner();
        if inner.outcomes.is_empty() {
            return Commit::empty();
        }
        let (sender, commit) = Commit::pair(inner.outcomes.len());
        inner.sender = Some(sender);
        Self::resolve(inner);
        commit
    }

    fn resolve(mut inner: std::sync::MutexGuard<'_, Inner>) {
        if inner.outstanding > 0 {
            return;
        }
        let Some(sender) = inner.sender.take() else { return };
        let outcomes = std::mem::take(&mut inner.outcomes);
        drop(inner);
        sender.resolve(
            outcomes
                .into_iter()
                .map(|outcome| outcome.unwrap_or_else(lost))
                .collect(),
        );
    }
}

fn lost() -> AppendOutcome {
    let fault = "the appender ended before it knew the outcome";
    Err(AppendError::unknown(AppendErrorKind::Internal, fault))
}

impl Ticket {
    /// Says what became of the record.
    pub(super) fn settle(mut self, outcome: AppendOutcome) {
        self.set(outcome);
    }

    fn set(&mut self, outcome: AppendOutcome) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let mut inner = self.batch.inner();
        if let Some(place) = inner.outcomes.get_mut(self.index) {
            *place = Some(outcome);
        }
        inner.outstanding -= 1;
        Batch::resolve(inner);
        self.batch.room.give_back(1, self.cost);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.set(lost());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::append::Position;
    use crate::error::Stored;

    #[tokio::test]
    async fn a_commit_resolves_when_all_of_its_batch_is_known_and_gives_room_back() {
        let room = Arc::new(Room::new(2, 100));
        assert!(room.try_take(2, 30));
        let batch = Batch::new(&room);
        let (first, second) = (batch.add(10), batch.add(20));
        let position = Position {
            partition: 1,
            position: 7,
        };
        second.settle(Ok(position));
        let commit = batch.complete();
        drop(first);
        let outcomes = commit.await;
        assert_eq!(outcomes[0].as_ref().unwrap_err().stored, Stored::Unknown);
        assert_eq!(*outcomes[1].as_ref().unwrap(), position);
        assert!(room.try_take(2, 100), "all room is back");
        assert!(Batch::new(&room).complete().await.is_empty());
    }
}
