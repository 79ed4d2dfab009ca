//! One value with its place and path, and the readers that turn it into a type. Which keys and ranges are right is the
//! caller's to say; reading several keys of one mapping is `Mapping`'s business.
//!
//! What holds: a reader that gives `None` has added a fault; every value that a message shows is cut to a short length.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::fault::{Fault, Faults};
use super::mapping::Mapping;
use super::scalar::{Scalar, resolve};
use super::suggest;
use super::tree::{Entry, Origin, Tree, Value, index_path, key_path};

const MAX_SHOWN_CHARACTERS: usize = 60;

/// A value somewhere in a document.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    source: &'a str,
    tree: &'a Tree,
    path: String,
}

impl<'a> Node<'a> {
    pub(super) fn new(source: &'a str, tree: &'a Tree, path: String) -> Self {
        Self { source, tree, path }
    }

    pub(super) fn of_entry(&self, entry: &'a Entry) -> Node<'a> {
        Node::new(self.source, &entry.value, key_path(&self.path, &entry.key))
    }

    /// The line, from 1; 0 for a value from the environment.
    pub fn line(&self) -> u32 {
        position(&self.tree.origin).0
    }

    /// The column, from 1; 0 for a value from the environment.
    pub fn column(&self) -> u32 {
        position(&self.tree.origin).1
    }

    /// The dotted path, empty for the root.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether there is no value: nothing written, `~` or `null`.
    pub fn is_null(&self) -> bool {
        self.tree.is_null()
    }

    /// Whether this is a mapping, a list or neither, for options that take either shape.
    pub fn is_mapping(&self) -> bool {
        matches!(self.tree.value, Value::Mapping(_))
    }

    /// Whether this is a list.
    pub fn is_list(&self) -> bool {
        matches!(self.tree.value, Value::List(_))
    }

    /// Adds a fault at this value.
    pub fn fault(&self, faults: &mut Faults, message: impl Into<String>) {
        self.fault_at(&self.tree.origin, self.path.clone(), faults, message.into());
    }

    /// A fault at this value's place about something beneath it that is not there.
    pub(super) fn fault_with_path(&self, path: String, faults: &mut Faults, message: String) {
        self.fault_at(&self.tree.origin, path, faults, message);
    }

    fn fault_at(&self, origin: &Origin, path: String, faults: &mut Faults, message: String) {
        let (line, column) = position(origin);
        let source = match origin {
            Origin::File { .. } => self.source.to_owned(),
            Origin::Variable(name) => format!("${name}"),
        };
        faults.push(Fault {
            source,
            line,
            column,
            path,
            message,
        });
    }

    /// A mapping with no other keys than `allowed`. No value counts as an empty mapping, so that what is required is
    /// asked for.
    pub fn mapping(&self, allowed: &[&str], faults: &mut Faults) -> Option<Mapping<'a>> {
        let entries = self.raw_entries(faults)?;
        for entry in entries {
            if faults.is_full() {
                break; // what is wrong past the bound is not told anyway
            }
            if !allowed.contains(&entry.key.as_str()) {
                let message = format!("unknown key{}", suggest::hint(&entry.key, allowed));
                let path = key_path(&self.path, &entry.key);
                self.fault_at(&entry.key_origin, path, faults, message);
            }
        }
        Some(Mapping::new(self.clone(), entries))
    }

    /// The entries of a mapping whose keys are free, such as names, in the order written. No value counts as none.
    pub fn entries(&self, faults: &mut Faults) -> Option<Vec<(String, Node<'a>)>> {
        let entries = self.raw_entries(faults)?.iter();
        Some(entries.map(|entry| (entry.key.clone(), self.of_entry(entry))).collect())
    }

    fn raw_entries(&self, faults: &mut Faults) -> Option<&'a [Entry]> {
        match &self.tree.value {
            Value::Mapping(entries) => Some(entries),
            _ if self.is_null() => Some(&[]),
            _ => self.wrong("a mapping", faults),
        }
    }

    /// The items of a list.
    pub fn list(&self, faults: &mut Faults) -> Option<Vec<Node<'a>>> {
        match &self.tree.value {
            Value::List(items) => Some(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| Node::new(self.source, item, index_path(&self.path, index)))
                    .collect(),
            ),
            _ => self.wrong("a list", faults),
        }
    }

    /// A text. A plain number or boolean is refused, for `1.10` as a number is not the text `1.10`; from the
    /// environment, where one cannot quote well, it is taken as it is.
    pub fn string(&self, faults: &mut Faults) -> Option<String> {
        match &self.tree.value {
            Value::Scalar { text, quoted: true } => Some(text.clone()),
            Value::Scalar { text, quoted: false } => match resolve(text) {
                Scalar::Text(text) => Some(text.to_owned()),
                Scalar::Null => self.wrong("a text", faults),
                _ if matches!(self.tree.origin, Origin::Variable(_)) => Some(text.clone()),
                _ => {
                    let shown = self.shown();
                    self.fault(faults, format!("must be a text, got {shown}; put it in quotes"));
                    None
                }
            },
            _ => self.wrong("a text", faults),
        }
    }

    /// A list of texts.
    pub fn string_list(&self, faults: &mut Faults) -> Option<Vec<String>> {
        let items = self.list(faults)?;
        let read: Vec<_> = items.iter().map(|item| item.string(faults)).collect();
        read.into_iter().collect()
    }

    /// `true` or `false`.
    pub fn bool(&self, faults: &mut Faults) -> Option<bool> {
        match self.plain() {
            Some(Scalar::Bool(value)) => Some(value),
            _ => self.wrong("true or false", faults),
        }
    }

    /// A whole number within `range`.
    pub fn u64(&self, range: RangeInclusive<u64>, faults: &mut Faults) -> Option<u64> {
        let within = |number: &u64| range.contains(number);
        match self.plain() {
            Some(Scalar::Integer(number)) => {
                let value = u64::try_from(number).ok().filter(within);
                value.or_else(|| self.outside(range.start(), range.end(), faults))
            }
            _ => self.wrong("a whole number", faults),
        }
    }

    /// A whole number within `range`, as a size or count.
    pub fn usize(&self, range: RangeInclusive<usize>, faults: &mut Faults) -> Option<usize> {
        let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let value = self.u64(wide(*range.start())..=wide(*range.end()), faults)?;
        usize::try_from(value).ok() // within `range`, so always
    }

    /// A finite number within `range`.
    pub fn f64(&self, range: RangeInclusive<f64>, faults: &mut Faults) -> Option<f64> {
        let number = match self.plain() {
            Some(Scalar::Float(number)) => number,
            Some(Scalar::Integer(number)) => number as f64, // past 2^53 the nearest number is meant
            _ => return self.wrong("a number", faults),
        };
        if number.is_finite() && range.contains(&number) {
            return Some(number);
        }
        self.outside(range.start(), range.end(), faults)
    }

    /// A number of seconds, fractions allowed, within `range`.
    pub fn duration_seconds(&self, range: RangeInclusive<f64>, faults: &mut Faults) -> Option<Duration> {
        let seconds = match self.plain() {
            Some(Scalar::Float(_) | Scalar::Integer(_)) => self.f64(range, faults)?,
            _ => return self.wrong("a number of seconds", faults),
        };
        match Duration::try_from_secs_f64(seconds) {
            Ok(duration) => Some(duration),
            Err(_) => self.wrong("a number of seconds from 0", faults),
        }
    }

    /// One of a set of words.
    pub fn choice<T: Clone>(&self, choices: &[(&str, T)], faults: &mut Faults) -> Option<T> {
        let word = self.string(faults)?;
        let found = choices.iter().find(|(name, _)| *name == word);
        if found.is_none() {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            let hint = match suggest::nearest(&word, &names) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => String::new(),
            };
            let message = format!("must be one of {}, got {}{hint}", names.join(", "), self.shown());
            self.fault(faults, message);
        }
        found.map(|(_, value)| value.clone())
    }

    /// A text that `T` can parse; what `T` says against it becomes the fault.
    pub fn parsed<T>(&self, faults: &mut Faults) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        match self.string(faults)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(faults, format!("{error}, got {}", self.shown()));
                None
            }
        }
    }

    /// The plain scalar, if this is one.
    fn plain(&self) -> Option<Scalar<'a>> {
        match &self.tree.value {
            Value::Scalar { text, quoted: false } => Some(resolve(text)),
            _ => None,
        }
    }

    /// Adds the fault of a wrong type.
    fn wrong<T>(&self, wanted: &str, faults: &mut Faults) -> Option<T> {
        self.fault(faults, format!("must be {wanted}, got {}", self.shown()));
        None
    }

    fn outside<T>(&self, start: impl Display, end: impl Display, faults: &mut Faults) -> Option<T> {
        let message = format!("must be between {start} and {end}, got {}", self.shown());
        self.fault(faults, message);
        None
    }

    /// The value as messages show it, cut short.
    fn shown(&self) -> String {
        let (text, quoted) = match &self.tree.value {
            Value::List(_) => return "a list".to_owned(),
            Value::Mapping(_) => return "a mapping".to_owned(),
            Value::Scalar { .. } if self.is_null() => return "nothing".to_owned(),
            Value::Scalar { text, quoted } => (text, *quoted),
        };
        let cut: String = text.chars().take(MAX_SHOWN_CHARACTERS).collect();
        let dots = if cut.len() < text.len() { "..." } else { "" };
        if quoted || matches!(resolve(text), Scalar::Text(_)) {
            format!("{cut:?}{dots}")
        } else {
            format!("{cut}{dots}")
        }
    }

    /// Whether this is a scalar; for readers that must not show it.
    pub(super) fn is_scalar(&self) -> bool {
        matches!(self.tree.value, Value::Scalar { .. })
    }
}

fn position(origin: &Origin) -> (u32, u32) {
    match origin {
        Origin::File { line, column } => (*line, *column),
        Origin::Variable(_) => (0, 0),
    }
}

#[cfg(test)]
mod tests;
