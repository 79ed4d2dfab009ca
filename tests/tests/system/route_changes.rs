//! Rules that change ten times a second under load: added to, turned around, rolled
//! back, and refused. Each event is routed by exactly one revision, the one that its receipt
//! names, and none is lost over a swap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use meridian_proto::meridian::publish_result::Outcome;
use meridian_proto::meridian::{ApplyRulesRequest, SettlementAction, SettlementOutcome};
use meridian_tests::harness::wait::flow;
use meridian_tests::harness::{Brokers, Gateway, GatewayPlan, Scratch, short_or_full, wire};

use crate::regions::{ORDER, US};
use crate::sessions::{Session, id, open};

const TOPICS: usize = 3;
const PACE: Duration = Duration::from_millis(20);
const EVERY: Duration = Duration::from_millis(100);
const BAD: &str = "rules:\n  - name: broken\n    send: { topic: 'a b' }\n";

fn topic(number: usize) -> String {
    format!("route-{}", number % TOPICS)
}

/// One rule that counts; every other document has one before it that never matches.
fn document(number: usize) -> String {
    let other = "  - name: other\n    when: { type: com.acme.other }\n    send: { topic: route-0 }\n";
    let before = if number.is_multiple_of(2) { "" } else { other };
    let to = topic(number);
    format!("rules:\n{before}  - name: to-{to}\n    when: {{ type: com.acme.order.* }}\n    send: {{ topic: {to} }}\n")
}

async fn apply(gateway: &Gateway, document: String, expected_revision: u64) -> (u64, usize) {
    let request = ApplyRulesRequest {
        document,
        expected_revision,
    };
    let answer = wire::routing(&gateway.admin()).apply_rules(request).await.unwrap();
    let answer = answer.into_inner();
    (answer.revision, answer.faults.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_change_under_load_lose_nothing_and_each_event_has_one_revision() {
    let scratch = Scratch::new("route-changes");
    let gateway = GatewayPlan::new(US, Brokers::Embedded, document(0))
        .start(&scratch)
        .await;
    gateway.ready().await;
    // All topics are there before the load.
    let mut revision = 1;
    let mut topics = BTreeMap::from([(1, topic(0))]);
    for number in 1..=TOPICS {
        (revision, _) = apply(&gateway, document(number), revision).await;
        topics.insert(revision, topic(number));
    }
    let changing = AtomicBool::new(true);
    let changes = async {
        for number in 0..short_or_full(40, 3_000) {
            if number % 5 == 4 {
                let (still, faults) = apply(&gateway, BAD.to_owned(), revision).await;
                assert!(faults > 0 && still == revision, "a bad document has a revision");
            } else {
                let (next, faults) = apply(&gateway, document(number), revision).await;
                assert!(faults == 0 && next > revision, "{faults} faults, {revision} -> {next}");
                topics.insert(next, topic(number));
                revision = next;
            }
            flow(EVERY).await;
        }
        changing.store(false, Ordering::SeqCst);
    };
    let publishing = async {
        let mut stored = Vec::new();
        let mut number = 0;
        while changing.load(Ordering::SeqCst) {
            let batch: Vec<_> = (number..number + 5)
                .map(|at| wire::event(&at.to_string(), ORDER))
                .collect();
            number += 5;
            flow(PACE).await;
            for (event, result) in batch.iter().zip(wire::publish(&gateway.data(), &batch).await.unwrap()) {
                match result.outcome.unwrap() {
                    Outcome::Receipt(receipt) => stored.push((event.id.clone(), receipt)),
                    other => panic!("{}: {other:?}", event.id),
                }
            }
        }
        stored
    };
    let ((), stored) = tokio::join!(changes, publishing);
    assert!(stored.len() > 200, "{} events show nothing", stored.len());
    for (id, receipt) in &stored {
        let told = topics.get(&receipt.rules_revision);
        assert_eq!(
            Some(&receipt.topic),
            told,
            "{id} of revision {}",
            receipt.rules_revision
        );
    }
    let revisions: BTreeSet<_> = stored.iter().map(|(_, receipt)| receipt.rules_revision).collect();
    assert!(revisions.len() > 10, "{revisions:?} show nothing");

    let mut opening = open(&topic(0), 100);
    opening.topics = (0..TOPICS).map(topic).collect();
    let mut session = Session::open(&gateway, opening).await.unwrap();
    let mut left: BTreeMap<&str, &str> = stored
        .iter()
        .map(|(id, receipt)| (id.as_str(), receipt.topic.as_str()))
        .collect();
    while !left.is_empty() {
        let delivery = session.delivery().await;
        let at = left.remove(id(&delivery).as_str());
        assert_eq!(at, Some(delivery.topic.as_str()), "{}", id(&delivery));
        let outcome = session.settle(delivery.delivery_id, SettlementAction::Accept, "").await;
        assert_eq!(outcome, SettlementOutcome::Applied);
    }
}
