//! Counts what was lost, doubled or reordered. Pure.
//!
//! Publishers tell what they attempted and what came of it; workers tell what
//! was delivered, and where. The verdict compares the two: every stored event
//! must have been delivered at every place where its stream belongs, nowhere
//! else, and first deliveries of a key must follow the order of publishing.
//! Duplicates are counted, not condemned: delivery is at least once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

/// Names one event: the position in a key's sequence of one publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventName {
    /// Which publisher.
    pub publisher: u32,
    /// Which of its keys.
    pub key: u32,
    /// The position in the key's sequence, from 0.
    pub sequence: u64,
}

impl fmt::Display for EventName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}-{}", self.publisher, self.key, self.sequence)
    }
}

impl EventName {
    /// Reads what `Display` wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let name = Self {
            publisher: parts.next()?.parse().ok()?,
            key: parts.next()?.parse().ok()?,
            sequence: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(name)
    }
}

/// A kind of traffic: events of one stream belong at the same places.
pub type Stream = String;

/// Where deliveries are seen, such as `eu-west/us-east.orders/analytics`.
pub type Place = String;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Stored,
    Refused,
    Unknown,
}

#[derive(Debug)]
struct Attempt {
    stream: Stream,
    fate: Fate,
}

#[derive(Debug, Default)]
struct Seen {
    counts: HashMap<EventName, u32>,
    newest: HashMap<(u32, u32), u64>,
    reordered: Vec<EventName>,
}

/// Everything that was attempted and delivered.
#[derive(Debug, Default)]
pub struct History {
    attempts: HashMap<EventName, Attempt>,
    places: BTreeMap<Place, Seen>,
    unreadable: u64,
}

/// What the history comes to. The lists hold at most [`SAMPLES`] examples.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Events that publishers tried to publish.
    pub attempted: u64,
    /// Events with a receipt.
    pub stored: u64,
    /// Events surely not stored.
    pub refused: u64,
    /// Events that may be stored.
    pub unknown: u64,
    /// Deliveries expected: stored events times the places where they belong.
    pub expected: u64,
    /// Deliveries seen, duplicates included.
    pub delivered: u64,
    /// Expected deliveries that never came.
    pub lost: u64,
    /// Deliveries of an event at a place beyond the first.
    pub duplicated: u64,
    /// First deliveries that came after a later event of their key.
    pub reordered: u64,
    /// Deliveries of events that nobody attempted, or that were refused.
    pub unexpected: u64,
    /// Deliveries at a place where the event's stream does not belong.
    pub misplaced: u64,
    /// Deliveries whose event name or payload could not be read.
    pub unreadable: u64,
    /// Examples, each with what is wrong.
    pub examples: Vec<String>,
}

/// The most examples that a verdict keeps.
pub const SAMPLES: usize = 20;

impl Verdict {
    /// True when nothing was lost, reordered, unexpected, misplaced or unreadable.
    pub fn holds(&self) -> bool {
        self.lost + self.reordered + self.unexpected + self.misplaced + self.unreadable == 0
    }

    fn example(&mut self, text: impl FnOnce() -> String) {
        if self.examples.len() < SAMPLES {
            self.examples.push(text());
        }
    }
}

impl History {
    /// An empty history.
    pub fn new() -> Self {
        Self::default()
    }

    /// A publisher is about to publish this event.
    pub fn attempted(&mut self, name: EventName, stream: &str) {
        let attempt = Attempt {
            stream: stream.to_owned(),
            fate: Fate::Open,
        };
        self.attempts.insert(name, attempt);
    }

    /// The event has a receipt.
    pub fn stored(&mut self, name: EventName) {
        self.set(name, Fate::Stored);
    }

    /// The event is surely not stored.
    pub fn refused(&mut self, name: EventName) {
        self.set(name, Fate::Refused);
    }

    /// The event may be stored.
    pub fn unknown(&mut self, name: EventName) {
        self.set(name, Fate::Unknown);
    }

    fn set(&mut self, name: EventName, fate: Fate) {
        if let Some(attempt) = self.attempts.get_mut(&name) {
            attempt.fate = fate;
        }
    }

    /// The event was delivered at a place.
    pub fn delivered(&mut self, place: &str, name: EventName) {
        if !self.places.contains_key(place) {
            self.places.insert(place.to_owned(), Seen::default());
        }
        let Some(seen) = self.places.get_mut(place) else { return };
        let count = seen.counts.entry(name).or_insert(0);
        *count += 1;
        if *count > 1 {
            return;
        }
        let newest = seen.newest.entry((name.publisher, name.key)).or_insert(name.sequence);
        if name.sequence < *newest {
            seen.reordered.push(name);
        } else {
            *newest = name.sequence;
        }
    }

    /// A delivery could not be read, or its payload was not the event's.
    pub fn unreadable(&mut self) {
        self.unreadable += 1;
    }

    /// Whether every event has its outcome and every expected delivery has come.
    pub fn is_complete(&self, belongs: &BTreeMap<Stream, BTreeSet<Place>>) -> bool {
        let open = self.attempts.values().any(|attempt| attempt.fate == Fate::Open);
        !open && self.verdict(belongs).lost == 0
    }

    /// Compares what was stored with what was delivered. `belongs` says at which
    /// places the events of each stream must be delivered.
    pub fn verdict(&self, belongs: &BTreeMap<Stream, BTreeSet<Place>>) -> Verdict {
        let mut verdict = Verdict {
            unreadable: self.unreadable,
            ..Verdict::default()
        };
        self.judge_attempts(belongs, &mut verdict);
        for (place, seen) in &self.places {
            self.judge_place(place, seen, belongs, &mut verdict);
        }
        verdict
    }

    fn judge_attempts(&self, belongs: &BTreeMap<Stream, BTreeSet<Place>>, verdict: &mut Verdict) {
        let nowhere = BTreeSet::new();
        for (name, attempt) in &self.attempts {
            verdict.attempted += 1;
            match attempt.fate {
                Fate::Stored => verdict.stored += 1,
                Fate::Refused => verdict.refused += 1,
                Fate::Unknown | Fate::Open => verdict.unknown += 1,
            }
            if attempt.fate != Fate::Stored {
                continue;
            }
            for place in belongs.get(&attempt.stream).unwrap_or(&nowhere) {
                verdict.expected += 1;
                let came = self
                    .places
                    .get(place)
                    .is_some_and(|seen| seen.counts.contains_key(name));
                if !came {
                    verdict.lost += 1;
                    verdict.example(|| format!("lost: {name} ({}) at {place}", attempt.stream));
                }
            }
        }
    }

    fn judge_place(
        &self,
        place: &str,
        seen: &Seen,
        belongs: &BTreeMap<Stream, BTreeSet<Place>>,
        verdict: &mut Verdict,
    ) {
        for (name, count) in &seen.counts {
            verdict.delivered += u64::from(*count);
            verdict.duplicated += u64::from(count - 1);
            match self.attempts.get(name) {
                None => {
                    verdict.unexpected += 1;
                    verdict.example(|| format!("unexpected: {name} at {place} was never attempted"));
                }
                Some(attempt) if attempt.fate == Fate::Refused => {
                    verdict.unexpected += 1;
                    verdict.example(|| format!("unexpected: {name} at {place} was refused"));
                }
                Some(attempt) => {
                    let belongs_here = belongs
                        .get(&attempt.stream)
                        .is_some_and(|places| places.contains(place));
                    if !belongs_here {
                        verdict.misplaced += 1;
                        verdict.example(|| format!("misplaced: {name} ({}) at {place}", attempt.stream));
                    }
                }
            }
        }
        verdict.reordered += seen.reordered.len() as u64;
        for name in &seen.reordered {
            verdict.example(|| format!("reordered: {name} at {place} came after a later event of its key"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "us-east/orders/billing";
    const THERE: &str = "eu-west/us-east.orders/analytics";

    fn name(sequence: u64) -> EventName {
        EventName {
            publisher: 1,
            key: 7,
            sequence,
        }
    }

    fn belongs() -> BTreeMap<Stream, BTreeSet<Place>> {
        BTreeMap::from([("orders".to_owned(), BTreeSet::from([HERE.to_owned(), THERE.to_owned()]))])
    }

    /// Ten stored events, each delivered once at both places.
    fn good() -> History {
        let mut history = History::new();
        for sequence in 0..10 {
            history.attempted(name(sequence), "orders");
            history.stored(name(sequence));
            history.delivered(HERE, name(sequence));
            history.delivered(THERE, name(sequence));
        }
        history
    }

    #[test]
    fn a_good_history_holds() {
        let verdict = good().verdict(&belongs());
        assert!(verdict.holds(), "{verdict:?}");
        assert_eq!((verdict.stored, verdict.expected, verdict.delivered), (10, 20, 20));
    }

    #[test]
    fn a_stored_event_that_never_came_is_lost() {
        let mut history = good();
        history.attempted(name(10), "orders");
        history.stored(name(10));
        history.delivered(HERE, name(10));
        let verdict = history.verdict(&belongs());
        assert_eq!(verdict.lost, 1);
        assert!(!verdict.holds());
        assert_eq!(verdict.examples, [format!("lost: 1-7-10 (orders) at {THERE}")]);
    }

    #[test]
    fn an_unknown_event_may_come_or_not() {
        let mut history = good();
        history.attempted(name(10), "orders");
        history.unknown(name(10));
        history.attempted(name(11), "orders");
        history.delivered(HERE, name(11));
        let verdict = history.verdict(&belongs());
        assert!(verdict.holds(), "{verdict:?}");
        assert_eq!(verdict.unknown, 2);
    }

    #[test]
    fn a_second_delivery_is_a_duplicate_and_no_fault() {
        let mut history = good();
        history.delivered(HERE, name(3));
        history.delivered(HERE, name(3));
        let verdict = history.verdict(&belongs());
        assert_eq!((verdict.duplicated, verdict.reordered), (2, 0));
        assert!(verdict.holds());
    }

    #[test]
    fn a_first_delivery_behind_a_later_one_is_reordered() {
        let mut history = good();
        for sequence in [11, 10] {
            history.attempted(name(sequence), "orders");
            history.stored(name(sequence));
        }
        for place in [HERE, THERE] {
            history.delivered(place, name(11));
            history.delivered(place, name(10));
        }
        let verdict = history.verdict(&belongs());
        assert_eq!(verdict.reordered, 2);
        assert!(!verdict.holds());
    }

    #[test]
    fn what_nobody_sent_or_was_refused_is_unexpected() {
        let mut history = good();
        history.delivered(HERE, name(99));
        history.attempted(name(100), "orders");
        history.refused(name(100));
        history.delivered(HERE, name(100));
        let verdict = history.verdict(&belongs());
        assert_eq!(verdict.unexpected, 2);
        assert!(!verdict.holds());
    }

    #[test]
    fn an_event_where_it_does_not_belong_is_misplaced() {
        let mut history = good();
        history.delivered("eu-west/telemetry/metrics", name(4));
        let verdict = history.verdict(&belongs());
        assert_eq!(verdict.misplaced, 1);
        assert!(!verdict.holds());
    }

    #[test]
    fn an_unreadable_delivery_is_a_fault() {
        let mut history = good();
        history.unreadable();
        assert!(!history.verdict(&belongs()).holds());
    }

    #[test]
    fn names_read_back_as_they_were_written() {
        assert_eq!(EventName::parse(&name(42).to_string()), Some(name(42)));
        for text in ["", "1-2", "1-2-3-4", "a-2-3", "1-2-"] {
            assert_eq!(EventName::parse(text), None, "{text}");
        }
    }
}
