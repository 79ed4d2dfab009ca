//! The history of a run: one line for each thing that happened, written before the
//! operation that it starts. Pure; who writes it is the oracle's matter.
//!
//! A line is a time in milliseconds since the start, a verb and its words, parted by
//! spaces. What was attempted and has no outcome is unknown: its publisher was killed.

use std::fmt;

use meridian_cli::history::EventName;

/// Keys of each publisher; the key of an event follows from its sequence.
pub const KEYS: u32 = 40;

/// The name of a publisher's event.
pub fn name_of(publisher: u32, sequence: u64) -> EventName {
    EventName {
        publisher,
        key: (sequence % u64::from(KEYS)) as u32,
        sequence,
    }
}

/// Where a record is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The position.
    pub position: u64,
}

/// One stored record of an event. A publisher that is told `unknown` and tries again may store the event twice; only
/// the same record counts as come again. Positions cannot tell: those of a queue count deliveries, not records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoredCopy {
    /// The event.
    pub name: EventName,
    /// When the gateway that stored it took it in, by its clock: the attribute `recordedtime`.
    pub recorded_ms: i64,
}

/// What a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// A gateway process.
    Gateway,
    /// A worker process.
    Worker,
    /// A publisher process.
    Publisher,
    /// The broker's process.
    Broker,
}

/// What is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Blow {
    /// `kill -9`, and started again.
    Kill,
    /// SIGSTOP, and SIGCONT.
    Freeze,
    /// SIGTERM, and started again.
    Drain,
}

/// What came of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A receipt.
    Stored,
    /// Surely not stored.
    Refused,
    /// May be stored.
    Unknown,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A publisher is about to publish this event.
    Attempted(EventName),
    /// It learned what came of it.
    Ended(EventName, Outcome),
    /// A worker of the group has a record and has not settled it yet; no copy: the data did not fit the id.
    Delivered {
        /// The group.
        group: String,
        /// Where it was read.
        place: Place,
        /// The attempt that the gateway counted.
        attempt: u32,
        /// The event's record.
        copy: Option<StoredCopy>,
    },
    /// The gateway confirmed the settlement of the record.
    Settled {
        /// The group.
        group: String,
        /// Where it was read.
        place: Place,
        /// The event's record.
        copy: StoredCopy,
    },
    /// A process is about to be struck.
    Struck(Part, String, Blow),
    /// It is about to be started again, or to go on.
    Mended(Part, String, Blow),
}

/// A line of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Milliseconds since the start.
    pub at_ms: u64,
    /// What happened.
    pub what: What,
}

macro_rules! words {
    ($type:ty, $($variant:ident = $word:literal),*) => {
        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(match self { $(Self::$variant => $word),* })
            }
        }
        impl $type {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Reads what `Display` wrote.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.to_string() == word)
            }
        }
    };
}
words!(
    Part,
    Gateway = "gateway",
    Worker = "worker",
    Publisher = "publisher",
    Broker = "broker"
);
words!(Blow, Kill = "kill", Freeze = "freeze", Drain = "drain");
words!(Outcome, Stored = "stored", Refused = "refused", Unknown = "unknown");

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.topic, self.partition, self.position)
    }
}

impl Place {
    /// Reads what `Display` wrote off a line's words.
    pub fn read<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<Self> {
        Some(Self {
            topic: words.next()?.to_owned(),
            partition: words.next()?.parse().ok()?,
            position: words.next()?.parse().ok()?,
        })
    }
}

impl fmt::Display for StoredCopy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.name, self.recorded_ms)
    }
}

impl StoredCopy {
    /// Reads what `Display` wrote.
    pub fn parse(word: &str) -> Option<Self> {
        let (name, recorded_ms) = word.split_once('@')?;
        Some(Self {
            name: EventName::parse(name)?,
            recorded_ms: recorded_ms.parse().ok()?,
        })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ", self.at_ms)?;
        match &self.what {
            What::Attempted(name) => write!(formatter, "attempted {name}"),
            What::Ended(name, outcome) => write!(formatter, "{outcome} {name}"),
            What::Delivered {
                group,
                place,
                attempt,
                copy,
            } => {
                let copy = copy.map_or_else(|| "-".to_owned(), |copy| copy.to_string());
                write!(formatter, "delivered {group} {place} {attempt} {copy}")
            }
            What::Settled { group, place, copy } => write!(formatter, "settled {group} {place} {copy}"),
            What::Struck(part, name, blow) => write!(formatter, "struck {part} {name} {blow}"),
            What::Mended(part, name, blow) => write!(formatter, "mended {part} {name} {blow}"),
        }
    }
}

impl Entry {
    /// Reads what `Display` wrote.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let at_ms = words.next()?.parse().ok()?;
        let what = match words.next()? {
            "attempted" => What::Attempted(EventName::parse(words.next()?)?),
            "delivered" => What::Delivered {
                group: words.next()?.to_owned(),
                place: Place::read(&mut words)?,
                attempt: words.next()?.parse().ok()?,
                copy: match words.next()? {
                    "-" => None,
                    copy => Some(StoredCopy::parse(copy)?),
                },
            },
            "settled" => What::Settled {
                group: words.next()?.to_owned(),
                place: Place::read(&mut words)?,
                copy: StoredCopy::parse(words.next()?)?,
            },
            verb @ ("struck" | "mended") => {
                let (part, name) = (Part::parse(words.next()?)?, words.next()?.to_owned());
                let blow = Blow::parse(words.next()?)?;
                match verb {
                    "struck" => What::Struck(part, name, blow),
                    _ => What::Mended(part, name, blow),
                }
            }
            verb => What::Ended(EventName::parse(words.next()?)?, Outcome::parse(verb)?),
        };
        words.next().is_none().then_some(Self { at_ms, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_reads_back_as_it_was_written() {
        let place = Place {
            topic: "orders".to_owned(),
            partition: 3,
            position: 70_000,
        };
        let group = "billing".to_owned();
        let delivered = |copy| What::Delivered {
            group: "billing".to_owned(),
            place: place.clone(),
            attempt: 2,
            copy,
        };
        let copy = StoredCopy {
            name: name_of(7, 41),
            recorded_ms: 1_700_000_000_123,
        };
        let whats = [
            What::Attempted(name_of(1, 2)),
            What::Ended(name_of(1, 2), Outcome::Refused),
            delivered(Some(copy)),
            delivered(None),
            What::Settled {
                group,
                place: place.clone(),
                copy,
            },
            What::Struck(Part::Broker, "kafka".to_owned(), Blow::Freeze),
            What::Mended(Part::Gateway, "g1".to_owned(), Blow::Kill),
        ];
        for what in whats {
            let entry = Entry { at_ms: 17, what };
            assert_eq!(Entry::parse(&entry.to_string()), Some(entry.clone()), "{entry}");
        }
    }

    #[test]
    fn a_line_that_was_cut_is_none() {
        for line in [
            "",
            "1",
            "1 stored",
            "1 stored 1-2",
            "1 delivered g t 1 2",
            "1 settled g t 1 2 1-2-3",
            "1 attempted 1-2-3 4",
        ] {
            assert_eq!(Entry::parse(line), None, "{line}");
        }
    }
}
