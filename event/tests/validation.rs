//! Each rule of validation: its code, the field it names, and what it says.
//!
//! Names what a publisher must do about it; that valid events pass is the law in
//! `round_trips`.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use bytes::Bytes;
use meridian_event::ValidationSource::{Client, Peer};
use meridian_event::{AttributeValue, Event, EventBuilder, EventLimits, ValidationSource};

fn event(id: &str, source: &str, type_name: &str) -> EventBuilder {
    EventBuilder::new(id, source, type_name)
}

fn sound() -> EventBuilder {
    event("1", "/s", "t")
}

/// The violations as text, one a line.
fn violations(builder: EventBuilder, limits: &EventLimits, source: ValidationSource) -> String {
    let event = builder.build_unvalidated().unwrap();
    match event.validate(limits, source) {
        Ok(()) => String::from("valid"),
        Err(violations) => {
            let lines: Vec<_> = violations.iter().map(ToString::to_string).collect();
            lines.join("\n")
        }
    }
}

#[track_caller]
fn refused(builder: EventBuilder, expected: &str) {
    assert_eq!(violations(builder, &EventLimits::default(), Client), expected);
}

#[track_caller]
fn taken(builder: EventBuilder, source: ValidationSource) {
    assert_eq!(violations(builder, &EventLimits::default(), source), "valid");
}

#[track_caller]
fn refused_value<'a>(name: &str, value: impl Into<AttributeValue<'a>>, expected: &str) {
    let expected = format!("attributes.{name}: {name} {expected}");
    refused(sound().extension(name, value), &expected);
}

#[test]
fn required_attributes() {
    refused(
        event("", "", ""),
        "id: id is required and must not be empty; set it on the event (MISSING_ATTRIBUTE)\n\
         source: source is required and must not be empty; set it on the event (MISSING_ATTRIBUTE)\n\
         type: type is required and must not be empty; set it on the event (MISSING_ATTRIBUTE)",
    );
    refused(
        event("a\nb", "/s", "t"),
        "id: id has a control character or a Unicode noncharacter; \
         remove it, or put the text into the data (CONTROL_CHARACTER)",
    );
    refused(
        event("1", "/s", "t\u{FFFF}"),
        "type: type has a control character or a Unicode noncharacter; \
         remove it, or put the text into the data (CONTROL_CHARACTER)",
    );
    refused(
        event("1", "shop 7", "t"),
        "source: source must be a URI reference (RFC 3986); \
         percent-encode spaces and other characters (BAD_URI_REFERENCE)",
    );
}

#[test]
fn the_spec_version_is_checked_on_the_encoded_field() {
    let validate = |encoded: &'static [u8]| {
        let event = Event::scan(Bytes::from_static(encoded)).unwrap();
        event
            .validate(&EventLimits::default(), Client)
            .unwrap_err()
            .first()
            .to_string()
    };
    assert_eq!(
        validate(b"\x0A\x011\x12\x02/s\x1A\x030.3\x22\x01t"),
        "spec_version: specversion must be \"1.0\", the only version that is supported \
         (BAD_SPEC_VERSION)"
    );
    assert_eq!(
        validate(b"\x0A\x011\x12\x02/s\x22\x01t"),
        "spec_version: specversion is required and must not be empty; set it on the event \
         (MISSING_ATTRIBUTE)"
    );
}

#[test]
fn names() {
    let bad = "is no attribute name; use lower-case letters and digits, 1 to 64 of them \
               (BAD_ATTRIBUTE_NAME)";
    refused_value("tenantId", "x", bad);
    refused_value("tenant_id", "x", bad);
    refused_value("", "x", bad);
    let long = "a".repeat(65);
    refused(
        sound().extension(&long, true),
        &format!("attributes.{0}: {0} {bad}", &long[1..]),
    );
    refused(
        sound().extension("a\nb", true),
        &format!("attributes.a\\nb: a\\nb {bad}"),
    );
    refused_value(
        "data",
        "x",
        "is no attribute name; use one of the data fields of the event (BAD_ATTRIBUTE_NAME)",
    );
    taken(sound().extension(&long[1..], true), Client);
}

#[test]
fn fields_are_no_entries() {
    for name in ["id", "source", "specversion", "type"] {
        refused_value(
            name,
            "x",
            "is a field of its own; set that field, not an entry of attributes \
             (RESERVED_ATTRIBUTE)",
        );
    }
}

#[test]
fn what_meridian_sets_is_refused_from_clients_and_checked_from_peers() {
    for (name, good, bad, code) in [
        ("originregion", "us-east", "US", "BAD_REGION_NAME"),
        ("hops", "us-east,eu-west", "us-east,", "BAD_HOPS"),
        ("recordedtime", "2024-05-01T12:00:00Z", "noon", "BAD_TIMESTAMP"),
    ] {
        refused_value(
            name,
            good,
            "is set by Meridian alone; leave it out (RESERVED_ATTRIBUTE)",
        );
        taken(sound().extension(name, good), Peer);
        let text = violations(sound().extension(name, bad), &EventLimits::default(), Peer);
        assert!(
            text.starts_with(&format!("attributes.{name}: ")) && text.contains(code),
            "{text}"
        );
    }
}

#[test]
fn values_must_not_be_empty_where_the_specification_says_so() {
    let empty = "must not be empty; set a value, or leave the attribute out (EMPTY_ATTRIBUTE)";
    for name in ["subject", "partitionkey", "datacontenttype", "dataschema", "region"] {
        refused_value(name, "", empty);
    }
    taken(sound().extension("note", ""), Client);
    // An entry of the map without a value: key "a", nothing else.
    let encoded = b"\x0A\x011\x12\x02/s\x1A\x031.0\x22\x01t\x2A\x03\x0A\x01a";
    let event = Event::scan(Bytes::from_static(encoded)).unwrap();
    let violations = event.validate(&EventLimits::default(), Client).unwrap_err();
    assert_eq!(
        violations.first().to_string(),
        "attributes.a: a has no value; set one, or leave the attribute out (EMPTY_ATTRIBUTE)"
    );
}

#[test]
fn kinds_of_values() {
    let kind = "must be text; use ce_string, or ce_uri for URIs (BAD_ATTRIBUTE_TYPE)";
    for name in ["subject", "partitionkey", "datacontenttype", "traceparent", "region"] {
        refused_value(name, 7, kind);
    }
    refused_value("dataschema", &b"x"[..], kind);
    let control = "has a control character or a Unicode noncharacter; \
                   remove it, or put the text into the data (CONTROL_CHARACTER)";
    refused_value("subject", "a\tb", control);
    refused_value("tenant", "\u{85}", control);
    refused_value(
        "datacontenttype",
        "json",
        "must be a media type such as application/json (BAD_MEDIA_TYPE)",
    );
    refused_value(
        "region",
        "US East",
        "must be a region's name: lower-case letters, digits and hyphens, 63 at most \
         (BAD_REGION_NAME)",
    );
}

#[test]
fn uris() {
    let absolute = "must be an absolute URI (RFC 3986), with a scheme such as https: (BAD_URI)";
    refused_value("dataschema", "/schema", absolute);
    refused_value("link", AttributeValue::Uri("relative"), absolute);
    let reference = "must be a URI reference (RFC 3986); \
                     percent-encode spaces and other characters (BAD_URI_REFERENCE)";
    refused_value("link", AttributeValue::UriReference("a b"), reference);
    refused_value("dataref", "%zz", reference);
}

#[test]
fn protobuf_data_may_name_its_type_as_schema() {
    let type_url = "type.googleapis.com/shop.Order";
    let schema = |type_url| sound().data_schema(type_url);
    taken(schema(type_url).protobuf_data(type_url, b""), Client);
    refused(
        schema(type_url).protobuf_data("type.googleapis.com/other", b""),
        "attributes.dataschema: dataschema must be an absolute URI (RFC 3986), \
         with a scheme such as https: (BAD_URI)",
    );
    for bad in ["", "shop.Order", "type.googleapis.com/a\u{7F}", "a b/c"] {
        refused(
            sound().protobuf_data(bad, b""),
            "proto_data.type_url: type_url must be a type URL such as \
             type.googleapis.com/shop.Order (BAD_TYPE_URL)",
        );
    }
}

#[test]
fn moments() {
    let bad = "must be a ce_timestamp, or RFC 3339 text such as 2024-05-01T12:00:00Z, \
               of the years 1 to 9999 (BAD_TIMESTAMP)";
    let at = |seconds, nanos| AttributeValue::Timestamp { seconds, nanos };
    refused_value("time", "yesterday", bad);
    refused_value("time", "", bad);
    refused_value("time", 7, bad);
    refused_value("time", at(0, 1_000_000_000), bad);
    refused_value("expirytime", at(0, -1), bad);
    refused_value("moment", at(253_402_300_800, 0), bad);
    taken(sound().extension("time", "2024-05-01T12:00:00+02:00"), Client);
    taken(sound().extension("time", at(253_402_300_799, 999_999_999)), Client);
}

#[test]
fn sizes() {
    let limits = EventLimits {
        max_event_bytes: 100,
        max_attributes: 2,
        max_attribute_bytes: 20,
    };
    assert_eq!(
        violations(sound().text_data("x".repeat(90)), &limits, Client),
        "event: the event has 107 bytes, 100 are allowed; store the data elsewhere and point \
         to it with the attribute dataref (EVENT_TOO_LARGE)"
    );
    let long = "x".repeat(21);
    assert_eq!(
        violations(event(&long, "/s", "t").subject(&long), &limits, Client),
        "id: id has 21 bytes, 20 are allowed; put it into the data (ATTRIBUTE_TOO_LARGE)\n\
         attributes.subject: subject has 21 bytes, 20 are allowed; put it into the data \
         (ATTRIBUTE_TOO_LARGE)"
    );
    assert_eq!(
        violations(sound().extension("blob", long.as_bytes()), &limits, Client),
        "attributes.blob: blob has 21 bytes, 20 are allowed; put it into the data \
         (ATTRIBUTE_TOO_LARGE)"
    );
    let three = || {
        let two = sound().extension("a", true).extension("b", true);
        two.extension("hops", "us-east")
    };
    assert_eq!(violations(three(), &limits, Peer), "valid");
    assert_eq!(
        violations(
            sound().extension("a", 1).extension("b", 2).extension("c", 3),
            &limits,
            Client
        ),
        "attributes: the event has 3 attributes, 2 are allowed; put the rest into the data \
         (TOO_MANY_ATTRIBUTES)"
    );
}
