//! Tests of the readers: what each takes, and the exact fault of what it refuses.

use super::*;
use crate::config::{Document, SecretSources};
use proptest::prelude::*;

/// Reads `yaml`'s key `v` and gives the value or the one fault.
fn read<T>(yaml: &str, reader: impl FnOnce(Node<'_>, &mut Faults) -> Option<T>) -> Result<T, String> {
    let document = Document::parse("g.yaml", yaml).unwrap();
    let mut faults = Faults::new();
    let root = document.root().mapping(&["v"], &mut faults).unwrap();
    let value = root
        .required("v", &mut faults)
        .and_then(|node| reader(node, &mut faults));
    faults.into_result_of(value).map_err(|faults| faults.to_string())
}

#[test]
fn the_fault_of_the_house_reads_as_documented() {
    let document = Document::parse("gateway.yaml", "publish:\n  max_event_bytes: 0\n").unwrap();
    let mut faults = Faults::new();
    let root = document.root().mapping(&["publish"], &mut faults).unwrap();
    let publish = root.section("publish", &["max_event_bytes"], &mut faults).unwrap();
    assert_eq!(publish.u64_or("max_event_bytes", 9, 1..=16_777_216, &mut faults), 9);
    assert_eq!(
        faults.to_string(),
        "gateway.yaml:2:20: publish.max_event_bytes: must be between 1 and 16777216, got 0"
    );
}

#[test]
fn whole_numbers_keep_their_range() {
    let number = |yaml: &str| read(yaml, |node, faults| node.u64(1..=100, faults));
    assert_eq!(number("v: 100"), Ok(100));
    assert_eq!(number("v: 0x10"), Ok(16));
    for (yaml, got) in [
        ("v: 101", "must be between 1 and 100, got 101"),
        ("v: -1", "must be between 1 and 100, got -1"),
        (
            "v: 99999999999999999999",
            "must be between 1 and 100, got 99999999999999999999",
        ),
        ("v: 1.5", "must be a whole number, got 1.5"),
        ("v: '7'", "must be a whole number, got \"7\""),
        ("v: 1_000", "must be a whole number, got \"1_000\""),
        ("v: [1]", "must be a whole number, got a list"),
    ] {
        assert_eq!(number(yaml), Err(format!("g.yaml:1:4: v: {got}")), "{yaml}");
    }
}

#[test]
fn numbers_and_seconds_are_finite_and_in_range() {
    let seconds = |yaml: &str| read(yaml, |node, faults| node.duration_seconds(0.0..=60.0, faults));
    assert_eq!(seconds("v: 1.5"), Ok(Duration::from_millis(1500)));
    assert_eq!(seconds("v: 2"), Ok(Duration::from_secs(2)));
    for yaml in ["v: .nan", "v: .inf", "v: -1", "v: 61"] {
        assert!(
            seconds(yaml).unwrap_err().contains("must be between 0 and 60"),
            "{yaml}"
        );
    }
    assert!(
        seconds("v: 5s")
            .unwrap_err()
            .contains("must be a number of seconds, got \"5s\"")
    );
    let endless = read("v: -1", |node, faults| node.duration_seconds(-5.0..=60.0, faults));
    assert!(endless.unwrap_err().contains("a number of seconds from 0"));
    let endless = read("v: .inf", |node, faults| node.f64(0.0..=f64::INFINITY, faults));
    assert!(endless.is_err());
    assert_eq!(read("v: 3", |node, faults| node.f64(0.0..=5.0, faults)), Ok(3.0));
}

#[test]
fn texts_must_be_texts() {
    let string = |yaml: &str| read(yaml, |node, faults| node.string(faults));
    assert_eq!(string("v: no"), Ok("no".to_owned()));
    assert_eq!(string("v: \"1.10\""), Ok("1.10".to_owned()));
    assert_eq!(string("v: ''"), Ok(String::new()));
    assert!(
        string("v: 1.10")
            .unwrap_err()
            .ends_with("must be a text, got 1.10; put it in quotes")
    );
    assert!(string("v: true").unwrap_err().ends_with("put it in quotes"));
    assert!(
        string("v: {a: 1}")
            .unwrap_err()
            .ends_with("must be a text, got a mapping")
    );
    let long = string(&format!("v: [{}]", "x".repeat(500))).unwrap_err();
    assert!(long.len() < 200);
}

#[test]
fn long_values_are_cut_in_messages() {
    let fault = read(&format!("v: {}", "é".repeat(500)), |node, faults| node.bool(faults));
    let fault = fault.unwrap_err();
    assert!(fault.ends_with("...") && fault.chars().count() < 120, "{fault}");
}

#[test]
fn every_wrong_item_of_a_list_is_named() {
    let found = read("v: [a, 1, b, {}]", |node, faults| node.string_list(faults)).unwrap_err();
    assert_eq!(
        found,
        "g.yaml:1:8: v[1]: must be a text, got 1; put it in quotes\n\
         g.yaml:1:14: v[3]: must be a text, got a mapping"
    );
}

#[test]
fn unknown_keys_are_named_where_they_stand_with_a_suggestion() {
    let document = Document::parse("g.yaml", "brokers:\n  - name: a\n    kafak: {}\n    zzz: 1\n").unwrap();
    let mut faults = Faults::new();
    let root = document.root().mapping(&["brokers"], &mut faults).unwrap();
    for broker in root.get("brokers").unwrap().list(&mut faults).unwrap() {
        assert!(broker.mapping(&["name", "kafka"], &mut faults).is_some());
    }
    assert_eq!(
        faults.to_string(),
        "g.yaml:3:5: brokers[0].kafak: unknown key; did you mean `kafka`?\n\
         g.yaml:4:5: brokers[0].zzz: unknown key; known here: `name`, `kafka`"
    );
}

#[test]
fn required_keys_are_missed_and_null_counts_as_absent() {
    let document = Document::parse("g.yaml", "a:\nb: ~\n").unwrap();
    let mut faults = Faults::new();
    let root = document.root().mapping(&["a", "b", "c"], &mut faults).unwrap();
    assert!(root.get("a").is_none());
    assert_eq!(root.string_or("a", "x", &mut faults), "x");
    assert!(faults.is_empty());
    assert!(root.required("b", &mut faults).is_none());
    assert!(root.required("c", &mut faults).is_none());
    let found = faults.to_string();
    assert!(
        found.contains("g.yaml:2:4: b: is required, but has no value"),
        "{found}"
    );
    assert!(found.contains("g.yaml:1:1: c: is required, but is missing"), "{found}");
}

#[test]
fn odd_keys_are_quoted_in_paths_and_free_keys_keep_their_order() {
    let document = Document::parse("g.yaml", "v: {b.c: x, a: y}").unwrap();
    let mut faults = Faults::new();
    let root = document.root().mapping(&["v"], &mut faults).unwrap();
    let entries = root.get("v").unwrap().entries(&mut faults).unwrap();
    let found: Vec<_> = entries.iter().map(|(key, node)| (key.as_str(), node.path())).collect();
    assert_eq!(found, [("b.c", "v[\"b.c\"]"), ("a", "v.a")]);
}

#[test]
fn choices_and_parsed_values_say_what_would_be_right() {
    let choices = [("text", 1), ("json", 2)];
    assert_eq!(read("v: json", |node, faults| node.choice(&choices, faults)), Ok(2));
    assert_eq!(
        read("v: jsn", |node, faults| node.choice(&choices, faults)),
        Err("g.yaml:1:4: v: must be one of text, json, got \"jsn\"; did you mean `json`?".to_owned())
    );
    let address = read("v: localhost", |node, faults| node.parsed::<std::net::IpAddr>(faults));
    assert_eq!(
        address,
        Err("g.yaml:1:4: v: invalid IP address syntax, got \"localhost\"".to_owned())
    );
}

/// Reads a value and all beneath it in every way; every reader that gives nothing must have said why.
fn read_in_every_way(node: &Node<'_>) {
    fn said_why<'a, T>(node: &Node<'a>, reader: impl FnOnce(&Node<'a>, &mut Faults) -> Option<T>) -> Option<T> {
        let mut faults = Faults::new();
        let value = reader(node, &mut faults);
        assert_eq!(value.is_none(), !faults.is_empty(), "{node:?}: {faults}");
        value
    }
    said_why(node, |node, faults| node.string(faults));
    said_why(node, |node, faults| node.bool(faults));
    said_why(node, |node, faults| node.u64(1..=9, faults));
    said_why(node, |node, faults| node.usize(0..=usize::MAX, faults));
    said_why(node, |node, faults| node.f64(-1.0..=1e300, faults));
    said_why(node, |node, faults| node.duration_seconds(-1.0..=1e300, faults));
    said_why(node, |node, faults| node.choice(&[("a", 1), ("b", 2)], faults));
    said_why(node, |node, faults| node.parsed::<std::net::IpAddr>(faults));
    said_why(node, |node, faults| node.secret(&SecretSources::default(), faults));
    node.mapping(&["a", "b"], &mut Faults::new());
    said_why(node, |node, faults| node.string_list(faults));
    for item in said_why(node, Node::list).unwrap_or_default() {
        read_in_every_way(&item);
    }
    for (_, value) in said_why(node, Node::entries).unwrap_or_default() {
        read_in_every_way(&value);
    }
}

proptest! {
    #[test]
    fn no_reader_panics_or_fails_in_silence(
        text in "((a|b|[a-c]{1,2}): ?(1|-1|1e400|0x1F|~|true|'a'|a|\\[1, a, ~\\]|\\{a: 1\\})?\n|- a\n|  ){0,12}",
    ) {
        if let Ok(document) = Document::parse("g.yaml", &text) {
            read_in_every_way(&document.root());
        }
    }
}
