//! Appending: finds each record its shard, waits for room, hands it to a lane.
//!
//! A receipt's position names the publish, not a place in a log: it rises by one
//! from record to record of a shard, from the microseconds at which this handle was
//! opened.
//!
//! What holds: records of a shard are handed over in the order of admission; what
//! is refused here was never handed over.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::catalog::{CatalogState, Topic};
use super::core::Core;
use super::fault::Fault;
use super::in_flight::Batch;
use super::lane::{Lane, Work};
use super::names::routing_key;
use crate::append::{Admission, AppendRecord, Appender, Commit, Position, RefusedRecord};
use crate::error::{AppendError, AppendErrorKind};
use crate::name::TopicName;
use crate::partitioner::KeylessTurns;
use crate::room::Room;
use crate::shards::ShardRing;

/// Records without a key that go to one shard before the next has its turn.
const KEYLESS_RECORDS_PER_TURN: u32 = 64;
/// How long a topic that is not known is looked for.
const LOOKUP_LIMIT: Duration = Duration::from_secs(5);

/// The appender.
pub(super) struct RabbitMqAppender {
    core: Arc<Core>,
    room: Arc<Room>,
    lanes: Vec<Arc<Lane>>,
    placing: Mutex<Placing>,
}

/// What places records: by the topic's id and shard count.
struct Placing {
    turns: KeylessTurns,
    rings: HashMap<u32, ShardRing>,
    next_positions: HashMap<(String, u32), u64>,
    first_position: u64,
}

/// A topic as one batch sees it.
struct Destination {
    topic: Topic,
    exchange: Arc<str>,
    ring: ShardRing,
}

type Refusal = (AppendErrorKind, String);

/// A record that found its shard.
struct Ready {
    index: usize,
    shard: u32,
    cost: usize,
    record: AppendRecord,
}

impl RabbitMqAppender {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        let config = &core.config;
        let micros = u64::try_from(core.clock.wall_millis())
            .unwrap_or(0)
            .saturating_mul(1000);
        Self {
            core: Arc::clone(core),
            room: Arc::new(Room::new(config.max_in_flight_records, config.max_in_flight_bytes)),
            lanes: (0..config.channels.max(1)).map(|_| Lane::start(core)).collect(),
            placing: Mutex::new(Placing {
                turns: KeylessTurns::new(KEYLESS_RECORDS_PER_TURN, rand::random()),
                rings: HashMap::new(),
                next_positions: HashMap::new(),
                first_position: micros,
            }),
        }
    }

    fn placing(&self) -> std::sync::MutexGuard<'_, Placing> {
        self.placing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn close(&self, deadline: Instant) {
        self.room.emptied(deadline).await;
        for lane in &self.lanes {
            lane.close();
        }
    }

    /// Where the records of each topic of a batch go.
    async fn destinations(
        &self,
        batch: &[AppendRecord],
        deadline: Instant,
    ) -> HashMap<TopicName, Result<Destination, Refusal>> {
        let mut found = HashMap::new();
        let mut refreshed = None;
        for record in batch {
            if !found.contains_key(&record.topic) {
                let destination = self.destination(&record.topic, deadline, &mut refreshed).await;
                found.insert(record.topic.clone(), destination);
            }
        }
        found
    }

    async fn destination(
        &self,
        name: &TopicName,
        deadline: Instant,
        refreshed: &mut Option<Arc<CatalogState>>,
    ) -> Result<Destination, Refusal> {
        let of_fault = |fault: Fault| (fault.append_kind(), fault.text().to_owned());
        let mut state = refreshed.clone().unwrap_or_else(|| self.core.catalog.state());
        if !state.topics.contains_key(name) && refreshed.is_none() {
            let left = deadline.saturating_duration_since(self.core.clock.now());
            let looked = self.core.catalog.refresh(LOOKUP_LIMIT.min(left)).await;
            state = looked.map_err(of_fault)?;
            *refreshed = Some(Arc::clone(&state));
        }
        let not_found = || {
            (
                AppendErrorKind::TopicNotFound,
                format!("topic {name} is not there; make it first"),
            )
        };
        let mut topic = state.topics.get(name).cloned().ok_or_else(not_found)?;
        if topic.growing_to.is_some() {
            topic = self.until_grown(name, &topic.id, deadline).await?;
        }
        self.core.ensure_declared(name, &topic).await.map_err(of_fault)?;
        let mut placing = self.placing();
        let ring = placing.rings.entry(topic.shards);
        let ring = ring.or_insert_with(|| ShardRing::new(topic.shards)).clone();
        Ok(Destination {
            exchange: self.core.names.gate(name, topic.shards).into(),
            topic,
            ring,
        })
    }

    /// A topic that grows takes nothing for a moment.
    async fn until_grown(&self, name: &TopicName, id: &str, deadline: Instant) -> Result<Topic, Refusal> {
        let mut known = self.core.catalog.watch();
        let grown = known.wait_for(|known| {
            let topic = known.state.topics.get(name).filter(|topic| topic.id == id);
            topic.is_none_or(|topic| topic.growing_to.is_none())
        });
        let message = format!("topic {name} is growing: try again in a moment");
        let late = (AppendErrorKind::BrokerUnavailable, message);
        match tokio::time::timeout_at(deadline.into(), grown).await {
            Ok(Ok(known)) => known.state.topics.get(name).cloned().ok_or(late),
            _ => Err(late),
        }
    }

    /// Finds the shard of each record, and refuses what has none.
    fn place(
        &self,
        batch: Vec<AppendRecord>,
        destinations: &HashMap<TopicName, Result<Destination, Refusal>>,
        refused: &mut Vec<RefusedRecord>,
    ) -> VecDeque<Ready> {
        let max = self.core.config.max_record_bytes;
        let mut ready = VecDeque::with_capacity(batch.len());
        let mut placing = self.placing();
        for (index, record) in batch.into_iter().enumerate() {
            let size = record.record.size_bytes();
            let shard = match &destinations[&record.topic] {
                Err((kind, message)) => Err((*kind, message.clone())),
                Ok(_) if size > max => {
                    let message =
                        format!("a record of {size} bytes is over the limit of {max} bytes; raise max_record_bytes");
                    Err((AppendErrorKind::RecordTooLarge, message))
                }
                Ok(destination) => {
                    let shards = destination.topic.shards;
                    match (record.partition, &record.record.key) {
                        (Some(partition), _) if partition >= shards => {
                            let message = format!("topic {} has no partition {partition}, only {shards}", record.topic);
                            Err((AppendErrorKind::TopicNotFound, message))
                        }
                        (Some(partition), _) => Ok(partition),
                        (None, Some(key)) => Ok(destination.ring.shard_for(key)),
                        (None, None) => Ok(placing.turns.next(shards)),
                    }
                }
            };
            match shard {
                Ok(shard) => ready.push_back(Ready {
                    index,
                    shard,
                    cost: self.room.cost(size),
                    record,
                }),
                Err((kind, message)) => refused.push(refusal(index, record, kind, message)),
            }
        }
        ready
    }

    /// Takes room for some of the first records; how many.
    async fn take_room(&self, ready: &VecDeque<Ready>, deadline: Instant) -> usize {
        let (mut count, mut bytes) = (0, 0);
        for next in ready.iter().take(self.room.step()) {
            if count > 0 && bytes + next.cost > self.room.step_bytes() {
                break;
            }
            count += 1;
            bytes += next.cost;
        }
        if self.room.try_take(count, bytes) {
            return count;
        }
        let first = ready.front().map_or(0, |first| first.cost);
        usize::from(self.room.take(1, first, deadline).await)
    }

    /// Hands the first `count` records to their lanes.
    fn hand_over(
        &self,
        batch: &Arc<Batch>,
        ready: &mut VecDeque<Ready>,
        count: usize,
        destinations: &HashMap<TopicName, Result<Destination, Refusal>>,
    ) {
        let deadline = self.core.clock.now() + self.core.config.delivery_timeout;
        let mut by_lane: Vec<Vec<Work>> = self.lanes.iter().map(|_| Vec::new()).collect();
        // Held until the lanes have the records, so that positions rise as they are written.
        let mut placing = self.placing();
        for Ready {
            shard, cost, record, ..
        } in ready.drain(..count)
        {
            let Ok(destination) = &destinations[&record.topic] else {
                continue;
            };
            let first_position = placing.first_position;
            let next = placing.next_positions.entry((destination.topic.id.clone(), shard));
            let next = next.or_insert(first_position);
            *next += 1;
            let event_type = record.record.header("ce_type");
            let lane = self.lane_of(&destination.topic.id, shard);
            by_lane[lane].push(Work {
                exchange: Arc::clone(&destination.exchange),
                routing_key: routing_key(shard, event_type.map(AsRef::as_ref)),
                position: Position {
                    partition: shard,
                    position: *next,
                },
                ticket: batch.add(cost),
                topic: record.topic,
                record: record.record,
                deadline,
            });
        }
        for (lane, work) in self.lanes.iter().zip(by_lane) {
            if !work.is_empty() {
                lane.push(work);
            }
        }
    }

    fn lane_of(&self, topic_id: &str, shard: u32) -> usize {
        let topic = topic_id
            .bytes()
            .fold(0_usize, |sum, byte| sum.wrapping_add(usize::from(byte)));
        (topic + shard as usize) % self.lanes.len()
    }
}

fn refusal(index: usize, record: AppendRecord, kind: AppendErrorKind, message: String) -> RefusedRecord {
    RefusedRecord {
        index,
        record,
        error: AppendError::refused(kind, message),
    }
}

#[async_trait]
impl Appender for RabbitMqAppender {
    async fn admit(&self, batch: Vec<AppendRecord>, deadline: Instant) -> Admission {
        if let Err(fault) = self.core.usable(deadline).await {
            let refuse = |(index, record)| refusal(index, record, fault.append_kind(), fault.text().to_owned());
            return Admission {
                refused: batch.into_iter().enumerate().map(refuse).collect(),
                commit: Commit::empty(),
            };
        }
        let destinations = self.destinations(&batch, deadline).await;
        let mut refused = Vec::new();
        let mut ready = self.place(batch, &destinations, &mut refused);
        let in_flight = Batch::new(&self.room);
        while !ready.is_empty() {
            match self.take_room(&ready, deadline).await {
                0 => {
                    let message = "as much is on its way to the broker as is allowed: try again later";
                    let rest = ready.drain(..);
                    refused.extend(rest.map(|rest| {
                        let message = message.to_owned();
                        refusal(rest.index, rest.record, AppendErrorKind::Overloaded, message)
                    }));
                }
                count => self.hand_over(&in_flight, &mut ready, count, &destinations),
            }
        }
        refused.sort_by_key(|refused| refused.index);
        Admission {
            refused,
            commit: in_flight.complete(),
        }
    }

    async fn flush(&self, deadline: Instant) -> bool {
        self.room.emptied(deadline).await
    }
}

impl Drop for RabbitMqAppender {
    fn drop(&mut self) {
        for lane in &self.lanes {
            lane.close();
        }
    }
}
