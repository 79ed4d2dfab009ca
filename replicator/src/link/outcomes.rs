//! What the outcomes of appends do to the lines, and what is settled thereby.

use meridian_broker::{Admission, AppendError, AppendOutcome, SettleError};

use super::lanes::{LaneId, Sent};
use super::session::{Session, SessionEnd};
use crate::line::{Phase, Refusal, Verdict, verdict};
use crate::spec::OnRefused;

impl Session {
    /// The target has taken the batch, or parts of it.
    pub(super) fn admitted(&mut self, sent: Vec<Sent>, admission: Admission) {
        let mut refused = admission.refused.into_iter().peekable();
        let mut on_their_way = Vec::with_capacity(sent.len());
        let mut failed = Vec::new();
        for (index, sent) in sent.into_iter().enumerate() {
            match refused.next_if(|refused| refused.index == index) {
                Some(refused) => failed.push((sent, refused.error)),
                None => on_their_way.push(sent),
            }
        }
        if !on_their_way.is_empty() {
            let commit = admission.commit;
            self.committing
                .push(Box::pin(async move { (on_their_way, commit.await) }));
        }
        self.complete(failed.into_iter().map(|(sent, error)| (sent, Err(error))));
    }

    /// The outcomes of what was taken are known.
    pub(super) fn committed(&mut self, sent: Vec<Sent>, outcomes: Vec<AppendOutcome>) {
        self.complete(
            sent.into_iter()
                .zip(outcomes.into_iter().map(|outcome| outcome.map(drop))),
        );
    }

    /// Outcomes come in runs of one lane; each is settled once at the end of its run.
    fn complete(&mut self, outcomes: impl Iterator<Item = (Sent, Result<(), AppendError>)>) {
        let now = self.cell.clock().now();
        let mut last = None;
        for (Sent { lane: id, number }, outcome) in outcomes {
            if let Some(last) = last.filter(|last| *last != id) {
                self.settle(last);
                self.lanes.give_turn(last);
            }
            last = Some(id);
            if let Err(error) = &outcome
                && verdict(error) != Verdict::Refused
            {
                self.cell.series.failed(error.kind).inc();
            }
            // A lane that is gone was revoked: the record comes again to whoever has the partition.
            if let Some(lane) = self.lanes.get_mut(id) {
                lane.line.complete(number, outcome.as_ref().copied(), now);
            }
        }
        if let Some(last) = last {
            self.settle(last);
            self.lanes.give_turn(last);
        }
    }

    /// Settles what is done at the front of a lane, and heeds what stands there.
    pub(super) fn settle(&mut self, id: LaneId) {
        let now_ms = self.cell.clock().wall_millis();
        let Some(lane) = self.lanes.get_mut(id) else {
            return;
        };
        lane.line.settle(&mut self.settled);
        let series = &self.cell.series;
        let (mut mirrored, mut bytes) = (0, 0);
        for settled in self.settled.drain(..) {
            match self.settler.settle(&settled.claim) {
                Ok(()) | Err(SettleError::Stale | SettleError::Closed) => {}
                Err(error) => tracing::error!(claim = ?settled.claim, %error, "a mirrored record was not settled"),
            }
            lane.last_ms = Some(settled.timestamp_ms);
            match settled.skipped {
                Some(reason) => _ = series.skipped(reason).inc(),
                None if settled.dead_lettered => _ = series.dead_lettered_records.inc(),
                None => {
                    mirrored += 1;
                    bytes += settled.bytes as u64;
                    let latency_ms = now_ms.saturating_sub(settled.timestamp_ms).max(0);
                    series.latency_seconds.observe(latency_ms as f64 / 1000.0);
                }
            }
        }
        series.mirrored_records.inc_by(mirrored);
        series.mirrored_bytes.inc_by(bytes);
        match lane.line.phase().clone() {
            Phase::Refused(refusal) => self.refused(id, &refusal),
            Phase::TopicGone(reason) => self.end = Some(SessionEnd::Failed(reason)),
            Phase::Halted(reason) => self.end = Some(SessionEnd::Halted(reason)),
            Phase::Flowing | Phase::Draining | Phase::Waiting(_) | Phase::Probing => {}
        }
    }

    /// The record at the front of a lane cannot be mirrored.
    fn refused(&mut self, id: LaneId, refusal: &Refusal) {
        let Some(lane) = self.lanes.get(id) else {
            return;
        };
        if self.to_dead_letter.contains(&id) || self.end.is_some() {
            return;
        }
        self.cell.series.refused_records.inc();
        let position = lane.line.front().map_or(0, |item| item.claim.position);
        let reason = format!(
            "topic {} stopped at partition {}, position {position}: {refusal} [{}]",
            lane.source.topic, lane.source.partition, refusal.code
        );
        match self.cell.spec.options.on_refused {
            OnRefused::Stop => {
                tracing::error!(link = %self.cell.spec.name, reason, "a record cannot be mirrored");
                self.end = Some(SessionEnd::TopicRefused(lane.source.topic.clone(), reason));
            }
            OnRefused::DeadLetter => {
                tracing::error!(link = %self.cell.spec.name, reason, "a record cannot be mirrored and is dead-lettered");
                self.to_dead_letter.push_back(id);
            }
        }
    }
}
