//! The batch: prepare each event, append by broker, forward by region.
//!
//! What holds: a batch is routed under one table; when [`Publishing::begin`]
//! returns, the batch's place in every broker's order is fixed, so that batches
//! begun one after the other stay in order; one bad event never fails another;
//! every event has a result by the deadline.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use meridian_broker::{AppendErrorKind, AppendOutcome, Appender, Commit, RefusedRecord, Stored};
use meridian_event::{Binding, EventLimits};
use meridian_runtime::SharedClock;
use tokio::time::timeout_at;

use super::forward::{Lane, Share, forward};
use super::outcome::{EventResult, Outcome};
use super::part::{InFlight, Part};
use super::peer::Peers;
use super::plan::{Plan, Plans};
use super::prepare::{Preparation, Prepared};
use super::receipt::ReceiptTemplate;
use super::source::Source;
use super::windowed::{Appended, Held, LocalShare, sift};
use crate::brokers::Brokers;
use crate::delay::{BrokerDelays, DelayDesk};
use crate::fault::{FaultCode, Refusal};
use crate::idempotence::Windows;
use crate::metrics::GatewayMetrics;
use crate::routing::{RuleBook, TopicKeeper};

/// So many bytes of a batch's refusals are told in full, and the rest in few words,
/// for clients read messages of 4 MiB at most unless told otherwise.
const MAX_REFUSED_BYTES: usize = 1024 * 1024;

/// Takes batches of every publisher of the gateway.
pub struct Publishing {
    plans: Plans,
    keeper: Arc<TopicKeeper>,
    peers: Arc<Peers>,
    brokers: Vec<BrokerEnd>,
    bindings: Vec<Binding>,
    windows: Option<Arc<Windows>>,
    limits: EventLimits,
    max_wait_ms: i64,
    delays: Vec<Arc<BrokerDelays>>,
    clock: SharedClock,
    metrics: GatewayMetrics,
}

/// A broker as the pipeline sees it.
struct BrokerEnd {
    appender: Arc<dyn Appender>,
    max_record_bytes: usize,
}

/// What [`Publishing`] is made of.
pub struct PublishingParts {
    /// The rules.
    pub book: Arc<RuleBook>,
    /// Makes topics that are missing.
    pub keeper: Arc<TopicKeeper>,
    /// The gateways of other regions.
    pub peers: Arc<Peers>,
    /// The region's brokers.
    pub brokers: Brokers,
    /// The windows of topics that have one.
    pub windows: Option<Arc<Windows>>,
    /// What one event may be.
    pub limits: EventLimits,
    /// The furthest `deliverat`.
    pub max_wait: Duration,
    /// Where events for later wait.
    pub delays: Arc<DelayDesk>,
    /// Time.
    pub clock: SharedClock,
    /// Counts.
    pub metrics: GatewayMetrics,
}

impl Publishing {
    /// Puts the parts together.
    pub fn new(parts: PublishingParts) -> Self {
        let ends = parts.brokers.iter().map(|(_, broker)| BrokerEnd {
            appender: broker.appender(),
            max_record_bytes: broker.profile().max_record_bytes,
        });
        Self {
            brokers: ends.collect(),
            bindings: parts
                .brokers
                .iter()
                .map(|(_, broker)| broker.profile().binding)
                .collect(),
            plans: Plans::new(parts.book, parts.metrics.clone(), parts.windows.clone()),
            windows: parts.windows,
            keeper: parts.keeper,
            peers: parts.peers,
            limits: parts.limits,
            max_wait_ms: i64::try_from(parts.max_wait.as_millis()).unwrap_or(i64::MAX),
            delays: parts.delays.all().map(Arc::clone).collect(),
            clock: parts.clock,
            metrics: parts.metrics,
        }
    }

    /// The plan of the rules in force.
    pub fn plan(&self) -> Arc<Plan> {
        self.plans.current()
    }

    /// Prepares the events and hands them on, in order; waits for room, not for
    /// durability.
    pub async fn begin(&self, source: &Source, events: Vec<Bytes>, lane: &mut Lane, deadline: Instant) -> InFlight {
        let began = self.clock.now();
        let plan = self.plan();
        let mut known = Vec::new();
        let mut local: Vec<LocalShare> = self.brokers.iter().map(|_| LocalShare::default()).collect();
        let mut remote: Vec<Share> = Vec::new();
        let (now_ms, count) = (self.clock.wall_millis(), events.len());
        let limits = (&self.limits, self.max_wait_ms);
        let mut preparation = Preparation::new(&plan, &self.bindings, source, limits, now_ms, count);
        let (mut received_bytes, mut refused_bytes) = (0, 0);
        for (index, event) in (0u32..).zip(events) {
            received_bytes += event.len() as u64;
            match preparation.event(event) {
                Ok(Prepared::Local {
                    broker_index,
                    template,
                    record,
                    claim,
                    wait,
                }) => {
                    let share = &mut local[broker_index];
                    if share.records.is_empty() {
                        share.records.reserve(count - index as usize);
                        share.events.reserve(count - index as usize);
                    }
                    if let Some(claim) = claim {
                        share.claims.push((share.records.len(), claim));
                    }
                    if let Some((bucket, _)) = wait
                        && !share.buckets.contains(&bucket)
                    {
                        share.buckets.push(bucket);
                    }
                    share.events.push(Appended { index, template, wait });
                    share.records.push(record);
                }
                Ok(Prepared::Peer { region, event }) => {
                    let found = remote.iter().position(|share| share.region == region);
                    let place = found.unwrap_or_else(|| {
                        let forwarded_by = source.with_own(&plan.table().context().region);
                        remote.push(Share {
                            region,
                            forwarded_by,
                            indices: Vec::new(),
                            events: Vec::new(),
                        });
                        remote.len() - 1
                    });
                    remote[place].indices.push(index);
                    remote[place].events.push(event);
                }
                Err(refusal) => {
                    let mut refusal = refusal.at_event(index as usize);
                    refused_bytes += refusal.size_bytes();
                    if refused_bytes > MAX_REFUSED_BYTES {
                        refusal = refusal.brief();
                    }
                    let outcome = Outcome::Refused(refusal);
                    known.push(EventResult { index, outcome });
                }
            }
        }
        self.metrics.received_bytes.inc_by(received_bytes);
        preparation.finish();
        let mut parts: Vec<Part> = Vec::with_capacity(1);
        for (broker_index, mut share) in local
            .into_iter()
            .enumerate()
            .filter(|(_, share)| !share.records.is_empty())
        {
            let held = match &self.windows {
                Some(windows) if !share.claims.is_empty() => {
                    let mut waits = Vec::new();
                    let held = sift(windows, &mut share, &mut known, &mut waits, deadline).await;
                    parts.extend(waits.into_iter().map(|wait| self.counted(wait, began)));
                    Some((held, Arc::clone(plan.templates())))
                }
                _ => None,
            };
            if !share.records.is_empty() {
                let appended = self.append(broker_index, share, held, &mut known, began, deadline);
                parts.extend(appended.await);
            }
        }
        for share in remote {
            parts.push(self.forward(share, lane, began, deadline));
        }
        self.count(&known);
        InFlight {
            templates: Arc::clone(plan.templates()),
            known,
            parts,
        }
    }

    /// Appends a broker's share; what it does not take joins `known`.
    async fn append(
        &self,
        broker_index: usize,
        share: LocalShare,
        held: Option<(Held, Arc<[ReceiptTemplate]>)>,
        known: &mut Vec<EventResult>,
        began: Instant,
        deadline: Instant,
    ) -> Option<Part> {
        let LocalShare {
            mut events,
            records,
            buckets,
            ..
        } = share;
        let (end, delays) = (&self.brokers[broker_index], &self.delays[broker_index]);
        for bucket in buckets {
            // Waits only for the first event of each bucket; what fails shows in the append.
            if let Ok(Err(error)) = timeout_at(deadline.into(), delays.ensure(bucket)).await {
                tracing::warn!(broker = %delays.name(), bucket = bucket.label(), %error, "a bucket cannot be made");
            }
        }
        let admission = end.appender.admit(records, deadline).await;
        if !admission.refused.is_empty() {
            self.refuse((end, delays), &admission.refused, &mut events, known);
        }
        let is_empty = events.is_empty();
        let makers = (Arc::clone(&self.keeper), Arc::clone(delays));
        let Some((mut held, templates)) = held.filter(|(held, _)| !held.is_empty()) else {
            let results = commit_results(admission.commit, events, makers, Some(deadline));
            return (!is_empty).then(|| self.counted(results, began));
        };
        held.refused(|index| !events.iter().any(|kept| kept.index == index))
            .await;
        let late = events.iter().map(|event| event.index).collect();
        let results = commit_results(admission.commit, events, makers, None);
        (!is_empty).then(|| self.counted(held.follow(results, templates, late, deadline), began))
    }

    fn refuse(
        &self,
        (end, delays): (&BrokerEnd, &BrokerDelays),
        refused: &[RefusedRecord],
        events: &mut Vec<Appended>,
        known: &mut Vec<EventResult>,
    ) {
        for refused in refused {
            let event = events[refused.index];
            let index = event.index;
            let outcome = match failed(&refused.error, event, &self.keeper, delays) {
                Outcome::Refused(refusal) if refused.error.kind == AppendErrorKind::RecordTooLarge => {
                    Outcome::Refused(refusal.with_metadata("maxRecordBytes", end.max_record_bytes.to_string()))
                }
                outcome => outcome,
            };
            known.push(EventResult { index, outcome });
        }
        let mut refused = refused.iter().map(|refused| refused.index).peekable();
        let mut place = 0;
        events.retain(|_| {
            let is_refused = refused.next_if_eq(&place).is_some();
            place += 1;
            !is_refused
        });
    }

    fn forward(&self, share: Share, lane: &mut Lane, began: Instant, deadline: Instant) -> Part {
        let forwarded = self
            .metrics
            .forwarded_events
            .get_or_create(&[("peer", share.region.to_string())]);
        forwarded.inc_by(share.events.len() as u64);
        let turn = lane.turn(&share.region);
        let results = forward(
            Arc::clone(&self.peers),
            share,
            turn,
            tokio::time::Instant::from_std(deadline),
        );
        self.counted(results, began)
    }

    /// A part that counts its results once they are there.
    fn counted(&self, results: impl Future<Output = Vec<EventResult>> + Send + 'static, began: Instant) -> Part {
        let metrics = self.metrics.clone();
        let clock = self.clock.clone();
        Box::pin(async move {
            let results = results.await;
            count(&metrics, &results);
            metrics
                .publish_seconds
                .observe(clock.now().saturating_duration_since(began).as_secs_f64());
            results
        })
    }

    fn count(&self, results: &[EventResult]) {
        count(&self.metrics, results);
    }
}

/// The results of a commit, or unknown for all of it once the deadline, if there
/// is one, is over.
async fn commit_results(
    commit: Commit,
    events: Vec<Appended>,
    (keeper, delays): (Arc<TopicKeeper>, Arc<BrokerDelays>),
    deadline: Option<Instant>,
) -> Vec<EventResult> {
    let outcomes = match deadline {
        Some(deadline) => timeout_at(deadline.into(), commit).await.ok(),
        None => Some(commit.await),
    };
    let outcomes: Vec<AppendOutcome> = match outcomes {
        Some(outcomes) => outcomes,
        None => {
            return events
                .iter()
                .map(|event| EventResult {
                    index: event.index,
                    outcome: unconfirmed(event.index),
                })
                .collect();
        }
    };
    let result = |(event, outcome): (Appended, AppendOutcome)| EventResult {
        index: event.index,
        outcome: match outcome {
            Ok(position) => Outcome::Stored {
                template: event.template,
                position,
                due_ms: event.wait.map(|(_, due_ms)| due_ms),
            },
            Err(error) => failed(&error, event, &keeper, &delays),
        },
    };
    events.into_iter().zip(outcomes).map(result).collect()
}

pub(super) fn unconfirmed(index: u32) -> Outcome {
    let message = "the broker has not confirmed the event in time; it may be stored";
    let refusal = Refusal::new(FaultCode::PublishDeadlineExceeded, message);
    Outcome::Unknown(refusal.at_event(index as usize))
}

/// The outcome of a failed append. A topic of the rules that is not there yet is
/// on its way, where the gateway makes topics.
fn failed(
    error: &meridian_broker::AppendError,
    event: Appended,
    keeper: &TopicKeeper,
    delays: &BrokerDelays,
) -> Outcome {
    let index = event.index;
    if let Some((bucket, _)) = event.wait.filter(|_| error.kind == AppendErrorKind::TopicNotFound) {
        delays.missed(bucket);
        let message = format!("{}; it is made with the next event that waits there", error.message);
        let refusal = Refusal::new(FaultCode::TopicNotReady, message);
        return Outcome::Refused(refusal.at_event(index as usize));
    }
    if error.kind == AppendErrorKind::TopicNotFound && error.stored == Stored::No {
        keeper.missed();
        if keeper.creates() {
            let message = format!("{}; the gateway is making it, try again", error.message);
            let refusal = Refusal::new(FaultCode::TopicNotReady, message);
            return Outcome::Refused(refusal.at_event(index as usize));
        }
    }
    Outcome::of_failed_append(error, index)
}

fn count(metrics: &GatewayMetrics, results: &[EventResult]) {
    use meridian_proto::meridian::publish_result::Outcome as Wire;
    let (mut stored, mut refused, mut unknown) = (0, 0, 0);
    for result in results {
        let fault = match &result.outcome {
            Outcome::Stored { .. } => {
                stored += 1;
                continue;
            }
            Outcome::Answered(answer) => {
                match &answer.outcome {
                    Some(Wire::Receipt(_)) => stored += 1,
                    Some(Wire::Refusal(_)) => refused += 1,
                    _ => unknown += 1,
                }
                continue;
            }
            Outcome::Refused(refusal) => {
                refused += 1;
                refusal
            }
            Outcome::Unknown(refusal) => {
                unknown += 1;
                refusal
            }
        };
        metrics
            .faults
            .get_or_create_owned(&[("code", fault.code().as_str())])
            .inc();
    }
    metrics.stored_events.inc_by(stored);
    metrics.refused_events.inc_by(refused);
    metrics.unknown_events.inc_by(unknown);
}
