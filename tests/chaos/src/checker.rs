//! What a history comes to. Pure: it is told every entry in order, and counts.
//!
//! Red are: lost (a receipt and never delivered), wedged (the same, and its key does
//! not go on), reordered (in an ordered group, by first deliveries of a key),
//! unexpected (nobody sent it), refused and delivered all the same, damaged, and
//! settled work that came again without a fault that excuses it. Other duplicates
//! are counted, for delivery is at least once.

mod excuse;
mod resume;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use meridian_cli::history::EventName;

pub use self::excuse::BEFORE_MS;
use self::excuse::Faults;
pub use self::resume::Resume;
use crate::history::{Blow, Entry, Outcome, Part, StoredCopy, What};

/// Examples that are kept.
const EXAMPLES: usize = 20;

/// Everything that was told.
#[derive(Debug)]
pub struct Checker {
    attempts: HashMap<EventName, Option<Outcome>>,
    attempted_at_ms: HashMap<EventName, u64>,
    groups: BTreeMap<String, Group>,
    faults: Faults,
    resume: resume::Watch,
    deliveries: u64,
}

#[derive(Debug)]
struct Group {
    ordered: bool,
    counts: HashMap<EventName, u32>,
    newest: HashMap<(u32, u32), u64>,
    reordered: Vec<(EventName, u64)>,
    settled_at_ms: HashMap<StoredCopy, u64>,
    settlements: u64,
    /// Settled when, delivered again when.
    again: Vec<(StoredCopy, u64, u64)>,
    damaged: u64,
    highest_attempt: u32,
}

/// The figures of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFigures {
    /// Whether the order of keys counts.
    pub ordered: bool,
    /// Deliveries, duplicates included.
    pub delivered: u64,
    /// Settlements that gateways confirmed.
    pub settled: u64,
    /// With a receipt, never delivered.
    pub lost: u64,
    /// Deliveries of an event beyond its first.
    pub duplicated: u64,
    /// Of these: the record had been settled, and a fault excuses it.
    pub again_excused: u64,
    /// Of these: the record had been settled, and nothing excuses it.
    pub again_unexcused: u64,
    /// First deliveries behind a later one of their key.
    pub reordered: u64,
    /// Delivered, though the publisher never had a receipt.
    pub recovered: u64,
    /// Delivered, though surely not stored.
    pub refused_delivered: u64,
    /// Delivered, and nobody sent it.
    pub unexpected: u64,
    /// Delivered with other data than it was published with.
    pub damaged: u64,
    /// The highest attempt that a delivery came with.
    pub highest_attempt: u32,
}

/// What the history comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Events that publishers tried to publish.
    pub attempted: u64,
    /// With a receipt.
    pub acknowledged: u64,
    /// Surely not stored.
    pub refused: u64,
    /// May be stored; also those of publishers that were killed.
    pub unknown: u64,
    /// By group.
    pub groups: BTreeMap<String, GroupFigures>,
    /// Faults by what was struck and how.
    pub faults: BTreeMap<(Part, Blow), u64>,
    /// How long deliveries took to come back after each kill of a gateway.
    pub resume: Vec<Resume>,
    /// What is wrong, each kind at most twenty times.
    pub examples: Vec<String>,
}

impl GroupFigures {
    /// What is red, by name; zero where all is well.
    pub fn faults(&self) -> [(&'static str, u64); 6] {
        [
            ("lost", self.lost),
            ("reordered", if self.ordered { self.reordered } else { 0 }),
            ("refused and delivered", self.refused_delivered),
            ("unexpected", self.unexpected),
            ("damaged", self.damaged),
            ("settled and come again without cause", self.again_unexcused),
        ]
    }
}

impl Figures {
    /// Each promise that was broken, with its group and number.
    pub fn broken(&self) -> Vec<String> {
        let of_group = |(name, figures): (&String, &GroupFigures)| {
            let broken = figures.faults().into_iter().filter(|(_, count)| *count > 0);
            let broken = broken.map(|(what, count)| format!("group {name}: {count} {what}"));
            broken.collect::<Vec<_>>()
        };
        self.groups.iter().flat_map(of_group).collect()
    }

    /// How often something was struck so.
    pub fn struck(&self, part: Part, blow: Blow) -> u64 {
        self.faults.get(&(part, blow)).copied().unwrap_or(0)
    }
}

impl Checker {
    /// Of these groups; true where the order of keys counts. So long after a blow on a gateway or the
    /// broker's return, commits may still wait.
    pub fn new(groups: &[(&str, bool)], slack: Duration) -> Self {
        let group = |ordered| Group {
            ordered,
            counts: HashMap::new(),
            newest: HashMap::new(),
            reordered: Vec::new(),
            settled_at_ms: HashMap::new(),
            settlements: 0,
            again: Vec::new(),
            damaged: 0,
            highest_attempt: 0,
        };
        let groups = groups
            .iter()
            .map(|(name, ordered)| ((*name).to_owned(), group(*ordered)));
        Self {
            attempts: HashMap::new(),
            attempted_at_ms: HashMap::new(),
            groups: groups.collect(),
            faults: Faults::new(u64::try_from(slack.as_millis()).unwrap_or(u64::MAX)),
            resume: resume::Watch::default(),
            deliveries: 0,
        }
    }

    /// The next entry. Deliveries to a group that the run does not have are not counted.
    pub fn note(&mut self, entry: &Entry) {
        let at_ms = entry.at_ms;
        match &entry.what {
            What::Attempted(name) => {
                self.attempts.entry(*name).or_insert(None);
                self.attempted_at_ms.entry(*name).or_insert(at_ms);
            }
            What::Ended(name, outcome) => {
                if let Some(fate) = self.attempts.get_mut(name) {
                    *fate = Some(*outcome);
                }
            }
            What::Delivered {
                group,
                place,
                attempt,
                copy,
            } => {
                self.deliveries += 1;
                let name = copy.map(|copy| copy.name);
                let attempted = name.and_then(|name| self.attempted_at_ms.get(&name).copied());
                if let Some(attempted) = attempted {
                    self.resume.delivered(group, place.partition, attempted, at_ms);
                }
                if let Some(group) = self.groups.get_mut(group) {
                    group.delivered(*attempt, *copy, at_ms);
                }
            }
            What::Settled { group, copy, .. } => {
                if let Some(group) = self.groups.get_mut(group) {
                    group.settlements += 1;
                    group.settled_at_ms.entry(*copy).or_insert(at_ms);
                }
            }
            What::Struck(part, name, blow) => {
                self.faults.struck(*part, name, *blow, at_ms);
                match (part, blow) {
                    (Part::Gateway, Blow::Kill) => self.resume.killed(at_ms),
                    (Part::Gateway | Part::Broker, _) => self.resume.disturbed(at_ms),
                    _ => {}
                }
            }
            What::Mended(part, name, blow) => self.faults.mended(*part, name, *blow, at_ms),
        }
    }

    /// Deliveries so far: what does not grow makes no progress.
    pub fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Events with a receipt so far.
    pub fn acknowledged(&self) -> u64 {
        self.count(Some(Outcome::Stored))
    }

    fn count(&self, outcome: Option<Outcome>) -> u64 {
        self.attempts.values().filter(|fate| **fate == outcome).count() as u64
    }

    /// Events with a receipt that some group has not seen yet, by group.
    pub fn missing(&self) -> Vec<(String, EventName)> {
        let mut missing = Vec::new();
        for (name, group) in &self.groups {
            let stored = self.attempts.iter().filter(|(_, fate)| **fate == Some(Outcome::Stored));
            let unseen = stored.filter(|(event, _)| !group.counts.contains_key(*event));
            missing.extend(unseen.map(|(event, _)| (name.clone(), *event)));
        }
        missing.sort_unstable();
        missing
    }

    /// Whether every group has seen this event.
    pub fn is_everywhere(&self, name: EventName) -> bool {
        self.groups.values().all(|group| group.counts.contains_key(&name))
    }

    /// What all of it comes to.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures {
            attempted: self.attempts.len() as u64,
            acknowledged: self.acknowledged(),
            refused: self.count(Some(Outcome::Refused)),
            unknown: self.count(Some(Outcome::Unknown)) + self.count(None),
            faults: self.faults.counts(),
            resume: self.resume.figures(),
            ..Figures::default()
        };
        let mut examples = Examples::default();
        let missing = self.missing();
        for (name, group) in &self.groups {
            let lost = missing.iter().filter(|(group, _)| group == name);
            let lost = lost.inspect(|(_, event)| examples.add("lost", || format!("{event} never came to {name}")));
            let lost = lost.count() as u64;
            let of_group = self.group_figures(name, group, lost, &mut examples);
            figures.groups.insert(name.clone(), of_group);
        }
        figures.examples = examples.texts;
        figures
    }

    fn group_figures(&self, name: &str, group: &Group, lost: u64, examples: &mut Examples) -> GroupFigures {
        let mut figures = GroupFigures {
            ordered: group.ordered,
            settled: group.settlements,
            lost,
            reordered: group.reordered.len() as u64,
            damaged: group.damaged,
            highest_attempt: group.highest_attempt,
            delivered: group.damaged,
            ..GroupFigures::default()
        };
        for (event, newest) in group.reordered.iter().filter(|_| group.ordered) {
            examples.add("reordered", || {
                format!("{event} came to {name} after {newest} of its key")
            });
        }
        for (event, count) in &group.counts {
            figures.delivered += u64::from(*count);
            figures.duplicated += u64::from(count - 1);
            match self.attempts.get(event) {
                None => {
                    figures.unexpected += 1;
                    examples.add("unexpected", || format!("{event} came to {name}, and nobody sent it"));
                }
                Some(Some(Outcome::Refused)) => {
                    figures.refused_delivered += 1;
                    examples.add("refused", || format!("{event} came to {name}, and was refused"));
                }
                Some(Some(Outcome::Stored)) => {}
                Some(Some(Outcome::Unknown) | None) => figures.recovered += 1,
            }
        }
        for (copy, settled_ms, again_ms) in &group.again {
            match self.faults.excuse(*settled_ms, *again_ms) {
                true => figures.again_excused += 1,
                false => {
                    figures.again_unexcused += 1;
                    let text =
                        || format!("{name}: {copy} was settled at {settled_ms} ms and came again at {again_ms} ms");
                    examples.add("settled", text);
                }
            }
        }
        figures
    }
}

impl Group {
    fn delivered(&mut self, attempt: u32, copy: Option<StoredCopy>, at_ms: u64) {
        self.highest_attempt = self.highest_attempt.max(attempt);
        let Some(copy) = copy else {
            self.damaged += 1;
            return;
        };
        if let Some(settled_ms) = self.settled_at_ms.get(&copy) {
            self.again.push((copy, *settled_ms, at_ms));
        }
        let name = copy.name;
        let count = self.counts.entry(name).or_insert(0);
        *count += 1;
        if *count > 1 {
            return;
        }
        let newest = self.newest.entry((name.publisher, name.key)).or_insert(name.sequence);
        if name.sequence < *newest {
            self.reordered.push((name, *newest));
        } else {
            *newest = name.sequence;
        }
    }
}

/// Examples, at most so many of each kind.
#[derive(Default)]
struct Examples {
    texts: Vec<String>,
    counts: HashMap<&'static str, usize>,
    seen: HashSet<String>,
}

impl Examples {
    fn add(&mut self, kind: &'static str, text: impl FnOnce() -> String) {
        let count = self.counts.entry(kind).or_insert(0);
        if *count < EXAMPLES {
            let text = format!("{kind}: {}", text());
            if self.seen.insert(text.clone()) {
                *count += 1;
                self.texts.push(text);
            }
        }
    }
}
