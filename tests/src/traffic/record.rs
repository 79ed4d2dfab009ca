//! The history that publishers and workers of a test share, and what it comes to.
//!
//! Beyond what the checker of `meridian-cli` judges (lost, reordered, misplaced,
//! damaged), it keeps which positions were settled, so that settled work which
//! comes again is seen, and how often each event came.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use meridian_cli::history::{EventName, History, Verdict};
use meridian_worker_sdk::PublishError;

use crate::harness::wait::{eventually, flow};

/// At which places the events of each stream must arrive.
pub type Streams = BTreeMap<String, BTreeSet<String>>;

const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Many times what stands in windows and credits.
const FLOW_EVENTS: u64 = 300;
const MAX_REASONS: usize = 12;

/// Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    history: History,
    stored: u64,
    delivered: u64,
    /// How often each place's position was handed over and accepted.
    accepted: HashMap<(String, u32, u64), u32>,
    accepted_again: u64,
    times: HashMap<EventName, u32>,
    reasons: BTreeMap<String, u64>,
    highest_attempt: u32,
    /// The latest event of each publisher's key that was published, and that was delivered somewhere.
    published: HashMap<(u32, u32), u64>,
    arrived: HashMap<(u32, u32), u64>,
}

/// A moment of the history: what each publisher's key had published until then.
#[derive(Clone, Debug)]
pub struct Mark {
    at: Instant,
    published: HashMap<(u32, u32), u64>,
}

impl Record {
    /// An empty record.
    pub fn new() -> Self {
        Self::default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A publisher is about to publish.
    pub fn attempted(&self, name: EventName, stream: &str) {
        let mut inner = self.inner();
        note(&mut inner.published, name);
        inner.history.attempted(name, stream);
    }

    /// What came of a publish.
    pub fn outcome<T>(&self, name: EventName, outcome: Result<T, PublishError>) {
        let mut inner = self.inner();
        match outcome {
            Ok(_) => {
                inner.stored += 1;
                inner.history.stored(name);
            }
            Err(error) => {
                match error.may_be_stored() {
                    true => inner.history.unknown(name),
                    false => inner.history.refused(name),
                }
                let reason = error.to_string();
                if inner.reasons.len() < MAX_REASONS || inner.reasons.contains_key(&reason) {
                    *inner.reasons.entry(reason).or_insert(0) += 1;
                }
            }
        }
    }

    /// A worker has an event and is about to accept it; `None` is one whose data does not fit its id.
    pub fn delivered(&self, place: &str, name: Option<EventName>, (partition, position): (u32, u64), attempt: u32) {
        let mut inner = self.inner();
        inner.highest_attempt = inner.highest_attempt.max(attempt);
        let Some(name) = name else {
            inner.history.unreadable();
            return;
        };
        inner.delivered += 1;
        note(&mut inner.arrived, name);
        *inner.times.entry(name).or_insert(0) += 1;
        inner.history.delivered(place, name);
        let times = inner
            .accepted
            .entry((place.to_owned(), partition, position))
            .or_insert(0);
        *times += 1;
        if *times > 1 {
            inner.accepted_again += 1;
        }
    }

    /// How often an event was delivered, over all places.
    pub fn times_delivered(&self, name: EventName) -> u32 {
        self.inner().times.get(&name).copied().unwrap_or(0)
    }

    /// Events with a receipt so far.
    pub fn stored_count(&self) -> u64 {
        self.inner().stored
    }

    /// Deliveries so far.
    pub fn delivered_count(&self) -> u64 {
        self.inner().delivered
    }

    /// Waits until so many more events were stored and delivered that traffic flows.
    pub async fn flows(&self, deadline: Duration) {
        let (stored, delivered) = (self.stored_count() + FLOW_EVENTS, self.delivered_count() + FLOW_EVENTS);
        eventually(deadline, "traffic to flow", || async {
            self.stored_count() >= stored && self.delivered_count() >= delivered
        })
        .await;
    }

    /// This moment.
    pub fn mark(&self) -> Mark {
        Mark {
            at: Instant::now(),
            published: self.inner().published.clone(),
        }
    }

    /// Waits until of every key something was delivered that was published after the mark; how long that took from
    /// there on.
    ///
    /// # Panics
    /// When the deadline passes first.
    pub async fn resumes(&self, mark: &Mark, deadline: Duration) -> Duration {
        assert!(
            !mark.published.is_empty(),
            "void: nothing was published before the mark"
        );
        eventually(deadline, "deliveries of every key to resume", || async {
            let inner = self.inner();
            let is_past = |(key, last): (&(u32, u32), &u64)| inner.arrived.get(key).is_some_and(|newest| newest > last);
            mark.published.iter().all(is_past)
        })
        .await;
        mark.at.elapsed()
    }

    /// Deliveries of a position that a worker had accepted before.
    pub fn accepted_again(&self) -> u64 {
        self.inner().accepted_again
    }

    /// The highest count of attempts that a delivery came with.
    pub fn highest_attempt(&self) -> u32 {
        self.inner().highest_attempt
    }

    /// Waits until everything with a receipt has arrived where it belongs, or
    /// nothing has arrived for the whole of `patience`; then judges.
    pub async fn settle(&self, streams: &Streams, patience: Duration) -> Verdict {
        let (mut seen, mut since) = (0, Instant::now());
        loop {
            let (complete, delivered) = {
                let inner = self.inner();
                (inner.history.is_complete(streams), inner.delivered)
            };
            if delivered != seen {
                (seen, since) = (delivered, Instant::now());
            }
            if complete || since.elapsed() > patience {
                return self.inner().history.verdict(streams);
            }
            flow(LOOK_AGAIN).await;
        }
    }

    /// Judges, prints the figures, and holds the test to them.
    ///
    /// # Panics
    /// When something was lost, reordered, misplaced, damaged or never sent, or
    /// when fewer than `least_stored` events were stored: then nothing was shown.
    pub async fn must_hold(&self, streams: &Streams, patience: Duration, least_stored: u64) -> Verdict {
        let verdict = self.settle(streams, patience).await;
        eprintln!(
            "{} attempted, {} stored, {} refused, {} unknown; {} deliveries of {} expected, {} duplicates, {} accepted again; attempts up to {}",
            verdict.attempted,
            verdict.stored,
            verdict.refused,
            verdict.unknown,
            verdict.delivered,
            verdict.expected,
            verdict.duplicated,
            self.accepted_again(),
            self.highest_attempt(),
        );
        for (reason, count) in &self.inner().reasons {
            eprintln!("  {count} x {reason}");
        }
        assert!(verdict.holds(), "the promise is broken: {verdict:#?}");
        assert!(
            verdict.stored >= least_stored,
            "void: {} events stored, at least {least_stored} are needed to show anything",
            verdict.stored
        );
        verdict
    }
}

fn note(latest: &mut HashMap<(u32, u32), u64>, name: EventName) {
    let latest = latest.entry((name.publisher, name.key)).or_insert(name.sequence);
    *latest = name.sequence.max(*latest);
}

/// Streams from `(stream, places)`.
pub fn streams(list: &[(&str, &[String])]) -> Streams {
    let places = |places: &[String]| places.iter().cloned().collect();
    list.iter()
        .map(|(stream, at)| ((*stream).to_owned(), places(at)))
        .collect()
}

/// The name of a place: a topic as a group of a region sees it.
pub fn place(region: &str, topic: &str, group: &str) -> String {
    format!("{region}/{topic}/{group}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(sequence: u64) -> EventName {
        EventName {
            publisher: 1,
            key: 1,
            sequence,
        }
    }

    #[tokio::test]
    #[should_panic(expected = "the promise is broken")]
    async fn a_lost_event_breaks_the_promise() {
        let record = Record::new();
        record.attempted(name(1), "orders");
        record.outcome(name(1), Ok(()));
        let streams = streams(&[("orders", &["here".to_owned()])]);
        record.must_hold(&streams, Duration::ZERO, 1).await;
    }

    #[tokio::test]
    #[should_panic(expected = "void")]
    async fn too_little_traffic_shows_nothing() {
        let record = Record::new();
        record.must_hold(&Streams::new(), Duration::ZERO, 1).await;
    }

    #[tokio::test]
    #[should_panic(expected = "every key")]
    async fn what_was_published_before_the_mark_is_no_sign_of_life() {
        let record = Record::new();
        record.attempted(name(1), "orders");
        let mark = record.mark();
        record.delivered("here", Some(name(1)), (0, 0), 1);
        record.resumes(&mark, Duration::ZERO).await;
    }

    #[tokio::test]
    async fn deliveries_resume_with_what_was_published_after_the_mark() {
        let record = Record::new();
        record.attempted(name(1), "orders");
        let mark = record.mark();
        record.attempted(name(2), "orders");
        record.delivered("here", Some(name(2)), (0, 1), 1);
        record.resumes(&mark, Duration::ZERO).await;
    }

    #[tokio::test]
    async fn a_position_that_comes_again_is_told_from_an_event_that_was_stored_twice() {
        let record = Record::new();
        record.attempted(name(1), "orders");
        record.outcome(name(1), Ok(()));
        for position in [(0, 5), (0, 5), (0, 6)] {
            record.delivered("here", Some(name(1)), position, 1);
        }
        let streams = streams(&[("orders", &["here".to_owned()])]);
        let verdict = record.must_hold(&streams, Duration::ZERO, 1).await;
        assert_eq!((verdict.duplicated, record.accepted_again()), (2, 1));
    }
}
