//! The task of one bucket of one broker: reads, waits, appends, settles.
//!
//! While the next record's time is far, the reader is closed: a wait of hours holds no connection and no memory, and
//! no broker takes a record that is not settled for a consumer that hangs. What holds: a record is settled only after
//! its next place was confirmed; a fault that may heal is tried again for ever; nothing is dropped in silence.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_broker::{
    AppendError, AppendErrorKind, AppendRecord, GroupName, MissingPositionPolicy, ReadError, ReadErrorKind, ReadEvent,
    Reader, ReaderOptions, Settler, TopicSpec,
};
use meridian_event::{Header, Record};
use meridian_runtime::{Backoff, BackoffPolicy, SharedClock};
use tokio_util::sync::CancellationToken;

use super::bucket::{Bucket, stray_topic};
use super::desk::{BrokerDelays, DelayMetrics, make};
use super::parked::{Aim, Parked, park};
use super::waiting::{Held, Step, Waiting};

/// Records that are read and wait, and their bytes: the memory of a bucket.
const MAX_WAITING_RECORDS: usize = 1_024;
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
/// Records of one append.
const MAX_BATCH: usize = 256;
/// How long one append may wait for room.
const ADMIT_LIMIT: Duration = Duration::from_secs(5);
/// How long leaving the broker's group may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);
/// A longer wait is spent without a reader.
const NAP_OVER_MS: i64 = 60_000;
/// So long before the time the reader is opened again, for joining a group takes a while.
const NAP_ENDS_BEFORE_MS: i64 = 15_000;
/// The longest nap and the longest sleep, for wall clocks are set now and then.
const MAX_NAP_MS: i64 = 600_000;
const MAX_SLEEP_MS: i64 = 5_000;
const TRIES: BackoffPolicy = BackoffPolicy {
    initial: Duration::from_millis(100),
    maximum: Duration::from_secs(10),
    multiplier: 2.0,
    jitter: 0.5,
};

/// One bucket of one broker.
pub(super) struct Line {
    pub(super) delays: Arc<BrokerDelays>,
    pub(super) bucket: Bucket,
    pub(super) clock: SharedClock,
    pub(super) metrics: DelayMetrics,
    pub(super) partitions: u32,
    pub(super) stop: CancellationToken,
}

/// Why a reader is not read any more.
enum Ended {
    Stopped,
    Nap(Duration),
    Failed(ReadError),
}

impl Line {
    /// Runs until it is stopped.
    pub(super) async fn run(self, seed: u64) {
        let mut backoff = Backoff::new(TRIES, seed);
        loop {
            let ended = tokio::select! {
                () = self.stop.cancelled() => return,
                opened = self.open() => match opened {
                    Ok(reader) => self.follow(reader, &mut backoff).await,
                    Err(error) => Ended::Failed(error),
                },
            };
            let pause = match ended {
                Ended::Stopped => return,
                Ended::Nap(span) => span,
                Ended::Failed(error) => {
                    let (broker, bucket) = (self.delays.name(), self.bucket.label());
                    tracing::warn!(%broker, bucket, %error, "delayed events cannot be read; it is tried again");
                    backoff.next_delay()
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn open(&self) -> Result<Box<dyn Reader>, ReadError> {
        let name = self.bucket.topic_name();
        let group =
            GroupName::new(&name).map_err(|error| ReadError::new(ReadErrorKind::InvalidOptions, error.to_string()))?;
        let options = ReaderOptions {
            missing_position: MissingPositionPolicy::Earliest,
            max_unsettled_records: MAX_WAITING_RECORDS,
            max_unsettled_bytes: MAX_WAITING_BYTES,
            ..ReaderOptions::new(group, vec![self.bucket.topic()])
        };
        self.delays.broker.0.open_reader(options).await
    }

    async fn follow(&self, mut reader: Box<dyn Reader>, backoff: &mut Backoff) -> Ended {
        let settler = reader.settler();
        let mut waiting = Waiting::new(self.bucket);
        let labels = [
            ("broker", self.delays.name().to_string()),
            ("bucket", self.bucket.label().to_owned()),
        ];
        let held = self.metrics.held.get_or_create_owned(&labels);
        let ended = loop {
            let now_ms = self.clock.wall_millis();
            let due = waiting.take_due(now_ms, MAX_BATCH);
            if !due.is_empty() {
                let failed = self.advance(due, &*settler).await;
                if failed.is_empty() {
                    backoff.reset();
                } else {
                    let pause = i64::try_from(backoff.next_delay().as_millis()).unwrap_or(0);
                    waiting.put_back(failed, self.clock.wall_millis().saturating_add(pause));
                }
            }
            held.set(i64::try_from(waiting.len()).unwrap_or(i64::MAX));
            let wait_ms = waiting.next_in_ms(self.clock.wall_millis());
            if let Some(wait_ms) = wait_ms.filter(|wait_ms| *wait_ms > NAP_OVER_MS) {
                break Ended::Nap(millis((wait_ms - NAP_ENDS_BEFORE_MS).min(MAX_NAP_MS)));
            }
            let sleep = millis(wait_ms.unwrap_or(MAX_SLEEP_MS).min(MAX_SLEEP_MS));
            tokio::select! {
                () = self.stop.cancelled() => break Ended::Stopped,
                event = reader.next() => match event {
                    Ok(event) => self.take_in(event, &mut waiting),
                    Err(error) => break Ended::Failed(error),
                },
                () = tokio::time::sleep(sleep) => {}
            }
        };
        held.set(0);
        if matches!(ended, Ended::Nap(_)) {
            self.metrics.naps.inc();
        }
        if let Err(error) = reader.close(CLOSE_LIMIT).await {
            let broker = self.delays.name();
            tracing::debug!(%broker, %error, "the last steps of delayed events were not committed; they are repeated");
        }
        ended
    }

    fn take_in(&self, event: ReadEvent, waiting: &mut Waiting) {
        match event {
            ReadEvent::Records(records) => {
                let now_ms = self.clock.wall_millis();
                for read in records {
                    let parked = match Parked::read((*read.record).clone()) {
                        Ok(parked) => parked,
                        Err(fault) => self.stray(Arc::unwrap_or_clone(read.record), &fault.to_string()),
                    };
                    let claim = read.claim;
                    waiting.add(Held { claim, parked }, now_ms);
                }
            }
            ReadEvent::Assigned(assignments) => {
                for assignment in assignments {
                    waiting.revoke(&assignment.partition, Some(assignment.generation));
                }
            }
            ReadEvent::Revoked(partitions) => {
                for partition in partitions {
                    waiting.revoke(&partition, None);
                }
            }
            ReadEvent::Gap(gap) => tracing::error!(
                broker = %self.delays.name(), partition = %gap.partition, missing_records = gap.missing_records,
                "delayed events are gone: retention went past them while no gateway read"
            ),
        }
    }

    /// A record that waits for nothing goes to a topic where somebody may look at it.
    fn stray(&self, mut record: Record, why: &str) -> Parked {
        let bucket = self.bucket.label();
        tracing::error!(broker = %self.delays.name(), bucket, why, "a record goes to meridian.delay.dead-letters");
        record
            .headers
            .push(Header::new("meridian-dead-letter-error", Bytes::from(why.to_owned())));
        let aim = Aim {
            due_ms: 0,
            topic: stray_topic(),
        };
        Parked {
            aim,
            since_ms: 0,
            record,
        }
    }

    /// Appends each to its next place and settles what is confirmed; returns the others.
    async fn advance(&self, due: Vec<Held>, settler: &dyn Settler) -> Vec<Held> {
        let now_ms = self.clock.wall_millis();
        let mut batch = Vec::with_capacity(due.len());
        let mut steps = Vec::with_capacity(due.len());
        for held in &due {
            let parked = &held.parked;
            let step = Step::of(parked.aim.due_ms, now_ms);
            let (topic, record) = match step {
                Step::Arrive => {
                    let mut record = parked.record.clone();
                    record.timestamp_ms = now_ms;
                    (parked.aim.topic.clone(), record)
                }
                Step::GoOn => {
                    let (bucket, record) = park(parked.record.clone(), &parked.aim, now_ms);
                    if let Err(error) = self.delays.ensure(bucket).await {
                        tracing::warn!(broker = %self.delays.name(), %error, "a bucket cannot be made");
                    }
                    (bucket.topic(), record)
                }
            };
            steps.push(step);
            batch.push(AppendRecord {
                topic,
                partition: None,
                record,
            });
        }
        let appender = self.delays.broker.0.appender();
        let admission = appender.admit(batch, self.clock.now() + ADMIT_LIMIT).await;
        let mut refused = admission.refused.into_iter().peekable();
        let mut outcomes = admission.commit.await.into_iter();
        let mut failed = Vec::new();
        for (index, (held, step)) in due.into_iter().zip(steps).enumerate() {
            let outcome = match refused.next_if(|refused| refused.index == index) {
                Some(refused) => Err(refused.error),
                None => outcomes.next().unwrap_or_else(|| Err(no_outcome())),
            };
            match outcome {
                Ok(_) => {
                    self.count(&held, step);
                    // A stale claim means that the step is repeated, here or elsewhere.
                    let _ = settler.settle(&held.claim);
                }
                Err(error) => failed.push(self.failed(held, step, &error).await),
            }
        }
        failed
    }

    fn count(&self, held: &Held, step: Step) {
        match step {
            Step::GoOn => {
                self.metrics.moved.inc();
            }
            Step::Arrive => {
                self.metrics.arrived.inc();
                let late_ms = self.clock.wall_millis().saturating_sub(held.parked.aim.due_ms);
                self.metrics.late_seconds.observe(late_ms as f64 / 1_000.0);
            }
        }
    }

    async fn failed(&self, mut held: Held, step: Step, error: &AppendError) -> Held {
        self.metrics.failed.inc();
        let topic = held.parked.aim.topic.clone();
        match (error.kind, step) {
            (AppendErrorKind::TopicNotFound, Step::GoOn) => {
                Bucket::ALL.into_iter().for_each(|bucket| self.delays.missed(bucket));
            }
            (AppendErrorKind::TopicNotFound, Step::Arrive) => {
                let spec = TopicSpec::new(topic, self.partitions);
                if let Err(error) = make(&self.delays.broker.0, &spec).await {
                    tracing::warn!(topic = %spec.name, %error, "the topic of a delayed event cannot be made");
                }
            }
            (AppendErrorKind::RecordTooLarge, Step::Arrive) if topic != stray_topic() => {
                let why = format!("{topic} refuses it: {error}");
                held.parked = self.stray(held.parked.record, &why);
            }
            _ => tracing::warn!(%topic, %error, "a delayed event cannot be appended; it is tried again"),
        }
        held
    }
}

fn millis(span_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(span_ms).unwrap_or(0))
}

fn no_outcome() -> AppendError {
    AppendError::unknown(AppendErrorKind::Internal, "the broker's appender gave no outcome")
}
