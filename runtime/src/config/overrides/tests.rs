//! Tests of environment overrides: where each lands, and what is said of one that fits nowhere.

use proptest::prelude::*;

use crate::config::{Document, Faults};

const YAML: &str = "publish:\n  max_event_bytes: 1\nbrokers:\n  - name: main\nregions:\n  us-east: {url: a}\n";

fn with(variables: &[(&str, &str)]) -> Result<Document, String> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Document::parse("g.yaml", YAML)
        .unwrap()
        .with_overrides("MERIDIAN", variables)
        .map_err(|faults| faults.to_string())
}

/// The value at a path, as its debug form without places.
fn at(document: &Document, path: &[&str]) -> Option<String> {
    let mut faults = Faults::new();
    let mut node = document.root();
    for segment in path {
        node = if node.is_list() {
            node.list(&mut faults)?.into_iter().nth(segment.parse().ok()?)?
        } else {
            let mut entries = node.entries(&mut faults)?.into_iter();
            entries.find(|(key, _)| key == segment)?.1
        };
    }
    node.string(&mut faults)
}

#[test]
fn overrides_land_by_key_by_index_and_on_keys_with_hyphens() {
    let document = with(&[
        ("MERIDIAN__PUBLISH__MAX_EVENT_BYTES", "2"),
        ("meridian__brokers__0__name", "other"),
        ("MERIDIAN__BROKERS__1__NAME", "7"),
        ("MERIDIAN__REGIONS__US_EAST__URL", "http://b:1"),
        ("MERIDIAN__LOG__FORMAT", " json "),
        ("MERIDIAN__PEERS__0", "x"),
        ("MERIDIANO__X", "ignored"),
        ("PATH", "/bin"),
    ])
    .unwrap();
    assert_eq!(at(&document, &["publish", "max_event_bytes"]).as_deref(), Some("2"));
    assert_eq!(at(&document, &["brokers", "0", "name"]).as_deref(), Some("other"));
    assert_eq!(at(&document, &["brokers", "1", "name"]).as_deref(), Some("7"));
    assert_eq!(
        at(&document, &["regions", "us-east", "url"]).as_deref(),
        Some("http://b:1")
    );
    assert_eq!(at(&document, &["log", "format"]).as_deref(), Some("json"));
    assert_eq!(at(&document, &["peers", "0"]).as_deref(), Some("x"));
}

#[test]
fn a_value_may_be_a_list_or_quoted() {
    let document = with(&[
        ("MERIDIAN__BROKERS__0__SERVERS", "[a:1, 'b:2']"),
        ("MERIDIAN__NAME", "\"x\\ty\""),
    ])
    .unwrap();
    assert_eq!(at(&document, &["brokers", "0", "servers", "1"]).as_deref(), Some("b:2"));
    assert_eq!(at(&document, &["name"]).as_deref(), Some("x\ty"));
}

#[test]
fn appended_items_come_in_the_order_of_numbers() {
    let names: Vec<_> = (1..=11)
        .map(|index| format!("MERIDIAN__BROKERS__{index}__NAME"))
        .collect();
    let variables: Vec<_> = names.iter().rev().map(|name| (name.as_str(), "x")).collect();
    let document = with(&variables).unwrap();
    assert_eq!(at(&document, &["brokers", "11", "name"]).as_deref(), Some("x"));
}

#[test]
fn faults_of_overridden_values_name_the_variable() {
    let document = with(&[("MERIDIAN__PUBLISH__MAX_EVENT_BYTES", "many")]).unwrap();
    let mut faults = Faults::new();
    let root = document
        .root()
        .mapping(&["publish", "brokers", "regions"], &mut faults)
        .unwrap();
    let publish = root.section("publish", &["max_event_bytes"], &mut faults).unwrap();
    publish.u64_or("max_event_bytes", 1, 0..=9, &mut faults);
    assert_eq!(
        faults.to_string(),
        "$MERIDIAN__PUBLISH__MAX_EVENT_BYTES: publish.max_event_bytes: must be a whole number, got \"many\""
    );
}

#[test]
fn overrides_that_fit_nowhere_are_faults() {
    let cases: [(&[(&str, &str)], &str); 7] = [
        (
            &[("MERIDIAN__PUBLISH__MAX_EVENT_BYTES__X", "1")],
            "$MERIDIAN__PUBLISH__MAX_EVENT_BYTES__X: publish.max_event_bytes: is a single value",
        ),
        (
            &[("MERIDIAN__BROKERS__5__NAME", "1")],
            "brokers: has 1 items, so item 5 cannot be set",
        ),
        (
            &[("MERIDIAN__BROKERS__MAIN__NAME", "1")],
            "brokers: is a list, so `main` must be an index",
        ),
        (&[("MERIDIAN__PUBLISH____X", "1")], "publish: has an empty segment"),
        (&[("MERIDIAN__", "1")], "has an empty segment"),
        (
            &[("MERIDIAN__A", "1"), ("meridian__a", "2")],
            "sets the same option as $",
        ),
        (&[("MERIDIAN__A", "[1")], "$MERIDIAN__A: not valid YAML"),
    ];
    for (variables, expected) in cases {
        let found = with(variables).unwrap_err();
        assert!(found.contains(expected), "{variables:?}: {found}");
    }
}

#[test]
fn a_segment_that_means_two_keys_is_refused() {
    let document = Document::parse("g.yaml", "regions: {us-east: 1, us_east: 2}").unwrap();
    let variables = [("MERIDIAN__REGIONS__US_EAST".to_owned(), "3".to_owned())];
    let found = document.with_overrides("MERIDIAN", variables).unwrap_err().to_string();
    assert!(found.contains("means both `us-east` and `us_east`"), "{found}");
}

proptest! {
    #[test]
    fn any_variables_are_laid_or_refused_without_a_panic(
        variables in prop::collection::vec(
            (
                "(?i:meridian__)(publish|brokers|regions|[0-9]{1,2}|__|x|é){1,4}(__[a-z0-9_]{0,5}){0,3}",
                any::<String>(),
            ),
            0..6,
        ),
    ) {
        let borrowed: Vec<_> = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        if let Err(faults) = with(&borrowed) {
            prop_assert!(faults.lines().all(|line| !line.is_empty()));
        }
    }
}
