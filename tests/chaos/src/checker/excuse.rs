//! Which faults excuse that settled work comes again.
//!
//! A settlement is confirmed at once and durable within the commit interval: a
//! gateway that is killed or frozen in between takes it along. While the broker is
//! away nothing becomes durable, until shortly after it is back. A drain, and the end
//! of a worker or publisher, excuse nothing.

use std::collections::BTreeMap;

use crate::history::{Blow, Part};

/// How long before a blow a settlement may have been confirmed and not be durable yet: the commit
/// interval of 100 ms, and the commit's own way to the broker on a machine that is busy.
pub const BEFORE_MS: u64 = 1_000;

/// How long after its blow a gateway's last confirmations may be noted, and for how long one that
/// was frozen may confirm before it learns that its partitions have moved.
const GATEWAY_AFTER_MS: u64 = 2_000;

/// How long after the broker's return the first commits take, the group's new members included.
pub const BROKER_AFTER_MS: u64 = 5_000;

/// Everything that was struck.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<Fault>);

#[derive(Debug)]
struct Fault {
    part: Part,
    name: String,
    blow: Blow,
    struck_ms: u64,
    mended_ms: Option<u64>,
}

impl Faults {
    pub(super) fn struck(&mut self, part: Part, name: &str, blow: Blow, at_ms: u64) {
        self.0.push(Fault {
            part,
            name: name.to_owned(),
            blow,
            struck_ms: at_ms,
            mended_ms: None,
        });
    }

    pub(super) fn mended(&mut self, part: Part, name: &str, blow: Blow, at_ms: u64) {
        let mut open = self.0.iter_mut().rev();
        let open = open.find(|fault| (fault.part, fault.blow) == (part, blow) && fault.name == name);
        if let Some(fault) = open {
            fault.mended_ms.get_or_insert(at_ms);
        }
    }

    pub(super) fn counts(&self) -> BTreeMap<(Part, Blow), u64> {
        let mut counts = BTreeMap::new();
        for fault in &self.0 {
            *counts.entry((fault.part, fault.blow)).or_insert(0) += 1;
        }
        counts
    }

    /// Whether what was settled then may come again at `again_ms`.
    pub(super) fn excuse(&self, settled_ms: u64, again_ms: u64) -> bool {
        self.0.iter().any(|fault| {
            fault.struck_ms <= again_ms
                && fault
                    .spans()
                    .into_iter()
                    .flatten()
                    .any(|span| span.contains(&settled_ms))
        })
    }
}

impl Fault {
    /// When a settlement that this fault takes along can have been noted.
    fn spans(&self) -> [Option<std::ops::RangeInclusive<u64>>; 2] {
        let from = self.struck_ms.saturating_sub(BEFORE_MS);
        match (self.part, self.blow) {
            (Part::Worker | Part::Publisher, _) | (Part::Gateway, Blow::Drain) => [None, None],
            (Part::Gateway, Blow::Kill) => [Some(from..=self.struck_ms + GATEWAY_AFTER_MS), None],
            (Part::Gateway, Blow::Freeze) => {
                let thawed = self.mended_ms.map(|thawed| thawed..=thawed + GATEWAY_AFTER_MS);
                [Some(from..=self.struck_ms + GATEWAY_AFTER_MS), thawed]
            }
            (Part::Broker, _) => {
                let until = self.mended_ms.map_or(u64::MAX, |mended| mended + BROKER_AFTER_MS);
                [Some(from..=until), None]
            }
        }
    }
}
