//! Any record: it reads as an event or tells why not, and an event that was read
//! once stays what it is when it is bound and read again.
//!
//! Header names are drawn from those that mean something, or the fuzzer would
//! seldom hit one.

#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use meridian_event::stamp::MERIDIAN_ONLY;
use meridian_event::{
    Binding, Event, EventData, Header, Hops, Record, Stamps, record_provenance, restamp,
};

#[derive(Arbitrary, Debug)]
enum Name {
    Id,
    Source,
    SpecVersion,
    Type,
    ContentType,
    DataSchema,
    Time,
    Hops,
    OriginRegion,
    RecordedTime,
    Attribute(String),
    Foreign(String),
}

#[derive(Arbitrary, Debug)]
enum Value {
    Null,
    Text(String),
    Bytes(Vec<u8>),
    Json,
    Protobuf,
    ProtobufData,
}

#[derive(Arbitrary, Debug)]
struct Input {
    is_event: bool,
    headers: Vec<(Name, Value)>,
    value: Option<Vec<u8>>,
    binding: bool,
}

fn name(name: Name) -> String {
    String::from(match name {
        Name::Id => "ce_id",
        Name::Source => "ce_source",
        Name::SpecVersion => "ce_specversion",
        Name::Type => "ce_type",
        Name::ContentType => "content-type",
        Name::DataSchema => "ce_dataschema",
        Name::Time => "ce_time",
        Name::Hops => "ce_hops",
        Name::OriginRegion => "ce_originregion",
        Name::RecordedTime => "ce_recordedtime",
        Name::Attribute(name) => return format!("ce_{name}"),
        Name::Foreign(name) => return name,
    })
}

fn value(value: Value) -> Option<Bytes> {
    Some(match value {
        Value::Null => return None,
        Value::Text(text) => Bytes::from(text),
        Value::Bytes(bytes) => Bytes::from(bytes),
        Value::Json => Bytes::from_static(b"application/cloudevents+json"),
        Value::Protobuf => Bytes::from_static(b"application/cloudevents+protobuf"),
        Value::ProtobufData => Bytes::from_static(b"application/protobuf"),
    })
}

fuzz_target!(|input: Input| {
    let required = [
        ("ce_id", "1"),
        ("ce_source", "/s"),
        ("ce_specversion", "1.0"),
        ("ce_type", "t"),
    ];
    let required = required.into_iter().filter(|_| input.is_event);
    let record = Record {
        headers: required
            .map(|(name, value)| Header::new(name, Bytes::from_static(value.as_bytes())))
            .chain(input.headers.into_iter().map(|(header, content)| Header {
                name: name(header).into(),
                value: value(content),
            }))
            .collect(),
        value: input.value.map(Bytes::from),
        ..Record::default()
    };
    check_provenance(&record);
    let handed_on = Binding::unbind_encoded(&record);
    let event = match Binding::unbind(&record) {
        Ok(event) => event,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(handed_on.unwrap_err().to_string(), error.to_string());
            return;
        }
    };
    let handed_on = handed_on.expect("an event that can be read can be handed on");
    assert_eq!(&handed_on.encoded, event.encoded());
    assert_eq!(handed_on.expiry_time_ms, event.expiry_time_ms());
    let binding = if input.binding {
        Binding::KafkaBinary
    } else {
        Binding::Protobuf
    };
    let Some(once) = rebind(binding, &event) else {
        return;
    };
    let twice = rebind(binding, &once).expect("an event that was read once is read again");
    assert_eq!(attributes(&once), attributes(&twice));
    assert_eq!(once.data(), twice.data());
    assert_eq!(event.data_bytes(), once.data_bytes());
    let before = attributes(&event);
    let after = attributes(&once);
    for (name, text) in &before {
        let carried = binding == Binding::Protobuf || is_carried(name, text);
        if carried && !MERIDIAN_ONLY.contains(&name.as_str()) {
            assert_eq!(Some(text), after.get(name), "{name}");
        }
    }
});

/// Binds and reads; `None` when the stamps do not fit beside 64 attributes, or a
/// structured event lacks what binary mode requires.
fn rebind(binding: Binding, event: &Event) -> Option<Event> {
    let hops = Hops::parse("a,b").expect("two regions");
    let stamps = Stamps {
        origin_region: "a",
        recorded_time_ms: 1,
        hops: &hops,
    };
    let record = binding.bind(event, &stamps, None, 0);
    assert_eq!(record_provenance(&record).expect("stamped").hops, hops);
    Binding::unbind(&record).ok()
}

/// Whether binary mode has a place for the attribute.
fn is_carried(name: &str, text: &str) -> bool {
    let named = !name.is_empty()
        && name.len() <= 64
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let required = ["id", "source", "specversion", "type", "data"].contains(&name);
    let structured = name == "datacontenttype"
        && (text.is_empty()
            || text
                .to_ascii_lowercase()
                .starts_with("application/cloudevents"));
    named && !required && !structured
}

fn attributes(event: &Event) -> BTreeMap<String, String> {
    let kind = matches!(event.data(), EventData::None);
    event
        .attributes()
        .map(|(name, value)| (String::from(name), value.canonical().into_owned()))
        .chain([
            (String::from(" id"), String::from(event.id())),
            (String::from(" source"), String::from(event.source())),
            (String::from(" type"), String::from(event.type_name())),
            (String::from(" without data"), kind.to_string()),
        ])
        .collect()
}

fn check_provenance(record: &Record) {
    let Ok(provenance) = record_provenance(record) else {
        return;
    };
    let Ok(hops) = provenance.hops.with("c") else {
        return;
    };
    let passed_on = record_provenance(&restamp(record, &hops)).expect("restamped");
    assert_eq!(passed_on.hops, hops);
    assert_eq!(passed_on.origin_region, provenance.origin_region);
}
