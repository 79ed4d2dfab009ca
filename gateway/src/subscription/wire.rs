//! Answers as messages of the contract. Data in, data out.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use meridian_broker::{Claim, Gap, PartitionPosition, RegionName};
use meridian_proto::google_rpc;
use meridian_proto::meridian as wire;
use meridian_proto::meridian::subscribe_response::Response;
use meridian_runtime::Clock;

use super::info::GroupState;
use crate::dispatch::{Handover, Refusal as SettleRefusal, SessionTerms};
use crate::fault::{FaultCode, Refusal};
use crate::settlement::WordFault;

/// Both clocks at one moment, to tell wall time of deadlines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) wall_millis: i64,
}

impl Moment {
    pub(super) fn of(clock: &dyn Clock) -> Self {
        Self {
            now: clock.now(),
            wall_millis: clock.wall_millis(),
        }
    }

    pub(super) fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(u64::try_from(self.wall_millis).unwrap_or(0))
    }

    /// The moment of a wall clock's time; `None` when it is too far to matter.
    pub(super) fn instant(&self, wall_millis: i64) -> Option<Instant> {
        match u64::try_from(wall_millis.saturating_sub(self.wall_millis)) {
            Ok(ahead) => self.now.checked_add(Duration::from_millis(ahead)),
            Err(_) => Some(self.now),
        }
    }

    fn timestamp(&self, at: Instant) -> prost_types::Timestamp {
        let ahead = at.saturating_duration_since(self.now).as_millis();
        let millis = self
            .wall_millis
            .saturating_add(i64::try_from(ahead).unwrap_or(i64::MAX));
        timestamp_of_millis(millis)
    }
}

fn timestamp_of_millis(millis: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(millis.rem_euclid(1_000) * 1_000_000).unwrap_or(0);
    prost_types::Timestamp {
        seconds: millis.div_euclid(1_000),
        nanos,
    }
}

pub(super) fn response(response: Response) -> wire::SubscribeResponse {
    wire::SubscribeResponse {
        response: Some(response),
    }
}

pub(super) fn opened(session_id: String, region: &RegionName, terms: &SessionTerms, heartbeat: Duration) -> Response {
    let seconds = |span: Duration| u32::try_from(span.as_secs().max(1)).unwrap_or(u32::MAX);
    Response::Opened(wire::SessionOpened {
        session_id,
        region: region.to_string(),
        lease_seconds: seconds(terms.lease),
        max_attempts: terms.max_attempts,
        credit_messages: terms.credit_messages,
        credit_bytes: terms.credit_bytes,
        heartbeat_seconds: seconds(heartbeat),
    })
}

pub(super) fn delivery(handover: Handover, moment: &Moment) -> wire::Delivery {
    wire::Delivery {
        delivery_id: handover.delivery_id,
        event: handover.event,
        attempt: handover.attempt,
        topic: handover.source.partition.topic.to_string(),
        partition: handover.source.partition.partition,
        position: handover.source.position,
        lease_expires_at: Some(moment.timestamp(handover.lease_expires_at)),
    }
}

pub(super) fn too_large(claim: &Claim, size_bytes: u64, limit_bytes: u64) -> Response {
    let words = format!(
        "the event at {} position {} has {size_bytes} bytes, this session takes {limit_bytes}; raise credit_bytes, or it \
         goes to another session or to the dead-letter topic",
        claim.partition, claim.position
    );
    Response::DeliveryFailed(wire::DeliveryFailed {
        topic: claim.partition.topic.to_string(),
        partition: claim.partition.partition,
        position: claim.position,
        error: Some(Refusal::new(FaultCode::DeliveryTooLarge, words).to_rpc_status()),
    })
}

pub(super) fn gap(gap: &Gap) -> Response {
    Response::GroupGap(wire::GroupGap {
        topic: gap.partition.topic.to_string(),
        partition: gap.partition.partition,
        expected_position: gap.expected_position,
        resumed_position: gap.resumed_position,
        missing_records: gap.missing_records,
    })
}

pub(super) fn drain_requested(reason: &str, siblings: &[String], deadline: Instant, moment: &Moment) -> Response {
    Response::DrainRequested(wire::DrainRequested {
        reason: reason.to_owned(),
        gateways: siblings.to_vec(),
        deadline: Some(moment.timestamp(deadline)),
    })
}

pub(super) fn heartbeat(positions: &[PartitionPosition], state: &GroupState) -> Response {
    let (since, reason) = match state {
        GroupState::NotReading { since, reason } | GroupState::Paused { since, reason, .. } => {
            (Some((*since).into()), reason.clone())
        }
        GroupState::Reading | GroupState::Draining => (None, String::new()),
    };
    let positions = positions.iter().map(|position| wire::GroupPosition {
        topic: position.partition.topic.to_string(),
        partition: position.partition.partition,
        settled_position: position.settled_position,
        end_position: position.end_position,
    });
    Response::Heartbeat(wire::Heartbeat {
        positions: positions.collect(),
        not_reading_since: since,
        not_reading_reason: reason,
    })
}

pub(super) fn applied(delivery_id: u64) -> wire::SettlementResult {
    result(delivery_id, wire::SettlementOutcome::Applied, None)
}

/// Why settlements change nothing, as statuses that are made once: a worker may send much that is stale.
#[derive(Clone, Debug)]
pub(super) struct SettleRefusals {
    stale: google_rpc::Status,
    unknown_delivery: google_rpc::Status,
}

impl Default for SettleRefusals {
    fn default() -> Self {
        let status = |code, refusal: SettleRefusal| Refusal::new(code, refusal.to_string()).to_rpc_status();
        Self {
            stale: status(FaultCode::LeaseOver, SettleRefusal::Stale),
            unknown_delivery: status(FaultCode::UnknownDelivery, SettleRefusal::UnknownDelivery),
        }
    }
}

impl SettleRefusals {
    pub(super) fn result(&self, delivery_id: u64, refusal: SettleRefusal) -> wire::SettlementResult {
        let (outcome, status) = match refusal {
            SettleRefusal::Stale => (wire::SettlementOutcome::Stale, &self.stale),
            SettleRefusal::UnknownDelivery => (wire::SettlementOutcome::UnknownDelivery, &self.unknown_delivery),
        };
        result(delivery_id, outcome, Some(status.clone()))
    }
}

pub(super) fn invalid(delivery_id: u64, fault: &WordFault) -> wire::SettlementResult {
    let words = fault.to_string();
    let field = words.split(':').next().unwrap_or_default().to_owned();
    let refusal = Refusal::new(FaultCode::InvalidSettlement, words.clone()).with_field(field, words);
    result(
        delivery_id,
        wire::SettlementOutcome::Invalid,
        Some(refusal.to_rpc_status()),
    )
}

fn result(
    delivery_id: u64,
    outcome: wire::SettlementOutcome,
    error: Option<google_rpc::Status>,
) -> wire::SettlementResult {
    wire::SettlementResult {
        delivery_id,
        outcome: outcome.into(),
        error,
    }
}
