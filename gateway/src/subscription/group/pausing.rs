//! An operator's pause: hand out nothing, let what is out be settled, then leave the broker's group; and back.
//!
//! ```text
//!             pause                    nothing is out, or it is taken back           the broker's group is left
//!  Reading ─────────▶ nothing handed out ───────────────────────▶ leaving ─────────────────────▶ left
//!     ▲                  │ resume                                    │ resume: opened again once left  │
//!     └──────────────────┴───────────────────────────────────────────┴──────────── resume ────────────┘
//! ```
//!
//! What holds: a pause counts no attempt and sends no record to a dead-letter topic; sessions stay; records that were
//! read and not handed out are given back.

use std::time::Instant;

use tokio::sync::oneshot;

use super::owner::Owner;
use crate::subscription::info::GroupState;
use crate::subscription::wire::Moment;

/// Somebody who wants to know when the group is left.
#[derive(Debug)]
pub(in crate::subscription) struct PauseWatch {
    /// Told how many deliveries are out, once the pause is seen.
    pub(in crate::subscription) seen: Option<oneshot::Sender<usize>>,
    /// Told once the broker's group is left; dropped when the pause is over before.
    pub(in crate::subscription) left: oneshot::Sender<()>,
    /// From then on, what is still out is taken back.
    pub(in crate::subscription) take_back_at: Option<Instant>,
}

impl Owner {
    /// Does what the pause in force asks for, or its end.
    pub(super) fn follow_pause(&mut self, now: Instant) {
        if self.end.is_some() {
            return;
        }
        let wall = Moment::of(&*self.parts.clock).wall();
        let pause = self.parts.pauses.of(&self.parts.key, wall);
        if pause != self.pause {
            match &pause {
                Some(pause) => tracing::info!(group = %self.parts.key, "the group is {}", pause.words()),
                None => tracing::info!(group = %self.parts.key, "the group is not paused any more"),
            }
            self.pause = pause;
            // Workers and views are told at once.
            self.next_look = now;
            self.next_heartbeat = now;
        }
        if self.pause.is_none() {
            self.pause_watches.clear();
            self.reading.go_on();
            return;
        }
        let held = self.dispatcher.held();
        let is_settled = held.in_flight == 0 && held.leaving == 0;
        for watch in &mut self.pause_watches {
            if let Some(seen) = watch.seen.take() {
                // Whoever asked may be gone, here and below.
                let _ = seen.send(held.in_flight);
            }
        }
        self.pause_watches.retain(|watch| !watch.left.is_closed());
        let mut deadlines = self.pause_watches.iter().filter_map(|watch| watch.take_back_at);
        if is_settled || deadlines.any(|at| at <= now) {
            let limit = self.leave_limit();
            for partition in self.reading.leave(limit) {
                self.dispatcher.revoke(&partition, None);
            }
        }
        if self.reading.has_left() {
            for watch in self.pause_watches.drain(..) {
                let _ = watch.left.send(());
            }
        }
    }

    /// Whether the reader is to be asked for more.
    pub(super) fn reads_on(&self) -> bool {
        self.pause.is_none() || !self.reading.is_open()
    }

    /// The state of the group, with what operators ask of it.
    pub(super) fn state(&self) -> GroupState {
        match &self.pause {
            Some(pause) => GroupState::Paused {
                since: pause.since,
                until: pause.until,
                reason: pause.words(),
            },
            None => self.reading.state(),
        }
    }
}
