//! Laws of making events and of binding them: what goes in comes out.
//!
//! Bindings may change the kind of an attribute or of data, never the canonical
//! string of an attribute nor a byte of data.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

mod arbitrary;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use meridian_event::stamp::{HOPS, ORIGIN_REGION, RECORDED_TIME};
use meridian_event::{
    AttributeValue, Binding, Event, EventBuilder, EventData, EventLimits, Hops, Record, Stamps, ValidationSource,
    ViolationReason, record_provenance, restamp,
};
use meridian_proto::cloudevents::CloudEvent;
use proptest::prelude::*;
use prost::Message as _;

const RECORDED_MS: i64 = 1_700_000_000_123;
const RECORDED_TEXT: &str = "2023-11-14T22:13:20.123Z";

fn scan(event: &CloudEvent) -> Event {
    Event::scan(Bytes::from(event.encode_to_vec())).unwrap()
}

fn canonical(event: &Event) -> BTreeMap<String, String> {
    let required = [
        ("id", event.id()),
        ("source", event.source()),
        ("specversion", event.spec_version()),
        ("type", event.type_name()),
    ];
    let required = required.map(|(name, text)| (String::from(name), String::from(text)));
    event
        .attributes()
        .map(|(name, value)| (String::from(name), value.canonical().into_owned()))
        .chain(required)
        .collect()
}

/// The attributes of `event` as they must be after any binding.
fn stamped(event: &Event, hops: &Hops) -> BTreeMap<String, String> {
    let mut attributes = canonical(event);
    attributes.insert(String::from(ORIGIN_REGION), String::from("us-east"));
    attributes.insert(String::from(RECORDED_TIME), String::from(RECORDED_TEXT));
    attributes.insert(String::from(HOPS), hops.to_string());
    attributes
}

fn bind(binding: Binding, event: &Event, hops: &Hops) -> Record {
    let stamps = Stamps {
        origin_region: "us-east",
        recorded_time_ms: RECORDED_MS,
        hops,
    };
    binding.bind(event, &stamps, Some(Bytes::from_static(b"key")), 7)
}

fn rebuild(event: &Event) -> Event {
    let mut builder = EventBuilder::new(event.id(), event.source(), event.type_name());
    for (name, value) in event.attributes() {
        builder = builder.extension(name, value);
    }
    let builder = match event.data() {
        EventData::None => builder,
        EventData::Binary(data) => builder.binary_data(data),
        EventData::Text(data) => builder.text_data(data),
        EventData::Protobuf { type_url, value } => builder.protobuf_data(type_url, value),
    };
    builder.build().unwrap()
}

proptest! {
    #![proptest_config(arbitrary::cases(500))]

    #[test]
    fn prost_decodes_what_the_builder_makes(event in arbitrary::valid_event()) {
        let built = rebuild(&scan(&event));
        prop_assert_eq!(CloudEvent::decode(built.encoded().clone()).unwrap(), event);
    }

    #[test]
    fn valid_events_are_valid_for_clients_and_peers(event in arbitrary::valid_event()) {
        let event = scan(&event);
        let limits = EventLimits::default();
        prop_assert_eq!(event.validate(&limits, ValidationSource::Client), Ok(()));
        let hops = Hops::parse("us-east").unwrap();
        for binding in [Binding::KafkaBinary, Binding::Protobuf] {
            let read = Binding::unbind(&bind(binding, &event, &hops)).unwrap();
            prop_assert_eq!(read.validate(&limits, ValidationSource::Peer), Ok(()));
            let refused = read.validate(&limits, ValidationSource::Client).unwrap_err();
            let reserved: BTreeSet<_> = refused
                .iter()
                .filter(|violation| violation.reason == ViolationReason::ReservedAttribute)
                .map(|violation| &violation.field[..])
                .collect();
            let expected = ["attributes.hops", "attributes.originregion", "attributes.recordedtime"];
            prop_assert_eq!(reserved, BTreeSet::from(expected));
        }
    }

    #[test]
    fn the_encoded_form_is_that_of_the_event(event in arbitrary::any_event(), expiry in proptest::option::of(any::<i64>())) {
        let event = scan(&event);
        let event = match expiry {
            Some(seconds) => {
                let value = AttributeValue::Timestamp { seconds: seconds % 300_000_000_000, nanos: 5_000_000 };
                event.with_attributes(&[("expirytime", value)]).unwrap()
            }
            None => event,
        };
        for binding in [Binding::KafkaBinary, Binding::Protobuf] {
            let record = bind(binding, &event, &Hops::parse("us-east").unwrap());
            match (Binding::unbind(&record), Binding::unbind_encoded(&record)) {
                (Ok(event), Ok(handed_on)) => {
                    prop_assert_eq!(event.encoded(), &handed_on.encoded);
                    prop_assert_eq!(event.expiry_time_ms(), handed_on.expiry_time_ms);
                }
                (whole, handed_on) => prop_assert_eq!(whole.map(|_| ()), handed_on.map(|_| ())),
            }
        }
    }

    #[test]
    fn set_attributes_read_as_set(event in arbitrary::any_event(), value: i32) {
        let event = scan(&event);
        let changed = event
            .with_attributes(&[("added", AttributeValue::Integer(value))])
            .unwrap();
        let mut expected = canonical(&event);
        expected.insert(String::from("added"), value.to_string());
        prop_assert_eq!(canonical(&changed), expected);
        prop_assert_eq!(changed.data(), event.data());
    }

    #[test]
    fn kafka_binary_keeps_attributes_and_data(event in arbitrary::valid_event()) {
        let event = scan(&event);
        let hops = Hops::parse("us-east").unwrap();
        let record = bind(Binding::KafkaBinary, &event, &hops);
        prop_assert_eq!(&record.value, &event.data_bytes());
        let read = Binding::unbind(&record).unwrap();

        let mut expected = stamped(&event, &hops);
        if let EventData::Protobuf { type_url, .. } = event.data() {
            // The mode has no other place for what an Any says of itself.
            expected
                .entry(String::from("datacontenttype"))
                .or_insert_with(|| String::from("application/protobuf"));
            expected
                .entry(String::from("dataschema"))
                .or_insert_with(|| String::from(type_url));
        }
        prop_assert_eq!(canonical(&read), expected);
        prop_assert_eq!(read.data_bytes(), event.data_bytes());

        // Binding what was read changes nothing more.
        let again = bind(Binding::KafkaBinary, &read, &hops);
        let read_again = Binding::unbind(&again).unwrap();
        prop_assert_eq!(canonical(&read_again), canonical(&read));
        prop_assert_eq!(read_again.data(), read.data());
    }

    #[test]
    fn protobuf_keeps_everything(event in arbitrary::valid_event()) {
        let event = scan(&event);
        let hops = Hops::parse("us-east,eu-west").unwrap();
        let record = bind(Binding::Protobuf, &event, &hops);
        prop_assert_eq!(record.value.as_ref(), Some(event.encoded()));
        let read = Binding::unbind(&record).unwrap();
        prop_assert_eq!(canonical(&read), stamped(&event, &hops));
        prop_assert_eq!(read.data(), event.data());
        for (name, value) in event.attributes() {
            prop_assert_eq!(read.attribute(name), Some(value));
        }
    }

    #[test]
    fn restamping_changes_the_hops_alone(event in arbitrary::valid_event()) {
        let event = scan(&event);
        for binding in [Binding::KafkaBinary, Binding::Protobuf] {
            let hops = Hops::parse("us-east").unwrap();
            let record = bind(binding, &event, &hops);
            let provenance = record_provenance(&record).unwrap();
            prop_assert_eq!(provenance.origin_region.as_deref(), Some("us-east"));
            prop_assert_eq!(&provenance.hops, &hops);

            let longer = hops.with("eu-west").unwrap();
            let passed_on = restamp(&record, &longer);
            prop_assert_eq!(&record_provenance(&passed_on).unwrap().hops, &longer);
            prop_assert_eq!(restamp(&passed_on, &hops), record);
        }
    }

    #[test]
    fn any_record_reads_or_tells_why(
        headers in proptest::collection::vec(
            (
                prop_oneof![
                    Just("ce_id"), Just("ce_source"), Just("ce_type"), Just("ce_specversion"),
                    Just("content-type"), Just("ce_hops"), Just("ce_time"), Just("ce_X"),
                    Just("ce_data"), Just("ce_a"), Just("ce_dataschema"),
                ],
                proptest::option::of(prop_oneof![
                    "application/(cloudevents)?([+]json|[+]protobuf)?",
                    "[ -~]{0,12}",
                ]),
            ),
            0..12,
        ),
        value in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
    ) {
        let record = Record {
            headers: headers
                .into_iter()
                .map(|(name, value)| meridian_event::Header {
                    name: name.into(),
                    value: value.map(Bytes::from),
                })
                .collect(),
            value: value.map(Bytes::from),
            ..Record::default()
        };
        match Binding::unbind(&record) {
            Ok(event) => prop_assert!(!event.id().is_empty() || record.value.is_some()),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
