//! What bad input gets: a code, the field, the index and words; its neighbours go
//! through. And garbage on either port: the connection ends, the process does not,
//! its memory stays flat.

use std::time::Duration;

use meridian_proto::cloudevents::CloudEvent;
use meridian_proto::cloudevents::cloud_event::cloud_event_attribute_value::Attr;
use meridian_proto::cloudevents::cloud_event::{CloudEventAttributeValue, Data};
use meridian_proto::meridian::PublishRequest;
use meridian_tests::harness::{Brokers, Gateway, GatewayPlan, Scratch, http, wire};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::regions::US;

const TYPE: &str = "com.acme.order.placed";
const ENDS_SOON: Duration = Duration::from_secs(5);
const ENDS_IF_SILENT: Duration = Duration::from_secs(45);
const RULES: &str = "rules:\n  - name: orders\n    when: { type: com.acme.order.* }\n    send: { topic: orders }\n";

async fn gateway(scratch: &Scratch) -> Gateway {
    let gateway = GatewayPlan::new(US, Brokers::Embedded, RULES).start(scratch).await;
    gateway.ready().await;
    gateway
}

fn with(change: impl FnOnce(&mut CloudEvent)) -> CloudEvent {
    let mut event = wire::event("bad", TYPE);
    change(&mut event);
    event
}

fn attribute(name: &str, value: Attr) -> CloudEvent {
    with(|event| {
        event
            .attributes
            .insert(name.to_owned(), CloudEventAttributeValue { attr: Some(value) });
    })
}

fn text(name: &str, value: &str) -> CloudEvent {
    attribute(name, Attr::CeString(value.to_owned()))
}

/// A faulty event, and what it must get: reason, field below `events[1]`, a part of the words.
struct Case(&'static str, &'static str, &'static str, CloudEvent);

fn cases() -> Vec<Case> {
    let many = with(|event| {
        for number in 0..57 {
            let value = CloudEventAttributeValue {
                attr: Some(Attr::CeInteger(number)),
            };
            event.attributes.insert(format!("a{number}"), value);
        }
    });
    vec![
        Case(
            "MISSING_ATTRIBUTE",
            ".id",
            "id is required",
            with(|event| event.id.clear()),
        ),
        Case(
            "MISSING_ATTRIBUTE",
            ".source",
            "source is required",
            with(|event| event.source.clear()),
        ),
        Case(
            "MISSING_ATTRIBUTE",
            ".type",
            "type is required",
            with(|event| event.r#type.clear()),
        ),
        Case(
            "MISSING_ATTRIBUTE",
            ".spec_version",
            "specversion is required",
            with(|event| event.spec_version.clear()),
        ),
        Case(
            "BAD_SPEC_VERSION",
            ".spec_version",
            "1.0",
            with(|event| event.spec_version = "0.3".to_owned()),
        ),
        Case(
            "BAD_URI_REFERENCE",
            ".source",
            "source",
            with(|event| event.source = "a b".to_owned()),
        ),
        Case("BAD_TIMESTAMP", ".attributes.time", "time", text("time", "yesterday")),
        Case(
            "BAD_MEDIA_TYPE",
            ".attributes.datacontenttype",
            "datacontenttype",
            text("datacontenttype", "json"),
        ),
        Case(
            "BAD_URI",
            ".attributes.dataschema",
            "dataschema",
            text("dataschema", "/relative"),
        ),
        Case(
            "BAD_ATTRIBUTE_NAME",
            ".attributes.Customer",
            "lower-case letters and digits",
            text("Customer", "7"),
        ),
        Case(
            "BAD_ATTRIBUTE_NAME",
            ".attributes.customer_id",
            "lower-case letters and digits",
            text("customer_id", "7"),
        ),
        Case(
            "CONTROL_CHARACTER",
            ".attributes.subject",
            "subject",
            text("subject", "a\u{7}b"),
        ),
        Case(
            "CONTROL_CHARACTER",
            ".id",
            "id",
            with(|event| event.id = "a\nb".to_owned()),
        ),
        Case("EMPTY_ATTRIBUTE", ".attributes.subject", "subject", text("subject", "")),
        Case(
            "BAD_ATTRIBUTE_TYPE",
            ".attributes.subject",
            "subject",
            attribute("subject", Attr::CeInteger(7)),
        ),
        Case(
            "RESERVED_ATTRIBUTE",
            ".attributes.hops",
            "Meridian alone",
            text("hops", "us-east"),
        ),
        Case(
            "RESERVED_ATTRIBUTE",
            ".attributes.originregion",
            "Meridian alone",
            text("originregion", "us-east"),
        ),
        Case(
            "RESERVED_ATTRIBUTE",
            ".attributes.recordedtime",
            "Meridian alone",
            text("recordedtime", "2026-01-01T00:00:00Z"),
        ),
        Case(
            "BAD_REGION_NAME",
            ".attributes.region",
            "region",
            text("region", "US East"),
        ),
        Case(
            "ATTRIBUTE_TOO_LARGE",
            ".attributes.note",
            "note",
            text("note", &"x".repeat(9_000)),
        ),
        Case("TOO_MANY_ATTRIBUTES", ".attributes", "57 attributes", many),
        Case(
            "EVENT_TOO_LARGE",
            "",
            "1048576",
            with(|event| event.data = Some(Data::BinaryData(vec![7; 1024 * 1024].into()))),
        ),
        Case("UNKNOWN_REGION", ".attributes.region", "mars", text("region", "mars")),
        Case(
            "NO_ROUTE",
            ".type",
            "com.acme.unheard",
            with(|event| event.r#type = "com.acme.unheard".to_owned()),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_event_is_refused_alone_with_its_field_and_index() {
    let scratch = Scratch::new("bad-events");
    let gateway = gateway(&scratch).await;
    let mut faults = Vec::new();
    for Case(reason, field, words, bad) in cases() {
        let batch = [wire::event("before", TYPE), bad, wire::event("after", TYPE)];
        let results = wire::publish(&gateway.data(), &batch)
            .await
            .unwrap_or_else(|status| panic!("{reason}: {status}"));
        assert_eq!(results.len(), 3, "{reason}");
        wire::receipt(&results[0]);
        wire::receipt(&results[2]);
        let (status, details) = wire::refusal(&results[1]);
        let mut expect = |holds: bool, what: String| {
            if !holds {
                faults.push(format!("{reason}{field}: {what}: {} {}", status.code, status.message))
            }
        };
        let code = match reason {
            "NO_ROUTE" => Code::NotFound,
            _ => Code::InvalidArgument,
        };
        expect(status.code == code as i32, format!("wants code {code:?}"));
        expect(
            status.message.starts_with("events[1]: ") && status.message.contains(words),
            format!("wants the index and {words:?}"),
        );
        let info = details
            .error_info()
            .unwrap_or_else(|| panic!("{reason}: no ErrorInfo: {}", status.message));
        expect(
            info.reason == reason && info.domain == "meridian",
            format!("says {}/{}", info.domain, info.reason),
        );
        expect(
            info.metadata.get("eventIndex").map(String::as_str) == Some("1"),
            format!("metadata {:?}", info.metadata),
        );
        let fields: Vec<String> = details
            .bad_request()
            .map(|bad| bad.field_violations.iter().map(|each| each.field.clone()).collect())
            .unwrap_or_default();
        expect(
            fields.contains(&format!("events[1]{field}")),
            format!("fields {fields:?}"),
        );
        expect(
            details.retry_info().is_none(),
            "must not invite to try again".to_owned(),
        );
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_event_are_refused_alone() {
    let scratch = Scratch::new("bad-bytes");
    let gateway = gateway(&scratch).await;
    let good = |id| wire::event(id, TYPE).encode_to_vec().into();
    let events = vec![good("before"), vec![0x0a, 0xff, 0xff, 0x03].into(), good("after")];
    let request = PublishRequest {
        events,
        forwarded_by: Vec::new(),
    };
    let results = wire::publisher(&gateway.data())
        .publish(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    wire::receipt(&results[0]);
    wire::receipt(&results[2]);
    let (status, details) = wire::refusal(&results[1]);
    assert_eq!(
        details.error_info().unwrap().reason,
        "EVENT_MALFORMED",
        "{}",
        status.message
    );
    assert!(status.message.starts_with("events[1]: "), "{}", status.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_over_its_limit_is_refused_whole() {
    let scratch = Scratch::new("bad-batch");
    let gateway = gateway(&scratch).await;
    let too_many: Vec<CloudEvent> = (0..4_097)
        .map(|number| wire::event(&number.to_string(), TYPE))
        .collect();
    let status = wire::publish(&gateway.data(), &too_many).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(
        status.message().contains("4097") && status.message().contains("4096"),
        "{status}"
    );
    assert_eq!(status.get_details_error_info().unwrap().reason, "BATCH_TOO_LARGE");

    let fat = |id: u32| {
        with(|event| {
            event.id = id.to_string();
            event.data = Some(Data::BinaryData(vec![7; 1_000_000].into()));
        })
    };
    let status = wire::publish(&gateway.data(), &[fat(1), fat(2), fat(3), fat(4), fat(5)])
        .await
        .unwrap_err();
    assert!(
        matches!(status.code(), Code::ResourceExhausted | Code::OutOfRange),
        "{status}"
    );
    let results = wire::publish(&gateway.data(), &[fat(1)]).await.unwrap();
    wire::receipt(&results[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_may_not_pose_as_a_gateway() {
    let scratch = Scratch::new("bad-forward");
    let gateway = gateway(&scratch).await;
    let events = vec![wire::event("1", TYPE).encode_to_vec().into()];
    let request = PublishRequest {
        events,
        forwarded_by: vec!["mars".to_owned()],
    };
    let status = wire::publisher(&gateway.data()).publish(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "FORWARDED_BY_UNKNOWN");
}

/// Things that are no gRPC, each long enough that nothing is left to wait for.
fn garbage(seed: u8) -> Vec<Vec<u8>> {
    let noise: Vec<u8> = (0..600_000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed)
        .collect();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let tls_hello = [
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03][..],
        &noise[..500],
    ]
    .concat();
    // A frame that says 16 MiB, and one of an unknown stream.
    let huge_frame = [&preface[..], &[0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0x00, 0x01]].concat();
    let stray_frame = [
        &preface[..],
        &[0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x09, 1, 2, 3, 4],
    ]
    .concat();
    vec![
        noise.clone(),
        [&preface[..], &noise].concat(),
        tls_hello,
        huge_frame,
        stray_frame,
    ]
}

/// Sends bytes and waits until the other side ends the connection.
async fn until_ended(address: &str, bytes: &[u8], within: Duration) {
    let mut stream = TcpStream::connect(address).await.expect("the process listens");
    // It may have ended before it read all of it.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let ended = timeout(within, stream.read_to_end(&mut answer)).await;
    assert!(
        ended.is_ok(),
        "{address} keeps the connection of garbage {:02x?} open",
        &bytes[..bytes.len().min(40)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_the_connection_and_nothing_else() {
    let scratch = Scratch::new("garbage");
    let mut gateway = gateway(&scratch).await;
    let ports = [gateway.data(), gateway.admin()];
    let round = async |seed: u8| {
        for port in &ports {
            for bytes in garbage(seed) {
                until_ended(port, &bytes, ENDS_SOON).await;
            }
        }
    };
    // Peers that say nothing, or stop in the middle of a frame, are given some time first.
    let mut silent = JoinSet::new();
    for port in ports.clone() {
        for bytes in [
            &b""[..],
            b"PRI * HT",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\x10\0\x04\0\0\0\0\0abc",
        ] {
            let port = port.clone();
            silent.spawn(async move { until_ended(&port, bytes, ENDS_IF_SILENT).await });
        }
    }
    // The first rounds fill pools and caches.
    for seed in 0..10 {
        round(seed).await;
    }
    let before_kib = gateway.process().resident_kib();
    for seed in 10..60 {
        round(seed).await;
    }
    let after_kib = gateway.process().resident_kib();
    assert!(
        after_kib < before_kib + 8 * 1024,
        "500 connections of garbage cost {before_kib} -> {after_kib} KiB"
    );
    while let Some(ended) = silent.join_next().await {
        ended.unwrap();
    }
    assert!(gateway.process().is_running());
    let results = wire::publish(&gateway.data(), &[wire::event("1", TYPE)]).await.unwrap();
    wire::receipt(&results[0]);
    assert_eq!(
        http::get(&gateway.admin(), "/livez").await.map(|(status, _)| status),
        Some(200)
    );
}
