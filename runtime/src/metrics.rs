//! The metrics of one process, in a registry that is handed around. There is no global recorder: two gateways in one
//! process keep two registries. Which metrics exist is for each crate to say, in its own `metrics.rs`.
//!
//! What holds: a name is registered once, and well formed; a family whose labels come from outside is registered with a
//! bound on its label sets. Names carry their unit; counters get `_total` from the encoder and must not bring it.

mod bounded_family;
mod process;

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

pub use bounded_family::{BoundedFamily, OVERFLOW};

/// The bucket bounds that OpenTelemetry advises for latencies, in seconds (semantic conventions,
/// `http.server.request.duration`).
pub const LATENCY_BUCKETS_SECONDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// A histogram of latencies in seconds. It is a plain function, so that it serves as the constructor of a family:
/// `Family::<Labels, Histogram, fn() -> Histogram>::new_with_constructor(latency_histogram)`.
pub fn latency_histogram() -> Histogram {
    Histogram::new(LATENCY_BUCKETS_SECONDS)
}

/// Why a metric was not registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The name is taken; two metrics of one name make a scrape that servers refuse.
    #[error("metric {name} is registered twice")]
    Duplicate {
        /// The full name.
        name: String,
    },
    /// The name is no metric name, or carries a suffix that the encoder adds.
    #[error("metric name {name} is not valid: {reason}")]
    InvalidName {
        /// The full name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// A handle to a registry, under a prefix; clones share the registry.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
    prefix: String,
}

struct Shared {
    state: Mutex<State>,
    overflowed: Family<[(&'static str, String); 1], Counter>,
}

struct State {
    registry: Registry,
    names: HashSet<String>,
}

impl Metrics {
    /// An empty registry. Every metric in it carries the labels, such as the region of the process.
    pub fn new<N, V>(labels: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<Cow<'static, str>>,
        V: Into<Cow<'static, str>>,
    {
        let labels = labels.into_iter().map(|(name, value)| (name.into(), value.into()));
        let mut registry = Registry::with_labels(labels);
        let overflowed = Family::default();
        registry.register(
            OVERFLOWED_NAME,
            "Uses of label sets that found no room in their family and were folded into its overflow label set",
            overflowed.clone(),
        );
        let names = HashSet::from([OVERFLOWED_NAME.to_owned()]);
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State { registry, names }),
                overflowed,
            }),
            prefix: String::new(),
        }
    }

    /// The same registry, where names get `prefix` and `_` in front, after the prefixes that are there.
    pub fn sub_registry(&self, prefix: &str) -> Metrics {
        Metrics {
            shared: Arc::clone(&self.shared),
            prefix: self.full_name(prefix),
        }
    }

    /// Registers a metric; keep a clone of it to use it. `help` is a sentence without its full stop.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) -> Result<(), RegisterError> {
        let name = self.full_name(name);
        let mut state = self.shared.lock();
        state.take_name(&name)?;
        state.registry.register(name, help, metric);
        Ok(())
    }

    /// Registers a family of at most `max_label_sets`; uses past those are counted under `overflow`, whose values
    /// should be [`OVERFLOW`], and in `meridian_metrics_label_sets_overflowed_total`.
    pub fn register_bounded<S, M>(
        &self,
        name: &str,
        help: &str,
        max_label_sets: usize,
        overflow: S,
        constructor: fn() -> M,
    ) -> Result<BoundedFamily<S, M>, RegisterError>
    where
        S: EncodeLabelSet + Clone + std::hash::Hash + Eq + fmt::Debug + Send + Sync + 'static,
        M: Clone + 'static,
        Family<S, M, fn() -> M>: Metric,
    {
        let full_name = self.full_name(name);
        let family = Family::new_with_constructor(constructor);
        self.register(name, help, family.clone())?;
        let overflowed = self.shared.overflowed.get_or_create_owned(&[("family", full_name)]);
        Ok(BoundedFamily::new(family, max_label_sets, overflow, overflowed))
    }

    /// Registers `meridian_build_info`, whose labels say what runs.
    pub fn register_build_info(&self, version: &str, revision: &str) -> Result<(), RegisterError> {
        let labels = [("version", version.to_owned()), ("revision", revision.to_owned())];
        let root = Metrics {
            shared: Arc::clone(&self.shared),
            prefix: String::new(),
        };
        root.register("meridian_build", "What is running", Info::new(labels))
    }

    /// Registers the metrics of the process, read from `/proc/self` at each scrape: memory, open files, threads,
    /// processor time. What cannot be read is left out.
    pub fn register_process(&self) -> Result<(), RegisterError> {
        let mut state = self.shared.lock();
        for name in process::NAMES {
            state.take_name(name)?;
        }
        state.registry.register_collector(Box::new(process::ProcessMetrics));
        Ok(())
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.shared.lock().registry)?;
        Ok(text)
    }

    fn full_name(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}_{name}", self.prefix)
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Metrics")
            .field("prefix", &self.prefix)
            .field("registered", &self.shared.lock().names.len())
            .finish()
    }
}

const OVERFLOWED_NAME: &str = "meridian_metrics_label_sets_overflowed";

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_name(&mut self, name: &str) -> Result<(), RegisterError> {
        if let Some(reason) = fault_of_name(name) {
            return Err(RegisterError::InvalidName {
                name: name.to_owned(),
                reason,
            });
        }
        if !self.names.insert(name.to_owned()) {
            return Err(RegisterError::Duplicate { name: name.to_owned() });
        }
        Ok(())
    }
}

fn fault_of_name(name: &str) -> Option<&'static str> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if !name.as_bytes().first().is_some_and(u8::is_ascii_lowercase) || !name.bytes().all(inner) {
        return Some("it must be of a-z, 0-9 and _, and start with a letter");
    }
    ["_total", "_info", "_bucket", "_created"]
        .iter()
        .any(|suffix| name.ends_with(suffix))
        .then_some("the encoder adds suffixes such as _total by itself")
}

#[cfg(test)]
mod tests;
