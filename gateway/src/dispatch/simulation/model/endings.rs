//! How records end: in another topic, dropped, accepted; and that all of them do.

use std::time::Instant;

use meridian_broker::Claim;

use super::{Ended, Model, Place};
use crate::dispatch::*;

impl Model {
    pub(in crate::dispatch::simulation) fn away_ordered(&mut self, order: &AwayOrder, now: Instant) {
        let (number, position) = self.locate(&order.claim);
        let logged = &mut self.logs[number][position as usize];
        assert_eq!(order.attempts, logged.failures);
        let told = match order.destination {
            Destination::DeadLetters(reason) => reason,
            Destination::Park { until } => {
                assert!(matches!(logged.place, Place::Parking { until: asked } if asked == until));
                return;
            }
        };
        match (&logged.place, told) {
            (Place::Held { .. }, DeadLetterReason::Expired) => {
                assert!(logged.expires_at.is_some_and(|at| at <= now));
            }
            (Place::DeadLettering { reason }, told) => assert_eq!(*reason, told),
            (Place::Held { .. }, DeadLetterReason::NotACloudEvent) => assert!(!logged.is_event),
            (Place::Held { .. }, DeadLetterReason::TooLarge) => assert!(logged.size > 0),
            (place, reason) => panic!("dead letter for {reason:?} while {place:?}"),
        }
        logged.place = Place::DeadLettering { reason: told };
    }

    pub(in crate::dispatch::simulation) fn end(&mut self, claim: &Claim, ended: Ended) {
        let (number, position) = self.locate(claim);
        let logged = &mut self.logs[number][position as usize];
        assert!(!matches!(logged.place, Place::Ended), "settled twice: {logged:?}");
        if ended == Ended::Away {
            let is_away = matches!(logged.place, Place::DeadLettering { .. } | Place::Parking { .. });
            assert!(is_away, "{logged:?}");
        }
        logged.place = Place::Ended;
    }

    /// The event was dropped because its time is over.
    pub(in crate::dispatch::simulation) fn expired(&mut self, claim: &Claim, now: Instant) {
        let (number, position) = self.locate(claim);
        let logged = &mut self.logs[number][position as usize];
        assert!(logged.expires_at.is_some_and(|at| at <= now), "too early: {logged:?}");
        assert!(matches!(logged.place, Place::Held { .. }), "{logged:?}");
        logged.place = Place::Ended;
    }

    pub(in crate::dispatch::simulation) fn all_ended(&self) -> bool {
        self.logs
            .iter()
            .flatten()
            .all(|logged| matches!(logged.place, Place::Ended))
    }

    pub(in crate::dispatch::simulation) fn assert_all_ended(&self) {
        let left: Vec<_> = self
            .logs
            .iter()
            .flatten()
            .filter(|logged| !matches!(logged.place, Place::Ended))
            .collect();
        assert!(
            left.is_empty(),
            "{} records never ended, such as {:?}",
            left.len(),
            left[0]
        );
    }
}
