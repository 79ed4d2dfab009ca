//! Tests of parsing: what is taken, what is refused, and where faults are said to be.

use super::*;
use proptest::prelude::*;

fn faults(text: &str) -> String {
    match Document::parse("g.yaml", text) {
        Ok(document) => panic!("parsed: {document:?}"),
        Err(faults) => faults.to_string(),
    }
}

#[test]
fn an_empty_text_is_an_empty_mapping() {
    for text in ["", "\n", "# nothing\n", "---\n", "~"] {
        let document = Document::parse("g.yaml", text).unwrap();
        let mut faults = Faults::new();
        assert!(document.root().is_null(), "{text:?}");
        let mapping = document.root().mapping(&["region"], &mut faults).unwrap();
        assert!(mapping.get("region").is_none());
        assert!(faults.is_empty());
    }
}

#[test]
fn every_repeated_key_is_named_with_the_line_of_the_first() {
    assert_eq!(
        faults("a: 1\nb:\n  - c: 1\n    c: 2\na: 3\n"),
        "g.yaml:4:5: b[0].c: repeated key; first written on line 3\n\
         g.yaml:5:1: a: repeated key; first written on line 1"
    );
}

#[test]
fn syntax_faults_come_with_their_place_and_what_was_found_before() {
    let found = faults("a: 1\na: 2\nb: [1, 2\nc: 3\n");
    let lines: Vec<_> = found.lines().collect();
    assert_eq!(lines.len(), 2, "{found}");
    assert_eq!(lines[0], "g.yaml:2:1: a: repeated key; first written on line 1");
    assert!(lines[1].starts_with("g.yaml:4:"), "{found}");
    assert!(lines[1].contains("not valid YAML: "), "{found}");
}

#[test]
fn tags_aliases_directives_and_further_documents_are_refused() {
    assert!(faults("a: !!int 3").starts_with("g.yaml:1:"));
    assert!(faults("a: !!int 3").contains("tags are not supported"));
    assert!(faults("a: &x 3\nb: *x").contains("g.yaml:2:4: b: aliases are not supported"));
    assert!(faults("%YAML 1.2\n---\na: 1").contains("not valid YAML"));
    assert!(faults("a: 1\n---\nb: 2").contains("g.yaml:2:1: a second document"));
    assert!(faults("? [a, b]\n: 1").contains("a key must be a text"));
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(Document::parse("g.yaml", &deep(MAX_DEPTH)).is_ok());
    assert!(faults(&deep(MAX_DEPTH + 1)).contains("g.yaml:1:65"));
    faults(&deep(100_000));
    let block: String = (0..=MAX_DEPTH)
        .map(|level| format!("{}a:\n", " ".repeat(level)))
        .collect();
    faults(&block);
    let half = MAX_DEPTH / 2 + 1;
    let blocks = "- ".repeat(half);
    assert!(faults(&format!("{blocks}{}", deep(half))).contains("nested too deep; at most 64 levels"));
    let long = format!("a: {}", "x".repeat(MAX_DOCUMENT_BYTES));
    assert!(faults(&long).starts_with("g.yaml: 1048579 bytes long"));
}

#[test]
fn a_text_of_very_many_keys_is_read_in_good_time() {
    let text: String = (0..80_000).map(|number| format!("k{number}: 1\n")).collect();
    let document = Document::parse("g.yaml", &text).unwrap();
    assert_eq!(
        document.root().entries(&mut Faults::new()).map(|all| all.len()),
        Some(80_000)
    );
}

#[test]
fn loading_names_what_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.yaml");
    let found = Document::load(&missing).unwrap_err().to_string();
    assert!(
        found.starts_with(&format!("{}: cannot be read: ", missing.display())),
        "{found}"
    );
    let binary = folder.path().join("binary.yaml");
    std::fs::write(&binary, b"a: 1\nb: \xff\n").unwrap();
    let found = Document::load(&binary).unwrap_err().to_string();
    assert!(found.ends_with("not UTF-8 on line 2"), "{found}");
    let fine = folder.path().join("fine.yaml");
    std::fs::write(&fine, "a: 1\n").unwrap();
    assert!(Document::load(&fine).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn parsing_any_text_never_panics(text in any::<String>()) {
        let _ = Document::parse("g.yaml", &text);
    }

    #[test]
    fn parsing_yaml_like_text_never_panics_and_places_faults_within_it(
        text in "([ab\\-?:,\\[\\]{}#&*!|>'\"%@ \t\n.0~\u{feff}é]|a: |- |\n  ){0,60}",
    ) {
        if let Err(faults) = Document::parse("g.yaml", &text) {
            prop_assert!(!faults.is_empty());
            for fault in &faults {
                prop_assert!(fault.line as usize <= text.split('\n').count() + 1, "{}", fault);
            }
        }
    }

    #[test]
    fn quoted_texts_come_back_as_they_were(key in "[a-z]{1,8}", text in "[^\u{0}-\u{1f}\u{7f}-\u{9f}]{0,40}") {
        let quoted = serde_json::to_string(&text).unwrap();
        let document = Document::parse("g.yaml", &format!("{key}: {quoted}")).unwrap();
        let mut faults = Faults::new();
        let root = document.root().mapping(&[key.as_str()], &mut faults).unwrap();
        prop_assert_eq!(root.required_string(&key, &mut faults), Some(text), "{}", faults);
    }
}
