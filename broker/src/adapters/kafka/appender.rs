//! Appending to a cluster: finds each record's partition, waits for room, and
//! hands over to the producer of the current session.
//!
//! What holds: the records of one admission go to one session, in order; a
//! record that is refused was never handed over; the partition of a key is ours
//! and not librdkafka's, so that it is the one of Kafka's Java client.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use super::cluster::Cluster;
use super::error::{Fault, fault_of};
use super::health::Unusable;
use super::in_flight::{Freed, InFlight};
use super::native::metadata;
use super::native::produce::TopicHandle;
use super::native::{Code, NativeError};
use super::room::Room;
use super::session::Session;
use crate::append::{Admission, AppendRecord, Appender, Commit, RefusedRecord};
use crate::error::{AppendError, AppendErrorKind};
use crate::name::TopicName;
use crate::partitioner::{KeylessTurns, partition_for};

/// Records without a key that go to one partition before the next one's turn.
const KEYLESS_RECORDS_PER_TURN: u32 = 100;

/// Topics that are asked for at once, at most.
const MAX_LOOKUPS: usize = 4;

/// How long the cluster may take to tell a topic's partitions.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

pub(super) struct KafkaAppender {
    cluster: Arc<Cluster>,
    room: Arc<Room>,
    session: Arc<RwLock<Arc<Session>>>,
    turns: Mutex<KeylessTurns>,
    lookups: Semaphore,
}

/// A topic of a batch.
struct Destination {
    topic: TopicName,
    found: Result<(u32, Arc<TopicHandle>), Refusal>,
}

type Refusal = (AppendErrorKind, String);

/// A record that is fit to be handed over.
struct Ready {
    index: usize,
    destination: usize,
    partition: i32,
    cost: usize,
    record: AppendRecord,
}

impl KafkaAppender {
    pub(super) fn open(cluster: &Arc<Cluster>) -> Result<Self, NativeError> {
        let config = &cluster.config;
        let room = Arc::new(Room::new(config.max_in_flight_records, config.max_in_flight_bytes));
        let session = Arc::new(RwLock::new(Session::start(cluster, &room)?));
        let producer = Arc::downgrade(&session);
        cluster.on_growth(Box::new(move |topic, _count| {
            let Some(producer) = producer.upgrade() else { return };
            let session = Arc::clone(&producer.read().unwrap_or_else(PoisonError::into_inner));
            // A producer that has not used the topic yet learns of it with the first record.
            if session.uses(topic) {
                let _ = metadata::topic(session.client(), topic.as_str(), LOOKUP_LIMIT);
            }
        }));
        Ok(Self {
            cluster: Arc::clone(cluster),
            room,
            session,
            turns: Mutex::new(KeylessTurns::new(KEYLESS_RECORDS_PER_TURN, rand::random())),
            lookups: Semaphore::new(MAX_LOOKUPS),
        })
    }

    /// The current session; another one if it died.
    fn session(&self) -> Result<Arc<Session>, Refusal> {
        let session = Arc::clone(&self.session.read().unwrap_or_else(PoisonError::into_inner));
        if !session.is_dead() {
            return Ok(session);
        }
        let mut place = self.session.write().unwrap_or_else(PoisonError::into_inner);
        if place.is_dead() {
            *place = Session::start(&self.cluster, &self.room).map_err(|error| {
                (
                    AppendErrorKind::Internal,
                    format!("no Kafka producer could be opened: {error}"),
                )
            })?;
        }
        Ok(Arc::clone(&place))
    }

    /// Gives all records until `deadline`, then gives up the rest.
    pub(super) async fn close(&self, deadline: Instant) {
        let session = Arc::clone(&self.session.read().unwrap_or_else(PoisonError::into_inner));
        session.end();
        if !self.room.emptied(deadline).await {
            session.purge();
        }
    }

    /// Finds the topics of a batch.
    async fn destinations(&self, session: &Session, batch: &[AppendRecord], deadline: Instant) -> Vec<Destination> {
        let mut destinations: Vec<Destination> = Vec::with_capacity(1);
        for record in batch {
            if find(&destinations, &record.topic).is_some() {
                continue;
            }
            let count = match self.cluster.known_partitions(&record.topic) {
                Some(count) => Ok(count),
                None => self.look_up(&record.topic, deadline).await,
            };
            let found = count.and_then(|count| {
                let handle = session.topic(&record.topic);
                let handle = handle.map_err(|error| (AppendErrorKind::Internal, error.to_string()))?;
                Ok((count, handle))
            });
            destinations.push(Destination {
                topic: record.topic.clone(),
                found,
            });
        }
        destinations
    }

    async fn look_up(&self, topic: &TopicName, deadline: Instant) -> Result<u32, Refusal> {
        let late = || {
            let message = format!("the partitions of topic {topic} were not known in time");
            (AppendErrorKind::BrokerUnavailable, message)
        };
        let asked = async {
            let _permit = self.lookups.acquire().await.ok()?;
            let (cluster, topic) = (Arc::clone(&self.cluster), topic.clone());
            let ask = move || cluster.ask_partitions(&topic, LOOKUP_LIMIT);
            tokio::task::spawn_blocking(ask).await.ok()
        };
        let found = tokio::time::timeout_at(deadline.into(), asked).await.ok().flatten();
        found.ok_or_else(late)?.map_err(|error| match fault_of(error.code) {
            Fault::TopicMissing => {
                let message = format!("topic {topic} is not there: make it with `meridian topics create`");
                (AppendErrorKind::TopicNotFound, message)
            }
            Fault::TimedOut => late(),
            fault => {
                let message = format!("the partitions of topic {topic} are not known: {error}");
                (fault.append_kind(), message)
            }
        })
    }

    /// Parts a batch into what can be handed over and what cannot.
    fn sort_out(
        &self,
        batch: Vec<AppendRecord>,
        destinations: &[Destination],
        refused: &mut Vec<RefusedRecord>,
    ) -> VecDeque<Ready> {
        let mut ready = VecDeque::with_capacity(batch.len());
        for (index, record) in batch.into_iter().enumerate() {
            match self.place(&record, destinations) {
                Ok((destination, partition)) => {
                    let cost = self.room.cost(record.record.size_bytes());
                    ready.push_back(Ready {
                        index,
                        destination,
                        partition,
                        cost,
                        record,
                    });
                }
                Err((kind, message)) => refused.push(refusal(index, record, kind, message)),
            }
        }
        ready
    }

    fn place(&self, record: &AppendRecord, destinations: &[Destination]) -> Result<(usize, i32), Refusal> {
        let (size, max) = (record.record.size_bytes(), self.cluster.config.max_record_bytes);
        if size > max {
            let message = format!("the record has {size} bytes and the broker takes {max} at most");
            return Err((AppendErrorKind::RecordTooLarge, message));
        }
        let missing = || {
            (
                AppendErrorKind::TopicNotFound,
                format!("topic {} is not there", record.topic),
            )
        };
        let destination = find(destinations, &record.topic).ok_or_else(missing)?;
        let (count, _) = destinations[destination].found.as_ref().map_err(Clone::clone)?;
        let partition = match (record.partition, &record.record.key) {
            (Some(partition), _) if partition >= *count => {
                let message = format!(
                    "topic {} has {count} partitions, and no partition {partition}",
                    record.topic
                );
                return Err((AppendErrorKind::TopicNotFound, message));
            }
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for(key, *count),
            (None, None) => self.turns.lock().unwrap_or_else(PoisonError::into_inner).next(*count),
        };
        Ok((destination, i32::try_from(partition).unwrap_or(i32::MAX)))
    }

    /// Takes room for the first records; returns how many. None for want of it.
    async fn take_room(&self, ready: &VecDeque<Ready>, deadline: Instant) -> usize {
        let (mut count, mut bytes) = (0, 0);
        for record in ready {
            if count == self.room.step() || (count > 0 && bytes + record.cost > self.room.step_bytes()) {
                break;
            }
            count += 1;
            bytes += record.cost;
        }
        if self.room.try_take(count, bytes) {
            return count;
        }
        let Some(first) = ready.front() else { return 0 };
        // Little by little, so that as much is taken as there comes to be room for.
        if self.room.take(1, first.cost, deadline).await {
            1
        } else {
            0
        }
    }

    /// Hands the first `count` records over. Err with why the line stops; the
    /// records that were not taken are still in `ready`.
    fn hand_over(
        &self,
        batch: &Handing,
        destinations: &[Destination],
        ready: &mut VecDeque<Ready>,
        count: usize,
    ) -> Result<(), Refusal> {
        let session = &batch.session;
        let first = {
            let mut in_flight = session.in_flight();
            session.touched(in_flight.records() == 0);
            ready.iter().take(count).fold(None, |first, record| {
                let number = in_flight.add(batch.slot, record.cost);
                first.or(Some(number))
            })
        };
        let Some(first) = first else { return Ok(()) };
        for taken in 0..count {
            let Some(next) = ready.pop_front() else { break };
            let Ok((_, handle)) = &destinations[next.destination].found else {
                continue;
            };
            let number = first + taken;
            let Err(code) = handle.produce(next.partition, &next.record.record, number) else {
                continue;
            };
            let kind = fault_of(code).append_kind();
            let message = format!("the producer did not take the record: {code}");
            if matches!(fault_of(code), Fault::TopicMissing | Fault::RecordTooLarge) {
                let mut freed = Freed::default();
                let error = AppendError::refused(kind, message);
                session.in_flight().refuse(number, error, &mut freed);
                session.settle(freed);
                continue;
            }
            ready.push_front(next);
            let rest = count - taken;
            session.in_flight().take_back(batch.slot, rest);
            self.room
                .give_back(rest, ready.iter().take(rest).map(|record| record.cost).sum());
            let kind = if code == Code::Fatal {
                AppendErrorKind::BrokerUnavailable
            } else {
                kind
            };
            return Err((kind, message));
        }
        Ok(())
    }
}

fn find(destinations: &[Destination], topic: &TopicName) -> Option<usize> {
    destinations.iter().position(|destination| destination.topic == *topic)
}

fn refusal(index: usize, record: AppendRecord, kind: AppendErrorKind, message: String) -> RefusedRecord {
    RefusedRecord {
        index,
        record,
        error: AppendError::refused(kind, message),
    }
}

fn refuse_all(batch: Vec<AppendRecord>, kind: AppendErrorKind, message: &str) -> Admission {
    let refuse = |(index, record)| refusal(index, record, kind, message.to_owned());
    Admission {
        refused: batch.into_iter().enumerate().map(refuse).collect(),
        commit: Commit::empty(),
    }
}

/// An admission under way; completes its batch also when it is dropped.
struct Handing {
    session: Arc<Session>,
    slot: u32,
    over: bool,
}

impl Handing {
    fn begin(session: Arc<Session>) -> Self {
        let slot = session.in_flight().open();
        Self {
            session,
            slot,
            over: false,
        }
    }

    fn finish(mut self) -> Commit {
        self.over = true;
        let mut in_flight = self.session.in_flight();
        let (sender, commit) = match in_flight.admitted(self.slot) {
            0 => (None, Commit::empty()),
            admitted => {
                let (sender, commit) = Commit::pair(admitted);
                (Some(sender), commit)
            }
        };
        let settled = in_flight.complete(self.slot, sender);
        drop(in_flight);
        if let Some(settled) = settled {
            settled.resolve();
        }
        commit
    }
}

impl Drop for Handing {
    fn drop(&mut self) {
        if !self.over {
            InFlight::complete(&mut self.session.in_flight(), self.slot, None);
        }
    }
}

#[async_trait]
impl Appender for KafkaAppender {
    async fn admit(&self, batch: Vec<AppendRecord>, deadline: Instant) -> Admission {
        match self.cluster.health.usable(deadline).await {
            Ok(()) => {}
            Err(Unusable::Closed) => {
                return refuse_all(batch, AppendErrorKind::Closed, "this broker was closed");
            }
            Err(Unusable::Away { reason }) => {
                return refuse_all(batch, AppendErrorKind::BrokerUnavailable, &reason);
            }
        }
        let session = match self.session() {
            Ok(session) => session,
            Err((kind, message)) => return refuse_all(batch, kind, &message),
        };
        let destinations = self.destinations(&session, &batch, deadline).await;
        let mut refused = Vec::new();
        let mut ready = self.sort_out(batch, &destinations, &mut refused);
        let handing = Handing::begin(session);
        while !ready.is_empty() {
            let stop = match self.take_room(&ready, deadline).await {
                0 => {
                    let message = "as much is on its way to the broker as is allowed: try again later";
                    Err((AppendErrorKind::Overloaded, message.to_owned()))
                }
                count => self.hand_over(&handing, &destinations, &mut ready, count),
            };
            if let Err((kind, message)) = stop {
                let rest = ready.drain(..);
                refused.extend(rest.map(|rest| refusal(rest.index, rest.record, kind, message.clone())));
            }
        }
        refused.sort_by_key(|refused| refused.index);
        Admission {
            refused,
            commit: handing.finish(),
        }
    }

    async fn flush(&self, deadline: Instant) -> bool {
        self.room.emptied(deadline).await
    }
}

impl Drop for KafkaAppender {
    fn drop(&mut self) {
        self.session.read().unwrap_or_else(PoisonError::into_inner).end();
    }
}
