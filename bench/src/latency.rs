//! Histograms of latencies, in nanoseconds, three digits exact.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::failure::{Failure, While as _};

const LONGEST: Duration = Duration::from_secs(120);

/// An empty histogram.
pub(crate) fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1_000, LONGEST.as_nanos() as u64, 3).during("making a histogram")
}

/// A duration as histograms count it.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A quantile in milliseconds.
pub(crate) fn milliseconds_at(latencies: &Histogram<u64>, quantile: f64) -> f64 {
    latencies.value_at_quantile(quantile) as f64 / 1e6
}
