//! Bounds on events, batches, and what is in flight: `limits` of the file.

use std::time::Duration;

use meridian_event::EventLimits;
use meridian_runtime::{Faults, Mapping};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The keys of the section.
pub(super) const KEYS: &[&str] = &[
    "max_event_bytes",
    "max_attributes",
    "max_attribute_bytes",
    "max_batch_events",
    "max_batch_bytes",
    "max_requests_in_flight",
    "max_bytes_in_flight",
    "max_stream_batches_in_flight",
    "max_stream_bytes_in_flight",
    "max_forwards_in_flight",
    "max_connections",
    "max_streams_per_connection",
    "publish_deadline_seconds",
    "max_deliver_at_seconds",
];

/// How much of everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What one event may be.
    pub event: EventLimits,
    /// Events of one batch.
    pub max_batch_events: usize,
    /// Bytes of the events of one batch.
    pub max_batch_bytes: usize,
    /// Unary publishes and stream batches in flight, over all publishers.
    pub max_requests_in_flight: usize,
    /// Bytes of events in flight, over all publishers.
    pub max_bytes_in_flight: u64,
    /// Batches of one stream in flight.
    pub max_stream_batches_in_flight: usize,
    /// Bytes of events of one stream in flight.
    pub max_stream_bytes_in_flight: usize,
    /// Requests in flight to one other region.
    pub max_forwards_in_flight: usize,
    /// Connections open, for each port.
    pub max_connections: usize,
    /// HTTP/2 streams of one connection: unary calls and streams.
    pub max_streams_per_connection: u32,
    /// From a batch's arrival to the outcome of each event.
    pub publish_deadline: Duration,
    /// How far ahead `deliverat` may be.
    pub max_deliver_at: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            event: EventLimits::default(),
            max_batch_events: 4096,
            max_batch_bytes: 4 * MIB as usize,
            max_requests_in_flight: 4096,
            max_bytes_in_flight: 256 * MIB,
            max_stream_batches_in_flight: 64,
            max_stream_bytes_in_flight: 16 * MIB as usize,
            max_forwards_in_flight: 64,
            max_connections: 10_000,
            max_streams_per_connection: 256,
            publish_deadline: Duration::from_secs(10),
            max_deliver_at: Duration::from_secs(30 * 86_400),
        }
    }
}

impl Limits {
    /// Reads the section; what is absent has its default.
    pub fn read(section: &Mapping<'_>, faults: &mut Faults) -> Self {
        let default = Self::default();
        let size = |key, default, range: std::ops::RangeInclusive<usize>, faults: &mut Faults| {
            section.usize_or(key, default, range, faults)
        };
        let mib = MIB as usize;
        let event = EventLimits {
            max_event_bytes: size(
                "max_event_bytes",
                default.event.max_event_bytes,
                1024..=16 * mib,
                faults,
            ),
            max_attributes: size("max_attributes", default.event.max_attributes, 8..=56, faults),
            max_attribute_bytes: size(
                "max_attribute_bytes",
                default.event.max_attribute_bytes,
                64..=mib,
                faults,
            ),
        };
        let limits = Self {
            max_batch_events: size("max_batch_events", default.max_batch_events, 1..=65_536, faults),
            max_batch_bytes: size("max_batch_bytes", default.max_batch_bytes, 1024..=64 * mib, faults),
            max_requests_in_flight: size(
                "max_requests_in_flight",
                default.max_requests_in_flight,
                1..=1_000_000,
                faults,
            ),
            max_bytes_in_flight: section.u64_or(
                "max_bytes_in_flight",
                default.max_bytes_in_flight,
                MIB..=64 * 1024 * MIB,
                faults,
            ),
            max_stream_batches_in_flight: size(
                "max_stream_batches_in_flight",
                default.max_stream_batches_in_flight,
                1..=4096,
                faults,
            ),
            max_stream_bytes_in_flight: size(
                "max_stream_bytes_in_flight",
                default.max_stream_bytes_in_flight,
                1024..=1024 * mib,
                faults,
            ),
            max_forwards_in_flight: size(
                "max_forwards_in_flight",
                default.max_forwards_in_flight,
                1..=4096,
                faults,
            ),
            max_connections: size("max_connections", default.max_connections, 1..=1_000_000, faults),
            max_streams_per_connection: u32::try_from(section.u64_or(
                "max_streams_per_connection",
                default.max_streams_per_connection.into(),
                1..=10_000,
                faults,
            ))
            .unwrap_or(default.max_streams_per_connection),
            publish_deadline: section.seconds_or(
                "publish_deadline_seconds",
                default.publish_deadline,
                0.1..=300.0,
                faults,
            ),
            max_deliver_at: section.seconds_or(
                "max_deliver_at_seconds",
                default.max_deliver_at,
                0.0..=365.0 * 86_400.0,
                faults,
            ),
            event,
        };
        limits.check(section, faults);
        limits
    }

    fn check(&self, section: &Mapping<'_>, faults: &mut Faults) {
        let batch = self.max_batch_bytes;
        if self.event.max_event_bytes > batch {
            let event = self.event.max_event_bytes;
            section.fault_at_key(
                "max_event_bytes",
                faults,
                format!("an event of {event} bytes fits into no batch; max_batch_bytes is {batch}"),
            );
        }
        if batch as u64 > self.max_bytes_in_flight {
            let all = self.max_bytes_in_flight;
            section.fault_at_key(
                "max_batch_bytes",
                faults,
                format!("a batch of {batch} bytes could never be admitted; max_bytes_in_flight is {all}"),
            );
        }
    }

    /// The largest message that the transport decodes: a batch, and what stands
    /// around each event.
    pub fn max_message_bytes(&self) -> usize {
        self.max_batch_bytes + 16 * self.max_batch_events + 64 * 1024
    }
}
