//! What an operator does to a group that has no members: moves it, or forgets it.
//!
//! What holds: members and positions are looked at and changed under one lock, so
//! that nobody joins in between; what could not be written is taken back, unless
//! somebody has joined since.

use std::collections::HashMap;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::groups::{Groups, Positions, post};
use super::log::locked;
use super::queue::{PositionChange, Queue};
use super::rows::PositionRow;
use crate::error::{AdminError, AdminErrorKind};
use crate::frontier::Frontier;
use crate::name::GroupName;

/// A move that is on its way to the store.
pub(super) struct Moved {
    /// Whether it is durable.
    pub(super) durable: oneshot::Receiver<bool>,
    /// Where the group stood before; `None` where it had no position.
    before: HashMap<(Uuid, u32), Option<Frontier>>,
}

impl Groups {
    /// Has the group stand at these positions.
    pub(super) fn move_to(
        &self,
        name: &GroupName,
        places: &[(Uuid, u32, u64)],
        queue: &Queue,
    ) -> Result<Moved, AdminError> {
        let mut state = locked(&self.state);
        let group = state.groups.get_mut(name).ok_or_else(|| not_found(name))?;
        check_idle(name, group.members.len())?;
        let mut before = HashMap::new();
        let mut changes = Vec::with_capacity(places.len());
        for (topic, partition, next) in places {
            let key = (*topic, *partition);
            before.insert(key, group.positions.insert(key, Frontier::new(*next)));
            changes.push(PositionChange {
                group: name.clone(),
                topic: *topic,
                partition: *partition,
                row: PositionRow {
                    next: *next,
                    metadata: String::new(),
                },
            });
        }
        Ok(Moved {
            durable: post(changes, queue),
            before,
        })
    }

    /// Takes back a move that was not written.
    pub(super) fn move_back(&self, name: &GroupName, moved: Moved) {
        let mut state = locked(&self.state);
        let Some(group) = state.groups.get_mut(name).filter(|group| group.members.is_empty()) else {
            return;
        };
        for (key, frontier) in moved.before {
            match frontier {
                Some(frontier) => group.positions.insert(key, frontier),
                None => group.positions.remove(&key),
            };
        }
    }

    /// Whether a group is known and has no members, which a dry run does not ask for.
    pub(super) fn check_movable(&self, name: &GroupName, is_dry_run: bool) -> Result<(), AdminError> {
        let state = locked(&self.state);
        let group = state.groups.get(name).filter(|group| group.is_there());
        let group = group.ok_or_else(|| not_found(name))?;
        match is_dry_run {
            true => Ok(()),
            false => check_idle(name, group.members.len()),
        }
    }

    /// Forgets a group; returns where it stood.
    pub(super) fn forget(&self, name: &GroupName) -> Result<Positions, AdminError> {
        let mut state = locked(&self.state);
        let group = state.groups.get(name).filter(|group| group.is_there());
        check_idle(name, group.ok_or_else(|| not_found(name))?.members.len())?;
        let group = state.groups.remove(name);
        Ok(group.map(|group| group.positions).unwrap_or_default())
    }

    /// The group could not be forgotten after all.
    pub(super) fn restore(&self, name: &GroupName, positions: Positions) {
        locked(&self.state)
            .groups
            .entry(name.clone())
            .or_default()
            .positions
            .extend(positions);
    }
}

fn check_idle(name: &GroupName, members: usize) -> Result<(), AdminError> {
    if members == 0 {
        return Ok(());
    }
    let message = format!("group {name} has {members} readers in this process; stop its workers or pause it first");
    Err(AdminError::new(AdminErrorKind::GroupActive, message))
}

fn not_found(name: &GroupName) -> AdminError {
    let message = format!("group {name} is not there; it is made when its first reader opens");
    AdminError::new(AdminErrorKind::GroupNotFound, message)
}
