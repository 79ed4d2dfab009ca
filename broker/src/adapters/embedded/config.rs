//! What an operator says about an embedded broker, read and checked.
//!
//! What holds: every bound has a default, and a record of the largest size fits
//! the bytes that may be in flight.

use std::path::PathBuf;
use std::time::Duration;

use meridian_runtime::config::{Faults, Mapping, Node};

/// The least and most that a span of seconds may be.
const RETENTION_SECONDS: std::ops::RangeInclusive<f64> = 0.0..=10.0 * 365.0 * 86_400.0;
const CHECK_SECONDS: std::ops::RangeInclusive<f64> = 0.01..=3600.0;
const DELIVERY_SECONDS: std::ops::RangeInclusive<f64> = 0.1..=3600.0;

/// One embedded broker.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddedConfig {
    /// The folder that holds the store; made when it is not there.
    pub directory: PathBuf,
    /// Records admitted and not committed, at most.
    pub max_in_flight_records: usize,
    /// The same in bytes of records.
    pub max_in_flight_bytes: usize,
    /// The largest record, in bytes of key, headers and value.
    pub max_record_bytes: usize,
    /// When an append whose outcome cannot be found out, because the store is
    /// out of order, is given up as unknown.
    pub delivery_timeout: Duration,
    /// Records older than this may go, unless their topic says otherwise.
    pub retention: Option<Duration>,
    /// Oldest records may go while a partition holds more bytes than this,
    /// unless its topic says otherwise.
    pub retention_bytes: Option<u64>,
    /// How often retention is looked after.
    pub retention_interval: Duration,
    /// The most bytes of records that are stored under one key.
    pub block_bytes: usize,
    /// How many bytes of blocks the journal takes before they are written into
    /// a file of their own. Also what opening after a crash reads again.
    pub segment_bytes: usize,
    /// Bytes of the newest blocks that are kept in memory, over all partitions.
    pub tail_cache_bytes: usize,
    /// Bytes of older blocks that are kept in memory after a read.
    pub block_cache_bytes: usize,
}

impl EmbeddedConfig {
    /// The keys that [`EmbeddedConfig::read`] knows.
    pub const KEYS: &'static [&'static str] = &[
        "directory",
        "max_in_flight_records",
        "max_in_flight_bytes",
        "max_record_bytes",
        "delivery_timeout_seconds",
        "retention_seconds",
        "retention_bytes",
        "retention_interval_seconds",
        "block_bytes",
        "segment_bytes",
        "tail_cache_bytes",
        "block_cache_bytes",
    ];

    /// The defaults for a folder: 100,000 records and 64 MiB in flight, records
    /// of 1 MiB and 64 KiB of headers, 10 s, seven days of retention and no
    /// limit by size, blocks of 64 KiB in segments of 8 MiB, 64 MiB of tail and
    /// 32 MiB of block cache.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            max_in_flight_records: 100_000,
            max_in_flight_bytes: 64 * 1024 * 1024,
            max_record_bytes: 1024 * 1024 + 64 * 1024,
            delivery_timeout: Duration::from_secs(10),
            retention: Some(Duration::from_secs(7 * 86_400)),
            retention_bytes: None,
            retention_interval: Duration::from_secs(1),
            block_bytes: 64 * 1024,
            segment_bytes: 8 * 1024 * 1024,
            tail_cache_bytes: 64 * 1024 * 1024,
            block_cache_bytes: 32 * 1024 * 1024,
        }
    }

    /// Reads a mapping of its own, with no keys but [`EmbeddedConfig::KEYS`].
    pub fn read(node: &Node<'_>, faults: &mut Faults) -> Option<Self> {
        let mapping = node.mapping(Self::KEYS, faults)?;
        Self::read_mapping(&mapping, faults)
    }

    /// Reads a mapping whose keys are checked to be among
    /// [`EmbeddedConfig::KEYS`] and the caller's own. A retention of 0 keeps for
    /// ever.
    pub fn read_mapping(mapping: &Mapping<'_>, faults: &mut Faults) -> Option<Self> {
        let directory = mapping.required_string("directory", faults)?;
        if directory.is_empty() {
            mapping.fault_at_key("directory", faults, "must name a folder");
        }
        let default = Self::new(directory);
        let mut size = |key: &str, default: usize, range| mapping.usize_or(key, default, range, faults);
        let max_record_bytes = size("max_record_bytes", default.max_record_bytes, 1024..=256 << 20);
        let read = Self {
            max_in_flight_records: size("max_in_flight_records", default.max_in_flight_records, 1..=4_000_000),
            max_in_flight_bytes: size("max_in_flight_bytes", default.max_in_flight_bytes, 1024..=1 << 30),
            block_bytes: size("block_bytes", default.block_bytes, 4096..=1 << 20),
            segment_bytes: size("segment_bytes", default.segment_bytes, 1 << 20..=1 << 30),
            tail_cache_bytes: size("tail_cache_bytes", default.tail_cache_bytes, 0..=64 << 30),
            block_cache_bytes: size("block_cache_bytes", default.block_cache_bytes, 0..=64 << 30),
            max_record_bytes,
            ..default
        };
        if read.max_in_flight_bytes < read.max_record_bytes {
            let message = "must be at least max_record_bytes, or the largest record could never be admitted";
            mapping.fault_at_key("max_in_flight_bytes", faults, message);
        }
        let retention = read.retention.unwrap_or_default();
        let retention = mapping.seconds_or("retention_seconds", retention, RETENTION_SECONDS, faults);
        let retention_bytes = mapping.u64_or("retention_bytes", 0, 0..=u64::MAX, faults);
        Some(Self {
            delivery_timeout: mapping.seconds_or(
                "delivery_timeout_seconds",
                read.delivery_timeout,
                DELIVERY_SECONDS,
                faults,
            ),
            retention: (!retention.is_zero()).then_some(retention),
            retention_bytes: (retention_bytes > 0).then_some(retention_bytes),
            retention_interval: mapping.seconds_or(
                "retention_interval_seconds",
                read.retention_interval,
                CHECK_SECONDS,
                faults,
            ),
            ..read
        })
    }
}

#[cfg(test)]
mod tests {
    use meridian_runtime::config::Document;

    use super::*;

    fn read(text: &str) -> Result<EmbeddedConfig, Faults> {
        let document = Document::parse("broker.yaml", text)?;
        let mut faults = Faults::new();
        let config = EmbeddedConfig::read(&document.root(), &mut faults);
        faults.into_result_of(config)
    }

    #[test]
    fn a_bare_folder_has_the_defaults() {
        assert_eq!(read("directory: store\n").unwrap(), EmbeddedConfig::new("store"));
    }

    #[test]
    fn everything_can_be_said() {
        let text = "directory: d\nretention_seconds: 0\nretention_bytes: 5000\nmax_record_bytes: 2048\n\
                    max_in_flight_bytes: 4096\nretention_interval_seconds: 0.5\n";
        let config = read(text).unwrap();
        assert_eq!(config.retention, None);
        assert_eq!(config.retention_bytes, Some(5000));
        assert_eq!((config.max_record_bytes, config.max_in_flight_bytes), (2048, 4096));
        assert_eq!(config.retention_interval, Duration::from_millis(500));
    }

    #[test]
    fn faults_are_told_with_their_keys() {
        let faults = read("directory: ''\nmax_in_flight_bytes: 2048\nretention_day: 1\n")
            .unwrap_err()
            .to_string();
        for fault in ["must name a folder", "max_in_flight_bytes", "retention_day"] {
            assert!(faults.contains(fault), "{fault} in {faults}");
        }
    }
}
