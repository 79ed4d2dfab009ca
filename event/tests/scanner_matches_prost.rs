//! The scanner against prost: both take or both refuse, and see the same values.
//!
//! The one allowed difference is the scanner's bound on attributes. The contract
//! of reference is the generated `io.cloudevents.v1.CloudEvent`.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod arbitrary;

use bytes::Bytes;
use meridian_event::{AttributeValue, Event, EventData, MAX_ATTRIBUTES, ScanError};
use meridian_proto::cloudevents::CloudEvent;
use meridian_proto::cloudevents::cloud_event::Data;
use meridian_proto::cloudevents::cloud_event::cloud_event_attribute_value::Attr;
use proptest::prelude::*;
use prost::Message as _;

fn same_value(expected: &Attr, found: AttributeValue<'_>) -> bool {
    match (expected, found) {
        (Attr::CeBoolean(expected), AttributeValue::Boolean(found)) => *expected == found,
        (Attr::CeInteger(expected), AttributeValue::Integer(found)) => *expected == found,
        (Attr::CeString(expected), AttributeValue::String(found))
        | (Attr::CeUri(expected), AttributeValue::Uri(found))
        | (Attr::CeUriRef(expected), AttributeValue::UriReference(found)) => expected == found,
        (Attr::CeBytes(expected), AttributeValue::Binary(found)) => expected == found,
        (Attr::CeTimestamp(expected), AttributeValue::Timestamp { seconds, nanos }) => {
            expected.seconds == seconds && expected.nanos == nanos
        }
        _ => false,
    }
}

#[track_caller]
fn assert_same(expected: &CloudEvent, found: &Event) {
    assert_eq!(expected.id, found.id());
    assert_eq!(expected.source, found.source());
    assert_eq!(expected.spec_version, found.spec_version());
    assert_eq!(expected.r#type, found.type_name());
    match (&expected.data, found.data()) {
        (None, EventData::None) => {}
        (Some(Data::BinaryData(expected)), EventData::Binary(found)) => assert_eq!(expected, found),
        (Some(Data::TextData(expected)), EventData::Text(found)) => assert_eq!(expected, found),
        (Some(Data::ProtoData(expected)), EventData::Protobuf { type_url, value }) => {
            assert_eq!(expected.type_url, type_url);
            assert_eq!(expected.value, value);
        }
        (expected, found) => panic!("data: {expected:?} for prost, {found:?} for the scanner"),
    }
    assert_eq!(expected.attributes.len(), found.attribute_count());
    for (name, value) in &expected.attributes {
        let found = found.attribute(name);
        match (&value.attr, found) {
            (None, None) => {}
            (Some(expected), Some(found)) if same_value(expected, found) => {}
            (expected, found) => {
                panic!("{name:?}: {expected:?} for prost, {found:?} for the scanner")
            }
        }
    }
}

/// Whether both take the bytes.
#[track_caller]
fn compare(encoded: &[u8]) -> bool {
    let expected = CloudEvent::decode(encoded);
    let found = Event::scan(Bytes::copy_from_slice(encoded));
    match (&expected, &found) {
        (Ok(expected), Ok(found)) => {
            assert_same(expected, found);
            true
        }
        (Err(_), Err(_)) => false,
        (Ok(expected), Err(ScanError::TooManyAttributes)) => {
            assert!(expected.attributes.len() > MAX_ATTRIBUTES);
            false
        }
        _ => panic!("prost: {expected:?}; scanner: {found:?}; bytes: {encoded:02x?}"),
    }
}

proptest! {
    #![proptest_config(arbitrary::cases(1_000))]

    #[test]
    fn on_any_event(event in arbitrary::any_event()) {
        prop_assert!(compare(&event.encode_to_vec()));
    }

    #[test]
    fn on_one_event_after_another(
        first in arbitrary::any_event(),
        second in arbitrary::any_event(),
    ) {
        let mut encoded = first.encode_to_vec();
        encoded.extend(second.encode_to_vec());
        prop_assert!(compare(&encoded));
    }

    #[test]
    fn on_messages_of_any_shape(message in arbitrary::any_message()) {
        compare(&message);
    }

    #[test]
    fn on_entries_of_any_shape(
        value in arbitrary::any_message(),
        name in "[ab]",
        times in 1..3_usize,
    ) {
        // An entry of the attribute map with the value field given several times.
        let mut entry = vec![0x0A, 1];
        entry.extend(name.bytes());
        for _ in 0..times {
            entry.push(0x12);
            prost::encode_length_delimiter(value.len(), &mut entry).unwrap();
            entry.extend(&value);
        }
        let mut encoded = vec![0x2A];
        prost::encode_length_delimiter(entry.len(), &mut encoded).unwrap();
        encoded.extend(&entry);
        compare(&encoded);
    }

    #[test]
    fn on_damaged_events(
        event in arbitrary::any_event(),
        damages in proptest::collection::vec(
            (any::<proptest::sample::Index>(), any::<u8>(), 0..4_u8), 1..4),
    ) {
        let mut encoded = event.encode_to_vec();
        for (place, byte, damage) in damages {
            let at = place.index(encoded.len() + 1);
            match damage {
                0 if at < encoded.len() => encoded[at] ^= byte,
                1 if at < encoded.len() => { encoded.remove(at); }
                2 => encoded.truncate(at),
                _ => encoded.insert(at, byte),
            }
        }
        compare(&encoded);
    }

    #[test]
    fn on_garbage(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        compare(&bytes);
    }
}

/// `depth` groups of field 15, one in the other, around `inside`.
fn groups(depth: usize, inside: &[u8]) -> Vec<u8> {
    [vec![0x7B; depth], inside.to_vec(), vec![0x7C; depth]].concat()
}

fn wrapped(keys: &[u8], content: Vec<u8>) -> Vec<u8> {
    keys.iter().rev().fold(content, |content, key| {
        let mut out = vec![*key];
        prost::encode_length_delimiter(content.len(), &mut out).unwrap();
        out.extend(content);
        out
    })
}

#[test]
fn groups_nest_as_deep_as_in_prost() {
    // In the event, an entry, a value, a timestamp, and an Any.
    for keys in [&[][..], &[0x2A], &[0x2A, 0x12], &[0x2A, 0x12, 0x3A], &[0x42]] {
        let mut taken = 0;
        for depth in 90..105 {
            for inside in [&[][..], &[0x78, 1]] {
                taken += usize::from(compare(&wrapped(keys, groups(depth, inside))));
            }
        }
        assert!(taken > 0 && taken < 30, "{keys:?}: {taken} of 30 taken");
    }
}

#[test]
fn groups_must_end_as_they_began() {
    for encoded in [&[0x7B][..], &[0x7C], &[0x7B, 0x74], &[0x7B, 0x00, 0x7C], &[0x7B, 0x7F]] {
        assert!(!compare(encoded), "{encoded:02x?}");
    }
    assert!(compare(&[0x7B, 0x7C]));
}

#[test]
fn keys_and_lengths_may_be_padded_varints() {
    assert!(compare(&[0x8A, 0x80, 0x00, 0x82, 0x00, b'i', b'd']));
    let mut past_32_bits = vec![0x8A, 0x80, 0x80, 0x80, 0x10];
    past_32_bits.extend([1, b'i']);
    assert!(!compare(&past_32_bits));
}

#[test]
fn attributes_are_bounded_and_duplicates_count_once() {
    let entry = |number: usize| {
        let name = format!("a{number}");
        [
            &[0x2A, name.len() as u8 + 2, 0x0A, name.len() as u8][..],
            name.as_bytes(),
        ]
        .concat()
    };
    let distinct = |count: usize| (0..count).flat_map(entry).collect::<Vec<u8>>();
    assert!(compare(&distinct(MAX_ATTRIBUTES)));
    assert!(compare(&distinct(MAX_ATTRIBUTES).repeat(4)));
    assert_eq!(
        Event::scan(Bytes::from(distinct(MAX_ATTRIBUTES + 1))).unwrap_err(),
        ScanError::TooManyAttributes
    );
    assert_eq!(
        Event::scan(Bytes::from(distinct(1).repeat(257))).unwrap_err(),
        ScanError::TooManyEntries
    );
}
