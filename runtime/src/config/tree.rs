//! The tree that a document is parsed into: values with the place where each was written. Reading it is `Node`'s
//! business.
//!
//! What holds: scalars keep their text as written, so that one reader may take `010` as a string where it was quoted
//! and another refuse it; every mapping has unique keys.

use std::sync::Arc;

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the document's file, line and column from 1.
    File { line: u32, column: u32 },
    /// In an environment variable, by name.
    Variable(Arc<str>),
}

/// A value and its origin.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) origin: Origin,
    pub(super) value: Value,
}

/// What was written.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Scalar { text: String, quoted: bool },
    List(Vec<Tree>),
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_origin: Origin,
    pub(super) value: Tree,
}

impl Tree {
    /// Whether nothing was written: no value, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, quoted: false } if super::scalar::is_null(text))
    }
}

/// How much of a key a path shows.
const MAX_KEY_CHARACTERS: usize = 80;

/// `parent.key`, or `parent["odd key"]` where the key would not read as one segment.
pub(super) fn key_path(parent: &str, key: &str) -> String {
    if let Some((cut, _)) = key.char_indices().nth(MAX_KEY_CHARACTERS) {
        return format!("{parent}[{:?}...]", &key[..cut]);
    }
    let plain = !key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    match (plain, parent.is_empty()) {
        (true, true) => key.to_owned(),
        (true, false) => format!("{parent}.{key}"),
        (false, _) => format!("{parent}[{key:?}]"),
    }
}

/// `parent[index]`.
pub(super) fn index_path(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_as_written_and_odd_or_long_keys_are_quoted_and_cut() {
        assert_eq!(key_path(&index_path("brokers", 0), "kafka"), "brokers[0].kafka");
        assert_eq!(key_path("", "us-east"), "us-east");
        assert_eq!(key_path("a", "b.c\n"), "a[\"b.c\\n\"]");
        let long = key_path("a", &"é".repeat(100_000));
        assert_eq!(long.chars().count(), 2 + 82 + 4);
    }
}
