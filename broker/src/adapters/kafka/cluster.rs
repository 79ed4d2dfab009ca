//! One cluster as all parts of the adapter share it: a client of its own for
//! questions, whether anybody answers, and how many partitions topics have.
//!
//! A thread asks at an interval, and at once when some client says that brokers
//! are gone: librdkafka tells when all are down and never when one is back. Its
//! questions do not stand in line behind records, for the client has its own
//! connections.
//!
//! What holds: the thread ends when the cluster is dropped or closed; a count of
//! partitions is told only after the producer has seen it (see `on_growth`).

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use meridian_runtime::clock::SharedClock;

use super::config::KafkaConfig;
use super::error::{Fault, fault_of};
use super::health::Health;
use super::native::event::EventKind;
use super::native::metadata::{self, TopicMetadata};
use super::native::{Code, EventQueue, NativeClient, NativeError, Role};
use super::settings;
use crate::name::TopicName;

/// Between two questions while the cluster answers; an added partition is seen within it.
const INTERVAL: Duration = Duration::from_secs(5);

/// The same while it does not.
const INTERVAL_AWAY: Duration = Duration::from_millis(250);

/// How long an answer may take before the cluster counts as gone.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// How long a topic that was not there is not asked for again.
const MISSING_FOR: Duration = Duration::from_millis(300);

/// How many missing topics are remembered.
const MAX_MISSING: usize = 1024;

/// Told of a topic and its partitions before anybody else is.
pub(super) type OnGrowth = Box<dyn Fn(&TopicName, u32) + Send + Sync>;

pub(super) struct Cluster {
    pub(super) config: KafkaConfig,
    pub(super) clock: SharedClock,
    pub(super) client: Arc<NativeClient>,
    /// What the client tells of its connections.
    told: EventQueue,
    /// The brokers answer, and refuse the credentials: what they say. A text of librdkafka, which tells it once.
    refusal: Mutex<Option<String>>,
    pub(super) health: Health,
    /// Topics that were asked for, and their partitions.
    partitions: RwLock<HashMap<TopicName, u32>>,
    missing: Mutex<HashMap<TopicName, Instant>>,
    on_growth: OnceLock<OnGrowth>,
    monitor: OnceLock<Thread>,
    first_id: OnceLock<String>,
    /// Producers and consumers that were opened anew.
    rebuilds: AtomicU64,
}

impl Cluster {
    pub(super) fn open(config: KafkaConfig, clock: SharedClock) -> Result<Arc<Self>, NativeError> {
        let faults = EventKind::mask(&[EventKind::Fault]);
        let client = NativeClient::new(Role::Producer, &settings::questions(&config), faults)?;
        let client = Arc::new(client);
        let cluster = Arc::new(Self {
            config,
            health: Health::new(Arc::clone(&clock)),
            clock,
            told: EventQueue::main(&client).ok_or_else(|| NativeError::of(Code::Fail))?,
            refusal: Mutex::default(),
            client,
            partitions: RwLock::default(),
            missing: Mutex::default(),
            on_growth: OnceLock::new(),
            monitor: OnceLock::new(),
            first_id: OnceLock::new(),
            rebuilds: AtomicU64::new(0),
        });
        let weak = Arc::downgrade(&cluster);
        let monitor = thread::Builder::new()
            .name("kafka-monitor".to_owned())
            .spawn(move || monitor(&weak))
            .map_err(|error| NativeError::new(Code::Fail, error.to_string()))?;
        let _ = cluster.monitor.set(monitor.thread().clone());
        Ok(cluster)
    }

    /// Has `tell` told of every topic and its partitions first.
    pub(super) fn on_growth(&self, tell: OnGrowth) {
        let _ = self.on_growth.set(tell);
    }

    /// A producer or a consumer is opened anew.
    pub(super) fn count_rebuild(&self) {
        self.rebuilds.fetch_add(1, Ordering::Relaxed);
    }

    /// Producers and consumers that were opened anew.
    pub(super) fn rebuilds(&self) -> u64 {
        self.rebuilds.load(Ordering::Relaxed)
    }

    /// Some client says that brokers are gone.
    pub(super) fn suspect(&self) {
        if let Some(monitor) = self.monitor.get() {
            monitor.unpark();
        }
    }

    pub(super) fn close(&self) {
        self.health.close();
        self.suspect();
    }

    /// The partitions of a topic, if it was asked for before and is still there.
    pub(super) fn known_partitions(&self, topic: &TopicName) -> Option<u32> {
        let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
        partitions.get(topic).copied()
    }

    /// The partitions of a topic, from the cluster. Blocks up to `limit`.
    pub(super) fn ask_partitions(&self, topic: &TopicName, limit: Duration) -> Result<u32, NativeError> {
        let missing = || NativeError::of(Code::UnknownTopicOrPartition);
        if self.is_missing(topic) {
            return Err(missing());
        }
        let found = metadata::topic(&self.client, topic.as_str(), limit)?;
        match found.error {
            Some(code) if fault_of(code) == Fault::TopicMissing => {
                self.forget(topic);
                Err(missing())
            }
            Some(code) if found.partitions.is_empty() => Err(NativeError::of(code)),
            _ if found.partitions.is_empty() => Err(NativeError::of(Code::LeaderNotAvailable)),
            _ => Ok(self.learn(topic, &found)),
        }
    }

    /// Takes note of a topic's partitions.
    pub(super) fn learn(&self, topic: &TopicName, found: &TopicMetadata) -> u32 {
        let count = u32::try_from(found.partitions.len()).unwrap_or(u32::MAX);
        let is_new = self.known_partitions(topic) != Some(count);
        if is_new && let Some(tell) = self.on_growth.get() {
            tell(topic, count);
        }
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        partitions.insert(topic.clone(), count);
        drop(partitions);
        self.missing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(topic);
        count
    }

    /// The topic is not there.
    pub(super) fn forget(&self, topic: &TopicName) {
        self.partitions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(topic);
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if missing.len() >= MAX_MISSING {
            missing.clear();
        }
        missing.insert(topic.clone(), self.clock.now());
    }

    fn is_missing(&self, topic: &TopicName) -> bool {
        let missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        missing
            .get(topic)
            .is_some_and(|at| self.clock.now().duration_since(*at) < MISSING_FOR)
    }

    /// Asks for all topics, and takes note of what changed.
    fn probe(&self) {
        let answer = metadata::all_topics(&self.client, PROBE_LIMIT);
        let refusal = self.refusal();
        match answer {
            Ok(topics) => match self.stranger() {
                None => {
                    *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    self.health.answered();
                    self.refresh(&topics);
                }
                Some(reason) => self.went_away(&reason),
            },
            // This client has its own connections, which may come back later.
            Err(_) if self.health.is_returning() => {}
            Err(error) => {
                let servers = self.config.bootstrap.join(", ");
                self.went_away(&match refusal {
                    Some(refusal) => format!("{servers} refuses the credentials: {refusal}; look at `security`"),
                    None => format!("no broker of {servers} answers: {}", error.message),
                });
            }
        }
    }

    /// What brokers say to the credentials, if they refused them and nothing else has come in between.
    fn refusal(&self) -> Option<String> {
        let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(event) = self.told.poll(Duration::ZERO) {
            let Err(error) = event.error() else { continue };
            match error.code {
                Code::AllBrokersDown => {} // follows either
                _ if fault_of(error.code) == Fault::NotAuthorized => *refusal = Some(error.message),
                _ => *refusal = None,
            }
        }
        refusal.clone()
    }

    fn went_away(&self, reason: &str) {
        if self.health.went_away(reason) {
            tracing::warn!(reason, "a Kafka cluster cannot be used");
        }
    }

    /// What to tell when another cluster answers than the one that did first.
    fn stranger(&self) -> Option<String> {
        let id = metadata::cluster_id(&self.client, Duration::ZERO)?;
        let first = self.first_id.get_or_init(|| id.clone());
        (*first != id).then(|| {
            format!("the Kafka cluster {id} answers where {first} was: point the broker at {first}, or restart with this one")
        })
    }

    fn refresh(&self, topics: &[TopicMetadata]) {
        let known: Vec<(TopicName, u32)> = {
            let partitions = self.partitions.read().unwrap_or_else(PoisonError::into_inner);
            partitions
                .iter()
                .map(|(topic, count)| (topic.clone(), *count))
                .collect()
        };
        if known.is_empty() {
            return;
        }
        let found: HashMap<&str, &TopicMetadata> = topics.iter().map(|topic| (topic.name.as_str(), topic)).collect();
        for (topic, count) in known {
            match found.get(topic.as_str()) {
                None => {
                    self.partitions
                        .write()
                        .unwrap_or_else(PoisonError::into_inner)
                        .remove(&topic);
                }
                Some(found) if found.partitions.len() != count as usize && found.error.is_none() => {
                    self.learn(&topic, found);
                }
                Some(_) => {}
            }
        }
    }
}

fn monitor(cluster: &Weak<Cluster>) {
    loop {
        let interval = match cluster.upgrade() {
            Some(cluster) if !cluster.health.is_closed() => {
                cluster.probe();
                if cluster.health.is_available() {
                    INTERVAL
                } else {
                    INTERVAL_AWAY
                }
            }
            _ => return,
        };
        thread::park_timeout(interval);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.suspect();
    }
}
