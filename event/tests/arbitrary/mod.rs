//! Strategies for events as prost has them, and for raw protobuf messages.
//!
//! Holds no assertion. Events are arbitrary within protobuf, valid ones within
//! CloudEvents; raw messages use the contract's field numbers with any wire type.

#![allow(dead_code, reason = "each test binary uses a part")]

use bytes::Bytes;
use meridian_proto::cloudevents::CloudEvent;
use meridian_proto::cloudevents::cloud_event::cloud_event_attribute_value::Attr;
use meridian_proto::cloudevents::cloud_event::{CloudEventAttributeValue, Data};
use proptest::collection::{hash_map, vec};
use proptest::option;
use proptest::prelude::*;

/// Any text of up to 40 characters.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ -~]{0,40}",
        1 => vec(any::<char>(), 0..20).prop_map(String::from_iter),
    ]
}

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn attribute() -> impl Strategy<Value = Attr> {
    prop_oneof![
        any::<bool>().prop_map(Attr::CeBoolean),
        any::<i32>().prop_map(Attr::CeInteger),
        text().prop_map(Attr::CeString),
        bytes().prop_map(Attr::CeBytes),
        text().prop_map(Attr::CeUri),
        text().prop_map(Attr::CeUriRef),
        (any::<i64>(), any::<i32>())
            .prop_map(|(seconds, nanos)| Attr::CeTimestamp(prost_types::Timestamp { seconds, nanos })),
    ]
}

fn data() -> impl Strategy<Value = Data> {
    prop_oneof![
        bytes().prop_map(Data::BinaryData),
        text().prop_map(Data::TextData),
        (text(), bytes()).prop_map(|(type_url, value)| Data::ProtoData(prost_types::Any {
            type_url,
            value: value.to_vec(),
        })),
    ]
}

/// Anything that the message type can hold, attributes without a value included.
pub(crate) fn any_event() -> impl Strategy<Value = CloudEvent> {
    let name = prop_oneof![4 => "[a-z0-9]{1,12}", 1 => text()];
    let value = option::weighted(0.9, attribute()).prop_map(|attr| CloudEventAttributeValue { attr });
    (
        (text(), text(), text(), text()),
        hash_map(name, value, 0..14),
        option::of(data()),
    )
        .prop_map(|((id, source, spec_version, r#type), attributes, data)| CloudEvent {
            id,
            source,
            spec_version,
            r#type,
            attributes,
            data,
        })
}

fn value(attr: Attr) -> CloudEventAttributeValue {
    CloudEventAttributeValue { attr: Some(attr) }
}

/// A moment in range; often without nanoseconds, as most are.
fn moment() -> impl Strategy<Value = Attr> {
    let nanos = prop_oneof![Just(0), (0..1000).prop_map(|ms| ms * 1_000_000), 0..1_000_000_000];
    (-62_135_596_800..=253_402_300_799_i64, nanos)
        .prop_map(|(seconds, nanos)| Attr::CeTimestamp(prost_types::Timestamp { seconds, nanos }))
}

/// Text without controls and noncharacters, not empty.
fn plain_text() -> impl Strategy<Value = String> {
    prop_oneof!["[ -~]{1,30}", "[a-zé漢ß🦀]{1,10}"]
}

fn media_type() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("application/json"),
        Just("text/plain; charset=utf-8"),
        Just("application/octet-stream"),
        Just("application/vnd.shop+json"),
        Just("application/protobuf"),
    ]
    .prop_map(String::from)
}

fn extension_value() -> impl Strategy<Value = Attr> {
    prop_oneof![
        any::<bool>().prop_map(Attr::CeBoolean),
        any::<i32>().prop_map(Attr::CeInteger),
        plain_text().prop_map(Attr::CeString),
        bytes().prop_map(Attr::CeBytes),
        "https://[a-z]{1,8}/[a-z0-9/]{0,8}".prop_map(Attr::CeUri),
        "/[a-z0-9/?=]{0,12}".prop_map(Attr::CeUriRef),
        moment(),
    ]
}

/// An event that a client may publish. Extensions begin with `x`, so that none is
/// an attribute with a meaning.
pub(crate) fn valid_event() -> impl Strategy<Value = CloudEvent> {
    let known = (
        option::of(plain_text().prop_map(Attr::CeString)),
        option::of(prop_oneof![
            moment(),
            Just(Attr::CeString(String::from("2018-04-05T19:31:00+02:00"))),
        ]),
        option::of(media_type().prop_map(Attr::CeString)),
        option::of("https://schemas/[a-z]{0,8}".prop_map(Attr::CeUri)),
        option::of(plain_text().prop_map(Attr::CeString)),
        option::of("[a-z0-9-]{1,12}".prop_map(Attr::CeString)),
    );
    let data = prop_oneof![
        bytes().prop_map(Data::BinaryData),
        text().prop_map(Data::TextData),
        ("(type[.]googleapis[.]com|https://types)/[a-z.]{1,12}", bytes()).prop_map(|(type_url, value)| {
            Data::ProtoData(prost_types::Any {
                type_url,
                value: value.to_vec(),
            })
        }),
    ];
    (
        (plain_text(), "(https://[a-z]{1,8})?/[a-z0-9/]{0,8}", plain_text()),
        known,
        hash_map("x[a-z0-9]{0,12}", extension_value(), 0..8),
        option::of(data),
    )
        .prop_map(|((id, source, r#type), known, extensions, data)| {
            let (subject, time, content_type, schema, key, region) = known;
            let known = [
                ("subject", subject),
                ("time", time),
                ("datacontenttype", content_type),
                ("dataschema", schema),
                ("partitionkey", key),
                ("region", region),
            ];
            let known = known
                .into_iter()
                .filter_map(|(name, attr)| Some((String::from(name), value(attr?))));
            CloudEvent {
                id,
                source,
                spec_version: String::from("1.0"),
                r#type,
                attributes: extensions
                    .into_iter()
                    .map(|(name, attr)| (name, value(attr)))
                    .chain(known)
                    .collect(),
                data,
            }
        })
}

/// Enough for the rare shapes, fast enough for every run. Failures are not kept in
/// files: they become tests of their own.
pub(crate) fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(count)
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field(number: u64, wire_type: u64, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, number << 3 | wire_type);
    if wire_type == 2 {
        put_varint(&mut out, content.len() as u64);
    }
    out.extend_from_slice(content);
    if wire_type == 3 {
        put_varint(&mut out, number << 3 | 4);
    }
    out
}

/// A protobuf message, mostly of the contract's shape: scalars twice, entries of
/// one key, messages that merge, unknown fields, groups, wrong wire types.
pub(crate) fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let leaf = vec(scalar_field(), 0..4).prop_map(|fields| fields.concat());
    leaf.prop_recursive(4, 32, 6, |inner| {
        let nested = (1..10_u64, prop_oneof![9 => Just(2_u64), 1 => Just(3)], inner)
            .prop_map(|(number, wire_type, content)| field(number, wire_type, &content));
        vec(prop_oneof![2 => scalar_field(), 3 => nested], 0..6).prop_map(|fields| fields.concat())
    })
}

fn scalar_field() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![9 => 1..10_u64, 1 => 1..1_u64 << 29];
    let varint = any::<u64>().prop_map(|value| {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        out
    });
    let content = prop_oneof![
        6 => "[a-c]{0,2}".prop_map(|text| (2, text.into_bytes())),
        1 => vec(any::<u8>(), 0..4).prop_map(|bytes| (2, bytes)),
        2 => varint.prop_map(|bytes| (0, bytes)),
        1 => any::<[u8; 4]>().prop_map(|bytes| (5, bytes.to_vec())),
        1 => any::<[u8; 8]>().prop_map(|bytes| (1, bytes.to_vec())),
    ];
    (number, content).prop_map(|(number, (wire_type, content))| field(number, wire_type, &content))
}
