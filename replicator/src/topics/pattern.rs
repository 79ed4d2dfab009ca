//! One pattern of topic names: `*` stands for any run of characters, also none;
//! a leading `!` excludes what the rest matches.
//!
//! What holds: matching never backtracks; a pattern that no topic name can match
//! is refused when it is read.

use std::str::FromStr;

/// The longest pattern, in bytes: as long as the longest topic name, and a `!`.
pub const MAX_PATTERN_BYTES: usize = 201;

/// A checked pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern {
    excludes: bool,
    /// What stands between the stars; one part means that there is no star.
    parts: Vec<Box<str>>,
}

/// Why a text is no pattern of topics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing would match it.
    #[error("an empty pattern matches no topic; write a name, or * for all topics")]
    Empty,
    /// Longer than any name.
    #[error("the pattern has {bytes} bytes, at most {MAX_PATTERN_BYTES} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// No topic has such a name.
    #[error("{character:?} is in no topic name; use a-z, A-Z, 0-9, '.', '_', '-', and * for any run of them")]
    Character {
        /// Which.
        character: char,
    },
}

impl TopicPattern {
    /// Whether it excludes what it matches.
    pub fn excludes(&self) -> bool {
        self.excludes
    }

    /// The one name that matches, if the pattern has no star.
    pub fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [name] => Some(name),
            _ => None,
        }
    }

    /// Whether the whole name matches, exclusion or not.
    pub fn matches(&self, name: &str) -> bool {
        let (Some(first), Some(last)) = (self.parts.first(), self.parts.last()) else {
            return false;
        };
        if self.parts.len() == 1 {
            return **first == *name;
        }
        // Head and tail may not overlap, so the tail is cut from what the head leaves.
        let rest = name.strip_prefix(&**first);
        let Some(mut rest) = rest.and_then(|rest| rest.strip_suffix(&**last)) else {
            return false;
        };
        self.parts[1..self.parts.len() - 1]
            .iter()
            .all(|part| match rest.find(&**part) {
                Some(at) => {
                    rest = &rest[at + part.len()..];
                    true
                }
                None => false,
            })
    }
}

impl FromStr for TopicPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::TooLong { bytes: text.len() });
        }
        let body = text.strip_prefix('!').unwrap_or(text);
        if body.is_empty() {
            return Err(PatternError::Empty);
        }
        let allowed = |character: char| character.is_ascii_alphanumeric() || "._-*".contains(character);
        if let Some(character) = body.chars().find(|character| !allowed(*character)) {
            return Err(PatternError::Character { character });
        }
        Ok(Self {
            excludes: text.starts_with('!'),
            parts: body.split('*').map(Box::from).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(text: &str) -> TopicPattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (text, name, expected) in [
            ("orders", "orders", true),
            ("orders", "orders.eu", false),
            ("orders.*", "orders.eu.west", true),
            ("orders.*", "orders", false),
            ("*", "anything", true),
            ("*.created", "a.created", true),
            ("a*a", "a", false),
            ("a*b*c", "a.b.c", true),
            ("a*b*c", "a.c.b", false),
            ("a**c", "abc", true),
            ("!secret.*", "secret.one", true),
        ] {
            assert_eq!(pattern(text).matches(name), expected, "{text} {name}");
        }
        assert!(pattern("!a").excludes() && !pattern("a").excludes());
        assert_eq!((pattern("a").literal(), pattern("a*").literal()), (Some("a"), None));
    }

    #[test]
    fn patterns_that_match_no_topic_are_refused() {
        for (text, error) in [
            ("", PatternError::Empty),
            ("!", PatternError::Empty),
            ("a b", PatternError::Character { character: ' ' }),
            ("a!b", PatternError::Character { character: '!' }),
            ("orders.[ab]", PatternError::Character { character: '[' }),
        ] {
            assert_eq!(text.parse::<TopicPattern>(), Err(error), "{text}");
        }
        let long = "a".repeat(202);
        assert_eq!(long.parse::<TopicPattern>(), Err(PatternError::TooLong { bytes: 202 }));
    }

    /// The textbook definition, exponential and plain.
    fn matches_plainly(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|at| matches_plainly(rest, &text[at..])),
            Some((first, rest)) => text.first() == Some(first) && matches_plainly(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_plain_definition(text in "[ab*]{1,8}", name in "[ab]{0,10}") {
            prop_assert_eq!(pattern(&text).matches(&name), matches_plainly(text.as_bytes(), name.as_bytes()));
        }
    }
}
