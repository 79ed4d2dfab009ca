//! What an event of the demo carries, so that a delivery can be judged.
//!
//! The data is a function of the event's name and the moment of sending: a
//! delivery whose data does not fit its id was damaged on the way.

use std::time::{SystemTime, UNIX_EPOCH};

use meridian_event::Event;
use serde::{Deserialize, Serialize};

use crate::history::EventName;

#[derive(Serialize, Deserialize)]
struct Payload {
    name: String,
    check: u64,
    sent_microseconds: u64,
}

/// Microseconds since the Unix epoch.
pub(crate) fn now_microseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// FNV-1a, 64 bits: offset basis and prime of the reference.
fn check(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The data of an event that is sent now.
pub(crate) fn write(name: EventName, sent_microseconds: u64) -> String {
    let name = name.to_string();
    let payload = Payload {
        check: check(&name),
        name,
        sent_microseconds,
    };
    // A struct of text and numbers always has a JSON form.
    serde_json::to_string(&payload).unwrap_or_default()
}

/// The event's name and when it was sent, if the data fits the id.
pub(crate) fn read(event: &Event) -> Option<(EventName, u64)> {
    let payload: Payload = serde_json::from_slice(&event.data_bytes()?).ok()?;
    let fits = payload.name == event.id() && payload.check == check(event.id());
    let name = EventName::parse(event.id())?;
    fits.then_some((name, payload.sent_microseconds))
}

#[cfg(test)]
mod tests {
    use meridian_event::EventBuilder;

    use super::*;

    #[test]
    fn data_that_does_not_fit_its_id_is_seen() {
        let name = EventName {
            publisher: 1,
            key: 2,
            sequence: 3,
        };
        let other = EventName { sequence: 4, ..name };
        let event = |id: EventName| {
            EventBuilder::new(&id.to_string(), "/demo", "com.acme.test")
                .text_data(write(name, 42))
                .build()
                .unwrap()
        };
        assert_eq!(read(&event(name)), Some((name, 42)));
        assert_eq!(read(&event(other)), None);
    }
}
