//! Every way in which one event can be bad: the code, the field, the index and the
//! words that its publisher gets, while its neighbours are stored.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::{RULES, TestGateway, details, event, receipt, refusal};
use meridian_proto::cloudevents::CloudEvent;
use meridian_proto::cloudevents::cloud_event::cloud_event_attribute_value::Attr;
use meridian_proto::cloudevents::cloud_event::{CloudEventAttributeValue, Data};
use prost::Message as _;
use tonic::Code;

const TYPE: &str = "com.acme.order.placed";

/// A bad event, and what is told of it. An empty field is the event as a whole.
struct Case {
    bad: CloudEvent,
    reason: &'static str,
    field: &'static str,
    words: &'static str,
}

fn case(reason: &'static str, field: &'static str, words: &'static str, spoil: impl FnOnce(&mut CloudEvent)) -> Case {
    let mut bad = CloudEvent {
        id: "bad".to_owned(),
        source: "/shop".to_owned(),
        spec_version: "1.0".to_owned(),
        r#type: TYPE.to_owned(),
        ..Default::default()
    };
    spoil(&mut bad);
    Case {
        bad,
        reason,
        field,
        words,
    }
}

fn set(event: &mut CloudEvent, name: &str, value: Attr) {
    event
        .attributes
        .insert(name.to_owned(), CloudEventAttributeValue { attr: Some(value) });
}

fn text(event: &mut CloudEvent, name: &str, value: &str) {
    set(event, name, Attr::CeString(value.to_owned()));
}

fn fields() -> Vec<Case> {
    vec![
        case("MISSING_ATTRIBUTE", "id", "id is required", |event| event.id.clear()),
        case("MISSING_ATTRIBUTE", "source", "source is required", |event| {
            event.source.clear()
        }),
        case("MISSING_ATTRIBUTE", "type", "type is required", |event| {
            event.r#type.clear()
        }),
        case(
            "MISSING_ATTRIBUTE",
            "spec_version",
            "specversion is required",
            |event| event.spec_version.clear(),
        ),
        case("BAD_SPEC_VERSION", "spec_version", "1.0", |event| {
            event.spec_version = "2.0".to_owned()
        }),
        case("BAD_URI_REFERENCE", "source", "source", |event| {
            event.source = "a b".to_owned()
        }),
        case("CONTROL_CHARACTER", "id", "id", |event| event.id = "a\u{1}b".to_owned()),
        case("NO_ROUTE", "type", "com.acme.unheard", |event| {
            event.r#type = "com.acme.unheard".to_owned()
        }),
        case("EVENT_TOO_LARGE", "", "4096 are allowed", |event| {
            event.data = Some(Data::BinaryData(vec![7; 5_000].into()));
        }),
    ]
}

fn attributes() -> Vec<Case> {
    vec![
        case(
            "BAD_ATTRIBUTE_NAME",
            "attributes.Customer",
            "lower-case letters and digits",
            |event| text(event, "Customer", "7"),
        ),
        case(
            "BAD_ATTRIBUTE_NAME",
            "attributes.customer-id",
            "lower-case letters and digits",
            |event| text(event, "customer-id", "7"),
        ),
        case("EMPTY_ATTRIBUTE", "attributes.subject", "subject", |event| {
            text(event, "subject", "")
        }),
        case("BAD_ATTRIBUTE_TYPE", "attributes.subject", "subject", |event| {
            set(event, "subject", Attr::CeInteger(7));
        }),
        case("BAD_TIMESTAMP", "attributes.time", "time", |event| {
            text(event, "time", "yesterday")
        }),
        case(
            "BAD_MEDIA_TYPE",
            "attributes.datacontenttype",
            "datacontenttype",
            |event| {
                text(event, "datacontenttype", "json");
            },
        ),
        case("BAD_URI", "attributes.dataschema", "dataschema", |event| {
            text(event, "dataschema", "/relative")
        }),
        case("CONTROL_CHARACTER", "attributes.note", "note", |event| {
            text(event, "note", "a\nb")
        }),
        case("RESERVED_ATTRIBUTE", "attributes.originregion", "Meridian", |event| {
            text(event, "originregion", "us-east");
        }),
        case("RESERVED_ATTRIBUTE", "attributes.hops", "Meridian", |event| {
            text(event, "hops", "us-east")
        }),
        case("RESERVED_ATTRIBUTE", "attributes.recordedtime", "Meridian", |event| {
            text(event, "recordedtime", "2026-01-01T00:00:00Z");
        }),
        case("BAD_REGION_NAME", "attributes.region", "region", |event| {
            text(event, "region", "US East")
        }),
        case("UNKNOWN_REGION", "attributes.region", "known: us-east", |event| {
            text(event, "region", "mars")
        }),
        case("ATTRIBUTE_TOO_LARGE", "attributes.note", "note", |event| {
            text(event, "note", &"x".repeat(1_000))
        }),
        case("TOO_MANY_ATTRIBUTES", "attributes", "57", |event| {
            (0..57).for_each(|number| text(event, &format!("a{number}"), "1"));
        }),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_event_is_told_what_is_wrong_where_and_at_which_index() {
    let limits = "limits: { max_event_bytes: 4096, max_attribute_bytes: 512 }\n";
    let here = TestGateway::start("us-east", RULES, limits).await;
    let cases: Vec<Case> = fields().into_iter().chain(attributes()).collect();
    // All in one batch, each between two good ones.
    let good = |id: usize| event(&id.to_string(), TYPE, "k");
    let mut events = vec![good(0)];
    for (place, case) in cases.iter().enumerate() {
        events.extend([case.bad.encode_to_vec().into(), good(place + 1)]);
    }
    let results = here.publish(events).await;
    assert_eq!(results.len(), 2 * cases.len() + 1);
    let mut wrong = Vec::new();
    for (place, case) in cases.iter().enumerate() {
        let index = 2 * place + 1;
        receipt(&results[index - 1]);
        receipt(&results[index + 1]);
        let status = refusal(&results[index]);
        let details = details(status);
        let info = details.error_info().unwrap();
        let code = if case.reason == "NO_ROUTE" {
            Code::NotFound
        } else {
            Code::InvalidArgument
        };
        let field = match case.field {
            "" => format!("events[{index}]"),
            field => format!("events[{index}].{field}"),
        };
        let violations = details
            .bad_request()
            .map(|bad| bad.field_violations.clone())
            .unwrap_or_default();
        let holds = status.code == code as i32
            && info.reason == case.reason
            && info.domain == "meridian"
            && info.metadata["eventIndex"] == index.to_string()
            && status.message.starts_with(&format!("events[{index}]: "))
            && status.message.contains(case.words)
            && violations.iter().any(|violation| violation.field == field)
            && details.retry_info().is_none();
        if !holds {
            wrong.push(format!(
                "{} {field} {:?}: {info:?} {violations:?} {}",
                case.reason, case.words, status.message
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_refusals_with_long_words_still_fit_into_an_answer() {
    let here = TestGateway::start("us-east", RULES, "").await;
    let bad = case("BAD_URI_REFERENCE", "source", "source", |event| {
        event.source = "a b".repeat(30);
        event.id.clear();
        (0..20).for_each(|number| text(event, &format!("Name{number}"), "\u{1}"));
    });
    let results = here.publish(vec![bad.bad.encode_to_vec().into(); 4_000]).await;
    assert_eq!(results.len(), 4_000);
    for (index, result) in results.iter().enumerate() {
        let status = refusal(result);
        assert!(
            status.message.starts_with(&format!("events[{index}]: ")),
            "{}",
            status.message
        );
        assert_eq!(details(status).error_info().unwrap().reason, "MISSING_ATTRIBUTE");
    }
}
