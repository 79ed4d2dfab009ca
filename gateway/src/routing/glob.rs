//! Patterns of rules: `*` stands for any run of characters, also none, dots
//! included; every other character stands for itself, case and all.
//!
//! What holds: matching takes time linear in the text, for the parts between
//! stars are found one after the other, leftmost first, and never looked for
//! again; patterns have a bounded length.

/// The longest pattern, in bytes.
pub const MAX_PATTERN_BYTES: usize = 256;

/// A checked pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    pattern: Box<str>,
    /// Before the first star; the whole text where there is no star.
    prefix: Box<str>,
    /// Between stars.
    inner: Vec<Box<str>>,
    /// After the last star; `None` where there is no star.
    suffix: Option<Box<str>>,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// Nothing would match it.
    #[error("an empty pattern matches nothing; leave it out to match everything")]
    Empty,
    /// Too long.
    #[error("the pattern has {bytes} bytes, {MAX_PATTERN_BYTES} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// No event has such a value.
    #[error("the pattern has a control character, which no attribute may have")]
    ControlCharacter,
}

impl Glob {
    /// Checks and splits a pattern.
    ///
    /// # Errors
    /// [`GlobError`] says what is wrong.
    pub fn new(pattern: &str) -> Result<Self, GlobError> {
        if pattern.is_empty() {
            return Err(GlobError::Empty);
        }
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(GlobError::TooLong { bytes: pattern.len() });
        }
        if pattern.chars().any(char::is_control) {
            return Err(GlobError::ControlCharacter);
        }
        let mut parts = pattern.split('*');
        let prefix = parts.next().unwrap_or_default();
        let mut inner: Vec<&str> = parts.collect();
        let suffix = inner.pop();
        inner.retain(|part| !part.is_empty());
        Ok(Self {
            pattern: Box::from(pattern),
            prefix: Box::from(prefix),
            inner: inner.into_iter().map(Box::from).collect(),
            suffix: suffix.map(Box::from),
        })
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        let Some(suffix) = &self.suffix else {
            return *self.prefix == *text;
        };
        let rest = text.strip_prefix(&*self.prefix);
        // Prefix and suffix may not overlap, so the suffix is cut from what is left.
        let Some(mut rest) = rest.and_then(|rest| rest.strip_suffix(&**suffix)) else {
            return false;
        };
        for part in &self.inner {
            match rest.find(&**part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }

    /// The pattern as written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The one text that matches, if the pattern has no star.
    pub fn literal(&self) -> Option<&str> {
        self.suffix.is_none().then_some(&*self.prefix)
    }

    /// What every match begins with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether every text matches.
    pub fn matches_everything(&self) -> bool {
        self.prefix.is_empty() && self.inner.is_empty() && self.suffix.as_deref() == Some("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, text, expected) in [
            ("com.acme.order.*", "com.acme.order.placed", true),
            ("com.acme.order.*", "com.acme.order.placed.v2", true),
            ("com.acme.order.*", "com.acme.order.", true),
            ("com.acme.order.*", "com.acme.order", false),
            ("com.acme.order", "com.acme.order", true),
            ("com.acme.order", "com.acme.orders", false),
            ("*", "", true),
            ("us-*", "us-east", true),
            ("us-*", "eu-west", false),
            ("*.created", "a.created", true),
            ("a*a", "a", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a**c", "abc", true),
            ("Order", "order", false),
            ("a?c", "abc", false),
            ("ä*ü", "äöü", true),
        ] {
            assert_eq!(Glob::new(pattern).unwrap().matches(text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn patterns_are_refused_with_their_fault() {
        assert_eq!(Glob::new(""), Err(GlobError::Empty));
        assert_eq!(Glob::new("a\nb"), Err(GlobError::ControlCharacter));
        assert_eq!(Glob::new(&"a".repeat(257)), Err(GlobError::TooLong { bytes: 257 }));
    }

    #[test]
    fn a_pattern_of_stars_takes_linear_time() {
        let pattern = Glob::new(&"*a".repeat(100)).unwrap();
        let text = "a".repeat(8_000) + "b";
        let started = std::time::Instant::now();
        assert!((0..1_000).all(|_| !pattern.matches(&text)));
        // Backtracking would take years; linear takes microseconds each.
        assert!(started.elapsed() < std::time::Duration::from_secs(5));
    }

    /// The textbook definition, exponential and plain.
    fn matches_plainly(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|at| matches_plainly(rest, &text[at..])),
            Some((first, rest)) => text.first() == Some(first) && matches_plainly(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_plain_definition(pattern in "[ab*]{1,8}", text in "[ab]{0,10}") {
            let glob = Glob::new(&pattern).unwrap();
            let pattern: Vec<char> = pattern.chars().collect();
            let text_characters: Vec<char> = text.chars().collect();
            prop_assert_eq!(glob.matches(&text), matches_plainly(&pattern, &text_characters));
        }
    }
}
