//! Planted bugs: each must turn the verdict red, or a green one shows nothing.
//!
//! `drop`, `reorder` and `duplicate-settled` bend what is recorded; `ack-before-store`
//! and `refused-delivered` are bugs of the program's own publishers.

use std::collections::HashMap;

use meridian_cli::history::EventName;

use crate::history::{StoredCopy, What};

/// One event in so many is struck by the bug.
pub const ONE_IN: u64 = 200;

/// The bugs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Plant {
    /// Some events are never delivered.
    Drop,
    /// Some events are delivered after the next of their key.
    Reorder,
    /// Some records are delivered again after they were settled.
    DuplicateSettled,
    /// Publishers take some events for stored before they send them, and then do not.
    AckBeforeStore,
    /// Publishers take some stored events for refused.
    RefusedDelivered,
}

impl Plant {
    /// Whether the bug strikes this event.
    pub fn strikes(name: EventName) -> bool {
        name.sequence % ONE_IN == ONE_IN / 2
    }
}

/// Bends what is recorded.
#[derive(Debug, Default)]
pub(crate) struct Bend {
    plant: Option<Plant>,
    /// Kept back until the next of its key, by group and key.
    held: HashMap<(String, u32, u32), What>,
    struck: HashMap<(String, StoredCopy), What>,
}

impl Bend {
    pub(crate) fn new(plant: Option<Plant>) -> Self {
        Self {
            plant,
            ..Self::default()
        }
    }

    /// What is recorded in place of what happened.
    pub(crate) fn bend(&mut self, what: What) -> Vec<What> {
        match self.plant {
            Some(Plant::Drop) => vec![what].into_iter().filter(|what| !is_struck(what)).collect(),
            Some(Plant::Reorder) => self.reorder(what),
            Some(Plant::DuplicateSettled) => self.duplicate(what),
            _ => vec![what],
        }
    }

    fn reorder(&mut self, what: What) -> Vec<What> {
        let What::Delivered {
            group,
            copy: Some(StoredCopy { name, .. }),
            ..
        } = &what
        else {
            return vec![what];
        };
        let key = (group.clone(), name.publisher, name.key);
        match self.held.remove(&key) {
            Some(held) => vec![what, held],
            None if Plant::strikes(*name) => {
                self.held.insert(key, what);
                Vec::new()
            }
            None => vec![what],
        }
    }

    fn duplicate(&mut self, what: What) -> Vec<What> {
        match &what {
            What::Delivered {
                group,
                copy: Some(copy),
                ..
            } if is_struck(&what) => {
                self.struck.insert((group.clone(), *copy), what.clone());
                vec![what]
            }
            What::Settled { group, copy, .. } => {
                let again = self.struck.remove(&(group.clone(), *copy));
                std::iter::once(what).chain(again).collect()
            }
            _ => vec![what],
        }
    }
}

fn is_struck(what: &What) -> bool {
    matches!(what, What::Delivered { copy: Some(copy), .. } if Plant::strikes(copy.name))
}
