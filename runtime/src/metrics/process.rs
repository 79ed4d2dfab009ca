//! What the kernel says of this process, read from `/proc/self` at each scrape. Where there is no `/proc`, nothing is
//! told.
//!
//! What holds: a scrape never fails because of it; what cannot be read is left out, not given as zero.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

const RESIDENT: &str = "process_resident_memory_bytes";
const FILES: &str = "process_open_fds";
const THREADS: &str = "process_threads";
const PROCESSOR: &str = "process_cpu_seconds";

/// The names that are told, as Prometheus's own client libraries call them.
pub(super) const NAMES: [&str; 4] = [RESIDENT, FILES, THREADS, PROCESSOR];

/// The collector.
#[derive(Debug)]
pub(super) struct ProcessMetrics;

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status_field(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024);
        let gauges = [
            (RESIDENT, "Memory that is in RAM", resident),
            (FILES, "Open file descriptors", open_files()),
            (THREADS, "Threads", status_field(&status, "Threads:")),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
                let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
                gauge.encode(metric)?;
            }
        }
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some(ticks) = processor_ticks(&stat) {
            let seconds = ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
            let counter = ConstCounter::new(seconds);
            let help = "Processor time spent, user and system";
            let metric = encoder.encode_descriptor(PROCESSOR, help, None, counter.metric_type())?;
            counter.encode(metric)?;
        }
        Ok(())
    }
}

/// A number from `/proc/self/status`.
fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    line[name.len()..].split_whitespace().next()?.parse().ok()
}

/// The entries of `/proc/self/fd`, without the one that this very reading opens.
fn open_files() -> Option<u64> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(entries.saturating_sub(1)).ok()
}

/// `utime` and `stime` of `/proc/self/stat`: fields 14 and 15, counted after the name, which may hold anything but ends
/// with the last parenthesis (proc(5)).
fn processor_ticks(stat: &str) -> Option<u64> {
    let after_name = &stat[stat.rfind(')')? + 1..];
    let mut fields = after_name.split_whitespace().skip(11); // field 3 is the first after the name
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let stat = "42 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 3 0 100";
        assert_eq!(processor_ticks(stat), Some(300));
        assert_eq!(processor_ticks("42 (a"), None);
        assert_eq!(processor_ticks(""), None);
    }

    #[test]
    fn fields_of_the_status_are_found_by_name() {
        let status = "Name:\tVmRSS\nVmRSS:\t   12 kB\nThreads:\t3\n";
        assert_eq!(status_field(status, "VmRSS:"), Some(12));
        assert_eq!(status_field(status, "Threads:"), Some(3));
        assert_eq!(status_field(status, "VmSwap:"), None);
    }
}
