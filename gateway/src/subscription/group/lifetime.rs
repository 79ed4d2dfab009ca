//! Draining, being idle, and the end of a group.
//!
//! What holds: nothing of this counts an attempt; a group that ends leaves its broker's group, so that others have its
//! records at once; a dead letter that is being written is waited for, within bounds.

use std::time::{Duration, Instant};

use tonic::Status;

use super::owner::Owner;
use crate::dispatch::{AttemptMemory, SessionEnd};
use crate::fault::{FaultCode, Refusal};
use crate::subscription::wire::{self, Moment};

/// How long leaving the broker's group may take, beyond a session of it.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
/// The longest session that leaving waits for.
const MAX_SESSION_WAIT: Duration = Duration::from_secs(30);
/// How long an idle group waits for its dead letters.
const DEAD_LETTERS_LIMIT: Duration = Duration::from_secs(30);

/// The gateway gives the group up.
#[derive(Debug)]
pub(super) struct Leaving {
    deadline: Instant,
    reason: String,
}

/// Why a group ends.
#[derive(Debug)]
pub(super) struct End {
    status: Option<Status>,
}

impl End {
    /// Nobody needs the group here any more.
    pub(super) fn leaving() -> Self {
        Self { status: None }
    }

    /// It cannot be served; its sessions are told why.
    pub(super) fn refused(refusal: Refusal) -> Self {
        Self {
            status: Some(refusal.to_status()),
        }
    }
}

impl Owner {
    /// Asks all sessions to move and hands out nothing more; returns how many were asked. Asked again, the earlier
    /// deadline holds.
    pub(super) fn leave(&mut self, reason: &str, deadline: Instant) -> usize {
        let is_first = self.leaving.is_none();
        let leaving = self.leaving.get_or_insert_with(|| Leaving {
            deadline,
            reason: reason.to_owned(),
        });
        leaving.deadline = leaving.deadline.min(deadline);
        if !is_first {
            return 0;
        }
        let moment = Moment::of(&*self.parts.clock);
        let request = wire::drain_requested(reason, &self.parts.options.siblings, deadline, &moment);
        let ids = self.members.ids();
        for id in &ids {
            self.members.notify(*id, request.clone());
            self.dispatcher.drain_session(*id, false);
        }
        tracing::info!(group = %self.parts.key, reason, sessions = ids.len(), "the group's sessions are asked to move");
        ids.len()
    }

    /// How long leaving the broker's group may take. A group that waits for a member which is gone (Kafka) takes no
    /// commits until that one's session has ended, and who leaves before takes along what was settled.
    pub(super) fn leave_limit(&self) -> Duration {
        self.parts.options.session_timeout.min(MAX_SESSION_WAIT) + CLOSE_LIMIT
    }

    /// When `check_lifetime` has something to do.
    pub(super) fn lifetime_deadline(&self) -> Option<Instant> {
        let leaving = self.leaving.as_ref().map(|leaving| leaving.deadline);
        let idle = self.idle_since.map(|since| since + self.parts.options.idle_group);
        let later = |at: Instant| (at > self.parts.clock.now()).then_some(at);
        [leaving.and_then(later), idle.and_then(later)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Ends the group when nobody needs it here.
    pub(super) fn check_lifetime(&mut self, now: Instant) {
        if self.end.is_some() {
            return;
        }
        if self.parts.away.is_closed() {
            let words = "the task that writes the group's dead letters failed; open the session again";
            self.end = Some(End::refused(Refusal::new(FaultCode::DeadLetterFailed, words)));
            return;
        }
        let is_writing = self.dispatcher.held().leaving > 0;
        if let Some(leaving) = &self.leaving {
            if now >= leaving.deadline {
                let words = format!(
                    "the gateway gives the group up: {}; what was not settled is released",
                    leaving.reason
                );
                self.end = Some(End::refused(Refusal::new(FaultCode::Draining, words)));
            } else if self.members.len() == 0 && !is_writing {
                self.end = Some(End::leaving());
            }
            return;
        }
        let Some(since) = self.idle_since else {
            return;
        };
        let idle = now.saturating_duration_since(since);
        let limit = self.parts.options.idle_group;
        if idle >= limit && (!is_writing || idle >= limit + DEAD_LETTERS_LIMIT) {
            self.end = Some(End::leaving());
        }
    }

    /// Ends all sessions, leaves the broker's group, and hands on what is known of failed attempts.
    pub(super) async fn finish(mut self) -> AttemptMemory {
        self.parts.commands.close();
        let status = self.end.take().and_then(|end| end.status);
        for id in self.members.ids() {
            self.close_session(id, SessionEnd::Orderly, "by the gateway");
        }
        let ended = self.members.end_all(status.as_ref());
        tracing::info!(group = %self.parts.key, sessions = ended, "the group is left");
        let limit = match &self.leaving {
            Some(leaving) => {
                let left = leaving.deadline.saturating_duration_since(self.parts.clock.now());
                left.max(Duration::from_secs(1)).min(self.leave_limit())
            }
            None => self.leave_limit(),
        };
        let retries = async {
            match self.retries {
                Some(retries) => retries.close(limit).await,
                None => Ok(()),
            }
        };
        let (own, retries) = tokio::join!(self.reading.close(limit), retries);
        if let Err(error) = own {
            tracing::warn!(group = %self.parts.key, %error, "the last settlements were not committed; their events come again");
        }
        if let Err(error) = retries {
            tracing::warn!(group = %self.parts.key, %error, "the last settlements of retries were not committed");
        }
        self.parts.board.tell(&self.parts.key, None);
        self.parts.metrics.remove();
        self.dispatcher.into_memory()
    }
}
