//! What a handler is given: an event and how it came.

use std::time::{Duration, SystemTime};

use meridian_event::Event;
use meridian_proto::meridian as wire;

/// One hand-over of an event, under a lease that the SDK renews while the
/// handler is at work.
#[derive(Clone, Debug)]
pub struct Delivery {
    event: Event,
    attempt: u32,
    topic: String,
    partition: u32,
    position: u64,
    lease_expires_at: Option<SystemTime>,
}

impl Delivery {
    /// Reads a delivery off the wire; the error says why the event cannot be read.
    pub(crate) fn read(delivery: wire::Delivery) -> Result<Self, String> {
        let event = Event::scan(delivery.event).map_err(|fault| fault.to_string())?;
        let lease_expires_at = delivery.lease_expires_at.and_then(|at| {
            let seconds = u64::try_from(at.seconds).ok()?;
            let nanoseconds = u32::try_from(at.nanos).ok()?;
            SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds))
        });
        Ok(Self {
            event,
            attempt: delivery.attempt,
            topic: delivery.topic,
            partition: delivery.partition,
            position: delivery.position,
            lease_expires_at,
        })
    }

    /// The event.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// How often the event was delivered to the group, this time included.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The topic that it was read from.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition of the topic.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The position in the partition.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// When the lease ends unless it is renewed, by the gateway's clock.
    pub fn lease_expires_at(&self) -> Option<SystemTime> {
        self.lease_expires_at
    }
}
