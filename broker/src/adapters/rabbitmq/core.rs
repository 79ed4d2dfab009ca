//! What the parts of one RabbitMQ broker share: its connections, its catalog, and
//! whether it can be used.
//!
//! Three connections, for a broker with an alarm stops reading from every connection
//! that publishes: `publish` carries records, `control` what members and the catalog
//! say, `read` everything else: deliveries, acknowledgements and declarations go on
//! during an alarm.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lapin::Channel;
use meridian_runtime::clock::SharedClock;
use tokio::sync::watch;

use super::catalog::{Catalog, Topic};
use super::config::RabbitMqConfig;
use super::fault::Fault;
use super::limits::Limits;
use super::link::{Link, Reach, read_tls};
use super::names::Names;
use super::topology::{self, CALL_LIMIT};
use crate::name::TopicName;
use crate::seam::BrokerState;

/// How long the first answer is waited for; then the broker counts as away.
const FIRST_ANSWER_LIMIT: Duration = Duration::from_millis(700);
/// How long a broker that came back may take to tell its catalog.
const CATALOG_LIMIT: Duration = Duration::from_secs(5);

/// The shared parts.
pub(super) struct Core {
    pub(super) config: RabbitMqConfig,
    pub(super) clock: SharedClock,
    pub(super) names: Names,
    pub(super) publish: Arc<Link>,
    pub(super) control: Arc<Link>,
    pub(super) read: Arc<Link>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) limits: Limits,
    closed: watch::Sender<bool>,
    /// Readers that take part in a group.
    readers: watch::Sender<usize>,
    /// The epoch of the reading link in which a topic's exchanges were declared, by the topic's id.
    declared: Mutex<HashMap<String, (u64, u32)>>,
}

impl Core {
    pub(super) fn open(config: RabbitMqConfig, clock: SharedClock) -> Result<Arc<Self>, String> {
        let tls = read_tls(&config)?;
        let start = |purpose| Link::start(purpose, &config, &clock, tls.clone());
        let (publish, control, read) = (start("publish"), start("control"), start("read"));
        let names = Names::new(&config.name_prefix);
        let catalog = Catalog::start(&read, &control, &names);
        Ok(Arc::new(Self {
            config,
            clock,
            names,
            publish,
            control,
            read,
            catalog,
            limits: Limits::new(),
            closed: watch::Sender::new(false),
            readers: watch::Sender::new(0),
            declared: Mutex::default(),
        }))
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Told once, when the handle is closed.
    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    pub(super) fn begin_close(&self) {
        self.closed.send_replace(true);
    }

    /// Counts a reader for as long as the guard is held.
    pub(super) fn count_reader(self: &Arc<Self>) -> ReaderGuard {
        self.readers.send_modify(|readers| *readers += 1);
        ReaderGuard(Arc::clone(self))
    }

    pub(super) async fn until_readers_left(&self, limit: Duration) {
        let mut readers = self.readers.subscribe();
        let _ = tokio::time::timeout(limit, readers.wait_for(|readers| *readers == 0)).await;
    }

    pub(super) async fn close_links(&self, limit: Duration) {
        tokio::join!(
            self.publish.close(limit),
            self.control.close(limit),
            self.read.close(limit)
        );
    }

    /// A channel for a call or two.
    pub(super) async fn channel(&self) -> Result<Channel, Fault> {
        if self.is_closed() {
            return Err(Fault::Closed);
        }
        self.read.channel(CALL_LIMIT).await
    }

    /// Whether records can be published now; why not, and since when.
    pub(super) fn state(&self) -> BrokerState {
        if self.is_closed() {
            return BrokerState::Unavailable {
                since: self.publish.now(),
                reason: "this broker was closed".to_owned(),
            };
        }
        for link in [&self.publish, &self.read, &self.control] {
            let (since, reason) = match link.reach() {
                Reach::Up(up) => match up.blocked {
                    Some(blocked) => blocked,
                    None => continue,
                },
                Reach::Down { since, fault } => (since, fault.text().to_owned()),
                Reach::Connecting { since } => (since, "connecting".to_owned()),
                Reach::Closed => (link.now(), "this broker was closed".to_owned()),
            };
            return BrokerState::Unavailable { since, reason };
        }
        if self.catalog.is_current() {
            return BrokerState::Available;
        }
        BrokerState::Unavailable {
            since: self.read.now(),
            reason: "the catalog is being read".to_owned(),
        }
    }

    /// Returns at once when records can be published or surely cannot; waits a moment
    /// for the first answer, and for the catalog of a broker that came back.
    pub(super) async fn usable(&self, deadline: Instant) -> Result<(), Fault> {
        if self.is_closed() {
            return Err(Fault::Closed);
        }
        for link in [&self.publish, &self.read, &self.control] {
            let limit = match link.reach() {
                Reach::Connecting { .. } => {
                    FIRST_ANSWER_LIMIT.min(deadline.saturating_duration_since(self.clock.now()))
                }
                _ => Duration::ZERO,
            };
            let up = link.up(limit).await?;
            if let Some((_, reason)) = up.blocked {
                return Err(Fault::Away(reason));
            }
        }
        if self.catalog.is_current() {
            return Ok(());
        }
        let limit = CATALOG_LIMIT.min(deadline.saturating_duration_since(self.clock.now()));
        match self.catalog.refresh(limit).await {
            Ok(_) => Ok(()),
            Err(Fault::Late(text)) => Err(Fault::Away(text)),
            Err(fault) => Err(fault),
        }
    }

    /// Declares what a topic's records are published to, once a connection.
    pub(super) async fn ensure_declared(&self, name: &TopicName, topic: &Topic) -> Result<(), Fault> {
        let epoch = match self.read.reach() {
            Reach::Up(up) => up.epoch,
            _ => return Err(Fault::Away("RabbitMQ is away".to_owned())),
        };
        let wanted = (epoch, topic.shards);
        let declared = || self.declared.lock().unwrap_or_else(PoisonError::into_inner);
        if declared().get(&topic.id) == Some(&wanted) {
            return Ok(());
        }
        let channel = self.channel().await?;
        topology::declare_topic(&channel, &self.names, name, topic.shards, self.config.parked_bytes).await?;
        let state = self.catalog.state();
        let mut declared = declared();
        declared.retain(|id, _| state.topics.values().any(|topic| topic.id == *id));
        declared.insert(topic.id.clone(), wanted);
        Ok(())
    }

    /// The topic was seen to lack something: it is declared anew before the next record.
    pub(super) fn forget_declared(&self) {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// One reader more, until it is dropped.
pub(super) struct ReaderGuard(Arc<Core>);

impl Drop for ReaderGuard {
    fn drop(&mut self) {
        self.0.readers.send_modify(|readers| *readers -= 1);
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        for link in [&self.publish, &self.control, &self.read] {
            link.shut();
        }
    }
}
