//! What publishing asks of the windows: append an event, answer it with the
//! receipt of its first time, or wait for whoever is storing it.
//!
//! What holds: an event is appended under a window only with its claim, and each
//! claim is ended, whoever still waits for the event. Whoever waits for another's
//! append has stored nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_broker::TopicName;
use meridian_proto::meridian as proto;
use meridian_runtime::{Metrics, RegisterError, SharedClock};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prost::Message as _;
use tokio::time::Instant;

use super::claim::{Claim, Ending, Known, StoreUnreachable, WindowStore};
use super::memory::MemoryStore;
use super::options::{IdempotenceOptions, TopicWindow};
use super::redis::RedisStore;
use crate::fault::{FaultCode, Refusal};

/// Beyond the longest append, after which the holder of a claim must be dead.
const CLAIM_LEASE_SLACK: Duration = Duration::from_secs(30);
/// Between two looks at an event that another publish is storing.
const LOOK_INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(2)..=Duration::from_millis(50);

/// The windows of the topics of one gateway.
pub struct Windows {
    topics: Vec<TopicWindow>,
    store: Arc<dyn WindowStore>,
    duplicates: Counter,
}

/// What is to become of an event under a window.
#[derive(Debug)]
pub enum Verdict {
    /// It is to be appended, and its claim ended then.
    Append,
    /// It was stored before; this is what it was told, marked.
    Duplicate(Box<proto::PublishResult>),
    /// Another publish is storing it.
    Wait,
    /// It is not to be stored.
    Refused(Refusal),
}

impl Windows {
    /// The windows that an operator asked for; `None` when there are none.
    ///
    /// # Errors
    /// [`WindowsError`] when the shared store's settings are refused.
    pub fn open(
        options: &IdempotenceOptions,
        publish_deadline: Duration,
        clock: &SharedClock,
        metrics: &Metrics,
    ) -> Result<Option<Arc<Self>>, WindowsError> {
        if options.topics.is_empty() {
            return Ok(None);
        }
        let registry = metrics.sub_registry("meridian_gateway");
        let duplicates = Counter::default();
        let (remembered, forgotten) = (Gauge::default(), Gauge::default());
        registry.register(
            "duplicate_events",
            "Events that were answered with the receipt of an earlier publish of the same source and id",
            duplicates.clone(),
        )?;
        registry.register(
            "window_ids",
            "Event ids that this gateway remembers in its own memory",
            remembered.clone(),
        )?;
        registry.register(
            "window_ids_forgotten_early",
            "Event ids that were forgotten before their window was over, for want of room",
            forgotten.clone(),
        )?;
        let claim_lease = publish_deadline + CLAIM_LEASE_SLACK;
        let store: Arc<dyn WindowStore> = match &options.redis {
            Some(address) => Arc::new(RedisStore::connect(address, claim_lease)?),
            None => Arc::new(MemoryStore::new(
                options.max_ids,
                claim_lease,
                clock.clone(),
                remembered,
                forgotten,
            )),
        };
        Ok(Some(Arc::new(Self {
            topics: options.topics.clone(),
            store,
            duplicates,
        })))
    }

    /// The window of a topic.
    pub fn window_of(&self, topic: &TopicName) -> Option<Duration> {
        let found = self.topics.iter().find(|each| each.topic.matches(topic.as_str()));
        found.map(|each| each.window)
    }

    /// Claims events, in order; a verdict for each.
    pub async fn claim(&self, claims: &[Claim]) -> Vec<Verdict> {
        match self.store.claim(claims).await {
            Ok(known) => claims
                .iter()
                .zip(known)
                .map(|(claim, known)| match known {
                    Known::Nothing => Verdict::Append,
                    Known::UnderWay => Verdict::Wait,
                    Known::Stored { receipt, content } => self.known(claim, &receipt, content),
                })
                .collect(),
            Err(error) => claims.iter().map(|_| Verdict::Refused(unreachable(&error))).collect(),
        }
    }

    /// Waits until another's publish of the same event has ended: a duplicate, or a
    /// refusal to store it a second time.
    pub async fn wait(&self, claim: &Claim, deadline: Instant) -> Verdict {
        let mut pause = *LOOK_INTERVALS.start();
        loop {
            match self.store.look(claim).await {
                Ok(Known::Stored { receipt, content }) => return self.known(claim, &receipt, content),
                Ok(Known::Nothing) => {
                    let message = "another publish of the same source and id was under way and has not stored it; \
                                   publish it again";
                    return Verdict::Refused(Refusal::new(FaultCode::DuplicateNotStored, message));
                }
                Ok(Known::UnderWay) => {}
                Err(error) => return Verdict::Refused(unreachable(&error)),
            }
            if Instant::now() + pause >= deadline {
                let message = "another publish of the same source and id is still under way; publish it again later";
                return Verdict::Refused(Refusal::new(FaultCode::DuplicateNotStored, message));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(*LOOK_INTERVALS.end());
        }
    }

    /// Ends claims.
    pub async fn end(&self, ended: Vec<(Claim, Ending)>) {
        self.store.end(ended).await;
    }

    fn known(&self, claim: &Claim, receipt: &Bytes, content: u32) -> Verdict {
        let Ok(mut receipt) = proto::Receipt::decode(&receipt[..]) else {
            let message = "the window's receipt of this source and id cannot be read; look at who else writes to its \
                           Redis, or wait until the window is over";
            return Verdict::Refused(Refusal::new(FaultCode::EventIdReused, message));
        };
        if content != claim.content {
            let message = format!(
                "an event of this source and id, but of another type or data, is stored at {}/{}/{}; give each event \
                 an id of its own",
                receipt.topic, receipt.partition, receipt.position
            );
            return Verdict::Refused(Refusal::new(FaultCode::EventIdReused, message));
        }
        self.duplicates.inc();
        receipt.duplicate = true;
        Verdict::Duplicate(Box::new(proto::PublishResult {
            outcome: Some(proto::publish_result::Outcome::Receipt(receipt)),
        }))
    }
}

fn unreachable(error: &StoreUnreachable) -> Refusal {
    Refusal::new(FaultCode::WindowStoreUnavailable, error.to_string())
}

/// Why the windows could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum WindowsError {
    /// Names of metrics are taken.
    #[error(transparent)]
    Metrics(#[from] RegisterError),
    /// The client library refuses the settings.
    #[error("idempotence.redis cannot be used: {0}")]
    Redis(#[from] fred::error::Error),
}
