//! Which faults excuse that settled work comes again.
//!
//! A settlement is confirmed at once and durable within the commit interval: a
//! gateway that is killed or frozen in between takes it along. While the broker is
//! away nothing becomes durable, and on Kafka neither while the group waits for a
//! member that is gone, whose session has to end first: `slack`. A drain, and the end
//! of a worker or publisher, excuse nothing.

use std::collections::BTreeMap;

use crate::history::{Blow, Part};

/// How long before a blow a settlement may have been confirmed and not be durable yet: the commit
/// interval of 100 ms, and the commit's own way to the broker on a machine that is busy.
pub const BEFORE_MS: u64 = 1_000;

/// Everything that was struck.
#[derive(Debug)]
pub(super) struct Faults {
    faults: Vec<Fault>,
    /// How long after a blow on a gateway, or the broker's return, commits may still wait.
    slack_ms: u64,
}

#[derive(Debug)]
struct Fault {
    part: Part,
    name: String,
    blow: Blow,
    struck_ms: u64,
    mended_ms: Option<u64>,
}

impl Faults {
    pub(super) fn new(slack_ms: u64) -> Self {
        let faults = Vec::new();
        Self { faults, slack_ms }
    }

    pub(super) fn struck(&mut self, part: Part, name: &str, blow: Blow, at_ms: u64) {
        self.faults.push(Fault {
            part,
            name: name.to_owned(),
            blow,
            struck_ms: at_ms,
            mended_ms: None,
        });
    }

    pub(super) fn mended(&mut self, part: Part, name: &str, blow: Blow, at_ms: u64) {
        let mut open = self.faults.iter_mut().rev();
        let open = open.find(|fault| (fault.part, fault.blow) == (part, blow) && fault.name == name);
        if let Some(fault) = open {
            fault.mended_ms.get_or_insert(at_ms);
        }
    }

    pub(super) fn counts(&self) -> BTreeMap<(Part, Blow), u64> {
        let mut counts = BTreeMap::new();
        for fault in &self.faults {
            *counts.entry((fault.part, fault.blow)).or_insert(0) += 1;
        }
        counts
    }

    /// Whether what was settled then may come again at `again_ms`.
    pub(super) fn excuse(&self, settled_ms: u64, again_ms: u64) -> bool {
        self.faults.iter().any(|fault| {
            fault.struck_ms <= again_ms
                && fault
                    .spans(self.slack_ms)
                    .into_iter()
                    .flatten()
                    .any(|span| span.contains(&settled_ms))
        })
    }
}

impl Fault {
    /// When a settlement that this fault takes along can have been noted.
    fn spans(&self, slack_ms: u64) -> [Option<std::ops::RangeInclusive<u64>>; 2] {
        let from = self.struck_ms.saturating_sub(BEFORE_MS);
        match (self.part, self.blow) {
            (Part::Worker | Part::Publisher, _) | (Part::Gateway, Blow::Drain) => [None, None],
            (Part::Gateway, Blow::Kill) => [Some(from..=self.struck_ms + slack_ms), None],
            (Part::Gateway, Blow::Freeze) => {
                let thawed = self.mended_ms.map(|thawed| thawed..=thawed + slack_ms);
                [Some(from..=self.struck_ms + slack_ms), thawed]
            }
            (Part::Broker, _) => {
                let until = self.mended_ms.map_or(u64::MAX, |mended| mended + slack_ms);
                [Some(from..=until), None]
            }
        }
    }
}
