//! The admin port: rules over gRPC and from the file, probes, metrics, reflection,
//! topics, draining.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use harness::{RULES, TestGateway, event, http_get, receipt, until};
use meridian_proto::meridian as proto;
use meridian_proto::meridian::operations_service_client::OperationsServiceClient;
use meridian_proto::meridian::routing_service_client::RoutingServiceClient;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1alpha;

fn rules(topic: &str) -> String {
    format!("rules:\n  - {{ name: all, send: {{ topic: {topic} }} }}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_read_checked_applied_and_explained_by_call() {
    let here = TestGateway::start("us-east", RULES, "peers: { eu-west: { addresses: ['127.0.0.1:1'] } }\n").await;
    let mut routing = RoutingServiceClient::new(here.admin().await);
    let read = routing.get_rules(proto::GetRulesRequest {}).await.unwrap().into_inner();
    assert_eq!((read.revision, read.document.as_str()), (1, RULES));
    assert!(read.source.ends_with("rules.yaml"), "{}", read.source);

    let document = "rules:\n  - name: a\n    send: { topic: t, region: mars }\n  - name: a\n    send: {}\n".to_owned();
    let faults = routing
        .validate_rules(proto::ValidateRulesRequest {
            document: document.clone(),
        })
        .await;
    let faults = faults.unwrap().into_inner().faults;
    let told: Vec<(u32, &str)> = faults.iter().map(|fault| (fault.line, fault.path.as_str())).collect();
    assert_eq!(
        told,
        [
            (3, "rules[0].send.region"),
            (4, "rules[1].name"),
            (5, "rules[1].send.topic")
        ]
    );
    assert!(faults[0].message.contains("mars"), "{faults:?}");

    let apply = |document: String, expected_revision| proto::ApplyRulesRequest {
        document,
        expected_revision,
    };
    let refused = routing.apply_rules(apply(document, 1)).await.unwrap().into_inner();
    assert_eq!((refused.revision, refused.faults), (1, faults), "nothing has changed");
    let stale = routing.apply_rules(apply(rules("other"), 9)).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted, "{stale}");
    let applied = routing
        .apply_rules(apply(rules("other"), 1))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((applied.revision, applied.faults.len()), (2, 0));
    let file = std::fs::read_to_string(here.folder.path().join("rules.yaml")).unwrap();
    assert_eq!(file, rules("other"), "a restart keeps what was applied");

    let explain = proto::ExplainRouteRequest {
        event: event("1", "com.acme.order.placed", "k"),
    };
    let explained = routing.explain_route(explain).await.unwrap().into_inner();
    let destination = explained.destination.unwrap();
    assert_eq!((explained.rule.as_str(), explained.revision), ("all", 2));
    assert_eq!(
        (
            destination.topic.as_str(),
            destination.key.as_str(),
            destination.forwarded
        ),
        ("other", "k", false)
    );
    let faulty = proto::ExplainRouteRequest {
        event: bytes::Bytes::new(),
    };
    let status = routing.explain_route(faulty).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(here.gateway.shutdown().await.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_watched_file_is_taken_whole_or_refused_whole_and_the_probe_says_why() {
    let here = TestGateway::start("us-east", &rules("first"), "").await;
    let file = here.folder.path().join("rules.yaml");
    let placed = || vec![event("1", "com.acme.order.placed", "k")];
    assert_eq!(receipt(&here.publish(placed()).await[0]).topic, "first");

    std::fs::write(
        &file,
        "rules:\n  - name: all\n    send: { topic: second, region: mars }\n",
    )
    .unwrap();
    until("the faulty file is seen", async || {
        here.metric("meridian_gateway_rules_refused_total") == 1
    })
    .await;
    let (status, body) = http_get(here.gateway.admin_address(), "/readyz").await;
    assert!(status.contains("200"), "the old rules route on: {status}");
    assert!(body.contains("rules.yaml:3") && body.contains("mars"), "{body}");
    let first = receipt(&here.publish(placed()).await[0]).clone();
    assert_eq!((first.topic.as_str(), first.rules_revision), ("first", 1));

    std::fs::write(&file, rules("second")).unwrap();
    until("the mended file is in force", async || {
        here.metric("meridian_gateway_rules_revision") == 2
    })
    .await;
    // Its topic is being made meanwhile; until then events are refused with a delay.
    until("the new topic is there", async || {
        let results = here.publish(placed()).await;
        let stored = matches!(&results[0].outcome, Some(proto::publish_result::Outcome::Receipt(_)));
        if !stored {
            let refused = harness::details(harness::refusal(&results[0]));
            assert_eq!(refused.error_info().unwrap().reason, "TOPIC_NOT_READY");
            assert!(refused.retry_info().is_some());
        }
        stored
    })
    .await;
    let second = receipt(&here.publish(placed()).await[0]).clone();
    assert_eq!((second.topic.as_str(), second.rules_revision), ("second", 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_left_alone_where_the_operator_makes_them() {
    let here = TestGateway::start("us-east", &rules("made-by-hand"), "topics: { create: false }\n").await;
    let placed = || vec![event("1", "com.acme.order.placed", "k")];
    let results = here.publish(placed()).await;
    let status = harness::refusal(&results[0]);
    assert_eq!(status.code, Code::NotFound as i32, "{}", status.message);
    let mut operations = OperationsServiceClient::new(here.admin().await);
    let create = proto::CreateTopicRequest {
        name: "made-by-hand".to_owned(),
        partitions: 2,
        ..Default::default()
    };
    operations.create_topic(create).await.unwrap();
    receipt(&here.publish(placed()).await[0]);
    let listed = operations
        .list_topics(proto::ListTopicsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .topics;
    let told: Vec<_> = listed
        .iter()
        .map(|topic| (topic.name.as_str(), topic.partitions, topic.records))
        .collect();
    assert_eq!(told, [("made-by-hand", 2, 1)]);
    let other = proto::ListTopicsRequest {
        broker: "slow".to_owned(),
    };
    let status = operations.list_topics(other).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "region us-east has no broker slow; known: main")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_serving_and_not_serving_while_draining_on_both_ports() {
    let here = TestGateway::start("us-east", RULES, "peers: { eu-west: { addresses: ['127.0.0.1:1'] } }\n").await;
    let check = async |channel: tonic::transport::Channel, service: &str| {
        let service = service.to_owned();
        HealthClient::new(channel)
            .check(HealthCheckRequest { service })
            .await
            .unwrap()
            .into_inner()
            .status()
    };
    let ports = [
        (here.channel().await, "meridian.v1.PublisherService"),
        (here.admin().await, "meridian.v1.RoutingService"),
    ];
    for (channel, service) in &ports {
        for service in ["", service] {
            until("it is serving", async || {
                check(channel.clone(), service).await == ServingStatus::Serving
            })
            .await;
        }
    }
    let (status, body) = http_get(here.gateway.admin_address(), "/metrics").await;
    assert!(
        status.contains("200") && body.contains("meridian_gateway_rules_revision{region=\"us-east\"} 1"),
        "{body}"
    );

    OperationsServiceClient::new(here.admin().await)
        .drain_gateway(proto::DrainGatewayRequest::default())
        .await
        .unwrap();
    for (channel, service) in &ports {
        for service in ["", service] {
            until("it is not serving", async || {
                check(channel.clone(), service).await == ServingStatus::NotServing
            })
            .await;
        }
    }
    let (status, body) = http_get(here.gateway.admin_address(), "/readyz").await;
    assert!(status.contains("503"), "{status} {body}");
    let (status, _) = http_get(here.gateway.admin_address(), "/livez").await;
    assert!(status.contains("200"), "a gateway that drains lives: {status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_of_reflection_list_the_services_of_their_port() {
    let here = TestGateway::start("us-east", RULES, "peers: { eu-west: { addresses: ['127.0.0.1:1'] } }\n").await;
    let request = tonic_reflection::pb::v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let listed = async |channel| {
        let requests = tokio_stream::iter([request.clone()]);
        let mut answers = ServerReflectionClient::new(channel)
            .server_reflection_info(requests)
            .await
            .unwrap()
            .into_inner();
        match answers.message().await.unwrap().unwrap().message_response.unwrap() {
            MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|each| each.name).collect(),
            other => panic!("{other:?}"),
        }
    };
    let data: Vec<String> = listed(here.channel().await).await;
    for service in [
        "meridian.v1.PublisherService",
        "meridian.v1.SubscriberService",
        "grpc.health.v1.Health",
    ] {
        assert!(
            data.iter().any(|name| name == service),
            "{service} is not among {data:?}"
        );
    }
    let admin: Vec<String> = listed(here.admin().await).await;
    for service in [
        "meridian.v1.RoutingService",
        "meridian.v1.OperationsService",
        "grpc.health.v1.Health",
    ] {
        assert!(
            admin.iter().any(|name| name == service),
            "{service} is not among {admin:?}"
        );
    }
    let requests = tokio_stream::iter([v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    }]);
    let channel = here.channel().await;
    let mut old = v1alpha::server_reflection_client::ServerReflectionClient::new(channel);
    assert!(
        old.server_reflection_info(requests)
            .await
            .unwrap()
            .into_inner()
            .message()
            .await
            .unwrap()
            .is_some()
    );
}
