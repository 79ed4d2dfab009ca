//! Which groups are not being read, as one component of the process's health. It is optional: a group that cannot be
//! read does not keep publishers away.
//!
//! What holds: as many entries as there are groups that cannot be read, so it is bounded by the groups.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use meridian_runtime::{Health, HealthComponent};

use super::terms::GroupKey;

/// The name of the component.
const COMPONENT: &str = "subscriptions";

#[derive(Debug)]
pub(super) struct HealthBoard {
    component: HealthComponent,
    not_reading: Mutex<BTreeMap<GroupKey, String>>,
}

impl HealthBoard {
    pub(super) fn new(health: &Health) -> Self {
        let component = health.optional_component(COMPONENT);
        component.ready();
        Self {
            component,
            not_reading: Mutex::default(),
        }
    }

    /// Says why a group is not being read, or that it is (or is gone).
    pub(super) fn tell(&self, group: &GroupKey, reason: Option<&str>) {
        let mut not_reading = self.not_reading.lock().unwrap_or_else(PoisonError::into_inner);
        let known = not_reading.get(group).map(String::as_str);
        if known == reason {
            return;
        }
        match reason {
            Some(reason) => not_reading.insert(group.clone(), reason.to_owned()),
            None => not_reading.remove(group),
        };
        match not_reading.iter().next() {
            None => self.component.ready(),
            Some((group, reason)) => {
                let others = not_reading.len() - 1;
                let more = if others == 0 {
                    String::new()
                } else {
                    format!(" (and {others} more groups)")
                };
                self.component
                    .not_ready(format!("group {group} is not being read: {reason}{more}"));
            }
        }
    }
}
