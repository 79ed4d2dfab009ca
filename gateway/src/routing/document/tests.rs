//! What a rule document is refused for, with the text and place of every fault.

use super::*;
use crate::routing::context::BrokerFacts;
use meridian_broker::{Capabilities, Durability, KeyPlacement};

pub(crate) fn context() -> RuleContext {
    let facts = |name: &str, partitions| BrokerFacts {
        name: BrokerName::new(name).unwrap(),
        capabilities: Capabilities {
            partitions,
            replay: true,
            ordered: partitions,
            native_redelivery: false,
            transactions: false,
            key_placement: KeyPlacement::Murmur2,
        },
        durability: Durability::Fsynced,
    };
    RuleContext {
        region: RegionName::new("us-east").unwrap(),
        peers: [RegionName::new("eu-west").unwrap()].into(),
        brokers: vec![facts("fast", false), facts("main", true)],
        default_broker: 1,
    }
}

#[test]
fn a_document_becomes_its_rules_in_order() {
    let text = "
rules:
  - name: orders
    when: { region: 'us-*', type: [com.acme.order.*, com.acme.refund] }
    send: { topic: orders, broker: main, key: subject }
  - name: europe
    when: { region: eu-west }
    send: { topic: all, region: eu-west, broker: elsewhere }
  - name: rest
    send: { topic: rest }
";
    let rules = parse("rules.yaml", text, &context()).unwrap();
    let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["orders", "europe", "rest"]);
    assert_eq!(rules[0].key, KeyChoice::Subject);
    assert_eq!(rules[0].types[1].pattern(), "com.acme.refund");
    assert_eq!(rules[1].broker.as_ref().unwrap().as_str(), "elsewhere");
    assert!(rules[2].regions.is_empty() && rules[2].broker.is_none());
    assert_eq!(rules[2].key, KeyChoice::PartitionKey);
}

#[test]
fn every_fault_is_listed_with_its_place() {
    let text = "
rules:
  - name: orders
    when: { region: mars, type: '' }
    send: { topic: 'a/b', broker: slow, key: Partition-Key }
  - name: orders
    when: { typ: x }
    send: { broker: fast, key: subject }
  - name: 'a b'
    send: { topic: t, region: venus }
  - when: { type: [] }
";
    let faults = parse("rules.yaml", text, &context()).unwrap_err().to_string();
    let lines: Vec<&str> = faults.lines().collect();
    for expected in [
        "rules.yaml:4:21: rules[0].when.region: no known region matches \"mars\", so the rule would never match; known: us-east, eu-west",
        "rules.yaml:4:33: rules[0].when.type: an empty pattern matches nothing; leave it out to match everything",
        "rules.yaml:5:20: rules[0].send.topic: ",
        "rules.yaml:5:35: rules[0].send.broker: region us-east has no broker slow; known: fast, main",
        "rules.yaml:5:46: rules[0].send.key: a key is the name of an attribute (a-z and 0-9, 20 at most), or `none`",
        "rules.yaml:6:11: rules[1].name: the rule on line 3 is called orders too; receipts name rules, so names are unique",
        "rules.yaml:7:13: rules[1].when.typ: unknown key; did you mean `type`?",
        "rules[1].send.topic: is required, but is missing",
        "rules.yaml:8:32: rules[1].send.key: broker fast keeps no order by key; leave the key out, or send to another broker",
        "rules.yaml:9:11: rules[2].name: a rule's name is 1 to 63 of a-z, A-Z, 0-9, '.', '_' and '-'",
        "rules.yaml:10:31: rules[2].send.region: region venus is neither this one nor among `peers`; known: us-east, eu-west",
        "rules[3].name: is required, but is missing",
        "rules[3].when.type: an empty list matches nothing; leave it out to match everything",
        "rules[3].send: is required, but is missing",
    ] {
        assert!(
            lines.iter().any(|line| line.contains(expected)),
            "{expected}\nnot in\n{faults}"
        );
    }
    assert_eq!(lines.len(), 14, "{faults}");
}

#[test]
fn what_is_no_document_of_rules_is_refused() {
    for (text, expected) in [
        ("", "rules: is required"),
        ("rules: 7", "must be a list"),
        ("rules: [7]", "rules[0]: must be a mapping"),
        ("rule: []", "unknown key; did you mean `rules`?"),
        ("rules: [", "rules.yaml:1"),
        ("rules: []\nrules: []", "rules"),
    ] {
        let faults = parse("rules.yaml", text, &context()).unwrap_err().to_string();
        assert!(faults.contains(expected), "{text}: {faults}");
    }
    assert!(parse("rules.yaml", "rules: []", &context()).unwrap().is_empty());
}

#[test]
fn documents_past_the_bounds_are_refused() {
    let many = "rules:\n".to_owned() + &"- {name: a, send: {topic: t}}\n".repeat(MAX_RULES + 1);
    let faults = parse("rules.yaml", &many, &context()).unwrap_err().to_string();
    assert!(faults.contains("10001 rules are too many"), "{faults}");
    let long = format!("rules: []\n# {}", "x".repeat(1024 * 1024));
    let faults = parse("rules.yaml", &long, &context()).unwrap_err().to_string();
    assert!(faults.contains("1048576"), "{faults}");
    let patterns = vec!["a"; MAX_PATTERNS + 1].join(",");
    let text = format!("rules: [{{name: a, when: {{type: [{patterns}]}}, send: {{topic: t}}}}]");
    let faults = parse("rules.yaml", &text, &context()).unwrap_err().to_string();
    assert!(faults.contains("65 patterns are too many"), "{faults}");
}
