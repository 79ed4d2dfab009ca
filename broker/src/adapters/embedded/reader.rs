//! Reads for one member of a group, and settles what it handed out.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinHandle;

use super::core::Core;
use super::log::locked;
use super::member::{ColdRead, Fault, Member, Step};
use super::store::StoreError;
use crate::error::{ReadError, ReadErrorKind, SettleError};
use crate::read::{Claim, PartitionPosition, ReadEvent, Reader, ReaderOptions, ReaderState, Settler};
use crate::seam::BrokerState;

/// How much one read of the store brings.
const READ_AHEAD_BYTES: usize = 1024 * 1024;
/// How long to wait before a store that is being mended is asked again.
const MENDING_PAUSE: Duration = Duration::from_millis(50);

type PendingRead = (ColdRead, JoinHandle<Option<Result<Vec<Bytes>, StoreError>>>);

/// A reader. Dropping it leaves the group at once.
pub(super) struct EmbeddedReader {
    core: Arc<Core>,
    member: Arc<Member>,
    /// Kept over a dropped `next`, so that the same blocks are not read twice.
    pending: Option<PendingRead>,
}

impl EmbeddedReader {
    /// Joins the group.
    pub(super) async fn open(core: Arc<Core>, options: ReaderOptions) -> Result<Self, ReadError> {
        check(&options)?;
        let now = core.clock.wall_millis().max(0).unsigned_abs();
        let opened = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(now);
        let joined = core.groups.join(options, &core.topics, opened, &core.queue);
        let (member, stored) = joined.map_err(Fault::error)?;
        let reader = Self {
            core,
            member,
            pending: None,
        };
        tokio::spawn(commit_regularly(
            Arc::downgrade(&reader.core),
            Arc::downgrade(&reader.member),
        ));
        // While the store is being mended this is not known; it is committed later then.
        let _ = stored.await;
        Ok(reader)
    }

    async fn read(&mut self, read: ColdRead) -> Result<(), ReadError> {
        if self.pending.is_none() {
            let core = Arc::clone(&self.core);
            let (partition, position, end) = (Arc::clone(&read.partition), read.position, read.end_position);
            let blocks = tokio::task::spawn_blocking(move || {
                let store = core.store()?;
                Some(store.read(
                    partition.topic,
                    partition.name.partition,
                    position,
                    end,
                    READ_AHEAD_BYTES,
                ))
            });
            self.pending = Some((read, blocks));
        }
        let Some((_, handle)) = &mut self.pending else {
            return Ok(());
        };
        let blocks = handle.await;
        let Some((read, _)) = self.pending.take() else {
            return Ok(());
        };
        match blocks {
            Ok(Some(Ok(blocks))) => self.take_in(&read, blocks),
            Ok(Some(Err(error))) if error.is_damage() => Err(damaged(&read, error)),
            // The store is being mended, which the broker's state tells; or closed, which the next step tells.
            Ok(_) | Err(_) => {
                tokio::time::sleep(MENDING_PAUSE).await;
                Ok(())
            }
        }
    }

    fn take_in(&self, read: &ColdRead, blocks: Vec<Bytes>) -> Result<(), ReadError> {
        let start = read.partition.row().start;
        if blocks.is_empty() && read.position >= start && !read.partition.is_deleted() {
            let fault = StoreError::Damaged {
                fault: "its blocks are missing".to_owned(),
                source: None,
            };
            return Err(damaged(read, fault));
        }
        locked(&self.member.state).take_in(read, blocks);
        Ok(())
    }
}

/// Refuses what cannot be served.
fn check(options: &ReaderOptions) -> Result<(), ReadError> {
    let refuse = |fault: String| Err(ReadError::new(ReadErrorKind::InvalidOptions, fault));
    if options.topics.is_empty() {
        return refuse(format!("group {} names no topic; name at least one", options.group));
    }
    for (index, topic) in options.topics.iter().enumerate() {
        if options.topics[..index].contains(topic) {
            return refuse(format!(
                "group {} names topic {topic} twice; name it once",
                options.group
            ));
        }
    }
    if options.max_unsettled_records == 0 || options.max_unsettled_bytes == 0 {
        return refuse(format!(
            "group {} may hold nothing; allow one record and one byte at least",
            options.group
        ));
    }
    Ok(())
}

fn damaged(read: &ColdRead, error: StoreError) -> ReadError {
    let message = format!(
        "partition {} cannot be read at position {}: {error}; restore the broker's folder from a backup, or let the \
         group go on behind the damage",
        read.partition.name, read.position
    );
    ReadError::new(ReadErrorKind::StorageDamaged, message).with_source(error)
}

/// Makes settlements durable now and then, for as long as the member is there.
async fn commit_regularly(core: Weak<Core>, member: Weak<Member>) {
    loop {
        let Some(interval) = member.upgrade().map(|member| member.options.commit_interval) else {
            return;
        };
        tokio::time::sleep(interval.max(Duration::from_millis(1))).await;
        let (Some(core), Some(member)) = (core.upgrade(), member.upgrade()) else {
            return;
        };
        if locked(&member.state).ledger.is_dirty() {
            let (commits, durable) = core.groups.commit(&member, &core.queue);
            drop(core);
            if durable.await == Ok(true) {
                locked(&member.state).mark_committed(&commits);
            }
        }
    }
}

#[async_trait]
impl Reader for EmbeddedReader {
    async fn next(&mut self) -> Result<ReadEvent, ReadError> {
        loop {
            if let Some((read, _)) = &self.pending {
                let (partition, generation) = (Arc::clone(&read.partition), read.generation);
                let (position, end_position) = (read.position, read.end_position);
                self.read(ColdRead {
                    partition,
                    generation,
                    position,
                    end_position,
                })
                .await?;
            }
            let step = locked(&self.member.state).step(&self.member.options);
            match step {
                Step::Tell(event) => return Ok(event),
                Step::Fail(fault) => return Err(fault.error()),
                Step::Read(read) => self.read(read).await?,
                Step::Wait => self.member.wake.notified().await,
            }
        }
    }

    fn settler(&self) -> Arc<dyn Settler> {
        Arc::new(EmbeddedSettler {
            core: Arc::clone(&self.core),
            member: Arc::clone(&self.member),
        })
    }

    async fn close(self: Box<Self>, limit: Duration) -> Result<(), ReadError> {
        let durable = self.core.groups.leave(&self.member, &self.core.queue);
        wait_until_durable(durable, limit).await
    }
}

impl Drop for EmbeddedReader {
    fn drop(&mut self) {
        // Nobody waits for it; the writer makes it durable all the same.
        drop(self.core.groups.leave(&self.member, &self.core.queue));
    }
}

async fn wait_until_durable(durable: tokio::sync::oneshot::Receiver<bool>, limit: Duration) -> Result<(), ReadError> {
    match tokio::time::timeout(limit, durable).await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => {
            let message = "settlements could not be written, for the store is out of order; they are tried again";
            Err(ReadError::new(ReadErrorKind::Internal, message))
        }
        Ok(Err(_)) => Err(Fault::closed().error()),
        Err(_) => {
            let message = format!("settlements were not durable within {limit:?}; they are written later");
            Err(ReadError::new(ReadErrorKind::Internal, message))
        }
    }
}

/// Settles for one reader, from anywhere.
struct EmbeddedSettler {
    core: Arc<Core>,
    member: Arc<Member>,
}

#[async_trait]
impl Settler for EmbeddedSettler {
    fn settle(&self, claim: &Claim) -> Result<(), SettleError> {
        let mut state = locked(&self.member.state);
        if state.has_left {
            return Err(SettleError::Closed);
        }
        state.ledger.settle(claim)?;
        let options = &self.member.options;
        if state.waits_for_room
            && state
                .ledger
                .has_room(options.max_unsettled_records, options.max_unsettled_bytes)
        {
            state.waits_for_room = false;
            self.member.wake.notify_one();
        }
        Ok(())
    }

    fn release(&self, claim: &Claim) -> Result<(), SettleError> {
        let mut state = locked(&self.member.state);
        if state.has_left {
            return Err(SettleError::Closed);
        }
        state.ledger.release(claim)?;
        self.member.wake.notify_one();
        Ok(())
    }

    async fn commit(&self, limit: Duration) -> Result<(), ReadError> {
        let (commits, durable) = self.core.groups.commit(&self.member, &self.core.queue);
        wait_until_durable(durable, limit).await?;
        locked(&self.member.state).mark_committed(&commits);
        Ok(())
    }

    fn positions(&self) -> Vec<PartitionPosition> {
        let mut state = locked(&self.member.state);
        let ends: Vec<_> = state
            .assigned
            .iter()
            .map(|(name, assigned)| (name.clone(), assigned.partition.row().end))
            .collect();
        for (name, end) in ends {
            state.ledger.set_end(&name, end);
        }
        state.ledger.positions()
    }

    fn state(&self) -> ReaderState {
        if let BrokerState::Unavailable { since, reason } = self.core.state() {
            return ReaderState::NotReading { since, reason };
        }
        let options = &self.member.options;
        match options
            .topics
            .iter()
            .find(|topic| self.core.topics.get(topic).is_none())
        {
            Some(topic) => ReaderState::NotReading {
                since: self.member.opened,
                reason: format!("topic {topic} is not there; make it, and it is read"),
            },
            None => ReaderState::Reading,
        }
    }
}
