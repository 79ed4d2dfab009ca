//! Every metric of subscriptions, with its help and unit.
//!
//! What holds: labels come from closed sets (words, reasons, outcomes), or are broker and group, of which at most
//! `MAX_GROUP_LABELS` are kept apart.

use meridian_runtime::{BoundedFamily, Metrics, OVERFLOW, RegisterError, latency_histogram};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Metric;

use super::terms::GroupKey;
use crate::dispatch::DeadLetterReason;
use crate::metrics::take;
use crate::settlement::Word;

/// The most groups that have metrics of their own.
const MAX_GROUP_LABELS: usize = 1_000;

type GroupLabels = [(&'static str, String); 2];
type FixedLabel = [(&'static str, &'static str); 1];

/// The metrics of all groups; clones share them.
#[derive(Clone, Debug)]
pub struct SubscriptionMetrics {
    pub(super) sessions: Gauge,
    pub(super) sessions_ended: Family<FixedLabel, Counter>,
    pub(super) groups: Gauge,
    pub(super) redelivered: Counter,
    pub(super) expired: Counter,
    pub(super) too_large: Counter,
    pub(super) stalls: Counter,
    pub(super) settled: SettledCounters,
    pub(super) refused_settlements: Family<FixedLabel, Counter>,
    pub(super) dead_lettered: Family<FixedLabel, Counter>,
    pub(super) parked: Counter,
    pub(super) expired_events: Counter,
    pub(super) reader_faults: Family<FixedLabel, Counter>,
    pub(super) delivery_seconds: Histogram,
    delivered: BoundedFamily<GroupLabels, Counter>,
    in_flight: BoundedFamily<GroupLabels, Gauge>,
    lag: BoundedFamily<GroupLabels, Gauge>,
    not_reading: BoundedFamily<GroupLabels, Gauge>,
    paused: BoundedFamily<GroupLabels, Gauge>,
    dead_letters_waiting: BoundedFamily<GroupLabels, Gauge>,
}

/// Settlements that were applied, by word.
#[derive(Clone, Debug)]
pub(super) struct SettledCounters {
    accept: Counter,
    release: Counter,
    reject: Counter,
    renew: Counter,
}

impl SettledCounters {
    pub(super) fn of(&self, word: &Word) -> &Counter {
        match word {
            Word::Accept => &self.accept,
            Word::Release { .. } => &self.release,
            Word::Reject { .. } => &self.reject,
            Word::Renew { .. } => &self.renew,
        }
    }
}

/// The metrics of one group.
#[derive(Clone, Debug)]
pub(super) struct GroupMetrics {
    labels: GroupLabels,
    pub(super) all: SubscriptionMetrics,
    pub(super) delivered: Counter,
    pub(super) in_flight: Gauge,
    pub(super) lag: Gauge,
    pub(super) not_reading: Gauge,
    pub(super) paused: Gauge,
    pub(super) dead_letters_waiting: Gauge,
}

impl SubscriptionMetrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// [`RegisterError`] when a name is taken, as by a second gateway on the same registry.
    pub fn register(metrics: &Metrics) -> Result<Self, RegisterError> {
        let registry = metrics.sub_registry("meridian_subscription");
        let settled: Family<FixedLabel, Counter> = Family::default();
        registry.register("settlements", "Settlements applied, by word", settled.clone())?;
        let word = |word| settled.get_or_create_owned(&[("word", word)]);
        let delivery_seconds = latency_histogram();
        registry.register(
            "delivery_seconds",
            "From a record's timestamp to its first hand-over to a worker",
            delivery_seconds.clone(),
        )?;
        let dead_lettered: Family<FixedLabel, Counter> = take(
            &registry,
            "dead_letters",
            "Records written to dead-letter topics, by reason",
        )?;
        for reason in DeadLetterReason::ALL {
            dead_lettered.get_or_create_owned(&[("reason", reason.code())]);
        }
        Ok(Self {
            sessions: take(&registry, "sessions", "Sessions open")?,
            sessions_ended: take(
                &registry,
                "sessions_ended",
                "Sessions ended, by how: drained, broken, by the gateway",
            )?,
            groups: take(&registry, "groups", "Groups read by this gateway")?,
            redelivered: take(
                &registry,
                "redeliveries",
                "Deliveries of records that were delivered before",
            )?,
            expired: take(
                &registry,
                "leases_expired",
                "Leases that ended before the worker settled",
            )?,
            too_large: take(
                &registry,
                "too_large",
                "Times that a session was told of a record too large for it",
            )?,
            stalls: take(
                &registry,
                "stalls",
                "Times that a worker did not read its stream and was handed nothing",
            )?,
            settled: SettledCounters {
                accept: word("accept"),
                release: word("release"),
                reject: word("reject"),
                renew: word("renew"),
            },
            refused_settlements: take(
                &registry,
                "settlements_refused",
                "Settlements that changed nothing, by outcome",
            )?,
            dead_lettered,
            parked: take(
                &registry,
                "parked_retries",
                "Records that wait for their next attempt in the due-time topics",
            )?,
            expired_events: take(
                &registry,
                "expired_events",
                "Events dropped because their expirytime was past",
            )?,
            reader_faults: take(
                &registry,
                "reader_faults",
                "Times that a reader ended with an error, by code",
            )?,
            delivery_seconds,
            delivered: by_group(&registry, "deliveries", "Deliveries handed to workers")?,
            in_flight: by_group(&registry, "in_flight", "Deliveries in flight")?,
            lag: by_group(
                &registry,
                "lag_records",
                "Records not settled, in the partitions that this gateway has",
            )?,
            not_reading: by_group(&registry, "not_reading", "1 while the group cannot be read")?,
            paused: by_group(
                &metrics.sub_registry("meridian_group"),
                "paused",
                "1 while an operator has paused the group",
            )?,
            dead_letters_waiting: by_group(
                &registry,
                "dead_letters_waiting",
                "Records on their way to a dead-letter topic",
            )?,
        })
    }

    pub(super) fn of_group(&self, key: &GroupKey) -> GroupMetrics {
        let labels = [("broker", key.broker.to_string()), ("group", key.group.to_string())];
        self.groups.inc();
        GroupMetrics {
            delivered: self.delivered.get_or_create(&labels),
            in_flight: self.in_flight.get_or_create(&labels),
            lag: self.lag.get_or_create(&labels),
            not_reading: self.not_reading.get_or_create(&labels),
            paused: self.paused.get_or_create(&labels),
            dead_letters_waiting: self.dead_letters_waiting.get_or_create(&labels),
            all: self.clone(),
            labels,
        }
    }
}

impl GroupMetrics {
    /// The group is gone; the counter of its deliveries stays.
    pub(super) fn remove(&self) {
        self.all.groups.dec();
        for family in [
            &self.all.in_flight,
            &self.all.lag,
            &self.all.not_reading,
            &self.all.paused,
            &self.all.dead_letters_waiting,
        ] {
            family.remove(&self.labels);
        }
    }
}

/// A count as a gauge takes it.
pub(super) fn gauge(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

fn by_group<M>(registry: &Metrics, name: &str, help: &str) -> Result<BoundedFamily<GroupLabels, M>, RegisterError>
where
    M: Metric + Clone + Default,
    Family<GroupLabels, M, fn() -> M>: Metric,
{
    let overflow = [("broker", OVERFLOW.to_owned()), ("group", OVERFLOW.to_owned())];
    registry.register_bounded(name, help, MAX_GROUP_LABELS, overflow, M::default)
}
