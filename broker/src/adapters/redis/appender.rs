//! Admits records: finds each its topic, waits for room, hands batches to the line.
//!
//! What holds: what is admitted holds its room until its outcome is known; a batch that
//! has no room at once goes piece by piece as room comes, in order; while the Redis says
//! that its memory is full, nothing is admitted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use async_trait::async_trait;

use super::core::{Alive, Core};
use super::entry::MAX_HEADERS;
use super::health::CLOSED;
use super::line::Line;
use super::queue::{Item, Place, Queue, Work};
use super::topics::{Topic, missing};
use crate::append::{Admission, AppendRecord, Appender, Commit, RefusedRecord};
use crate::error::{AppendError, AppendErrorKind};
use crate::name::TopicName;
use crate::partitioner::KeylessTurns;
use crate::room::Room;

/// Records without a key that go to one shard before the next has its turn.
const KEYLESS_RECORDS_PER_TURN: u32 = 100;

type Refusal = (AppendErrorKind, String);

/// The appender.
pub(super) struct RedisAppender {
    core: Arc<Core>,
    _alive: Arc<Alive>,
    room: Arc<Room>,
    queue: Arc<Queue>,
    turns: Mutex<KeylessTurns>,
}

/// A record that found its place.
struct Ready {
    index: usize,
    cost: usize,
    place: Place,
    record: AppendRecord,
}

impl RedisAppender {
    /// Starts the line.
    pub(super) fn start(alive: &Arc<Alive>) -> Self {
        let core = &alive.0;
        let config = &core.config;
        let room = Arc::new(Room::new(config.max_in_flight_records, config.max_in_flight_bytes));
        let queue = Arc::new(Queue::default());
        tokio::spawn(Line::new(Arc::clone(core), Arc::clone(&room), Arc::clone(&queue)).run());
        Self {
            core: Arc::clone(core),
            _alive: Arc::clone(alive),
            room,
            queue,
            turns: Mutex::new(KeylessTurns::new(KEYLESS_RECORDS_PER_TURN, rand::random())),
        }
    }

    /// Gives all records until `deadline`, then gives up the rest.
    pub(super) async fn close(&self, deadline: Instant) {
        self.room.emptied(deadline).await;
        self.queue.end();
    }

    async fn topics_of(&self, batch: &[AppendRecord]) -> Vec<(TopicName, Result<Arc<Topic>, Refusal>)> {
        let mut topics: Vec<(TopicName, Result<Arc<Topic>, Refusal>)> = Vec::with_capacity(1);
        for record in batch {
            if find(&topics, &record.topic).is_some() {
                continue;
            }
            let needs = record.partition.map_or(0, |partition| partition.saturating_add(1));
            let found = match self.core.topics.known(&record.topic) {
                Some(topic) if topic.shards() >= needs => Ok(topic),
                _ => self.look_up(&record.topic).await,
            };
            topics.push((record.topic.clone(), found));
        }
        topics
    }

    async fn look_up(&self, name: &TopicName) -> Result<Arc<Topic>, Refusal> {
        let asked = async {
            let session = self.core.ask().await?;
            self.core.topics.look_up(&session, &self.core.keys, name).await
        };
        match asked.await {
            Ok(Some(topic)) => Ok(topic),
            Ok(None) => Err((AppendErrorKind::TopicNotFound, missing(name))),
            Err(fault) => {
                // Only the question is lost; the record was not sent.
                let kind = match fault.append_error().kind {
                    AppendErrorKind::NotAuthorized => AppendErrorKind::NotAuthorized,
                    _ => AppendErrorKind::BrokerUnavailable,
                };
                Err((kind, format!("the shards of topic {name} are not known: {fault}")))
            }
        }
    }

    fn sort_out(
        &self,
        batch: Vec<AppendRecord>,
        topics: &[(TopicName, Result<Arc<Topic>, Refusal>)],
        refused: &mut Vec<RefusedRecord>,
    ) -> VecDeque<Ready> {
        let mut ready = VecDeque::with_capacity(batch.len());
        for (index, record) in batch.into_iter().enumerate() {
            match self.place(&record, topics) {
                Ok(place) => {
                    let cost = self.room.cost(record.record.size_bytes());
                    ready.push_back(Ready {
                        index,
                        cost,
                        place,
                        record,
                    });
                }
                Err((kind, message)) => refused.push(refusal(index, record, kind, message)),
            }
        }
        ready
    }

    fn place(
        &self,
        record: &AppendRecord,
        topics: &[(TopicName, Result<Arc<Topic>, Refusal>)],
    ) -> Result<Place, Refusal> {
        let (size, max) = (record.record.size_bytes(), self.core.config.max_record_bytes);
        if size > max {
            let message = format!("the record has {size} bytes and the broker takes {max} at most");
            return Err((AppendErrorKind::RecordTooLarge, message));
        }
        let headers = record.record.headers.len();
        if headers > MAX_HEADERS {
            let message = format!("the record has {headers} headers and the broker takes {MAX_HEADERS} at most");
            return Err((AppendErrorKind::RecordTooLarge, message));
        }
        let Some(index) = find(topics, &record.topic) else {
            return Err((AppendErrorKind::TopicNotFound, missing(&record.topic)));
        };
        let shards = topics[index].1.as_ref().map_err(Clone::clone)?.shards();
        match (record.partition, &record.record.key) {
            (Some(partition), _) if partition >= shards => {
                let message = format!("topic {} has {shards} shards, and no shard {partition}", record.topic);
                Err((AppendErrorKind::TopicNotFound, message))
            }
            (Some(partition), _) => Ok(Place::Shard(partition)),
            (None, Some(_)) => Ok(Place::Key),
            (None, None) => {
                let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(Place::Shard(turns.next(shards)))
            }
        }
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
        usize::from(self.room.take(1, first.cost, deadline).await)
    }

    /// Hands the first records over. Err if the line has ended: they stay.
    fn hand_over(&self, ready: &mut VecDeque<Ready>, count: usize) -> Result<Commit, Refusal> {
        let cost_bytes = ready.iter().take(count).map(|ready| ready.cost).sum();
        let mut queue = self.queue.lock();
        if queue.has_ended {
            drop(queue);
            self.room.give_back(count, cost_bytes);
            return Err((AppendErrorKind::Closed, CLOSED.to_owned()));
        }
        let (sender, commit) = Commit::pair(count);
        let items = ready.drain(..count).map(|ready| Item {
            topic: ready.record.topic,
            place: ready.place,
            record: ready.record.record,
        });
        queue.works.push_back(Work::new(
            items.collect(),
            sender,
            self.core.clock.now() + self.core.config.delivery_timeout,
            cost_bytes,
        ));
        drop(queue);
        self.queue.wake.notify_one();
        Ok(commit)
    }
}

fn find(topics: &[(TopicName, Result<Arc<Topic>, Refusal>)], name: &TopicName) -> Option<usize> {
    topics.iter().position(|(known, _)| known == name)
}

fn refusal(index: usize, record: AppendRecord, kind: AppendErrorKind, message: String) -> RefusedRecord {
    RefusedRecord {
        index,
        record,
        error: AppendError::refused(kind, message),
    }
}

/// One commit of several, in their order.
fn join(mut commits: Vec<Commit>) -> Commit {
    if commits.len() <= 1 {
        return commits.pop().unwrap_or_else(Commit::empty);
    }
    let (sender, commit) = Commit::pair(commits.iter().map(Commit::admitted).sum());
    tokio::spawn(async move {
        let mut outcomes = Vec::new();
        for commit in commits {
            outcomes.extend(commit.await);
        }
        sender.resolve(outcomes);
    });
    commit
}

#[async_trait]
impl Appender for RedisAppender {
    async fn admit(&self, batch: Vec<AppendRecord>, deadline: Instant) -> Admission {
        let mut refused = Vec::new();
        let usable = match self.core.health.usable(deadline).await {
            Ok(()) => self.queue.full_reason(self.core.clock.now()).map_or(Ok(()), Err),
            Err(refusal) => Err(refusal),
        };
        if let Err((kind, message)) = usable {
            let all = batch.into_iter().enumerate();
            refused.extend(all.map(|(index, record)| refusal(index, record, kind, message.clone())));
            let commit = Commit::empty();
            return Admission { refused, commit };
        }
        let topics = self.topics_of(&batch).await;
        let mut ready = self.sort_out(batch, &topics, &mut refused);
        let mut commits = Vec::new();
        while !ready.is_empty() {
            let handed = match self.take_room(&ready, deadline).await {
                0 => {
                    let message = "as much is on its way to the broker as is allowed: try again later";
                    Err((AppendErrorKind::Overloaded, message.to_owned()))
                }
                count => self.hand_over(&mut ready, count),
            };
            match handed {
                Ok(commit) => commits.push(commit),
                Err((kind, message)) => {
                    let rest = ready.drain(..);
                    refused.extend(rest.map(|rest| refusal(rest.index, rest.record, kind, message.clone())));
                }
            }
        }
        refused.sort_by_key(|refused| refused.index);
        let commit = join(commits);
        Admission { refused, commit }
    }

    async fn flush(&self, deadline: Instant) -> bool {
        self.room.emptied(deadline).await
    }
}

impl Drop for RedisAppender {
    fn drop(&mut self) {
        self.queue.end();
    }
}
