//! The scanner against prost, on any bytes: both take or both refuse, and see the
//! same values.
//!
//! The scanner alone bounds attributes, so it may refuse for that. What it takes
//! must also survive validation and a debug print without a panic.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use meridian_event::{AttributeValue, Event, EventData, EventLimits, ScanError, ValidationSource};
use prost::Message as _;

// The contract has messages that this target has no use for.
#[allow(dead_code)]
mod cloudevents {
    include!(concat!(env!("OUT_DIR"), "/io.cloudevents.v1.rs"));
}

use cloudevents::CloudEvent;
use cloudevents::cloud_event::Data;
use cloudevents::cloud_event::cloud_event_attribute_value::Attr;

fuzz_target!(|encoded: &[u8]| {
    let expected = CloudEvent::decode(encoded);
    match (expected, Event::scan(Bytes::copy_from_slice(encoded))) {
        (Ok(expected), Ok(found)) => {
            assert_same(&expected, &found);
            for source in [ValidationSource::Client, ValidationSource::Peer] {
                if let Err(violations) = found.validate(&EventLimits::default(), source) {
                    assert!(!violations.to_string().is_empty());
                }
            }
            assert!(!format!("{found:?}").is_empty());
        }
        (Err(_), Err(_)) => {}
        (Ok(_), Err(ScanError::TooManyAttributes | ScanError::TooManyEntries)) => {}
        (expected, found) => panic!("prost: {expected:?}; scanner: {found:?}"),
    }
});

fn assert_same(expected: &CloudEvent, found: &Event) {
    assert_eq!(expected.id, found.id());
    assert_eq!(expected.source, found.source());
    assert_eq!(expected.spec_version, found.spec_version());
    assert_eq!(expected.r#type, found.type_name());
    let data = match &expected.data {
        None => EventData::None,
        Some(Data::BinaryData(data)) => EventData::Binary(data),
        Some(Data::TextData(data)) => EventData::Text(data),
        Some(Data::ProtoData(any)) => EventData::Protobuf {
            type_url: &any.type_url,
            value: &any.value,
        },
    };
    assert_eq!(data, found.data());
    assert_eq!(expected.attributes.len(), found.attribute_count());
    for (name, value) in &expected.attributes {
        assert_eq!(value.attr.as_ref().map(borrow), found.attribute(name));
    }
}

fn borrow(attr: &Attr) -> AttributeValue<'_> {
    match attr {
        Attr::CeBoolean(value) => AttributeValue::Boolean(*value),
        Attr::CeInteger(value) => AttributeValue::Integer(*value),
        Attr::CeString(value) => AttributeValue::String(value),
        Attr::CeBytes(value) => AttributeValue::Binary(value),
        Attr::CeUri(value) => AttributeValue::Uri(value),
        Attr::CeUriRef(value) => AttributeValue::UriReference(value),
        Attr::CeTimestamp(value) => AttributeValue::Timestamp {
            seconds: value.seconds,
            nanos: value.nanos,
        },
    }
}
