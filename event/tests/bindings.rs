//! Records as they look to others, and records that others wrote.
//!
//! The texts are those of the CloudEvents Kafka binding and JSON format; the laws
//! of going there and back are in `round_trips`.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking")]

use bytes::Bytes;
use meridian_event::{
    AttributeValue, Binding, Event, EventBuilder, EventData, Header, Hops, HopsError, Record, Stamps,
    record_provenance, restamp,
};

fn record(headers: &[(&'static str, &str)], value: Option<&str>) -> Record {
    Record {
        headers: headers
            .iter()
            .map(|&(name, value)| Header::new(name, Bytes::copy_from_slice(value.as_bytes())))
            .collect(),
        value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
        ..Record::default()
    }
}

fn binary(headers: &[(&'static str, &str)], value: Option<&str>) -> Record {
    let required = [
        ("ce_id", "1"),
        ("ce_source", "/s"),
        ("ce_specversion", "1.0"),
        ("ce_type", "t"),
    ];
    record(&[&required[..], headers].concat(), value)
}

fn json(text: &str) -> Record {
    let content_type = ("Content-Type", "Application/CloudEvents+JSON; charset=UTF-8");
    record(&[content_type], Some(text))
}

fn texts(record: &Record) -> Vec<(&str, &str)> {
    let text = |header: &Header| header.value.as_ref().map(|value| value.to_vec());
    record
        .headers
        .iter()
        .map(|header| {
            let value = text(header).unwrap().leak();
            (&header.name[..], std::str::from_utf8(value).unwrap())
        })
        .collect()
}

#[track_caller]
fn fault(record: &Record) -> String {
    let error = Binding::unbind(record).unwrap_err();
    format!("{}: {error}", error.code())
}

fn stamps(hops: &Hops) -> Stamps<'_> {
    Stamps {
        origin_region: "us-east",
        recorded_time_ms: 1,
        hops,
    }
}

#[test]
fn a_binary_record_is_spelt_as_the_binding_says() {
    let event = EventBuilder::new("1", "/shop", "shop.order")
        .subject("order/7")
        .time_ms(0)
        .data_content_type("application/json")
        .extension("tenant", "acme")
        .extension("attempt", -1)
        .extension("urgent", true)
        .extension("digest", &[1_u8, 2][..])
        .text_data("{}")
        .build()
        .unwrap();
    let hops = Hops::parse("us-east,eu-west").unwrap();
    let key = Some(Bytes::from_static(b"k"));
    let record = Binding::KafkaBinary.bind(&event, &stamps(&hops), key.clone(), 42);
    assert_eq!(
        texts(&record),
        [
            ("ce_id", "1"),
            ("ce_source", "/shop"),
            ("ce_specversion", "1.0"),
            ("ce_type", "shop.order"),
            ("ce_subject", "order/7"),
            ("ce_time", "1970-01-01T00:00:00Z"),
            ("content-type", "application/json"),
            ("ce_tenant", "acme"),
            ("ce_attempt", "-1"),
            ("ce_urgent", "true"),
            ("ce_digest", "AQI="),
            ("ce_originregion", "us-east"),
            ("ce_hops", "us-east,eu-west"),
            ("ce_recordedtime", "1970-01-01T00:00:00.001Z"),
        ]
    );
    assert_eq!((record.key, record.timestamp_ms), (key, 42));
    assert_eq!(record.value.unwrap(), "{}");
}

#[test]
fn no_data_is_a_null_value_and_empty_data_is_not() {
    let hops = Hops::default();
    for (builder, value) in [
        (EventBuilder::new("1", "/s", "t"), None),
        (EventBuilder::new("1", "/s", "t").binary_data(b""), Some(Bytes::new())),
    ] {
        let event = builder.build().unwrap();
        let record = Binding::KafkaBinary.bind(&event, &stamps(&hops), None, 0);
        assert_eq!(record.value, value);
        assert_eq!(record.header("ce_hops"), None, "empty hops are not written");
        assert_eq!(Binding::unbind(&record).unwrap().data_bytes(), value);
    }
}

#[test]
fn an_entry_never_speaks_for_a_field_or_for_meridian() {
    let event = EventBuilder::new("1", "/s", "t")
        .extension("id", "forged")
        .extension("originregion", "forged")
        .extension("hops", "forged")
        .build_unvalidated()
        .unwrap();
    let hops = Hops::default();
    for binding in [Binding::KafkaBinary, Binding::Protobuf] {
        let record = binding.bind(&event, &stamps(&hops), None, 0);
        assert_eq!(record_provenance(&record).unwrap().hops, hops);
        assert!(!texts(&record).iter().any(|(_, value)| *value == "forged"));
        let read = Binding::unbind(&record).unwrap();
        assert_eq!(read.id(), "1");
        assert_eq!(read.text_attribute("originregion"), Some("us-east"));
    }
}

#[test]
fn the_content_type_decides_between_text_and_bytes() {
    for (media_type, text) in [
        ("text/csv", true),
        ("application/json", true),
        ("application/vnd.x+json; charset=utf-8", true),
        ("application/xml", false),
    ] {
        let event = Binding::unbind(&binary(&[("content-type", media_type)], Some("{}"))).unwrap();
        let expected = if text {
            EventData::Text("{}")
        } else {
            EventData::Binary(b"{}")
        };
        assert_eq!(event.data(), expected, "{media_type}");
        assert_eq!(event.data_content_type(), Some(media_type));
    }
    let mut latin = binary(&[("content-type", "text/plain")], None);
    latin.value = Some(Bytes::from_static(&[0xE9]));
    assert_eq!(Binding::unbind(&latin).unwrap().data(), EventData::Binary(&[0xE9]));
}

#[test]
fn protobuf_data_is_told_by_its_type_url() {
    let headers = |schema| [("content-type", "application/protobuf"), ("ce_dataschema", schema)];
    let event = Binding::unbind(&binary(&headers("type.googleapis.com/a.B"), Some("x"))).unwrap();
    assert_eq!(
        event.data(),
        EventData::Protobuf {
            type_url: "type.googleapis.com/a.B",
            value: b"x"
        }
    );
    let json = [("content-type", "application/json"), ("ce_dataschema", "a/B")];
    let event = Binding::unbind(&binary(&json, Some("{}"))).unwrap();
    assert_eq!(event.data(), EventData::Text("{}"));
    let event = Binding::unbind(&binary(&headers("https://schemas/b"), Some("x"))).unwrap();
    assert_eq!(event.data(), EventData::Binary(b"x"));
}

#[test]
fn headers_that_are_no_attributes_stay_headers() {
    let mut foreign = binary(
        &[
            ("traceparent", "00-hop"),
            ("ce_Tenant", "x"),
            ("ce_", "x"),
            ("ce_data", "x"),
            ("ce_datacontenttype", "text/plain"),
            ("ce_a", "first"),
            ("ce_a", "last"),
        ],
        None,
    );
    foreign.headers.push(Header {
        name: "ce_null".into(),
        value: None,
    });
    let event = Binding::unbind(&foreign).unwrap();
    let attributes: Vec<_> = event.attributes().collect();
    assert_eq!(
        attributes,
        [
            ("a", AttributeValue::String("last")),
            ("datacontenttype", AttributeValue::String("text/plain")),
        ]
    );
}

#[test]
fn a_record_that_is_no_event_is_told_what_it_lacks() {
    assert_eq!(
        fault(&record(&[("ce_id", "1"), ("ce_type", "")], Some("x"))),
        "RECORD_NOT_AN_EVENT: the record is no CloudEvent: it lacks the headers ce_source, \
         ce_specversion, ce_type; its producer must set them (CloudEvents Kafka binding, \
         binary mode), or a content-type application/cloudevents+…"
    );
    let mut latin = binary(&[], None);
    latin.headers.push(Header::new("ce_a", &[0xE9][..]));
    assert_eq!(
        fault(&latin),
        "RECORD_HEADER_NOT_TEXT: the header ce_a is not UTF-8; \
         its producer must encode attributes as UTF-8"
    );
    let many: Vec<String> = (0..65).map(|number| format!("ce_a{number}")).collect();
    let mut crowded = binary(&[], None);
    for name in many {
        crowded.headers.push(Header::new(name, &b"x"[..]));
    }
    assert!(fault(&crowded).starts_with("RECORD_EVENT_MALFORMED: "));
}

#[test]
fn structured_records_of_other_formats_are_refused_by_name() {
    for content_type in [
        "application/cloudevents",
        "application/cloudevents+avro",
        "application/cloudevents-batch+json",
    ] {
        let text = fault(&record(&[("content-type", content_type)], Some("x")));
        assert!(text.starts_with("RECORD_FORMAT_UNKNOWN: "), "{text}");
        assert!(text.contains(&format!("content type {content_type};")), "{text}");
    }
    for format in ["json", "protobuf"] {
        let content_type = format!("application/cloudevents+{format}");
        let text = fault(&record(&[("content-type", &content_type)], None));
        assert_eq!(
            text,
            "RECORD_WITHOUT_VALUE: the record says that it is a structured CloudEvent, \
             but it has no value"
        );
    }
}

fn read_json(text: &str) -> Event {
    Binding::unbind(&json(text)).unwrap()
}

#[test]
fn json_events_are_read() {
    let event = read_json(
        r#"{"specversion":"1.0","type":"t","source":"/s","id":"A\u0031","time":"2018-04-05T17:31:00Z",
            "tenant":"acme","attempt":-3,"urgent":false,"nothing":null,
            "data":{"b":1.10,"a":12345678901234567890123}}"#,
    );
    assert_eq!(event.id(), "A1");
    assert_eq!(event.time_ms(), Some(1_522_949_460_000));
    assert_eq!(event.attribute("attempt"), Some(AttributeValue::Integer(-3)));
    assert_eq!(event.attribute("urgent"), Some(AttributeValue::Boolean(false)));
    assert_eq!(event.attribute("nothing"), None);
    assert_eq!(event.data_content_type(), Some("application/json"));
    // No digit is lost and no key moved.
    assert_eq!(
        event.data(),
        EventData::Text(r#"{"b":1.10,"a":12345678901234567890123}"#)
    );
}

#[test]
fn json_data_follows_the_content_type() {
    let read = |members: &str| {
        let required = r#""specversion":"1.0","type":"t","source":"/s","id":"1""#;
        read_json(&format!("{{{required}{members}}}"))
    };
    let data = |members: &str| read(members).data_bytes().map(|data| data.to_vec());
    assert_eq!(data(""), None);
    assert_eq!(data(r#","data":null"#), None);
    assert_eq!(data(r#","data":"x""#).unwrap(), b"\"x\"");
    let xml = r#","datacontenttype":"application/xml","data":"<a/>""#;
    assert_eq!(data(xml).unwrap(), b"<a/>");
    assert_eq!(data(r#","data_base64":"AQI=""#).unwrap(), [1, 2]);
    assert_eq!(read(r#","data_base64":"AQI=""#).data_content_type(), None);
}

#[test]
fn json_that_is_no_event_is_told_why() {
    let deep = "[".repeat(100_000);
    for (text, expected) in [
        ("[]", "no JSON object at line 1, column 0"),
        ("{\n\"id\":", "no JSON object at line 2, column 5"),
        (r#"{"id":"1"}"#, "the member source is missing or empty"),
        (r#"{"id":""}"#, "the member id is missing or empty"),
        (
            r#"{"id":1}"#,
            "the member id must be a string, a boolean or a 32-bit integer",
        ),
        (&deep, "no JSON object at line 1, column 0"),
    ] {
        let text = fault(&json(text));
        assert!(text.starts_with("RECORD_JSON_MALFORMED: "), "{text}");
        assert!(text.ends_with(expected), "{text}");
    }
    let required = r#""specversion":"1.0","type":"t","source":"/s","id":"1""#;
    for (members, expected) in [
        (r#""a":{}"#, "the member a must be"),
        (r#""a":1.5"#, "the member a must be"),
        (r#""a":2147483648"#, "the member a must be"),
        (r#""data_base64":"?""#, "data_base64 is no base64 string"),
        (r#""data_base64":7"#, "data_base64 is no base64 string"),
        (r#""data":1,"data_base64":"AQ==""#, "exclude each other"),
    ] {
        let text = fault(&json(&format!("{{{required},{members}}}")));
        assert!(text.contains(expected), "{text}");
    }
    let many: String = (0..70).map(|number| format!(",\"a{number}\":1")).collect();
    let text = fault(&json(&format!("{{{required}{many}}}")));
    assert!(text.contains("it has 74 members"), "{text}");
}

#[test]
fn stamps_of_the_headers_win_over_a_structured_event() {
    let mut structured = json(r#"{"specversion":"1.0","type":"t","source":"/s","id":"1","hops":"forged","a":"kept"}"#);
    structured.headers.push(Header::new("ce_hops", &b"us-east"[..]));
    let event = Binding::unbind(&structured).unwrap();
    assert_eq!(event.text_attribute("hops"), Some("us-east"));
    assert_eq!(event.text_attribute("a"), Some("kept"));
}

#[test]
fn provenance_of_foreign_records() {
    let none = record_provenance(&record(&[("x-shovelled", "1")], None)).unwrap();
    assert_eq!(none, meridian_event::Provenance::default());
    for (header, value, error) in [
        ("ce_hops", "us-east;eu", HopsError::BadRegion { entry: 1 }),
        ("ce_originregion", "", HopsError::BadOriginRegion),
        ("ce_originregion", "US", HopsError::BadOriginRegion),
    ] {
        assert_eq!(record_provenance(&record(&[(header, value)], None)), Err(error));
    }
    let twice = record(&[("ce_hops", "a"), ("ce_hops", "b")], None);
    assert_eq!(record_provenance(&twice).unwrap().hops.as_str(), "b");
}

#[test]
fn restamping_keeps_foreign_headers_and_leaves_one_list() {
    let before = record(&[("x", "1"), ("ce_hops", "a"), ("x", "2"), ("ce_hops", "b")], Some("v"));
    let hops = Hops::parse("a,b").unwrap();
    let after = restamp(&before, &hops);
    assert_eq!(texts(&after), [("x", "1"), ("ce_hops", "a,b"), ("x", "2")]);
    assert_eq!(after.value, before.value);
    let added = restamp(&record(&[("x", "1")], None), &hops);
    assert_eq!(texts(&added), [("x", "1"), ("ce_hops", "a,b")]);
    let removed = restamp(&before, &Hops::default());
    assert_eq!(texts(&removed), [("x", "1"), ("x", "2")]);
}

#[test]
fn an_event_that_is_handed_on_is_held_to_the_same_bounds() {
    let names: Vec<String> = (0..65).map(|number| format!("ce_a{number}")).collect();
    let mut record = binary(&[], None);
    let header = |name: &String| Header::new(name.as_str(), "x");
    record.headers.extend(names[..64].iter().map(header));
    assert_eq!(
        Binding::unbind_encoded(&record).unwrap().encoded,
        Binding::unbind(&record).unwrap().encoded()
    );
    record.headers.push(header(&names[64]));
    let refused = Binding::unbind_encoded(&record).unwrap_err();
    assert_eq!(refused.to_string(), Binding::unbind(&record).unwrap_err().to_string());
    // Repeated entries count once, and the scan is what finds it out.
    record.headers.pop();
    record.headers.push(header(&names[0]));
    assert_eq!(
        Binding::unbind_encoded(&record).unwrap().encoded,
        Binding::unbind(&record).unwrap().encoded()
    );
}

#[test]
fn names_that_meridian_writes_need_no_memory() {
    use meridian_event::binding::known_header_name;
    for name in [
        "ce_id",
        "ce_type",
        "content-type",
        "ce_subject",
        "ce_partitionkey",
        "ce_hops",
    ] {
        assert_eq!(known_header_name(name.as_bytes()), Some(name));
    }
    for name in ["", "id", "ce_", "ce_tenant", "Content-Type", "ce_ID", "ce_\u{e4}"] {
        assert_eq!(known_header_name(name.as_bytes()), None, "{name}");
    }
}
