//! The metrics of this crate: every name, its unit and its help, in one place.
//!
//! Labels are the link, its two regions, and closed sets of words; links are
//! configured, so their number is bounded. All series of a link are there from
//! its start.

use std::sync::atomic::AtomicU64;

use meridian_broker::AppendErrorKind;
use meridian_runtime::metrics::{Metrics, RegisterError};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::passage::SkipReason;
use crate::spec::LinkSpec;
use crate::status::LinkState;

/// What every name of this crate begins with.
pub const PREFIX: &str = "meridian_link";

/// From a local mirror to one that waited for a broker to come back.
const LATENCY_SECONDS: [f64; 16] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0,
];

type Labels = Vec<(&'static str, String)>;
type Seconds = Gauge<f64, AtomicU64>;

fn record_latency() -> Histogram {
    Histogram::new(LATENCY_SECONDS)
}

/// The families of this crate, registered once in a process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ReplicatorMetrics {
    mirrored_records: Family<Labels, Counter>,
    mirrored_bytes: Family<Labels, Counter>,
    skipped_records: Family<Labels, Counter>,
    refused_records: Family<Labels, Counter>,
    dead_lettered_records: Family<Labels, Counter>,
    failed_appends: Family<Labels, Counter>,
    missing_records: Family<Labels, Counter>,
    lag_records: Family<Labels, Gauge>,
    lag_seconds: Family<Labels, Seconds>,
    latency_seconds: Family<Labels, Histogram, fn() -> Histogram>,
    state: Family<Labels, Gauge>,
}

impl ReplicatorMetrics {
    /// Registers every family of this crate.
    ///
    /// # Errors
    /// [`RegisterError`] when they are registered already.
    pub fn register(metrics: &Metrics) -> Result<Self, RegisterError> {
        let registry = metrics.sub_registry(PREFIX);
        let counters = |name: &str, help: &str| {
            let family = Family::<Labels, Counter>::default();
            registry.register(name, help, family.clone()).map(|()| family)
        };
        let gauges = |name: &str, help: &str| {
            let family = Family::<Labels, Gauge>::default();
            registry.register(name, help, family.clone()).map(|()| family)
        };
        let lag_seconds = Family::<Labels, Seconds>::default();
        registry.register(
            "lag_seconds",
            "Age of the oldest record that is not mirrored; 0 when there is none",
            lag_seconds.clone(),
        )?;
        let latency_seconds = Family::new_with_constructor(record_latency as fn() -> Histogram);
        registry.register(
            "record_latency_seconds",
            "Time from a record's timestamp until the target has it durably",
            latency_seconds.clone(),
        )?;
        Ok(Self {
            mirrored_records: counters("mirrored_records", "Records that the target has durably")?,
            mirrored_bytes: counters("mirrored_bytes", "Bytes of those records at the source")?,
            skipped_records: counters(
                "skipped_records",
                "Records passed over, because they have been at the target (visited) or through too many regions (max_hops)",
            )?,
            refused_records: counters(
                "refused_records",
                "Records that the target does not take for a fault of their own",
            )?,
            dead_lettered_records: counters(
                "dead_lettered_records",
                "Refused records written to the link's dead letters",
            )?,
            failed_appends: counters(
                "failed_appends",
                "Appends of a record that failed and are tried again, by kind of fault",
            )?,
            missing_records: counters(
                "missing_records",
                "Records that were gone at the source before they were mirrored",
            )?,
            lag_records: gauges(
                "lag_records",
                "Records of the source that are not mirrored, in the partitions that this process reads",
            )?,
            state: gauges("state", "1 for the state that the link is in, 0 for the others")?,
            lag_seconds,
            latency_seconds,
        })
    }

    /// The series of one link.
    pub(crate) fn of(&self, spec: &LinkSpec) -> LinkSeries {
        let labels: Labels = vec![
            ("link", spec.name.to_string()),
            ("source_region", spec.source.profile().region.to_string()),
            ("target_region", spec.target.profile().region.to_string()),
        ];
        let with = |label: &'static str, value: &str| -> Labels {
            labels.iter().cloned().chain([(label, value.to_owned())]).collect()
        };
        LinkSeries {
            mirrored_records: self.mirrored_records.get_or_create_owned(&labels),
            mirrored_bytes: self.mirrored_bytes.get_or_create_owned(&labels),
            skipped_records: SkipReason::ALL.map(|reason| {
                self.skipped_records
                    .get_or_create_owned(&with("reason", reason.as_str()))
            }),
            refused_records: self.refused_records.get_or_create_owned(&labels),
            dead_lettered_records: self.dead_lettered_records.get_or_create_owned(&labels),
            failed_appends: AppendErrorKind::ALL
                .iter()
                .map(|kind| self.failed_appends.get_or_create_owned(&with("kind", kind.code())))
                .collect(),
            missing_records: self.missing_records.get_or_create_owned(&labels),
            lag_records: self.lag_records.get_or_create_owned(&labels),
            lag_seconds: self.lag_seconds.get_or_create_owned(&labels),
            latency_seconds: self.latency_seconds.get_or_create_owned(&labels),
            states: LinkState::ALL.map(|state| self.state.get_or_create_owned(&with("state", state.as_str()))),
        }
    }
}

/// The series of one link, looked up once.
#[derive(Debug)]
pub(crate) struct LinkSeries {
    pub(crate) mirrored_records: Counter,
    pub(crate) mirrored_bytes: Counter,
    skipped_records: [Counter; 2],
    pub(crate) refused_records: Counter,
    pub(crate) dead_lettered_records: Counter,
    failed_appends: Vec<Counter>,
    pub(crate) missing_records: Counter,
    pub(crate) lag_records: Gauge,
    pub(crate) lag_seconds: Seconds,
    pub(crate) latency_seconds: Histogram,
    states: [Gauge; 5],
}

impl LinkSeries {
    pub(crate) fn skipped(&self, reason: SkipReason) -> &Counter {
        &self.skipped_records[reason as usize] // `ALL` lists the reasons in order
    }

    pub(crate) fn skipped_in_all(&self) -> u64 {
        self.skipped_records.iter().map(Counter::get).sum()
    }

    pub(crate) fn failed(&self, kind: AppendErrorKind) -> &Counter {
        &self.failed_appends[kind as usize] // built from `ALL`, which lists the kinds in order
    }

    pub(crate) fn set_state(&self, state: LinkState) {
        for (index, gauge) in self.states.iter().enumerate() {
            gauge.set(i64::from(index == state as usize));
        }
    }
}
