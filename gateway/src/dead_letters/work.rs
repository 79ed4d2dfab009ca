//! Listing, replaying and purging over a scan.
//!
//! What holds: a dead letter is settled only after its replay was confirmed; those of one partition are replayed in
//! order; no more a second than was asked for; whoever asked is told how far it is, and when nobody listens any more it
//! stops.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_broker::{AppendError, AppendErrorKind, AppendRecord, Broker, Stored, TopicName};
use meridian_proto::meridian as proto;
use meridian_runtime::SharedClock;
use tokio::sync::mpsc;

use super::filter::Filter;
use super::histogram::Histogram;
use super::letter::Letter;
use super::scan::Scan;
use crate::fault::Refusal;

/// From one word of progress to the next.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// Dead letters of one append, and of one message.
const MAX_BATCH: usize = 256;
const ADMIT_LIMIT: Duration = Duration::from_secs(10);

/// How far it is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The counts so far.
    pub counts: proto::DeadLetterProgress,
    /// Of those that match.
    pub histogram: Histogram,
}

/// Told what happens; gone when nobody listens.
pub type Told<T> = mpsc::Sender<Result<T, tonic::Status>>;

/// What listing is asked for.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Which.
    pub filter: Filter,
    /// At most so many are told; all are counted.
    pub limit: usize,
    /// Whether events are told whole.
    pub include_events: bool,
}

/// What replaying is asked for.
#[derive(Clone, Debug)]
pub struct Replaying {
    /// Which.
    pub filter: Filter,
    /// Where to; `None` is where each came from.
    pub target: Option<TopicName>,
    /// At most so many a second.
    pub events_per_second: Option<f64>,
    /// Those that were replayed so often are left.
    pub max_replays: u32,
    /// At most so many.
    pub limit: u64,
    /// Only count.
    pub dry_run: bool,
}

/// What purging is asked for.
#[derive(Clone, Debug)]
pub struct Purging {
    /// Which.
    pub filter: Filter,
    /// At most so many.
    pub limit: u64,
    /// Only count.
    pub dry_run: bool,
}

impl Progress {
    fn of(topic: &TopicName) -> Self {
        let counts = proto::DeadLetterProgress {
            topic: topic.to_string(),
            ..proto::DeadLetterProgress::default()
        };
        Self {
            counts,
            histogram: Histogram::default(),
        }
    }

    fn seen(&mut self, letter: &Letter, filter: &Filter) -> bool {
        self.counts.read += 1;
        let matches = filter.matches(letter);
        if matches {
            self.counts.matched += 1;
            self.histogram.add(letter);
        }
        matches
    }

    fn finished(&mut self, scan: &Scan) -> proto::DeadLetterProgress {
        self.counts.finished = true;
        self.counts.truncated = scan.is_truncated();
        self.counts.histogram = Some(self.histogram.to_message());
        self.counts.clone()
    }
}

/// Reads all, tells those that match, and leaves them where they are.
///
/// # Errors
/// A refusal when the topic cannot be read.
pub async fn list(
    mut scan: Scan,
    topic: &TopicName,
    listing: &Listing,
    told: &Told<proto::ListDeadLettersResponse>,
) -> Result<(), Refusal> {
    let mut progress = Progress::of(topic);
    let mut left = listing.limit;
    while let Some(records) = scan.next().await? {
        let mut found = Vec::new();
        for letter in records.into_iter().map(Letter::read) {
            if progress.seen(&letter, &listing.filter) && left > 0 {
                left -= 1;
                found.push(letter_message(&letter, listing.include_events));
            }
        }
        // Events may be large, so they go one by one.
        let chunk = if listing.include_events { 1 } else { MAX_BATCH };
        for part in found.chunks(chunk) {
            let response = proto::ListDeadLettersResponse {
                dead_letters: part.to_vec(),
                progress: Some(progress.counts.clone()),
            };
            if told.send(Ok(response)).await.is_err() {
                return scan.close().await;
            }
        }
    }
    let last = proto::ListDeadLettersResponse {
        dead_letters: Vec::new(),
        progress: Some(progress.finished(&scan)),
    };
    scan.close().await?;
    let _ = told.send(Ok(last)).await; // nobody may listen any more
    Ok(())
}

/// Settles those that match.
///
/// # Errors
/// A refusal when the topic cannot be read, or the settlements may not be durable.
pub async fn purge(
    mut scan: Scan,
    topic: &TopicName,
    purging: &Purging,
    told: &Told<proto::PurgeDeadLettersResponse>,
) -> Result<(), Refusal> {
    let response = |progress| proto::PurgeDeadLettersResponse {
        progress: Some(progress),
    };
    let mut progress = Progress::of(topic);
    let mut told_at = Instant::now();
    'reading: while let Some(records) = scan.next().await? {
        for letter in records.into_iter().map(Letter::read) {
            if !progress.seen(&letter, &purging.filter) || purging.dry_run {
                continue;
            }
            progress.counts.done += u64::from(scan.settle(&letter.claim));
            if progress.counts.done >= purging.limit {
                break 'reading;
            }
        }
        if told.is_closed() {
            return scan.close().await;
        }
        if told_at.elapsed() >= PROGRESS_EVERY {
            told_at = Instant::now();
            let _ = told.send(Ok(response(progress.counts.clone()))).await; // looked at in the next turn
        }
    }
    let last = response(progress.finished(&scan));
    scan.close().await?;
    let _ = told.send(Ok(last)).await; // nobody may listen any more
    Ok(())
}

/// Replays those that match.
pub struct Replay<'a> {
    /// Where.
    pub broker: &'a Arc<dyn Broker>,
    /// The dead-letter topic.
    pub topic: &'a TopicName,
    /// What is asked for.
    pub replaying: &'a Replaying,
    /// Time.
    pub clock: &'a SharedClock,
    /// Who asked.
    pub told: &'a Told<proto::ReplayDeadLettersResponse>,
}

impl Replay<'_> {
    /// Replays over a scan.
    ///
    /// # Errors
    /// A refusal when the topic cannot be read, or the settlements may not be durable.
    pub async fn run(self, mut scan: Scan) -> Result<(), Refusal> {
        let mut progress = Progress::of(self.topic);
        let began = self.clock.now();
        let mut told_at = began;
        let batch = self.replaying.events_per_second.map_or(MAX_BATCH, batch_of);
        let mut goes_on = true;
        while goes_on && let Some(records) = scan.next().await? {
            let mut chosen = Vec::new();
            for letter in records.into_iter().map(Letter::read) {
                if self.is_chosen(&letter, &mut progress) {
                    chosen.push(letter);
                }
            }
            for part in chosen.chunks(batch) {
                let room = self.replaying.limit.saturating_sub(progress.counts.done);
                let part = &part[..part.len().min(usize::try_from(room).unwrap_or(usize::MAX))];
                goes_on =
                    !part.is_empty() && !self.told.is_closed() && self.append(&mut scan, part, &mut progress).await;
                if told_at + PROGRESS_EVERY <= self.clock.now() {
                    told_at = self.clock.now();
                    self.tell(progress.counts.clone()).await;
                }
                if !goes_on {
                    break;
                }
                self.pace(began, progress.counts.done).await;
            }
        }
        let last = progress.finished(&scan);
        scan.close().await?;
        self.tell(last).await;
        Ok(())
    }

    fn is_chosen(&self, letter: &Letter, progress: &mut Progress) -> bool {
        if !progress.seen(letter, &self.replaying.filter) {
            return false;
        }
        if letter.replays >= self.replaying.max_replays {
            progress.counts.over_replay_limit += 1;
            return false;
        }
        !self.replaying.dry_run
    }

    /// Appends a few and settles those that are confirmed; false when it makes no sense to go on.
    async fn append(&self, scan: &mut Scan, letters: &[Letter], progress: &mut Progress) -> bool {
        let now_ms = self.clock.wall_millis();
        let mut batch = Vec::with_capacity(letters.len());
        let mut sent = Vec::with_capacity(letters.len());
        for letter in letters {
            let Some(topic) = self.replaying.target.as_ref().or(letter.source_topic.as_ref()) else {
                progress.counts.failed += 1;
                progress.counts.last_failure =
                    "it does not say from which topic it came; name one to send it to".to_owned();
                continue;
            };
            sent.push(letter);
            batch.push(AppendRecord {
                topic: topic.clone(),
                partition: None,
                record: letter.replayed(now_ms),
            });
        }
        let appender = self.broker.appender();
        let admission = appender.admit(batch, self.clock.now() + ADMIT_LIMIT).await;
        let mut refused = admission.refused.into_iter().peekable();
        let mut outcomes = admission.commit.await.into_iter();
        let mut goes_on = true;
        for (index, letter) in sent.into_iter().enumerate() {
            let outcome = match refused.next_if(|refused| refused.index == index) {
                Some(refused) => Err(refused.error),
                None => outcomes.next().unwrap_or_else(|| {
                    let fault = "the broker's appender gave no outcome";
                    Err(AppendError::unknown(AppendErrorKind::Internal, fault))
                }),
            };
            match outcome {
                Ok(_) => {
                    // One whose claim is over was replayed all the same, and comes again.
                    scan.settle(&letter.claim);
                    progress.counts.done += 1;
                }
                Err(error) => {
                    goes_on &= !error.kind.retryable() && error.stored == Stored::No;
                    progress.counts.failed += 1;
                    progress.counts.last_failure = error.to_string();
                }
            }
        }
        goes_on
    }

    /// Waits until so many may have been replayed since the beginning.
    async fn pace(&self, began: Instant, done: u64) {
        let Some(rate) = self.replaying.events_per_second else {
            return;
        };
        let due = Duration::try_from_secs_f64(done as f64 / rate).unwrap_or(Duration::MAX);
        let wait = due.saturating_sub(self.clock.now().saturating_duration_since(began));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.told.closed() => {}
        }
    }

    async fn tell(&self, progress: proto::DeadLetterProgress) {
        let response = proto::ReplayDeadLettersResponse {
            progress: Some(progress),
        };
        let _ = self.told.send(Ok(response)).await; // looked at in the next turn
    }
}

/// A tenth of a second's worth.
fn batch_of(rate: f64) -> usize {
    ((rate / 10.0) as usize).clamp(1, MAX_BATCH)
}

fn letter_message(letter: &Letter, include_event: bool) -> proto::DeadLetter {
    let event = letter.event.as_ref();
    let text = |text: fn(&meridian_event::Event) -> &str| event.map(text).unwrap_or_default().to_owned();
    proto::DeadLetter {
        place: Some(proto::DeadLetterPlace {
            partition: letter.claim.partition.partition,
            position: letter.claim.position,
        }),
        source_topic: letter
            .source_topic
            .as_ref()
            .map(TopicName::to_string)
            .unwrap_or_default(),
        source_partition: letter.source_partition,
        source_position: letter.source_position,
        reason: letter.reason.clone(),
        attempts: letter.attempts,
        error: letter.error.clone(),
        group: letter.group.clone(),
        worker_id: letter.worker.clone(),
        died_at: letter.died_at,
        first_attempt_at: letter.first_attempt_at,
        last_attempt_at: letter.last_attempt_at,
        replays: letter.replays,
        event_id: text(meridian_event::Event::id),
        event_source: text(meridian_event::Event::source),
        event_type: text(meridian_event::Event::type_name),
        event: event
            .filter(|_| include_event)
            .map(|event| event.encoded().clone())
            .unwrap_or_default(),
    }
}
