//! What sessions and the gateway say to a group's task. Data only.

use std::time::Instant;

use meridian_proto::meridian as wire;
use tokio::sync::oneshot;

use super::pausing::PauseWatch;
use crate::dispatch::{SessionId, SessionTerms};
use crate::fault::Refusal;
use crate::subscription::outbound::Outbound;
use crate::subscription::terms::GroupTerms;

/// One thing that the task shall do.
#[derive(Debug)]
pub(in crate::subscription) enum Command {
    /// A session begins.
    Join(Box<Join>),
    /// A worker settles.
    Settle {
        session: SessionId,
        settlements: Vec<wire::Settlement>,
    },
    /// A worker changes its credit.
    AddCredit {
        session: SessionId,
        messages: i32,
        bytes: i64,
    },
    /// A worker leaves in order.
    Drain {
        session: SessionId,
        release_in_flight: bool,
    },
    /// A worker broke the contract: its session ends with this.
    Refuse { session: SessionId, refusal: Refusal },
    /// The stream of a session is lost or has ended.
    Gone { session: SessionId },
    /// The gateway asks all sessions to move, and gives the group up at the deadline; answers how many were asked.
    Leave {
        reason: String,
        deadline: Instant,
        asked: oneshot::Sender<usize>,
    },
    /// A pause has begun or ended; somebody may want to know when the group is left.
    LookAtPause { watch: Option<PauseWatch> },
}

/// A session that wants to begin. When the answer's sender is dropped, the group is ending: ask again once it is gone.
#[derive(Debug)]
pub(in crate::subscription) struct Join {
    pub(in crate::subscription) group: GroupTerms,
    pub(in crate::subscription) session: SessionTerms,
    pub(in crate::subscription) session_id: String,
    pub(in crate::subscription) outbound: Outbound,
    pub(in crate::subscription) answer: oneshot::Sender<Result<SessionId, Refusal>>,
}
