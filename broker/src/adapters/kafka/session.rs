//! One idempotent producer from its first record to its end: its topics, its
//! records in flight, and the thread that takes its delivery reports.
//!
//! A producer that librdkafka declares dead (a fatal fault of idempotence) is
//! purged: what was never sent is refused, the rest is unknown; the appender
//! opens another session in its place.
//!
//! What holds: every record that was produced gets an outcome before the thread
//! ends; the thread ends when the session is over, empty, and held by nobody else.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use super::cluster::Cluster;
use super::error::{Fault, fault_of};
use super::in_flight::{Freed, InFlight, Settled};
use super::native::event::EventKind;
use super::native::metadata;
use super::native::produce::{self, TopicHandle};
use super::native::{Code, Event, EventQueue, NativeClient, NativeError, Role};
use super::settings;
use crate::name::TopicName;
use crate::room::Room;

/// Between two looks at whether the session ends.
const POLL_LIMIT: Duration = Duration::from_millis(100);

/// How long the reports of purged records may take.
const PURGE_LIMIT: Duration = Duration::from_secs(5);

/// How long the last records of a session that ends may take, whatever their time-out is.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Between two looks at partitions that take nothing, and how long the cluster may take to say who leads.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Session {
    cluster: Arc<Cluster>,
    client: Arc<NativeClient>,
    topics: RwLock<HashMap<TopicName, Arc<TopicHandle>>>,
    in_flight: Mutex<InFlight>,
    room: Arc<Room>,
    dead: AtomicBool,
    ending: AtomicBool,
    started: Instant,
}

impl Session {
    pub(super) fn start(cluster: &Arc<Cluster>, room: &Arc<Room>) -> Result<Arc<Self>, NativeError> {
        let events = EventKind::mask(&[EventKind::Deliveries, EventKind::Fault]);
        let properties = settings::producer(&cluster.config);
        let client = Arc::new(NativeClient::new(Role::Producer, &properties, events)?);
        let queue = EventQueue::main(&client).ok_or_else(|| NativeError::of(Code::Fail))?;
        let session = Arc::new(Self {
            cluster: Arc::clone(cluster),
            client,
            topics: RwLock::default(),
            in_flight: Mutex::default(),
            room: Arc::clone(room),
            dead: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            started: cluster.clock.now(),
        });
        let polled = Arc::clone(&session);
        thread::Builder::new()
            .name("kafka-producer".to_owned())
            .spawn(move || polled.poll(&queue))
            .map_err(|error| NativeError::new(Code::Fail, error.to_string()))?;
        Ok(session)
    }

    pub(super) fn client(&self) -> &Arc<NativeClient> {
        &self.client
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    /// No more records come; the thread ends when it is empty.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Release);
    }

    /// Gives up all records that have no outcome yet.
    pub(super) fn purge(&self) {
        produce::purge(&self.client);
    }

    pub(super) fn in_flight(&self) -> MutexGuard<'_, InFlight> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The producer's handle of a topic.
    pub(super) fn topic(&self, name: &TopicName) -> Result<Arc<TopicHandle>, NativeError> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = topics.get(name) {
            return Ok(Arc::clone(handle));
        }
        drop(topics);
        let handle = Arc::new(TopicHandle::new(&self.client, name.as_str())?);
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(topics.entry(name.clone()).or_insert(handle)))
    }

    /// Whether the producer has sent to a topic before.
    pub(super) fn uses(&self, name: &TopicName) -> bool {
        self.topics
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(name)
    }

    /// Takes back what a purge, a refusal or a report freed.
    pub(super) fn settle(&self, freed: Freed) {
        self.room.give_back(freed.records, freed.bytes);
        freed.settled.into_iter().for_each(Settled::resolve);
    }

    /// How long there has been this session.
    pub(super) fn age(&self) -> Duration {
        self.cluster.clock.now().duration_since(self.started)
    }

    fn poll(self: &Arc<Self>, queue: &EventQueue) {
        let mut purged: Option<Instant> = None;
        let mut ended: Option<Instant> = None;
        let mut look_at = self.started;
        loop {
            if let Some(mut event) = queue.poll(POLL_LIMIT) {
                self.take(&mut event);
            }
            let now = self.cluster.clock.now();
            if self.ending.load(Ordering::Acquire) {
                ended.get_or_insert(now);
            }
            if look_at <= now {
                look_at = now + LOOK_INTERVAL;
                self.look_for_standstill();
            }
            let over = self.is_dead() || ended.is_some_and(|at| now.duration_since(at) > END_LIMIT);
            if self.in_flight().records() == 0 {
                purged = None;
                // An admission that began before the end may still hand records over.
                if (over || ended.is_some()) && Arc::strong_count(self) == 1 {
                    return;
                }
            } else if over && purged.is_none() {
                purged = Some(now);
                self.purge();
            } else if purged.is_some_and(|at| now.duration_since(at) > PURGE_LIMIT) {
                purged = None;
                self.abandon();
            }
        }
    }

    fn abandon(&self) {
        let freed = self.in_flight().abandon();
        tracing::error!(
            records = freed.records,
            "a Kafka producer reported nothing of records that it gave up"
        );
        self.settle(freed);
    }

    fn take(&self, event: &mut Event) {
        match event.kind() {
            EventKind::Deliveries => self.take_deliveries(event),
            EventKind::Fault => self.take_fault(event),
            _ => {}
        }
    }

    fn take_deliveries(&self, event: &mut Event) {
        let mut freed = Freed::default();
        let (mut stale, mut fatal, mut delivered) = (false, false, false);
        let now = self.age();
        let mut in_flight = self.in_flight();
        event.each_delivery(|delivery| {
            if let Some(code) = delivery.error {
                stale |= fault_of(code) == Fault::TopicMissing;
                fatal |= code == Code::Fatal;
            } else {
                delivered = true;
            }
            in_flight.deliver(&delivery, now, &mut freed);
        });
        drop(in_flight);
        let returns = delivered && self.cluster.health.returns();
        if stale || returns {
            self.cluster.suspect(); // the counts of partitions are looked at with it
        }
        if fatal {
            self.die(&Code::Fatal.to_string());
        }
        self.settle(freed);
    }

    fn take_fault(&self, event: &Event) {
        let Err(error) = event.error() else { return };
        if event.is_fatal() {
            let fault = self.client.fatal_error().unwrap_or(error);
            self.die(&fault.to_string());
            return;
        }
        tracing::debug!(%error, "a Kafka producer met a fault that may heal");
        if fault_of(error.code) == Fault::Unavailable {
            self.cluster.suspect();
        }
    }

    /// librdkafka can lose a partition's leader or all brokers for good; the cluster is
    /// asked by another client whether there is a leader.
    fn look_for_standstill(&self) {
        if self.is_dead() || self.in_flight().records() == 0 {
            return;
        }
        let now = self.age();
        if !self.cluster.health.is_available() {
            self.in_flight().lanes.excuse(now);
            return;
        }
        let standing = self.in_flight().lanes.standing(now);
        let Some((lane, topic, partition)) = standing else {
            return;
        };
        match metadata::topic(&self.cluster.client, topic.as_str(), LOOK_INTERVAL) {
            Ok(found) if found.has_leader(partition) => {
                self.die(&format!(
                    "partition {partition} of {topic} has a leader and takes nothing"
                ));
            }
            Ok(_) => self.in_flight().lanes.excuse_one(lane, now),
            Err(error) => tracing::debug!(%topic, partition, %error, "nobody says who leads a partition"),
        }
    }

    fn die(&self, reason: &str) {
        if !self.dead.swap(true, Ordering::AcqRel) {
            self.cluster.count_rebuild();
            tracing::error!(reason, "a Kafka producer is dead and is opened anew");
        }
    }
}
