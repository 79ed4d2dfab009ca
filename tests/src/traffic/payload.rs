//! An event's data is a function of its id: what arrives with other data was
//! damaged on the way.

use meridian_cli::history::EventName;
use meridian_event::{Event, EventBuilder};

/// The event of this name, as it is published.
///
/// # Panics
/// When a test chose a type that is none.
pub fn event(name: EventName, type_name: &str, region: Option<&str>) -> Event {
    let id = name.to_string();
    let mut event = EventBuilder::new(&id, "/meridian/tests", type_name)
        .partition_key(&format!("{}-{}", name.publisher, name.key))
        .data_content_type("application/octet-stream");
    if let Some(region) = region {
        event = event.region(region);
    }
    event
        .binary_data(data(&id))
        .build()
        .expect("the tests publish valid events")
}

/// The event's name, if its data is what its id asks for.
pub fn read(id: &str, data: &[u8]) -> Option<EventName> {
    let name = EventName::parse(id)?;
    (data == self::data(id)).then_some(name)
}

/// 64 to 575 bytes that follow from the id by FNV-1a and xorshift.
fn data(id: &str) -> Vec<u8> {
    let mut state = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let length = 64 + (state % 512) as usize;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_or_swapped_data_is_seen() {
        let name = EventName {
            publisher: 1,
            key: 2,
            sequence: 3,
        };
        let event = event(name, "com.acme.test", None);
        let mut data = event.data_bytes().unwrap().to_vec();
        assert_eq!(read(event.id(), &data), Some(name));
        assert_eq!(read("1-2-4", &data), None);
        data[63] ^= 1;
        assert_eq!(read(event.id(), &data), None);
        assert_eq!(read(event.id(), &data[1..]), None);
    }
}
