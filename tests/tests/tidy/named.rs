//! A page that says which test shows a statement must name a test that there is.

use std::collections::HashSet;

/// Words in backticks with so many underscores are names of tests, or of something else in a source.
const UNDERSCORES: usize = 3;

/// The words of a page that a source must have, with their lines.
pub(crate) fn named(text: &str) -> Vec<(usize, &str)> {
    let is_name = |word: &&str| {
        let lower = word
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        // Metrics get their prefixes and endings where they are registered.
        lower && word.matches('_').count() >= UNDERSCORES && !word.starts_with("meridian_")
    };
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        found.extend(
            line.split('`')
                .skip(1)
                .step_by(2)
                .filter(is_name)
                .map(|word| (at + 1, word)),
        );
    }
    found
}

/// The words of sources.
pub(crate) fn words<'a>(sources: impl IntoIterator<Item = &'a str>) -> HashSet<&'a str> {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let of_source = |text: &'a str| text.split(move |character| !is_word(character));
    sources.into_iter().flat_map(of_source).collect()
}

#[test]
fn names_of_tests_are_told_from_other_words() {
    let page =
        "`a_test_of_this` and `short_word`, `Not_A_Name_At_All`\n`meridian_metric_of_a_kind` `a_second_test_there`";
    assert_eq!(named(page), [(1, "a_test_of_this"), (2, "a_second_test_there")]);
    let words = words(["async fn a_test_of_this() {}"]);
    assert!(words.contains("a_test_of_this") && !words.contains("a_second_test_there"));
}
