//! Publishers that speak for Meridian: attributes that it sets itself, in any spelling,
//! and metadata of a call that looks like them. Refused or without effect; what is stored
//! says what is so.

use meridian_event::Event;
use meridian_proto::cloudevents::CloudEvent;
use meridian_proto::cloudevents::cloud_event::CloudEventAttributeValue;
use meridian_proto::cloudevents::cloud_event::cloud_event_attribute_value::Attr;
use meridian_proto::meridian::PublishRequest;
use meridian_tests::harness::{Brokers, GatewayPlan, Scratch, wire};
use prost::Message as _;
use tonic::metadata::{AsciiMetadataValue, BinaryMetadataKey, BinaryMetadataValue};

use crate::regions::{ORDER, US};
use crate::sessions::{Session, open};

const RULES: &str = "rules:\n  - name: orders\n    send: { topic: orders }\n";

fn forged(name: &str, value: &str) -> CloudEvent {
    let mut event = wire::event(name, ORDER);
    let attr = Some(Attr::CeString(value.to_owned()));
    event
        .attributes
        .insert(name.to_owned(), CloudEventAttributeValue { attr });
    event
}

#[tokio::test(flavor = "multi_thread")]
async fn what_meridian_says_of_an_event_cannot_be_said_by_its_publisher() {
    let scratch = Scratch::new("forged");
    let gateway = GatewayPlan::new(US, Brokers::Embedded, RULES).start(&scratch).await;
    gateway.ready().await;
    let names = ["originregion", "hops", "recordedtime"];
    for name in names {
        // Upper case is no attribute at all; the exact name is Meridian's.
        for spelling in [
            name.to_owned(),
            name.to_uppercase(),
            name.replacen(&name[..1], &name[..1].to_uppercase(), 1),
        ] {
            let results = wire::publish(
                &gateway.data(),
                &[forged(&spelling, "eu-west"), wire::event("good", ORDER)],
            )
            .await
            .unwrap();
            let (status, details) = wire::refusal(&results[0]);
            assert!(status.message.contains(&spelling), "{}", status.message);
            let reason = &details.error_info().unwrap().reason;
            assert!(!reason.is_empty(), "{spelling}");
            wire::receipt(&results[1]);
        }
    }
    // A name twice on the wire is once with its last value: still Meridian's.
    let mut twice = forged("hops", "eu-west").encode_to_vec();
    twice.extend(forged("hops", "us-east").encode_to_vec());
    let request = PublishRequest {
        events: vec![twice.into()],
        forwarded_by: Vec::new(),
    };
    let answer = wire::publisher(&gateway.data())
        .publish(request)
        .await
        .unwrap()
        .into_inner();
    wire::refusal(&answer.results[0]);

    // Metadata of a call says nothing about its events.
    let mut request = tonic::Request::new(PublishRequest {
        events: vec![wire::event("metadata", ORDER).encode_to_vec().into()],
        forwarded_by: Vec::new(),
    });
    for name in [
        "ce-hops",
        "ce_originregion",
        "meridian-hops",
        "originregion",
        "x-meridian-origin-region",
    ] {
        let value = AsciiMetadataValue::from_static("eu-west");
        request.metadata_mut().append(name, value.clone());
        request.metadata_mut().append(name, value); // and again
        let binary: BinaryMetadataKey = format!("{name}-bin").parse().unwrap();
        let value = BinaryMetadataValue::from_bytes(b"eu-west");
        request.metadata_mut().insert_bin(binary, value);
    }
    let answer = wire::publisher(&gateway.data())
        .publish(request)
        .await
        .unwrap()
        .into_inner();
    wire::receipt(&answer.results[0]);

    let mut session = Session::open(&gateway, open("orders", 100)).await.unwrap();
    for _ in 0..=names.len() * 3 {
        let delivery = session.delivery().await;
        let event = Event::scan(delivery.event.clone()).unwrap();
        assert!(["good", "metadata"].contains(&event.id()), "{} was stored", event.id());
        let said: Vec<_> = event
            .attributes()
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        assert!(!format!("{said:?}").contains("eu-west"), "{said:?}");
    }
}
