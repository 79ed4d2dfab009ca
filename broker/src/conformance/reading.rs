//! Drives one reader and has the [`History`] watch everything that it tells.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::history::History;
use super::waiting::{PATIENCE, within};
use super::writing::number_of;
use crate::error::ReadError;
use crate::name::{GroupName, TopicName, TopicPartition};
use crate::read::{Claim, Gap, ReadEvent, ReadRecord, Reader, ReaderOptions, Settler};
use crate::seam::Broker;

/// The shortest session that every kind of broker grants.
pub const SESSION: Duration = Duration::from_secs(6);

/// The options of a case: everything from the start, settled soon.
pub fn options(group: &GroupName, topic: &TopicName) -> ReaderOptions {
    let mut options = ReaderOptions::new(group.clone(), vec![topic.clone()]);
    options.session_timeout = SESSION;
    options.commit_interval = Duration::from_millis(50);
    options
}

/// A reader under watch.
pub struct Reading {
    reader: Box<dyn Reader>,
    /// Settles and releases without the watch.
    pub settler: Arc<dyn Settler>,
    history: History,
    /// The gaps that were told.
    pub gaps: Vec<Gap>,
    /// Records that came with others that were asked for.
    waiting: Vec<ReadRecord>,
}

impl Reading {
    /// Joins the group of the topic with the options of a case.
    pub async fn join(broker: &Arc<dyn Broker>, group: &GroupName, topic: &TopicName) -> Self {
        Self::open(broker, options(group, topic)).await
    }

    /// Opens a reader.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn open(broker: &Arc<dyn Broker>, options: ReaderOptions) -> Self {
        let reader = broker.open_reader(options).await;
        let reader = reader.unwrap_or_else(|error| panic!("the reader was not opened: {error:?}"));
        Self {
            settler: reader.settler(),
            reader,
            history: History::default(),
            gaps: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// One event, or `None` when nothing happened within `limit`.
    ///
    /// # Errors
    /// What the reader ended with.
    ///
    /// # Panics
    /// When the event breaks a duty.
    pub async fn event(&mut self, limit: Duration) -> Result<Option<ReadEvent>, ReadError> {
        let Ok(result) = tokio::time::timeout(limit, self.reader.next()).await else {
            return Ok(None);
        };
        let event = result?;
        self.history.told(&event).unwrap_or_else(|breach| panic!("{breach}"));
        match &event {
            ReadEvent::Gap(gap) => self.gaps.push(gap.clone()),
            ReadEvent::Revoked(gone) => {
                self.waiting.retain(|record| !gone.contains(&record.claim.partition));
            }
            ReadEvent::Records(_) | ReadEvent::Assigned(_) => {}
        }
        Ok(Some(event))
    }

    /// What the reader ends with; what it tells before is passed over.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn ended(&mut self) -> ReadError {
        let end = async {
            loop {
                if let Err(error) = self.event(PATIENCE).await {
                    return error;
                }
            }
        };
        within(PATIENCE, "the end of the reader", end).await
    }

    async fn step(&mut self, limit: Duration) {
        match self.event(limit).await {
            Ok(Some(ReadEvent::Records(records))) => self.waiting.extend(records),
            Ok(_) => {}
            Err(error) => panic!("the reader ended: {error:?}"),
        }
    }

    /// Looks on for as long as `window`; what comes is kept.
    pub async fn watch(&mut self, window: Duration) {
        let end = Instant::now() + window;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|d| !d.is_zero()) {
            self.step(left).await;
        }
    }

    /// The next records, exactly so many.
    ///
    /// # Panics
    /// When they do not come.
    pub async fn take(&mut self, count: usize) -> Vec<ReadRecord> {
        self.take_within(count, PATIENCE).await
    }

    /// The next records, exactly so many, within `limit`.
    ///
    /// # Panics
    /// When they do not come.
    pub async fn take_within(&mut self, count: usize, limit: Duration) -> Vec<ReadRecord> {
        let end = Instant::now() + limit;
        while self.waiting.len() < count {
            let left = end.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "only {} of {count} records came within {limit:?}; the reader: {:?}, {:?}",
                self.waiting.len(),
                self.settler.state(),
                self.settler.positions(),
            );
            self.step(left).await;
        }
        self.waiting.drain(..count).collect()
    }

    /// The records that came and were not taken.
    pub fn take_waiting(&mut self) -> Vec<ReadRecord> {
        std::mem::take(&mut self.waiting)
    }

    /// Waits until the reader has exactly so many partitions; records are kept.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn until_partitions(&mut self, count: usize) -> BTreeSet<TopicPartition> {
        let end = Instant::now() + PATIENCE;
        while self.history.partitions().len() != count {
            let left = end.saturating_duration_since(Instant::now());
            let has = self.history.partitions();
            assert!(!left.is_zero(), "it should have {count} partitions and has {has:?}");
            self.step(left).await;
        }
        self.history.partitions()
    }

    /// The partitions that the reader has.
    pub fn partitions(&self) -> BTreeSet<TopicPartition> {
        self.history.partitions()
    }

    /// Settles records whose claims must be alive.
    pub fn settle<'a>(&mut self, records: impl IntoIterator<Item = &'a ReadRecord>) {
        for record in records {
            let claim = &record.claim;
            self.settler
                .settle(claim)
                .unwrap_or_else(|error| panic!("{claim:?}: {error}"));
        }
    }

    /// Settles records whose claims may be over by now.
    pub fn settle_if_held<'a>(&mut self, records: impl IntoIterator<Item = &'a ReadRecord>) {
        for record in records {
            let _ = self.settler.settle(&record.claim);
        }
    }

    /// Releases a record whose claim must be alive.
    pub fn release(&mut self, claim: &Claim) {
        self.history.released(claim); // before it can come again
        self.settler
            .release(claim)
            .unwrap_or_else(|error| panic!("{claim:?}: {error}"));
    }

    /// Makes what is settled durable.
    pub async fn commit(&self) {
        let result = self.settler.commit(PATIENCE).await;
        result.unwrap_or_else(|error| panic!("the settlements were not committed: {error:?}"));
    }

    /// Leaves in an orderly way.
    pub async fn close(self) {
        let result = self.close_within(PATIENCE).await;
        result.unwrap_or_else(|error| panic!("the reader was not closed: {error:?}"));
    }

    /// Leaves in an orderly way, or at least within `limit`.
    ///
    /// # Errors
    /// When the last commit could not be made.
    pub async fn close_within(self, limit: Duration) -> Result<(), ReadError> {
        self.reader.close(limit).await
    }
}

/// The numbers of records, in order.
pub fn numbers(records: &[ReadRecord]) -> Vec<usize> {
    records.iter().map(|record| number_of(&record.record)).collect()
}
