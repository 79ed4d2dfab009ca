//! What operators ask of groups: pause, resume, wait until a group is left.
//!
//! What holds: a pause is in force from the moment when it is set, also for a group that nobody reads yet.

use std::time::{Duration, SystemTime};

use meridian_broker::{BrokerName, GroupName};
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::group::{Command, PauseWatch};
use super::info::GroupState;
use super::pauses::Pause;
use super::registry::Subscriptions;
use super::terms::GroupKey;
use crate::fault::Refusal;
use crate::subscription::wire::Moment;

/// How soon a group's task sees a pause.
const SEEN_LIMIT: Duration = Duration::from_secs(1);

/// What waiting for a group to be left came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Departure {
    /// This gateway is no member of the broker's group.
    pub left: bool,
    /// Deliveries that are still out, a moment ago.
    pub in_flight: usize,
}

impl Subscriptions {
    /// Pauses a group on this gateway; one that is paused already has the new end and reason.
    ///
    /// # Errors
    /// [`Refusal`] when too many groups are paused.
    pub async fn pause(&self, broker: &BrokerName, group: &GroupName, pause: Pause) -> Result<Pause, Refusal> {
        let key = key(broker, group);
        let pause = self.pauses().set(key.clone(), pause, self.wall())?;
        self.look_at_pause(&key, None).await;
        Ok(pause)
    }

    /// Ends the pause of a group on this gateway.
    pub async fn resume(&self, broker: &BrokerName, group: &GroupName) -> Option<Pause> {
        let key = key(broker, group);
        let pause = self.pauses().clear(&key, self.wall());
        self.look_at_pause(&key, None).await;
        pause
    }

    /// The pause of a group that is in force.
    pub fn pause_of(&self, broker: &BrokerName, group: &GroupName) -> Option<Pause> {
        self.pauses().of(&key(broker, group), self.wall())
    }

    /// All pauses in force.
    pub fn pauses_in_force(&self) -> Vec<(BrokerName, GroupName, Pause)> {
        let pauses = self.pauses().all(self.wall());
        pauses
            .into_iter()
            .map(|(key, pause)| (key.broker, key.group, pause))
            .collect()
    }

    /// Waits until this gateway has left the broker's group of a paused group, at most for `limit`. With `take_back`,
    /// what is out after half of it is taken back: it comes again, and what workers still say of it is stale.
    pub async fn departure(
        &self,
        broker: &BrokerName,
        group: &GroupName,
        limit: Duration,
        take_back: bool,
    ) -> Departure {
        let key = key(broker, group);
        let now = self.now();
        let (seen, in_flight) = oneshot::channel();
        let (left, told) = oneshot::channel();
        let watch = PauseWatch {
            seen: Some(seen),
            left,
            take_back_at: take_back.then_some(now + limit / 2),
        };
        let gone = Departure {
            left: true,
            in_flight: 0,
        };
        let Some(ended) = self.look_at_pause(&key, Some(watch)).await else {
            return gone; // nobody reads it here
        };
        let left = async {
            if told.await.is_ok() {
                return true;
            }
            // Resumed meanwhile; or the group's task ends, and leaves.
            if self.pauses().of(&key, self.wall()).is_none() {
                return false;
            }
            ended.cancelled().await;
            true
        };
        let left = timeout_at((now + limit).into(), left).await.unwrap_or(false);
        if left {
            return gone;
        }
        let in_flight = match limit.is_zero() {
            true => timeout_at((now + SEEN_LIMIT).into(), in_flight).await.ok(),
            false => None,
        };
        let a_moment_ago = || {
            let groups = self.groups();
            let mut here = groups.iter().filter(|group| group.broker == key.broker);
            here.find(|group| group.group == key.group)
                .map_or(0, |group| group.in_flight)
        };
        Departure {
            left,
            in_flight: in_flight.and_then(Result::ok).unwrap_or_else(a_moment_ago),
        }
    }

    /// Whether a task of this gateway tells where the group stands.
    pub(super) fn is_read_here(&self, key: &GroupKey) -> bool {
        self.groups().iter().any(|group| {
            group.broker == key.broker
                && group.group == key.group
                && (!matches!(group.state, GroupState::Paused { .. }) || !group.positions.is_empty())
        })
    }

    /// A group is gone from its broker: nothing is remembered of it.
    pub fn forget(&self, broker: &BrokerName, group: &GroupName) {
        let key = key(broker, group);
        self.forget_attempts(&key);
        self.lag_board().remove(&key);
    }

    fn wall(&self) -> SystemTime {
        Moment::of(&**self.clock()).wall()
    }
}

fn key(broker: &BrokerName, group: &GroupName) -> GroupKey {
    GroupKey {
        broker: broker.clone(),
        group: group.clone(),
    }
}

/// A command that has the group's task look.
pub(super) fn look(watch: Option<PauseWatch>) -> Command {
    Command::LookAtPause { watch }
}
