//! Settlements of workers, and dead letters that are done: from words to claims that are settled on the broker.
//!
//! What holds: each settlement has one answer; a claim is settled on the broker only when the dispatcher says that its
//! record is done; a claim that the broker refuses is answered as stale, for the record comes again.

use meridian_broker::{Claim, SettleError};
use meridian_proto::meridian as wire_types;

use super::owner::Owner;
use crate::dispatch::{Destination, Refusal, SessionId, Settled};
use crate::fault::FaultCode;
use crate::settlement::{AwayDone, Word, WordLimits};
use crate::subscription::wire;

impl Owner {
    pub(super) fn settle(&mut self, session: SessionId, settlements: Vec<wire_types::Settlement>) {
        let max = self.members.max_results();
        if settlements.len() > max {
            let words = format!(
                "{} settlements in one message are over the limit of {max}",
                settlements.len()
            );
            let refusal = crate::fault::Refusal::new(FaultCode::InvalidSession, words);
            self.refuse(session, &refusal);
            return;
        }
        let now = self.parts.clock.now();
        let limits = self.parts.options.word_limits();
        let results = settlements
            .into_iter()
            .map(|settlement| self.settle_one(session, settlement, &limits, now))
            .collect();
        self.members.confirm(session, results);
    }

    fn settle_one(
        &mut self,
        session: SessionId,
        settlement: wire_types::Settlement,
        limits: &WordLimits,
        now: std::time::Instant,
    ) -> wire_types::SettlementResult {
        let delivery_id = settlement.delivery_id;
        let word = match Word::read(settlement, limits) {
            Ok(word) => word,
            Err(fault) => {
                self.count_refused("invalid");
                return wire::invalid(delivery_id, &fault);
            }
        };
        let counter = self.parts.metrics.all.settled.of(&word).clone();
        let settled = match self.dispatcher.settle(session, delivery_id, word, now) {
            Ok(Settled::Done(claim)) => self.settle_claim(&claim),
            Ok(Settled::Released | Settled::DeadLettered | Settled::Renewed) => Ok(()),
            Err(refusal) => Err(refusal),
        };
        match settled {
            Ok(()) => {
                counter.inc();
                wire::applied(delivery_id)
            }
            Err(refusal) => {
                self.count_refused(match refusal {
                    Refusal::Stale => "stale",
                    Refusal::UnknownDelivery => "unknown_delivery",
                });
                self.settle_refusals.result(delivery_id, refusal)
            }
        }
    }

    pub(super) fn settle_claim(&self, claim: &Claim) -> Result<(), Refusal> {
        let retries = self
            .retries
            .as_ref()
            .filter(|retries| retries.reads(&claim.partition.topic));
        let Some(settler) = retries.unwrap_or(&self.reading).settler() else {
            return Err(Refusal::Stale);
        };
        settler.settle(claim).map_err(|error| {
            match error {
                SettleError::Stale | SettleError::Closed => {}
                SettleError::NotClaimed => tracing::warn!(
                    group = %self.parts.key, partition = %claim.partition, position = claim.position,
                    "the reader does not know a claim that was handed out; its record may come again"
                ),
            }
            Refusal::Stale
        })
    }

    fn count_refused(&self, outcome: &'static str) {
        self.parts
            .metrics
            .all
            .refused_settlements
            .get_or_create(&[("outcome", outcome)])
            .inc();
    }

    pub(super) fn away_done(&mut self, done: AwayDone) {
        let Some(claim) = self.dispatcher.gone(done.item) else {
            return; // its partition has moved: whoever has it now decides anew
        };
        let metrics = &self.parts.metrics.all;
        match done.destination {
            Destination::DeadLetters(reason) => metrics.dead_lettered.get_or_create(&[("reason", reason.code())]).inc(),
            Destination::Park { .. } => metrics.parked.inc(),
        };
        // A stale claim means the same here: the record comes again, and its dead letter is there twice.
        let _ = self.settle_claim(&claim);
    }

    /// Takes what else is done without waiting.
    pub(super) fn finish_away(&mut self) {
        while let Ok(done) = self.parts.away_done.try_recv() {
            self.away_done(done);
        }
    }

    /// Gives the writer as many records as it takes now; the others wait in the dispatcher.
    pub(super) fn order_away(&mut self) {
        while let Ok(permit) = self.parts.away.try_reserve() {
            let Some(order) = self.dispatcher.next_away() else {
                return;
            };
            permit.send(order);
        }
    }
}
