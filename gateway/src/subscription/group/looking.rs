//! Looking at the group a few times a second: what others see of it, its gauges, its health, and heartbeats.

use std::time::{Duration, Instant};

use super::members::Member;
use super::owner::Owner;
use super::reading::Reading;
use super::view::GroupView;
use crate::dispatch::SessionId;
use crate::settlement::DeadLetterWriterState;
use crate::subscription::info::{GroupInfo, GroupState, SessionInfo, lag};
use crate::subscription::metrics::gauge;
use crate::subscription::wire;

/// From look to look.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

impl Owner {
    /// Refreshes what others see, and sends heartbeats when they are due.
    pub(super) fn look(&mut self, now: Instant) {
        self.next_look = now + LOOK_INTERVAL;
        let mut positions = self.reading.positions();
        positions.extend(self.retries.iter().flat_map(Reading::positions));
        let state = match self.leaving {
            Some(_) => GroupState::Draining,
            None => self.state(),
        };
        if now >= self.next_heartbeat {
            self.next_heartbeat = now + self.parts.options.heartbeat;
            self.members.beat(&wire::heartbeat(&positions, &self.state()));
        }
        let reason = match &state {
            GroupState::NotReading { reason, .. } => Some(reason.as_str()),
            GroupState::Reading | GroupState::Paused { .. } | GroupState::Draining => None,
        };
        self.parts.board.tell(&self.parts.key, reason);
        let held = self.dispatcher.held();
        let metrics = &self.parts.metrics;
        metrics.not_reading.set(i64::from(reason.is_some()));
        metrics.paused.set(i64::from(self.pause.is_some()));
        if !positions.is_empty() {
            let oldest = self.dispatcher.oldest_held();
            let wall_millis = self.parts.clock.wall_millis();
            self.parts
                .lag_board
                .show_held(&self.parts.key, &positions, &oldest, wall_millis);
        }
        metrics.in_flight.set(gauge(held.in_flight));
        metrics.dead_letters_waiting.set(gauge(held.leaving));
        metrics.lag.set(gauge(positions.iter().map(lag).sum::<u64>()));
        let dead_letter_fault = match &*self.parts.dead_letter_state.borrow() {
            DeadLetterWriterState::Writing => None,
            DeadLetterWriterState::Failing { reason, .. } => Some(reason.clone()),
        };
        let group = GroupInfo {
            broker: self.parts.key.broker.clone(),
            group: self.parts.key.group.clone(),
            topics: self.parts.terms.topics.clone(),
            sessions: self.members.len(),
            in_flight: held.in_flight,
            unsettled_records: held.records,
            leaving: held.leaving,
            state,
            dead_letter_fault,
            positions,
        };
        let sessions = self
            .members
            .iter()
            .filter_map(|(id, member)| self.session_info(id, member))
            .collect();
        self.parts.view.show(GroupView {
            group: Some(group),
            sessions,
        });
    }

    fn session_info(&self, id: SessionId, member: &Member) -> Option<SessionInfo> {
        let load = self.dispatcher.session_load(id)?;
        Some(SessionInfo {
            session_id: member.session_id.clone(),
            broker: self.parts.key.broker.clone(),
            group: self.parts.key.group.clone(),
            worker_id: member.worker_id.clone(),
            in_flight_messages: u32::try_from(load.in_flight).unwrap_or(u32::MAX),
            in_flight_bytes: load.in_flight_bytes,
            credit_messages: load.credit_messages,
            credit_bytes: load.credit_bytes,
            opened_at: member.opened_at,
        })
    }
}
