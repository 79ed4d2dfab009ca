//! Appends what a group gives away until it is durable, for ever with backoff: dead letters, and records that wait for
//! their next attempt in the due-time topics. Holding the record and its key meanwhile, and
//! settling it afterwards, is the dispatcher's and the group's business.
//!
//! What holds: an order is answered once, and only after its dead letter is durable; one that cannot be written keeps no
//! other back; at most [`MAX_PENDING`] orders are held, the rest waits in the channel. A dead letter whose outcome is
//! unknown is written again, so it may be there twice.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meridian_broker::{
    AdminErrorKind, AppendErrorKind, AppendRecord, Broker, GroupName, NameError, TopicName, TopicSpec,
};
use meridian_runtime::{Backoff, BackoffPolicy, SharedClock};
use tokio::sync::{mpsc, watch};

use super::dead_letter::{AttemptTimes, DeadLetterTopicPattern, dead_letter_record};
use super::retry::{retry_record, retry_topic};
use crate::delay::{Aim, BrokerDelays, Bucket, park};
use crate::dispatch::{AwayOrder, Destination, ItemId};

/// Most orders that the writer holds.
pub const MAX_PENDING: usize = 1_024;
/// Most dead letters of one append.
const MAX_BATCH: usize = 256;
/// How long one append may wait for room.
const ADMIT_LIMIT: Duration = Duration::from_secs(5);

/// A record that is durable in its other topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AwayDone {
    /// The record.
    pub item: ItemId,
    /// Where it went, and why.
    pub destination: Destination,
}

/// Whether dead letters get through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeadLetterWriterState {
    /// They do, or there are none.
    #[default]
    Writing,
    /// Some do not; they are tried again.
    Failing {
        /// Since when.
        since: SystemTime,
        /// The last fault.
        reason: String,
        /// How many wait.
        waiting: usize,
    },
}

/// Writes the dead letters of one group.
pub struct DeadLetterWriter {
    /// Where to.
    pub broker: Arc<dyn Broker>,
    /// Whose.
    pub group: GroupName,
    /// Where records wait for their next attempt.
    pub delays: Arc<BrokerDelays>,
    /// How the topics of dead letters are called.
    pub pattern: DeadLetterTopicPattern,
    /// Partitions of a topic that is made.
    pub partitions: u32,
    /// Stamps the time.
    pub clock: SharedClock,
    /// Told when it changes.
    pub state: watch::Sender<DeadLetterWriterState>,
}

/// An order that is not written yet.
struct Failed {
    order: AwayOrder,
    /// The topic, when that is what it lacks and what shall be made.
    missing: Option<TopicName>,
    reason: String,
}

impl DeadLetterWriter {
    /// Writes until the orders' sender or the answers' receiver is gone.
    pub async fn run(self, mut orders: mpsc::Receiver<AwayOrder>, done: mpsc::Sender<AwayDone>, seed: u64) {
        let mut backoff = Backoff::new(BackoffPolicy::default(), seed);
        let mut failing: Vec<AwayOrder> = Vec::new();
        let mut retry_at = tokio::time::Instant::now();
        let mut fresh = Vec::new();
        loop {
            let room = (MAX_PENDING - failing.len()).min(MAX_BATCH);
            let retry = async {
                match failing.is_empty() {
                    true => std::future::pending().await,
                    false => tokio::time::sleep_until(retry_at).await,
                }
            };
            let retrying = tokio::select! {
                taken = orders.recv_many(&mut fresh, room), if room > 0 => {
                    if taken == 0 {
                        return;
                    }
                    false
                }
                () = retry => true,
                () = done.closed() => return,
            };
            let batch = if retrying {
                std::mem::take(&mut failing)
            } else {
                std::mem::take(&mut fresh)
            };
            let (written, failed) = self.write(batch).await;
            for each in written {
                if done.send(each).await.is_err() {
                    return;
                }
            }
            if failed.is_empty() && failing.is_empty() {
                backoff.reset();
            } else if retrying || failing.is_empty() {
                // The first failure and every retry set the time; what fails meanwhile waits with the others.
                retry_at = tokio::time::Instant::now() + backoff.next_delay();
            }
            self.tell(&failed, failing.len());
            failing.extend(failed.into_iter().map(|failed| failed.order));
        }
    }

    fn tell(&self, failed: &[Failed], waiting_already: usize) {
        let Some(Failed { order, reason, .. }) = failed.first() else {
            if waiting_already == 0 {
                self.state.send_if_modified(|state| {
                    let was_failing = *state != DeadLetterWriterState::Writing;
                    *state = DeadLetterWriterState::Writing;
                    was_failing
                });
            }
            return;
        };
        let partition = &order.claim.partition;
        tracing::warn!(
            group = %self.group, %partition, position = order.claim.position, reason, failed = failed.len(),
            "dead letters could not be written and are tried again"
        );
        let now = self.wall_time();
        self.state.send_modify(|state| {
            let since = match state {
                DeadLetterWriterState::Failing { since, .. } => *since,
                DeadLetterWriterState::Writing => now,
            };
            let waiting = failed.len() + waiting_already;
            *state = DeadLetterWriterState::Failing {
                since,
                reason: reason.clone(),
                waiting,
            };
        });
    }

    fn wall_time(&self) -> SystemTime {
        let millis = u64::try_from(self.clock.wall_millis()).unwrap_or(0);
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    /// Appends all at once. Topics that are missing are made, and their dead letters are tried once more at once.
    async fn write(&self, orders: Vec<AwayOrder>) -> (Vec<AwayDone>, Vec<Failed>) {
        let (mut written, failed) = self.append(orders).await;
        let missing: HashSet<_> = failed.iter().filter_map(|failed| failed.missing.clone()).collect();
        if missing.is_empty() || !self.make_topics(missing).await {
            return (written, failed);
        }
        let (again, mut failed): (Vec<_>, Vec<_>) = failed.into_iter().partition(|failed| failed.missing.is_some());
        let (more, still) = self
            .append(again.into_iter().map(|failed| failed.order).collect())
            .await;
        written.extend(more);
        failed.extend(still);
        (written, failed)
    }

    async fn append(&self, orders: Vec<AwayOrder>) -> (Vec<AwayDone>, Vec<Failed>) {
        let mut failed = Vec::new();
        let mut batch = Vec::with_capacity(orders.len());
        let mut taken = Vec::with_capacity(orders.len());
        for order in orders {
            match self.record_of(&order).await {
                Ok(append) => {
                    taken.push((order, append.topic.clone()));
                    batch.push(append);
                }
                Err(error) => failed.push(Failed {
                    order,
                    missing: None,
                    reason: error.to_string(),
                }),
            }
        }
        let admission = self
            .broker
            .appender()
            .admit(batch, self.clock.now() + ADMIT_LIMIT)
            .await;
        let mut refused = admission.refused.into_iter().peekable();
        let mut outcomes = admission.commit.await.into_iter();
        let mut written = Vec::new();
        for (index, (order, topic)) in taken.into_iter().enumerate() {
            let outcome = match refused.next_if(|refused| refused.index == index) {
                Some(refused) => Err(refused.error),
                None => outcomes.next().unwrap_or_else(|| Err(no_outcome())),
            };
            match outcome {
                Ok(_) => written.push(AwayDone {
                    item: order.item,
                    destination: order.destination,
                }),
                Err(error) => {
                    let reason = format!("{topic}: {error}");
                    let missing = (error.kind == AppendErrorKind::TopicNotFound).then_some(topic);
                    let missing = missing.filter(|topic| match Bucket::of_topic(topic) {
                        Some(bucket) => {
                            self.delays.missed(bucket);
                            false
                        }
                        None => true,
                    });
                    failed.push(Failed { order, missing, reason });
                }
            }
        }
        (written, failed)
    }

    /// What is appended for an order.
    async fn record_of(&self, order: &AwayOrder) -> Result<AppendRecord, NameError> {
        let times = self.times(order);
        let (topic, record) = match order.destination {
            Destination::DeadLetters(reason) => {
                let topic = self.pattern.topic_of(&order.source.partition.topic)?;
                (topic, dead_letter_record(order, reason, &self.group, &times))
            }
            Destination::Park { until } => {
                let aim = Aim {
                    due_ms: self.wall_of(until),
                    topic: retry_topic(&self.group)?,
                };
                let first_ms = times.attempts.map_or(times.now_ms, |(first_ms, _)| first_ms);
                let (bucket, record) = park(retry_record(order, first_ms), &aim, times.now_ms);
                if let Err(error) = self.delays.ensure(bucket).await {
                    tracing::warn!(group = %self.group, bucket = bucket.label(), %error, "a bucket cannot be made");
                }
                (bucket.topic(), record)
            }
        };
        Ok(AppendRecord {
            topic,
            partition: None,
            record,
        })
    }

    fn times(&self, order: &AwayOrder) -> AttemptTimes {
        let here = order
            .handed_over
            .map(|(first, last)| (self.wall_of(first), self.wall_of(last)));
        let now_ms = self.clock.wall_millis();
        let attempts = match (order.first_attempt_ms, here) {
            (Some(first_ms), Some((_, last_ms))) => Some((first_ms, last_ms)),
            (Some(first_ms), None) => Some((first_ms, first_ms)),
            (None, here) => here,
        };
        AttemptTimes { attempts, now_ms }
    }

    /// The wall clock's time of a moment.
    fn wall_of(&self, moment: std::time::Instant) -> i64 {
        let now = self.clock.now();
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        self.clock
            .wall_millis()
            .saturating_add(millis(moment.saturating_duration_since(now)))
            .saturating_sub(millis(now.saturating_duration_since(moment)))
    }

    /// True when all of them are there now.
    async fn make_topics(&self, missing: HashSet<TopicName>) -> bool {
        let mut all = true;
        for topic in missing {
            match self
                .broker
                .admin()
                .create_topic(&TopicSpec::new(topic.clone(), self.partitions))
                .await
            {
                Ok(_) => tracing::info!(%topic, group = %self.group, "made the dead-letter topic"),
                Err(error) if error.kind == AdminErrorKind::AlreadyExists => {}
                Err(error) => {
                    all = false;
                    tracing::warn!(%topic, %error, "the dead-letter topic could not be made");
                }
            }
        }
        all
    }
}

fn no_outcome() -> meridian_broker::AppendError {
    meridian_broker::AppendError::unknown(AppendErrorKind::Internal, "the broker's appender gave no outcome")
}
