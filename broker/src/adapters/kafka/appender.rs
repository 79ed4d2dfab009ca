//! Appending to a cluster: waits for room and hands records over to the producer
//! of the current session. Where each goes is the business of [`placement`](super::placement).
//!
//! What holds: the records of one admission go to one session, in order; a
//! record that is refused was never handed over.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use async_trait::async_trait;

use super::cluster::Cluster;
use super::error::{Fault, fault_of};
use super::health::Unusable;
use super::in_flight::{Freed, InFlight};
use super::native::metadata;
use super::native::{Code, NativeError};
use super::placement::{Destination, LOOKUP_LIMIT, Placement, Ready, Refusal, refusal};
use super::session::Session;
use crate::append::{Admission, AppendRecord, Appender, Commit};
use crate::error::{AppendError, AppendErrorKind};
use crate::room::Room;

pub(super) struct KafkaAppender {
    cluster: Arc<Cluster>,
    room: Arc<Room>,
    session: Arc<RwLock<Arc<Session>>>,
    placement: Placement,
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
            placement: Placement::new(cluster),
        })
    }

    /// The current session, which may be dead.
    pub(super) fn current_session(&self) -> Arc<Session> {
        Arc::clone(&self.session.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The current session; another one if it died.
    fn session(&self) -> Result<Arc<Session>, Refusal> {
        let session = self.current_session();
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
        let session = self.current_session();
        session.end();
        if !self.room.emptied(deadline).await {
            session.purge();
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
        batch: &mut Handing,
        destinations: &[Destination],
        ready: &mut VecDeque<Ready>,
        count: usize,
    ) -> Result<(), Refusal> {
        let session = Arc::clone(&batch.session);
        let first = {
            let mut in_flight = session.in_flight();
            let now = session.age();
            let mut last = None;
            ready.iter().take(count).fold(None, |first, record| {
                let place = (record.destination, record.partition);
                // Records of one partition come together more often than not.
                let lane = match last {
                    Some((same, lane)) if same == place => lane,
                    _ => in_flight.lanes.lane(&destinations[place.0].topic, place.1),
                };
                last = Some((place, lane));
                let number = in_flight.add(batch.slot, record.cost, lane, now);
                first.or(number)
            })
        };
        let Some(first) = first else {
            self.room
                .give_back(count, ready.iter().take(count).map(|record| record.cost).sum());
            let message = "the producer died while the batch was admitted: try again";
            return Err((AppendErrorKind::BrokerUnavailable, message.to_owned()));
        };
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
            if matches!(
                fault_of(code),
                Fault::TopicMissing | Fault::RecordTooLarge | Fault::NotAuthorized
            ) {
                let mut freed = Freed::default();
                let error = AppendError::refused(kind, message);
                session.in_flight().refuse(number, error, &mut freed);
                session.settle(freed);
                continue;
            }
            ready.push_front(next);
            let rest = count - taken;
            batch.taken += taken;
            if session.in_flight().take_back(batch.slot, rest) {
                let bytes = ready.iter().take(rest).map(|record| record.cost).sum();
                self.room.give_back(rest, bytes);
            }
            let kind = if code == Code::Fatal {
                AppendErrorKind::BrokerUnavailable
            } else {
                kind
            };
            return Err((kind, message));
        }
        batch.taken += count;
        Ok(())
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
    /// Records of it that the producer took.
    taken: usize,
    over: bool,
}

impl Handing {
    fn begin(session: Arc<Session>) -> Self {
        let slot = session.in_flight().open();
        Self {
            session,
            slot,
            taken: 0,
            over: false,
        }
    }

    fn finish(mut self) -> Commit {
        self.over = true;
        let mut in_flight = self.session.in_flight();
        let (sender, commit) = match self.taken {
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
        let destinations = self.placement.destinations(&session, &batch, deadline).await;
        let mut refused = Vec::new();
        let mut ready = self
            .placement
            .sort_out(batch, &destinations, |size| self.room.cost(size), &mut refused);
        let mut handing = Handing::begin(session);
        while !ready.is_empty() {
            let stop = match self.take_room(&ready, deadline).await {
                0 => {
                    let message = "as much is on its way to the broker as is allowed: try again later";
                    Err((AppendErrorKind::Overloaded, message.to_owned()))
                }
                count => self.hand_over(&mut handing, &destinations, &mut ready, count),
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
