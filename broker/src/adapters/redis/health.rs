//! Whether a Redis can be reached and is what was said, told to whoever waits for it.
//!
//! What holds: `since` is when the state began; nothing is said before the first
//! answer or the first refusal.

use std::time::{Duration, Instant, SystemTime};

use meridian_runtime::clock::SharedClock;
use tokio::sync::watch;

use crate::error::AppendErrorKind;
use crate::seam::BrokerState;

/// How long the first answer is waited for; then the broker counts as away.
const FIRST_ANSWER_LIMIT: Duration = Duration::from_millis(700);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reach {
    Connecting {
        since: SystemTime,
    },
    Available,
    Unavailable {
        since: SystemTime,
        reason: String,
        kind: AppendErrorKind,
    },
    Closed,
}

/// The state, and those who wait for it to change.
#[derive(Debug)]
pub(super) struct Health {
    clock: SharedClock,
    reach: watch::Sender<Reach>,
}

impl Health {
    pub(super) fn new(clock: SharedClock) -> Self {
        let since = wall_time(&clock);
        Self {
            clock,
            reach: watch::Sender::new(Reach::Connecting { since }),
        }
    }

    /// It answered, and is as it should be. True when this is news.
    pub(super) fn answered(&self) -> bool {
        self.reach.send_if_modified(|reach| match reach {
            Reach::Available | Reach::Closed => false,
            Reach::Connecting { .. } | Reach::Unavailable { .. } => {
                *reach = Reach::Available;
                true
            }
        })
    }

    /// It cannot be used. True when this is news.
    pub(super) fn went_away(&self, kind: AppendErrorKind, reason: &str) -> bool {
        let now = wall_time(&self.clock);
        self.reach.send_if_modified(|reach| {
            let since = match reach {
                Reach::Closed => return false,
                Reach::Unavailable { reason: known, .. } if known == reason => return false,
                Reach::Unavailable { since, .. } | Reach::Connecting { since } => *since,
                Reach::Available => now,
            };
            *reach = Reach::Unavailable {
                since,
                reason: reason.to_owned(),
                kind,
            };
            true
        })
    }

    pub(super) fn close(&self) {
        self.reach.send_replace(Reach::Closed);
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.reach.borrow() == Reach::Closed
    }

    /// Waits until nothing is sent any more.
    pub(super) async fn closed(&self) {
        let _ = self.reach.subscribe().wait_for(|reach| *reach == Reach::Closed).await;
    }

    pub(super) fn state(&self) -> BrokerState {
        let away = |since, reason: &str| BrokerState::Unavailable {
            since,
            reason: reason.to_owned(),
        };
        match &*self.reach.borrow() {
            Reach::Available => BrokerState::Available,
            Reach::Connecting { since } => away(*since, "connecting"),
            Reach::Unavailable { since, reason, .. } => away(*since, reason),
            Reach::Closed => away(wall_time(&self.clock), CLOSED),
        }
    }

    /// Returns at once, but for the time between connecting and the first answer.
    pub(super) async fn usable(&self, deadline: Instant) -> Result<(), (AppendErrorKind, String)> {
        if *self.reach.borrow() == Reach::Available {
            return Ok(());
        }
        let mut receiver = self.reach.subscribe();
        let deadline = deadline.min(self.clock.now() + FIRST_ANSWER_LIMIT);
        let known = receiver.wait_for(|reach| !matches!(reach, Reach::Connecting { .. }));
        let known = tokio::time::timeout_at(deadline.into(), known).await;
        match known.as_ref().map(|known| known.as_deref()) {
            Ok(Ok(Reach::Available)) => Ok(()),
            Ok(Ok(Reach::Closed)) => Err((AppendErrorKind::Closed, CLOSED.to_owned())),
            Ok(Ok(Reach::Unavailable { reason, kind, .. })) => Err((*kind, reason.clone())),
            _ => Err((
                AppendErrorKind::BrokerUnavailable,
                "Redis has not answered yet".to_owned(),
            )),
        }
    }
}

/// What a closed broker says.
pub(super) const CLOSED: &str = "this broker was closed";

/// The wall clock as a time of the system.
pub(super) fn wall_time(clock: &SharedClock) -> SystemTime {
    system_time(clock.wall_millis())
}

pub(super) fn system_time(milliseconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use meridian_runtime::clock::ManualClock;

    use super::*;

    #[tokio::test]
    async fn the_time_of_a_state_is_when_it_began() {
        let clock = Arc::new(ManualClock::new(1_000));
        let health = Health::new(clock.clone());
        let gone = AppendErrorKind::BrokerUnavailable;
        assert!(health.went_away(gone, "refused"));
        clock.advance(Duration::from_secs(1));
        assert!(health.went_away(AppendErrorKind::NotAuthorized, "wrong password"));
        let (since, reason) = (system_time(1_000), "wrong password".to_owned());
        assert_eq!(health.state(), BrokerState::Unavailable { since, reason });
        let refused = health.usable(Instant::now()).await.unwrap_err();
        assert_eq!(refused.0, AppendErrorKind::NotAuthorized);
        assert!(health.answered() && !health.answered());
        assert_eq!(health.usable(Instant::now()).await, Ok(()));
        health.close();
        assert!(!health.answered());
        let refused = health.usable(Instant::now()).await.unwrap_err();
        assert_eq!(refused.0, AppendErrorKind::Closed);
    }
}
