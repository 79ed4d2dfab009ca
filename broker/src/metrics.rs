//! The metrics of this crate: every name, its unit and its help, in one place.
//!
//! A process registers [`BrokerMetrics`] once and hands it to every broker that
//! it connects; the decorator in [`instrument`](mod@crate::instrument) counts. Labels
//! are the broker (`broker_region`, `broker`) and closed sets of words; no topic,
//! group or message text becomes a label. The region of a broker has a label name
//! of its own, because a registry may already give `region` to every line.
//!
//! What holds: one set of series for each broker, all there from the start, so
//! that rates begin at zero; availability and reader states are asked for at the
//! scrape, never remembered.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use meridian_runtime::metrics::{Metrics, RegisterError, latency_histogram};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::error::{AdminErrorKind, AppendErrorKind, SettleError};
use crate::read::{ReaderState, Settler};
use crate::seam::{Broker, BrokerProfile, BrokerState};

/// What every name of this crate begins with.
pub const PREFIX: &str = "meridian_broker";

/// The value of a `kind` label where nothing went wrong.
pub const NO_FAULT: &str = "NONE";

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// The families of this crate, registered once in a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BrokerMetrics {
    admitted_records: Counters,
    admitted_bytes: Counters,
    append_outcomes: Counters,
    stored_bytes: Counters,
    admit_seconds: Histograms,
    commit_seconds: Histograms,
    in_flight_records: Gauges,
    in_flight_bytes: Gauges,
    read_records: Counters,
    read_bytes: Counters,
    reader_events: Counters,
    missing_records: Counters,
    settlements: Counters,
    position_commits: Counters,
    position_commit_seconds: Histograms,
    admin_calls: Counters,
    admin_call_seconds: Histograms,
    states: BrokerStates,
    rebuilds: ClientRebuilds,
    readers: ReaderStates,
}

impl BrokerMetrics {
    /// Registers every family of this crate.
    ///
    /// # Errors
    /// [`RegisterError`] when they are registered already.
    pub fn register(metrics: &Metrics) -> Result<Self, RegisterError> {
        let registry = metrics.sub_registry(PREFIX);
        let counters = |name: &str, help: &str| {
            let family = Counters::default();
            registry.register(name, help, family.clone()).map(|()| family)
        };
        let gauges = |name: &str, help: &str| {
            let family = Gauges::default();
            registry.register(name, help, family.clone()).map(|()| family)
        };
        let histograms = |name: &str, help: &str| {
            let family = Histograms::new_with_constructor(latency_histogram);
            registry.register(name, help, family.clone()).map(|()| family)
        };
        let states = BrokerStates::default();
        registry.register("available", "Whether the broker can be reached: 1 or 0", states.clone())?;
        let rebuilds = ClientRebuilds::default();
        registry.register(
            "client_rebuilds",
            "Clients of the broker that were opened anew because they stood still or were dead",
            rebuilds.clone(),
        )?;
        let readers = ReaderStates::default();
        registry.register("readers", "Open readers, by whether they read", readers.clone())?;
        Ok(Self {
            admitted_records: counters("admitted_records", "Records taken for appending")?,
            admitted_bytes: counters("admitted_bytes", "Bytes of records taken for appending")?,
            append_outcomes: counters(
                "append_outcomes",
                "Records by what became of them: stored, refused (surely not stored) or unknown (may be stored), and by the kind of fault",
            )?,
            stored_bytes: counters("stored_bytes", "Bytes of records confirmed as durable")?,
            admit_seconds: histograms("admit_duration_seconds", "Time that a batch waited for room")?,
            commit_seconds: histograms(
                "commit_duration_seconds",
                "Time from admission to the outcome of a whole batch",
            )?,
            in_flight_records: gauges("in_flight_records", "Records admitted whose outcome is not known yet")?,
            in_flight_bytes: gauges(
                "in_flight_bytes",
                "Bytes of records admitted whose outcome is not known yet",
            )?,
            read_records: counters(
                "read_records",
                "Records handed out by readers: for the first time in this assignment, or again after a release",
            )?,
            read_bytes: counters("read_bytes", "Bytes of records handed out by readers")?,
            reader_events: counters(
                "reader_events",
                "What readers told: records, assigned, revoked, gap or error",
            )?,
            missing_records: counters("missing_records", "Records that were gone before a group had read them")?,
            settlements: counters("settlements", "Calls that settle or release a record, by outcome")?,
            position_commits: counters(
                "position_commits",
                "Commits of a group's position that somebody waited for, by outcome",
            )?,
            position_commit_seconds: histograms(
                "position_commit_duration_seconds",
                "Time of a commit of a group's position",
            )?,
            admin_calls: counters("admin_calls", "Administrative calls, by operation and kind of fault")?,
            admin_call_seconds: histograms("admin_call_duration_seconds", "Time of an administrative call")?,
            states,
            rebuilds,
            readers,
        })
    }

    /// The series of one broker.
    pub(crate) fn of(&self, profile: &BrokerProfile) -> BrokerSeries {
        let labels = broker_labels(profile);
        let with = |more: &[(&'static str, &str)]| -> Labels {
            let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
            labels.iter().cloned().chain(more).collect()
        };
        let counter = |family: &Counters| family.get_or_create_owned(&labels);
        let counter_of =
            |family: &Counters, label: &'static str, value: &str| family.get_or_create_owned(&with(&[(label, value)]));
        let outcomes_of = |outcome: &str| -> Vec<Counter> {
            AppendErrorKind::ALL
                .iter()
                .map(|kind| {
                    let labels = with(&[("outcome", outcome), ("kind", kind.code())]);
                    self.append_outcomes.get_or_create_owned(&labels)
                })
                .collect()
        };
        let event = |value| counter_of(&self.reader_events, "event", value);
        let settlement = |value| counter_of(&self.settlements, "outcome", value);
        BrokerSeries {
            admitted_records: counter(&self.admitted_records),
            admitted_bytes: counter(&self.admitted_bytes),
            stored: self
                .append_outcomes
                .get_or_create_owned(&with(&[("outcome", "stored"), ("kind", NO_FAULT)])),
            refused_by_kind: outcomes_of("refused"),
            unknown_by_kind: outcomes_of("unknown"),
            stored_bytes: counter(&self.stored_bytes),
            admit_seconds: self.admit_seconds.get_or_create_owned(&labels),
            commit_seconds: self.commit_seconds.get_or_create_owned(&labels),
            in_flight_records: self.in_flight_records.get_or_create_owned(&labels),
            in_flight_bytes: self.in_flight_bytes.get_or_create_owned(&labels),
            first_reads: counter_of(&self.read_records, "delivery", "first"),
            repeated_reads: counter_of(&self.read_records, "delivery", "again"),
            read_bytes: counter(&self.read_bytes),
            records_events: event("records"),
            assigned_events: event("assigned"),
            revoked_events: event("revoked"),
            gap_events: event("gap"),
            error_events: event("error"),
            missing_records: counter(&self.missing_records),
            settled: settlement("settled"),
            released: settlement("released"),
            stale: settlement("stale"),
            not_claimed: settlement("not_claimed"),
            settled_after_close: settlement("closed"),
            positions_committed: counter_of(&self.position_commits, "outcome", "committed"),
            positions_not_committed: counter_of(&self.position_commits, "outcome", "failed"),
            position_commit_seconds: self.position_commit_seconds.get_or_create_owned(&labels),
            labels,
            admin_calls: self.admin_calls.clone(),
            admin_call_seconds: self.admin_call_seconds.clone(),
        }
    }

    /// Has the broker asked for its state at every scrape, while it lives.
    pub(crate) fn watch_broker(&self, broker: &Arc<dyn Broker>) {
        for watched in [&self.states.0, &self.rebuilds.0] {
            watched.add(broker_labels(broker.profile()), Arc::downgrade(broker));
        }
    }

    /// Has the reader asked for its state at every scrape, while it lives.
    pub(crate) fn watch_reader(&self, profile: &BrokerProfile, reader: &Arc<OpenReader>) {
        self.readers.0.add(broker_labels(profile), Arc::downgrade(reader));
    }
}

fn broker_labels(profile: &BrokerProfile) -> Labels {
    vec![
        ("broker_region", profile.region.to_string()),
        ("broker", profile.name.to_string()),
    ]
}

/// The series of one broker, looked up once, for the hot path.
#[derive(Debug)]
pub(crate) struct BrokerSeries {
    pub(crate) admitted_records: Counter,
    pub(crate) admitted_bytes: Counter,
    pub(crate) stored: Counter,
    refused_by_kind: Vec<Counter>,
    unknown_by_kind: Vec<Counter>,
    pub(crate) stored_bytes: Counter,
    pub(crate) admit_seconds: Histogram,
    pub(crate) commit_seconds: Histogram,
    pub(crate) in_flight_records: Gauge,
    pub(crate) in_flight_bytes: Gauge,
    pub(crate) first_reads: Counter,
    pub(crate) repeated_reads: Counter,
    pub(crate) read_bytes: Counter,
    pub(crate) records_events: Counter,
    pub(crate) assigned_events: Counter,
    pub(crate) revoked_events: Counter,
    pub(crate) gap_events: Counter,
    pub(crate) error_events: Counter,
    pub(crate) missing_records: Counter,
    pub(crate) settled: Counter,
    pub(crate) released: Counter,
    stale: Counter,
    not_claimed: Counter,
    settled_after_close: Counter,
    pub(crate) positions_committed: Counter,
    pub(crate) positions_not_committed: Counter,
    pub(crate) position_commit_seconds: Histogram,
    labels: Labels,
    admin_calls: Counters,
    admin_call_seconds: Histograms,
}

impl BrokerSeries {
    /// Records refused for this kind of fault.
    pub(crate) fn refused(&self, kind: AppendErrorKind) -> &Counter {
        &self.refused_by_kind[kind as usize] // built from `ALL`, which lists the kinds in order
    }

    /// Records of unknown outcome for this kind of fault.
    pub(crate) fn unknown(&self, kind: AppendErrorKind) -> &Counter {
        &self.unknown_by_kind[kind as usize]
    }

    /// Settlements and releases that did not take.
    pub(crate) fn unsettled(&self, error: SettleError) -> &Counter {
        match error {
            SettleError::Stale => &self.stale,
            SettleError::NotClaimed => &self.not_claimed,
            SettleError::Closed => &self.settled_after_close,
        }
    }

    /// One administrative call; these are rare, so the series are looked up.
    pub(crate) fn admin_call(&self, operation: &'static str, fault: Option<AdminErrorKind>, seconds: f64) {
        let kind = fault.map_or(NO_FAULT, AdminErrorKind::code);
        let mut labels = self.labels.clone();
        labels.push(("operation", operation.to_owned()));
        self.admin_call_seconds.get_or_create_owned(&labels).observe(seconds);
        labels.push(("kind", kind.to_owned()));
        self.admin_calls.get_or_create_owned(&labels).inc();
    }
}

type Labelled<T> = Vec<(Labels, Weak<T>)>;

/// Things that are asked for their state at a scrape, for as long as they live.
struct Watched<T: ?Sized>(Arc<Mutex<Labelled<T>>>);

impl<T: ?Sized> Watched<T> {
    fn add(&self, labels: Labels, watched: Weak<T>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, watched)| watched.strong_count() > 0); // so the list is as long as what lives
        all.push((labels, watched));
    }

    /// What lives now. The lock is not held while anything is asked.
    fn living(&self) -> Vec<(Labels, Arc<T>)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let living = all
            .iter()
            .filter_map(|(labels, watched)| Some((labels.clone(), watched.upgrade()?)));
        living.collect()
    }
}

impl<T: ?Sized> Default for Watched<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: ?Sized> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: ?Sized> fmt::Debug for Watched<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Watched")
    }
}

/// 1 for each broker that can be reached, 0 for each that cannot.
#[derive(Clone, Debug, Default)]
struct BrokerStates(Watched<dyn Broker>);

impl EncodeMetric for BrokerStates {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for (labels, broker) in self.0.living() {
            let available = i64::from(broker.state() == BrokerState::Available);
            encoder.encode_family(&labels)?.encode_gauge(&available)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

/// How often a client of each broker was opened anew.
#[derive(Clone, Debug, Default)]
struct ClientRebuilds(Watched<dyn Broker>);

impl EncodeMetric for ClientRebuilds {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        for (labels, broker) in self.0.living() {
            let mut encoder = encoder.encode_family(&labels)?;
            encoder.encode_counter::<NoLabelSet, u64, u64>(&broker.client_rebuilds(), None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

/// Held by a reader and nobody else, so that it counts as long as it is open,
/// though settlers may outlive it.
pub(crate) struct OpenReader(pub(crate) Arc<dyn Settler>);

/// How many readers of each broker read, and how many cannot.
#[derive(Clone, Debug, Default)]
struct ReaderStates(Watched<OpenReader>);

impl EncodeMetric for ReaderStates {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let mut counts = std::collections::BTreeMap::<Labels, [i64; 2]>::new();
        for (labels, reader) in self.0.living() {
            let reads = reader.0.state() == ReaderState::Reading;
            counts.entry(labels).or_default()[usize::from(reads)] += 1;
        }
        for (labels, [not_reading, reading]) in counts {
            for (state, count) in [("reading", reading), ("not_reading", not_reading)] {
                let mut labels = labels.clone();
                labels.push(("state", state.to_owned()));
                encoder.encode_family(&labels)?.encode_gauge(&count)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}
