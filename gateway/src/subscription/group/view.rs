//! What the gateway sees of a group: a copy that its task refreshes, so that nobody who looks ever waits for the task.

use std::sync::{Arc, Mutex, PoisonError};

use crate::subscription::info::{GroupInfo, SessionInfo};

/// The group and its sessions, a moment ago.
#[derive(Clone, Debug, Default)]
pub(in crate::subscription) struct GroupView {
    /// `None` until the task has begun.
    pub(in crate::subscription) group: Option<GroupInfo>,
    pub(in crate::subscription) sessions: Vec<SessionInfo>,
}

/// The view, shared between the task and the gateway.
#[derive(Clone, Debug, Default)]
pub(in crate::subscription) struct SharedView(Arc<Mutex<GroupView>>);

impl SharedView {
    pub(super) fn show(&self, view: GroupView) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    pub(in crate::subscription) fn see(&self) -> GroupView {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
