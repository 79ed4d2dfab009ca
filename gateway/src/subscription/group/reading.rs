//! The reader of a group: opened, followed, and opened again after a fault that may heal.
//!
//! What holds: the next thing is never lost when nobody waits for it any more (the opening goes on where it was);
//! between tries there is a capped backoff; `fault` says since when and why nothing is read; a group that is left for a
//! pause is joined again only when it is left.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::future::BoxFuture;
use meridian_broker::{
    Broker, GroupName, PartitionPosition, ReadError, ReadEvent, Reader, ReaderOptions, ReaderState, Settler, TopicName,
    TopicPartition,
};
use meridian_runtime::{Backoff, BackoffPolicy};

use crate::subscription::info::GroupState;

/// How long a reader that failed may take to leave before the next one is opened.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);
/// How often a topic is looked for that is not there yet.
const LOOK_FOR_TOPIC: Duration = Duration::from_secs(5);

enum Source {
    Opening(BoxFuture<'static, Result<Box<dyn Reader>, ReadError>>),
    Open(Box<dyn Reader>),
    /// Paused: the group is being left, and joined again behind it if that is asked for.
    Leaving {
        leaving: BoxFuture<'static, ()>,
        go_on: bool,
    },
    /// Paused, and the group is left.
    Left,
    Ended,
}

/// The reader of one group.
pub(super) struct Reading {
    broker: Arc<dyn Broker>,
    options: ReaderOptions,
    source: Source,
    /// The topic may never come to be, so nobody waits for the opening.
    is_optional: bool,
    settler: Option<Arc<dyn Settler>>,
    assigned: BTreeSet<TopicPartition>,
    backoff: Backoff,
    fault: Option<(SystemTime, String)>,
}

impl Reading {
    /// A reader that opens at once, unless the group is paused.
    pub(super) fn new(broker: Arc<dyn Broker>, options: ReaderOptions, seed: u64, is_paused: bool) -> Self {
        let source = match is_paused {
            true => Source::Left,
            false => open(&broker, &options, None),
        };
        Self {
            broker,
            options,
            source,
            is_optional: false,
            settler: None,
            assigned: BTreeSet::new(),
            backoff: Backoff::new(BackoffPolicy::default(), seed),
            fault: None,
        }
    }

    /// The same of a topic that may never come to be: it is looked for, and read once it is there.
    pub(super) fn of_optional_topic(broker: Arc<dyn Broker>, options: ReaderOptions, seed: u64) -> Self {
        let mut reading = Self {
            broker,
            options,
            source: Source::Ended,
            is_optional: true,
            settler: None,
            assigned: BTreeSet::new(),
            backoff: Backoff::new(BackoffPolicy::default(), seed),
            fault: None,
        };
        let (broker, options) = (Arc::clone(&reading.broker), reading.options.clone());
        reading.source = Source::Opening(Box::pin(async move {
            for topic in &options.topics {
                while broker.admin().describe_topic(topic).await.is_err() {
                    tokio::time::sleep(LOOK_FOR_TOPIC).await;
                }
            }
            broker.open_reader(options).await
        }));
        reading
    }

    /// Whether a topic is among those that it reads.
    pub(super) fn reads(&self, topic: &TopicName) -> bool {
        self.options.topics.contains(topic)
    }

    /// What happens next. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<ReadEvent, ReadError> {
        loop {
            match &mut self.source {
                Source::Open(reader) => return reader.next().await,
                Source::Left | Source::Ended => return std::future::pending().await,
                Source::Leaving { leaving, go_on } => {
                    leaving.await;
                    if !*go_on {
                        self.source = Source::Left;
                        return Ok(ReadEvent::Revoked(Vec::new())); // so that the group's task looks
                    }
                    self.source = open(&self.broker, &self.options, None);
                }
                Source::Opening(opening) => {
                    let opened = opening.await;
                    self.source = Source::Ended;
                    let reader = opened?;
                    self.settler = Some(reader.settler());
                    self.source = Source::Open(reader);
                }
            }
        }
    }

    /// The reader told something: it works.
    pub(super) fn works(&mut self) {
        if self.fault.take().is_some() {
            self.backoff.reset();
        }
    }

    /// Opens another reader after a while, because this one failed. Returns the partitions that are gone with it.
    pub(super) fn reopen(&mut self, error: &ReadError, now: SystemTime) -> BTreeSet<TopicPartition> {
        let since = self.fault.take().map_or(now, |(since, _)| since);
        self.fault = Some((since, error.to_string()));
        self.settler = None;
        let old = match std::mem::replace(&mut self.source, Source::Ended) {
            Source::Open(reader) => Some(reader),
            _ => None,
        };
        self.source = open(&self.broker, &self.options, Some((old, self.backoff.next_delay())));
        std::mem::take(&mut self.assigned)
    }

    pub(super) fn assigned(&mut self, partition: &TopicPartition) {
        self.assigned.insert(partition.clone());
    }

    pub(super) fn revoked(&mut self, partition: &TopicPartition) {
        self.assigned.remove(partition);
    }

    pub(super) fn settler(&self) -> Option<&Arc<dyn Settler>> {
        self.settler.as_ref()
    }

    pub(super) fn positions(&self) -> Vec<PartitionPosition> {
        self.settler
            .as_ref()
            .map_or_else(Vec::new, |settler| settler.positions())
    }

    pub(super) fn state(&self) -> GroupState {
        if let Some((since, reason)) = &self.fault {
            return GroupState::NotReading {
                since: *since,
                reason: reason.clone(),
            };
        }
        match self.settler.as_ref().map(|settler| settler.state()) {
            Some(ReaderState::NotReading { since, reason }) => GroupState::NotReading { since, reason },
            Some(ReaderState::Reading) | None => GroupState::Reading,
        }
    }

    /// Leaves the group for now; returns the partitions that are gone with it. Does nothing when it is being left or
    /// is left already.
    pub(super) fn leave(&mut self, limit: Duration) -> BTreeSet<TopicPartition> {
        let left = |group: GroupName, result: Result<(), ReadError>| {
            if let Err(error) = result {
                tracing::warn!(%group, %error, "the last settlements were not committed; their events come again");
            }
        };
        let group = self.options.group.clone();
        let leaving: BoxFuture<'static, ()> = match std::mem::replace(&mut self.source, Source::Left) {
            Source::Open(reader) => Box::pin(async move { left(group, reader.close(limit).await) }),
            Source::Opening(opening) => Box::pin(async move { left(group, close_opening(opening, limit).await) }),
            Source::Leaving { leaving, .. } => leaving,
            source @ (Source::Left | Source::Ended) => {
                self.source = source;
                return BTreeSet::new();
            }
        };
        self.source = Source::Leaving { leaving, go_on: false };
        self.settler = None;
        self.fault = None;
        std::mem::take(&mut self.assigned)
    }

    /// Joins the group again, if it was left by [`Reading::leave`].
    pub(super) fn go_on(&mut self) {
        match &mut self.source {
            Source::Leaving { go_on, .. } => *go_on = true,
            Source::Left => self.source = open(&self.broker, &self.options, None),
            Source::Opening(_) | Source::Open(_) | Source::Ended => {}
        }
    }

    /// Whether the reader is open, so that records may come.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.source, Source::Open(_))
    }

    /// Whether the group is left.
    pub(super) fn has_left(&self) -> bool {
        matches!(self.source, Source::Left | Source::Ended)
    }

    /// Leaves the group, so that others have its records at once.
    pub(super) async fn close(self, limit: Duration) -> Result<(), ReadError> {
        match self.source {
            Source::Open(reader) => reader.close(limit).await,
            Source::Opening(_) if self.is_optional => Ok(()),
            Source::Opening(opening) => close_opening(opening, limit).await,
            Source::Leaving { leaving, .. } => {
                // What it had to commit, it commits or tells by itself.
                let _ = tokio::time::timeout(limit, leaving).await;
                Ok(())
            }
            Source::Left | Source::Ended => Ok(()),
        }
    }
}

async fn close_opening(
    opening: BoxFuture<'static, Result<Box<dyn Reader>, ReadError>>,
    limit: Duration,
) -> Result<(), ReadError> {
    match tokio::time::timeout(limit, opening).await {
        Ok(Ok(reader)) => reader.close(limit).await,
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

/// Opens a reader, after the one before it has left and the delay is over.
fn open(
    broker: &Arc<dyn Broker>,
    options: &ReaderOptions,
    after: Option<(Option<Box<dyn Reader>>, Duration)>,
) -> Source {
    let broker = Arc::clone(broker);
    let options = options.clone();
    Source::Opening(Box::pin(async move {
        if let Some((old, delay)) = after {
            if let Some(old) = old {
                // It failed already; how it leaves changes nothing.
                let _ = old.close(LEAVE_LIMIT).await;
            }
            tokio::time::sleep(delay).await;
        }
        broker.open_reader(options).await
    }))
}
