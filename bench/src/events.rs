//! The events that every benchmark publishes: 256 bytes of data and six attributes
//! beside the required ones, `partitionkey` among them, encoded once beforehand.
//!
//! What holds: consecutive events lie framed one behind the other as field `events`
//! of a publish request, so that a batch is a slice and costs its client nothing.

use std::time::{Duration, SystemTime};

use bytes::{BufMut, Bytes, BytesMut};
use meridian_event::{Event, EventBuilder};
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::failure::{Failure, While as _};

/// Bytes of data of each event.
pub(crate) const DATA_BYTES: usize = 256;
/// Distinct events; a client that has sent all begins again.
const EVENTS: usize = 16_384;
/// Distinct partition keys.
const KEYS: usize = 1_000;
/// Key of field 2, length-delimited: `events` of `PublishRequest.events` is field 1,
/// of `PublishStreamRequest.events` field 2.
const STREAM_EVENTS_KEY: u8 = 2 << 3 | 2;

/// The events of one run.
#[derive(Clone, Debug)]
pub(crate) struct EventPool {
    events: Vec<Event>,
    framed: Bytes,
    /// Where each event's frame begins, and the end of the last.
    offsets: Vec<usize>,
}

impl EventPool {
    /// The pool; `seed` decides the data.
    pub(crate) fn new(seed: u64) -> Result<Self, Failure> {
        let mut random = SmallRng::seed_from_u64(seed);
        let events: Result<Vec<Event>, Failure> = (0..EVENTS)
            .map(|number| {
                let mut data = [0; DATA_BYTES];
                // Hexadecimal: neither constant nor beyond any compression.
                data.fill_with(|| b"0123456789abcdef"[random.random_range(0..16)]);
                event(number as u64, &data)
            })
            .collect();
        let events = events?;
        let mut framed = BytesMut::new();
        let mut offsets = Vec::with_capacity(EVENTS + 1);
        for event in &events {
            offsets.push(framed.len());
            framed.put_u8(STREAM_EVENTS_KEY);
            put_varint(&mut framed, event.encoded().len() as u64);
            framed.put_slice(event.encoded());
        }
        offsets.push(framed.len());
        Ok(Self {
            events,
            framed: framed.freeze(),
            offsets,
        })
    }

    /// The events, to be sent one by one.
    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    /// Up to `count` events from the `number`th on, framed for a stream's batch, and
    /// how many they are: fewer at the end of the pool.
    pub(crate) fn batch(&self, number: u64, count: usize) -> (Bytes, usize) {
        let first = (number % self.events.len() as u64) as usize;
        let end = (first + count).min(self.events.len());
        (self.framed.slice(self.offsets[first]..self.offsets[end]), end - first)
    }
}

/// One event with this data.
pub(crate) fn event(number: u64, data: &[u8]) -> Result<Event, Failure> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000);
    EventBuilder::new(
        &format!("order-{number:010}"),
        "/shop/checkout",
        "com.acme.order.placed",
    )
    .partition_key(&format!("customer-{}", number % KEYS as u64))
    .subject("order/placed")
    .time(time)
    .data_content_type("application/json")
    .extension("tenant", "acme-shop")
    .extension("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    .binary_data(data)
    .build()
    .during("building an event")
}

/// Writes a protobuf varint.
pub(crate) fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_slices_that_end_with_the_pool() {
        let pool = EventPool::new(1).unwrap();
        let (bytes, count) = pool.batch(0, 2);
        assert_eq!(count, 2);
        assert_eq!(bytes[0], STREAM_EVENTS_KEY);
        assert_eq!(bytes.len(), pool.offsets[2]);
        let (_, count) = pool.batch(EVENTS as u64 - 3, 500);
        assert_eq!(count, 3);
        let (again, _) = pool.batch(EVENTS as u64, 2);
        assert_eq!(again, bytes);
    }

    #[test]
    fn an_event_has_six_attributes_and_its_data() {
        let event = event(7, &[b'x'; DATA_BYTES]).unwrap();
        assert_eq!(event.partition_key(), Some("customer-7"));
        assert!((500..600).contains(&event.encoded().len()), "{}", event.encoded().len());
    }
}
