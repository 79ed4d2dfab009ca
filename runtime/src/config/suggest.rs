//! Finds the known word that a mistyped one was likely meant to be. What to do with it is the caller's business.
//!
//! What holds: it suggests only what is near (a third of the letters wrong at most), so that a suggestion means
//! something; a word longer than any option is not compared, for comparing costs memory in the product of the lengths.

const MAX_COMPARED_BYTES: usize = 64;

/// The nearest of `known`, if any is near.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    if word.len() > MAX_COMPARED_BYTES {
        return None;
    }
    let lower = word.to_lowercase().replace('-', "_");
    known
        .iter()
        .map(|candidate| {
            let distance = strsim::damerau_levenshtein(&lower, &candidate.to_lowercase().replace('-', "_"));
            (distance, *candidate)
        })
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean ...?` for the nearest, else `; known are ...`.
pub(super) fn hint(word: &str, known: &[&str]) -> String {
    if let Some(candidate) = nearest(word, known) {
        return format!("; did you mean `{candidate}`?");
    }
    if known.is_empty() {
        return String::new();
    }
    let listed: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    format!("; known here: {}", listed.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_are_not() {
        let known = ["bootstrap", "topics", "max_event_bytes"];
        assert_eq!(nearest("bootstarp", &known), Some("bootstrap"));
        assert_eq!(nearest("maxEventBytes", &known), Some("max_event_bytes"));
        assert_eq!(nearest("max-event-bytes", &known), Some("max_event_bytes"));
        assert_eq!(nearest("colour", &known), None);
        let long = "b".repeat(MAX_COMPARED_BYTES + 1);
        assert_eq!(nearest(&long, &[&long]), None);
        assert!(hint("colour", &known).contains("`topics`"));
    }
}
