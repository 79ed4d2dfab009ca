//! Rules change under a running gateway: swapped whole from the watched file or by
//! an operator, refused whole with every fault, explained.

use std::time::Duration;

use meridian_proto::google_rpc;
use meridian_proto::meridian::publish_result::Outcome;
use meridian_tests::harness::{Brokers, Gateway, GatewayPlan, Scratch, eventually, eventually_some, meridian, wire};

use serde_json::Value;

use crate::regions::{ORDER, PAYMENT, US};

const NOTICED: Duration = Duration::from_secs(20);

fn rules(topic: &str) -> String {
    format!("rules:\n  - name: to-{topic}\n    when: {{ type: com.acme.order.* }}\n    send: {{ topic: {topic} }}\n")
}

/// Three faults, on lines 3, 4 and 6.
const BAD: &str = "rules:\n  - name: broken\n    wen: { type: x }\n    send: { topic: a, broker: nosuch }\n  - name: broken\n    send: { topic: 'a b' }\n";

async fn gateway(scratch: &Scratch) -> Gateway {
    let gateway = GatewayPlan::new(US, Brokers::Embedded, rules("first"))
        .start(scratch)
        .await;
    gateway.ready().await;
    gateway
}

/// Topic, rule and revision that an order gets; a topic that is being made is waited for.
async fn route(gateway: &Gateway) -> (String, String, u64) {
    eventually_some(NOTICED, "an order to be stored", || async {
        let results = wire::publish(&gateway.data(), &[wire::event("1", ORDER)])
            .await
            .unwrap();
        match results[0].outcome.as_ref().unwrap() {
            Outcome::Receipt(receipt) => Some((receipt.topic.clone(), receipt.rule.clone(), receipt.rules_revision)),
            Outcome::Refusal(status) if reason(status) == "TOPIC_NOT_READY" => None,
            other => panic!("no receipt but {other:?}"),
        }
    })
    .await
}

fn reason(status: &google_rpc::Status) -> String {
    wire::details(status)
        .error_info()
        .map(|info| info.reason.clone())
        .unwrap_or_default()
}

async fn ask(gateway: &Gateway, arguments: &[&str]) -> Value {
    let admin = gateway.admin();
    let all: Vec<&str> = arguments
        .iter()
        .copied()
        .chain(["--admin", &admin, "--output", "json"])
        .collect();
    meridian(&all).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watched_file_is_swapped_whole_and_refused_whole() {
    let scratch = Scratch::new("rules-file");
    let mut gateway = gateway(&scratch).await;
    assert_eq!(route(&gateway).await, ("first".to_owned(), "to-first".to_owned(), 1));

    std::fs::write(gateway.rules_file(), rules("second")).unwrap();
    eventually(NOTICED, "the new rules to be in force", || async {
        route(&gateway).await.0 == "second"
    })
    .await;
    assert_eq!(route(&gateway).await.2, 2);

    std::fs::write(gateway.rules_file(), BAD).unwrap();
    eventually(NOTICED, "the metrics to say that the file is refused", || async {
        gateway.metric("meridian_gateway_rules_refused_total").await == Some(1.0)
    })
    .await;
    assert_eq!(
        route(&gateway).await,
        ("second".to_owned(), "to-second".to_owned(), 2),
        "the old rules stay"
    );

    // As editors do it: a new file in the place of the old one.
    let new = scratch.write("new-rules.yaml", &rules("third"));
    std::fs::rename(new, gateway.rules_file()).unwrap();
    eventually(NOTICED, "the mended file to be in force", || async {
        route(&gateway).await.0 == "third"
    })
    .await;
    assert_eq!(route(&gateway).await.2, 3, "a refused file has no revision");
    let log = gateway.process().log();
    let told = log
        .lines()
        .filter(|line| line.contains("the rules file is refused"))
        .count();
    assert_eq!(told, 1, "a refusal is told once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_validates_applies_and_reads_rules() {
    let scratch = Scratch::new("rules-apply");
    let mut gateway = gateway(&scratch).await;
    let bad = scratch.write("bad.yaml", BAD);
    let good = scratch.write("good.yaml", &rules("applied"));
    let admin = gateway.admin();
    for command in ["validate", "apply"] {
        let refused = meridian(&["rules", command, bad.to_str().unwrap(), "--admin", &admin]).await;
        assert_eq!(refused.code, Some(64), "{refused:?}");
        let said = format!("{}{}", refused.out, refused.err);
        for fault in ["wen", "nosuch", "called broken too", "a b"] {
            assert!(
                said.contains(fault),
                "{command} does not tell every fault ({fault}): {said}"
            );
        }
        assert!(
            said.contains("3:") || said.contains("line 3"),
            "{command} names the line: {said}"
        );
    }
    assert_eq!(
        route(&gateway).await.0,
        "first",
        "nothing of a refused document is applied"
    );

    ask(
        &gateway,
        &["rules", "apply", good.to_str().unwrap(), "--expected-revision", "1"],
    )
    .await;
    assert_eq!(
        route(&gateway).await,
        ("applied".to_owned(), "to-applied".to_owned(), 2)
    );
    let stale = meridian(&[
        "rules",
        "apply",
        good.to_str().unwrap(),
        "--expected-revision",
        "1",
        "--admin",
        &admin,
    ])
    .await;
    assert_eq!(stale.code, Some(1), "{stale:?}");
    assert!(
        stale.err.contains('2'),
        "the message names the revision in force: {stale:?}"
    );
    let got = ask(&gateway, &["rules", "get"]).await;
    assert_eq!(
        (&got["revision"], got["document"].as_str()),
        (&Value::from(2), Some(rules("applied").as_str()))
    );

    gateway.terminate().await;
    gateway.start_again().await;
    gateway.ready().await;
    assert_eq!(
        route(&gateway).await.0,
        "applied",
        "what was applied is in the file, and outlives the process"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_is_explained_rule_by_rule() {
    let scratch = Scratch::new("rules-explain");
    let gateway = gateway(&scratch).await;
    let matched = ask(&gateway, &["rules", "explain", "--type", ORDER, "--key", "customer-7"]).await;
    let text = matched.to_string();
    assert_eq!(matched["rule"], "to-first", "{text}");
    assert!(text.contains("\"first\"") && text.contains("customer-7"), "{text}");
    let unmatched = ask(&gateway, &["rules", "explain", "--type", PAYMENT]).await;
    let text = unmatched.to_string();
    assert!(
        text.contains("com.acme.order.*") && text.contains(PAYMENT),
        "names the matcher and the value: {text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_does_not_start_on_bad_rules() {
    let scratch = Scratch::new("rules-start");
    let plan = GatewayPlan::new(US, Brokers::Embedded, BAD);
    scratch.write("us-east-rules.yaml", BAD);
    let config = scratch.write("us-east.yaml", &plan.yaml(&scratch));
    for check in [&["--check"][..], &[]] {
        let arguments: Vec<&str> = ["gateway", "--config", config.to_str().unwrap()]
            .into_iter()
            .chain(check.iter().copied())
            .collect();
        let refused = meridian(&arguments).await;
        assert_eq!(refused.code, Some(64), "{refused:?}");
        for fault in ["wen", "nosuch", "called broken too", "a b"] {
            assert!(
                refused.err.contains(fault),
                "does not tell every fault ({fault}): {refused:?}"
            );
        }
    }
}
