//! A mapping whose keys are known, read key by key, with defaults. Checking the keys is done by `Node::mapping`.
//!
//! What holds: a key without a value counts as absent, here and everywhere; a `*_or` reader gives the default when the
//! value is absent or wrong, and has then added a fault if it is wrong, so that reading goes on and finds the rest.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::fault::Faults;
use super::node::Node;
use super::tree::{Entry, key_path};

/// The entries of one mapping.
#[derive(Debug, Clone)]
pub struct Mapping<'a> {
    node: Node<'a>,
    entries: &'a [Entry],
}

impl<'a> Mapping<'a> {
    pub(super) fn new(node: Node<'a>, entries: &'a [Entry]) -> Self {
        Self { node, entries }
    }

    /// The mapping as a value, for faults that concern more than one key.
    pub fn node(&self) -> Node<'a> {
        self.node.clone()
    }

    /// The value of a key, if one is written.
    pub fn get(&self, key: &str) -> Option<Node<'a>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        let node = self.node.of_entry(entry);
        (!node.is_null()).then_some(node)
    }

    /// The value of a key that must be there.
    pub fn required(&self, key: &str, faults: &mut Faults) -> Option<Node<'a>> {
        if let Some(node) = self.get(key) {
            return Some(node);
        }
        let written = self.entries.iter().any(|entry| entry.key == key);
        let lack = if written { "has no value" } else { "is missing" };
        self.fault_at_key(key, faults, format!("is required, but {lack}"));
        None
    }

    /// The mapping under a key, if one is written; its keys are checked.
    pub fn section(&self, key: &str, allowed: &[&str], faults: &mut Faults) -> Option<Mapping<'a>> {
        self.get(key)?.mapping(allowed, faults)
    }

    /// A text that must be there.
    pub fn required_string(&self, key: &str, faults: &mut Faults) -> Option<String> {
        self.required(key, faults)?.string(faults)
    }

    /// A text, or the default.
    pub fn string_or(&self, key: &str, default: &str, faults: &mut Faults) -> String {
        self.get(key)
            .and_then(|node| node.string(faults))
            .unwrap_or_else(|| default.to_owned())
    }

    /// A list of texts, or none.
    pub fn string_list_or_empty(&self, key: &str, faults: &mut Faults) -> Vec<String> {
        self.get(key)
            .and_then(|node| node.string_list(faults))
            .unwrap_or_default()
    }

    /// `true` or `false`, or the default.
    pub fn bool_or(&self, key: &str, default: bool, faults: &mut Faults) -> bool {
        self.get(key).and_then(|node| node.bool(faults)).unwrap_or(default)
    }

    /// A whole number within `range`, or the default.
    pub fn u64_or(&self, key: &str, default: u64, range: RangeInclusive<u64>, faults: &mut Faults) -> u64 {
        self.get(key)
            .and_then(|node| node.u64(range, faults))
            .unwrap_or(default)
    }

    /// A size or count within `range`, or the default.
    pub fn usize_or(&self, key: &str, default: usize, range: RangeInclusive<usize>, faults: &mut Faults) -> usize {
        self.get(key)
            .and_then(|node| node.usize(range, faults))
            .unwrap_or(default)
    }

    /// A number within `range`, or the default.
    pub fn f64_or(&self, key: &str, default: f64, range: RangeInclusive<f64>, faults: &mut Faults) -> f64 {
        self.get(key)
            .and_then(|node| node.f64(range, faults))
            .unwrap_or(default)
    }

    /// A number of seconds within `range`, or the default.
    pub fn seconds_or(
        &self,
        key: &str,
        default: Duration,
        range: RangeInclusive<f64>,
        faults: &mut Faults,
    ) -> Duration {
        self.get(key)
            .and_then(|node| node.duration_seconds(range, faults))
            .unwrap_or(default)
    }

    /// One of a set of words, or the default.
    pub fn choice_or<T: Clone>(&self, key: &str, default: T, choices: &[(&str, T)], faults: &mut Faults) -> T {
        self.get(key)
            .and_then(|node| node.choice(choices, faults))
            .unwrap_or(default)
    }

    /// A text that `T` can parse, or the default.
    pub fn parsed_or<T>(&self, key: &str, default: T, faults: &mut Faults) -> T
    where
        T: FromStr,
        T::Err: Display,
    {
        self.get(key).and_then(|node| node.parsed(faults)).unwrap_or(default)
    }

    /// A fault about a key, at its value if it has one, else at the mapping.
    pub fn fault_at_key(&self, key: &str, faults: &mut Faults, message: impl Into<String>) {
        match self.entries.iter().find(|entry| entry.key == key) {
            Some(entry) => self.node.of_entry(entry).fault(faults, message),
            None => {
                let path = key_path(self.node.path(), key);
                self.node.fault_with_path(path, faults, message.into());
            }
        }
    }
}
