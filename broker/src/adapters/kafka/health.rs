//! Whether a cluster can be reached, told to whoever waits for it.
//!
//! What holds: `since` is when the state began, not when it was last confirmed;
//! nothing is said before the first answer or the first refusal.

use std::time::{Duration, Instant, SystemTime};

use meridian_runtime::clock::SharedClock;
use tokio::sync::watch;

use crate::seam::BrokerState;

/// How long the first answer is waited for; then the broker counts as away.
const FIRST_ANSWER_LIMIT: Duration = Duration::from_millis(700);

/// How long a cluster that took a record may leave the question who it is without an answer.
const RETURN_LIMIT: Duration = Duration::from_secs(10);

/// The state of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Reach {
    /// Nobody has answered yet, nor failed to.
    Connecting {
        since: SystemTime,
    },
    Available,
    /// It was away and took a record; it has not said who it is.
    Returning {
        since: SystemTime,
        taken_at: Instant,
    },
    Unavailable {
        since: SystemTime,
        reason: String,
    },
    Closed,
}

/// Why nothing can be sent now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    Closed,
    Away { reason: String },
}

/// The state, and those who wait for it to change.
#[derive(Debug)]
pub(super) struct Health {
    clock: SharedClock,
    reach: watch::Sender<Reach>,
}

impl Health {
    pub(super) fn new(clock: SharedClock) -> Self {
        let reach = watch::Sender::new(Reach::Connecting {
            since: wall_time(&clock),
        });
        Self { clock, reach }
    }

    /// A broker answered.
    pub(super) fn answered(&self) {
        self.reach.send_if_modified(|reach| match reach {
            Reach::Available | Reach::Closed => false,
            Reach::Connecting { .. } | Reach::Returning { .. } | Reach::Unavailable { .. } => {
                *reach = Reach::Available;
                true
            }
        });
    }

    /// A broker that was away took a record. Whether it is the same cluster is not
    /// known yet: appends wait for that answer, for one refused now would be
    /// overtaken by the next. True when this is news.
    pub(super) fn returns(&self) -> bool {
        let taken_at = self.clock.now();
        self.reach.send_if_modified(|reach| match reach {
            Reach::Available | Reach::Closed | Reach::Connecting { .. } | Reach::Returning { .. } => false,
            Reach::Unavailable { since, .. } => {
                *reach = Reach::Returning {
                    since: *since,
                    taken_at,
                };
                true
            }
        })
    }

    /// No broker answered. True when this is news.
    pub(super) fn went_away(&self, reason: &str) -> bool {
        let now = wall_time(&self.clock);
        self.reach.send_if_modified(|reach| match reach {
            Reach::Closed => false,
            Reach::Unavailable { reason: told, .. } => {
                reason.clone_into(told); // the latest, and no news
                false
            }
            Reach::Connecting { since } | Reach::Returning { since, .. } => {
                *reach = Reach::Unavailable {
                    since: *since,
                    reason: reason.to_owned(),
                };
                true
            }
            Reach::Available => {
                *reach = Reach::Unavailable {
                    since: now,
                    reason: reason.to_owned(),
                };
                true
            }
        })
    }

    /// Nothing is sent any more.
    pub(super) fn close(&self) {
        self.reach.send_replace(Reach::Closed);
    }

    pub(super) fn is_closed(&self) -> bool {
        *self.reach.borrow() == Reach::Closed
    }

    /// Whether it took a record lately, and has yet to say who it is.
    pub(super) fn is_returning(&self) -> bool {
        match &*self.reach.borrow() {
            Reach::Returning { taken_at, .. } => self.clock.now().duration_since(*taken_at) < RETURN_LIMIT,
            _ => false,
        }
    }

    /// Whether it is known that no broker answers.
    pub(super) fn is_away(&self) -> bool {
        matches!(&*self.reach.borrow(), Reach::Unavailable { .. })
    }

    pub(super) fn is_available(&self) -> bool {
        *self.reach.borrow() == Reach::Available
    }

    pub(super) fn state(&self) -> BrokerState {
        match &*self.reach.borrow() {
            Reach::Available => BrokerState::Available,
            Reach::Connecting { since } | Reach::Returning { since, .. } => BrokerState::Unavailable {
                since: *since,
                reason: "connecting".to_owned(),
            },
            Reach::Unavailable { since, reason } => BrokerState::Unavailable {
                since: *since,
                reason: reason.clone(),
            },
            Reach::Closed => BrokerState::Unavailable {
                since: wall_time(&self.clock),
                reason: "this broker was closed".to_owned(),
            },
        }
    }

    /// Returns at once, but for the time between connecting, or returning, and the
    /// first answer.
    pub(super) async fn usable(&self, deadline: Instant) -> Result<(), Unusable> {
        if self.is_available() {
            return Ok(());
        }
        let mut receiver = self.reach.subscribe();
        let deadline = match &*receiver.borrow() {
            Reach::Connecting { .. } => deadline.min(self.clock.now() + FIRST_ANSWER_LIMIT),
            _ => deadline,
        };
        let known = receiver.wait_for(|reach| !matches!(reach, Reach::Connecting { .. } | Reach::Returning { .. }));
        let known = tokio::time::timeout_at(deadline.into(), known).await;
        match known.as_ref().map(|known| known.as_deref()) {
            Ok(Ok(Reach::Available)) => Ok(()),
            Ok(Ok(Reach::Closed)) => Err(Unusable::Closed),
            Ok(Ok(Reach::Unavailable { reason, .. })) => Err(Unusable::Away { reason: reason.clone() }),
            _ => Err(Unusable::Away {
                reason: "no broker has answered yet".to_owned(),
            }),
        }
    }
}

/// The wall clock as a time of the system.
pub(super) fn wall_time(clock: &SharedClock) -> SystemTime {
    let millis = u64::try_from(clock.wall_millis()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
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
        let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        assert!(health.went_away("refused"));
        clock.advance(Duration::from_secs(1));
        assert!(!health.went_away("refused again"));
        let reason = "refused again".to_owned();
        assert_eq!(
            health.state(),
            BrokerState::Unavailable {
                since: at(1_000),
                reason
            }
        );
        health.answered();
        assert_eq!(health.usable(Instant::now()).await, Ok(()));
        assert!(health.went_away("gone"));
        let reason = "gone".to_owned();
        assert_eq!(
            health.state(),
            BrokerState::Unavailable {
                since: at(2_000),
                reason
            }
        );
        assert!(health.returns());
        assert!(!health.returns());
        let reason = "connecting".to_owned();
        assert_eq!(
            health.state(),
            BrokerState::Unavailable {
                since: at(2_000),
                reason
            },
            "it is away until it has said who it is"
        );
        health.answered();
        assert_eq!(health.usable(Instant::now()).await, Ok(()));
        assert!(!health.returns());
        health.close();
        health.answered();
        assert_eq!(health.usable(Instant::now()).await, Err(Unusable::Closed));
    }
}
