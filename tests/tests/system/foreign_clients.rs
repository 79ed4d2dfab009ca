//! Programs that are not ours: kcat reads what Meridian stored, as CloudEvents in
//! binary mode; grpcurl finds the services and publishes; grpc-health-probe sees a
//! gateway serve, and drain.

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_tests::harness::command::run;
use meridian_tests::harness::scratch::unique;
use meridian_tests::harness::{Brokers, GatewayPlan, Scratch, eventually, foreign, meridian, shared_kafka};
use meridian_worker_sdk::{EventBuilder, Publisher};
use serde_json::{Value, json};

use crate::regions::{ORDER, US};

const KEYS: u32 = 24;

#[tokio::test(flavor = "multi_thread")]
async fn kcat_reads_events_in_binary_mode_where_a_java_producer_would_put_them() {
    let kcat = foreign("kcat");
    let scratch = Scratch::new("kcat");
    let kafka = shared_kafka('A');
    let (topic, by_kcat) = (unique("orders"), unique("by-kcat"));
    let rules = format!("rules:\n  - name: orders\n    send: {{ topic: {topic} }}\n");
    let mut plan = GatewayPlan::new(US, Brokers::Kafka(kafka.clone()), rules);
    plan.partitions = 6;
    let gateway = plan.start(&scratch).await;
    gateway.ready().await;
    let publisher = Publisher::builder([gateway.data()]).build().unwrap();
    for number in 0..KEYS {
        let event = EventBuilder::new(&format!("id-{number}"), "/shop/%C3%BC", ORDER)
            .partition_key(&format!("customer-{number}"))
            .subject("Körbchen 7")
            .data_content_type("application/json")
            .text_data(format!("{{\"number\":{number}}}"));
        publisher.publish(event.build().unwrap()).await.unwrap();
    }

    let records = consume(&kcat, &kafka, &topic).await;
    assert_eq!(records.len(), KEYS as usize);
    for record in records.values() {
        let payload: Value = serde_json::from_str(record["payload"].as_str().unwrap()).unwrap();
        let number = payload["number"].as_u64().unwrap();
        let headers = headers(record);
        let header = |name: &str| headers.get(name).map(String::as_str);
        assert_eq!(record["key"], format!("customer-{number}"));
        assert_eq!(header("ce_specversion"), Some("1.0"));
        assert_eq!(header("ce_id"), Some(format!("id-{number}").as_str()));
        assert_eq!(header("ce_source"), Some("/shop/%C3%BC"));
        assert_eq!(header("ce_type"), Some(ORDER));
        assert_eq!(header("ce_subject"), Some("Körbchen 7"));
        assert_eq!(header("ce_partitionkey"), Some(format!("customer-{number}").as_str()));
        assert_eq!(header("ce_originregion"), Some(US));
        assert_eq!(header("content-type"), Some("application/json"));
    }

    let admin = gateway.admin();
    meridian(&["topics", "create", &by_kcat, "--partitions", "6", "--admin", &admin])
        .await
        .success();
    let lines: String = (0..KEYS).map(|number| format!("customer-{number}:x\n")).collect();
    let produce = [
        "-P",
        "-b",
        &kafka,
        "-t",
        &by_kcat,
        "-K",
        ":",
        "-X",
        "topic.partitioner=murmur2_random",
    ];
    run(&kcat, &produce, &lines).await.success();
    let theirs = consume(&kcat, &kafka, &by_kcat).await;
    for (key, record) in &records {
        assert_eq!(record["partition"], theirs[key]["partition"], "{key}");
    }
}

/// Every record of a topic by its key.
async fn consume(kcat: &std::path::Path, kafka: &str, topic: &str) -> BTreeMap<String, Value> {
    let out = run(
        kcat,
        &["-C", "-b", kafka, "-t", topic, "-o", "beginning", "-e", "-q", "-J"],
        "",
    )
    .await
    .success();
    let records = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records
        .map(|record| (record["key"].as_str().unwrap().to_owned(), record))
        .collect()
}

/// kcat lists names and values in turn.
fn headers(record: &Value) -> BTreeMap<String, String> {
    let list: Vec<&str> = record["headers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| each.as_str().unwrap())
        .collect();
    list.chunks(2)
        .map(|pair| (pair[0].to_owned(), pair[1].to_owned()))
        .collect()
}

const RULES: &str = "rules:\n  - name: orders\n    send: { topic: orders }\n";

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_finds_the_services_and_publishes() {
    let grpcurl = foreign("grpcurl");
    let scratch = Scratch::new("grpcurl");
    let gateway = GatewayPlan::new(US, Brokers::Embedded, RULES).start(&scratch).await;
    gateway.ready().await;
    let (data, admin) = (gateway.data(), gateway.admin());
    let listed = run(&grpcurl, &["-plaintext", &data, "list"], "").await.success();
    for service in [
        "meridian.v1.PublisherService",
        "meridian.v1.SubscriberService",
        "grpc.health.v1.Health",
    ] {
        assert!(
            listed.lines().any(|line| line == service),
            "{service} is not among {listed}"
        );
    }
    let listed = run(&grpcurl, &["-plaintext", &admin, "list"], "").await.success();
    for service in ["meridian.v1.RoutingService", "meridian.v1.OperationsService"] {
        assert!(
            listed.lines().any(|line| line == service),
            "{service} is not among {listed}"
        );
    }
    let request = json!({ "events": [{
        "id": "1", "source": "/shop", "specVersion": "1.0", "type": ORDER,
        "attributes": { "partitionkey": { "ceString": "customer-7" } }, "textData": "hello",
    }]});
    let arguments = ["-plaintext", "-d", "@", &data, "meridian.v1.PublisherService/Publish"];
    let answer = run(&grpcurl, &arguments, &request.to_string()).await.json();
    let receipt = &answer["results"][0]["receipt"];
    assert_eq!(
        (&receipt["region"], &receipt["topic"], &receipt["rule"]),
        (&json!(US), &json!("orders"), &json!("orders")),
        "{answer}"
    );
    assert_eq!(receipt["durability"], "DURABILITY_FSYNCED", "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_health_probe_sees_a_gateway_serve_and_drain() {
    let probe = foreign("grpc-health-probe");
    let scratch = Scratch::new("probe");
    let gateway = GatewayPlan::new(US, Brokers::Embedded, RULES).start(&scratch).await;
    gateway.ready().await;
    let address = format!("-addr={}", gateway.data());
    let served = run(&probe, &[&address], "").await;
    assert_eq!(served.code, Some(0), "{served:?}");
    assert!(
        served.err.contains("SERVING") || served.out.contains("SERVING"),
        "{served:?}"
    );
    meridian(&["drain", "--admin", &gateway.admin(), "--deadline", "30s"])
        .await
        .success();
    eventually(Duration::from_secs(10), "the probe to say NOT_SERVING", || async {
        let drained = run(&probe, &[&address], "").await;
        // Exit code 4: the service answered, and is not serving.
        drained.code == Some(4) && drained.err.contains("NOT_SERVING")
    })
    .await;
    let (status, body) = gateway.readiness().await.expect("the process stays");
    assert_eq!((status, &body["status"]), (503, &json!("draining")), "{body}");
}
