//! The dead-letter calls of OperationsService: requests checked, then worked on in a task whose words are the stream.
//!
//! What holds: one call at a time reads a dead-letter topic through this gateway; a task whose caller is gone ends.

use std::collections::HashSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use meridian_broker::{Broker, BrokerName, TopicName};
use meridian_proto::meridian as proto;
use meridian_runtime::SharedClock;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::dead_letters::work::{Replay, list, purge};
use crate::dead_letters::{Filter, Listing, Purging, Replaying, Scan};
use crate::fault::{FaultCode, Refusal};
use crate::settlement::DeadLetterTopicPattern;

/// Messages that wait for a caller who reads slowly.
const MAX_WAITING: usize = 16;
const DEFAULT_LISTED: usize = 100;
const MAX_LISTED: usize = 50_000;
const DEFAULT_MAX_REPLAYS: u32 = 3;
const MAX_EVENTS_PER_SECOND: f64 = 1_000_000.0;

/// What a call answers.
pub type Words<T> = ReceiverStream<Result<T, Status>>;

/// Works on dead letters.
pub struct DeadLetters {
    pattern: DeadLetterTopicPattern,
    clock: SharedClock,
    busy: Arc<Mutex<HashSet<(BrokerName, TopicName)>>>,
}

/// A topic that one call works on.
struct Turn {
    topic: TopicName,
    busy: Arc<Mutex<HashSet<(BrokerName, TopicName)>>>,
    name: (BrokerName, TopicName),
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.name);
    }
}

impl DeadLetters {
    /// Nobody works on any yet.
    pub fn new(pattern: DeadLetterTopicPattern, clock: SharedClock) -> Self {
        Self {
            pattern,
            clock,
            busy: Arc::default(),
        }
    }

    pub(super) fn list(
        &self,
        (name, broker): (&BrokerName, &Arc<dyn Broker>),
        request: proto::ListDeadLettersRequest,
    ) -> Result<Words<proto::ListDeadLettersResponse>, Refusal> {
        let limit = match request.limit as usize {
            0 => DEFAULT_LISTED,
            limit => limit.min(MAX_LISTED),
        };
        let listing = Listing {
            filter: Filter::read(request.filter)?,
            limit,
            include_events: request.include_events,
        };
        let (turn, broker) = (self.turn(name, &request.topic)?, Arc::clone(broker));
        Ok(in_task(|told| async move {
            let scan = Scan::open(&broker, &turn.topic).await?;
            list(scan, &turn.topic, &listing, &told).await
        }))
    }

    pub(super) fn replay(
        &self,
        (name, broker): (&BrokerName, &Arc<dyn Broker>),
        request: proto::ReplayDeadLettersRequest,
    ) -> Result<Words<proto::ReplayDeadLettersResponse>, Refusal> {
        let rate = request.events_per_second;
        if !(0.0..=MAX_EVENTS_PER_SECOND).contains(&rate) {
            let fault = "must be 0 (as fast as it goes) to 1000000";
            return Err(invalid("events_per_second", fault));
        }
        let target = match request.target_topic.as_str() {
            "" => None,
            text => Some(TopicName::new(text).map_err(|error| invalid("target_topic", &error.to_string()))?),
        };
        let or = |asked: u64, default: u64| if asked == 0 { default } else { asked };
        let max_replays = or(request.max_replays.into(), DEFAULT_MAX_REPLAYS.into());
        let replaying = Replaying {
            filter: Filter::read(request.filter)?,
            target,
            events_per_second: (rate > 0.0).then_some(rate),
            max_replays: u32::try_from(max_replays).unwrap_or(u32::MAX),
            limit: or(request.limit, u64::MAX),
            dry_run: request.dry_run,
        };
        let turn = self.turn(name, &request.topic)?;
        if replaying.target.as_ref() == Some(&turn.topic) {
            let fault = "is the dead-letter topic itself; replaying there would never end";
            return Err(invalid("target_topic", fault));
        }
        let (broker, clock) = (Arc::clone(broker), self.clock.clone());
        Ok(in_task(|told| async move {
            let scan = Scan::open(&broker, &turn.topic).await?;
            let replay = Replay {
                broker: &broker,
                topic: &turn.topic,
                replaying: &replaying,
                clock: &clock,
                told: &told,
            };
            replay.run(scan).await
        }))
    }

    pub(super) fn purge(
        &self,
        (name, broker): (&BrokerName, &Arc<dyn Broker>),
        request: proto::PurgeDeadLettersRequest,
    ) -> Result<Words<proto::PurgeDeadLettersResponse>, Refusal> {
        let purging = Purging {
            filter: Filter::read(request.filter)?,
            limit: if request.limit == 0 { u64::MAX } else { request.limit },
            dry_run: request.dry_run,
        };
        let (turn, broker) = (self.turn(name, &request.topic)?, Arc::clone(broker));
        Ok(in_task(|told| async move {
            let scan = Scan::open(&broker, &turn.topic).await?;
            purge(scan, &turn.topic, &purging, &told).await
        }))
    }

    /// The dead-letter topic of a topic, or the topic itself if it is one; refused while another call works on it.
    fn turn(&self, broker: &BrokerName, topic: &str) -> Result<Turn, Refusal> {
        let named = TopicName::new(topic).map_err(|error| invalid("topic", &error.to_string()))?;
        let topic = match self.pattern.is_of_pattern(&named) {
            true => named,
            false => self
                .pattern
                .topic_of(&named)
                .map_err(|error| invalid("topic", &error.to_string()))?,
        };
        let name = (broker.clone(), topic.clone());
        let is_first = self
            .busy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name.clone());
        if !is_first {
            let message = format!("another call works on the dead letters in {topic}; let it end, and try again");
            return Err(Refusal::new(FaultCode::GroupActive, message));
        }
        Ok(Turn {
            topic,
            busy: Arc::clone(&self.busy),
            name,
        })
    }
}

fn in_task<T, F>(work: impl FnOnce(mpsc::Sender<Result<T, Status>>) -> F) -> Words<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Refusal>> + Send + 'static,
{
    let (told, words) = mpsc::channel(MAX_WAITING);
    let work = work(told.clone());
    tokio::spawn(async move {
        if let Err(refusal) = work.await {
            let _ = told.send(Err(refusal.to_status())).await; // nobody may listen any more
        }
    });
    ReceiverStream::new(words)
}

fn invalid(field: &'static str, message: &str) -> Refusal {
    Refusal::new(FaultCode::InvalidRequest, format!("{field}: {message}")).with_field(field, message)
}
