//! Lays environment overrides over a parsed tree. Which variables there are is the caller's to say; what the options
//! mean is the readers'.
//!
//! What holds: the order of the variables does not matter; a variable that fits nowhere (into a scalar, past the end of
//! a list, onto two keys at once) is a fault, never ignored.

use std::sync::Arc;

use super::document::{MAX_DEPTH, MAX_DOCUMENT_BYTES};
use super::fault::{Fault, Faults};
use super::parse;
use super::tree::{Entry, Origin, Tree, Value, index_path, key_path};

const SEPARATOR: &str = "__";

/// One variable, taken apart.
struct Override {
    name: Arc<str>,
    segments: Vec<String>,
    text: String,
}

/// Applies every variable whose name starts with `prefix` and `__`.
pub(super) fn apply(
    root: &mut Tree,
    prefix: &str,
    variables: impl IntoIterator<Item = (String, String)>,
    faults: &mut Faults,
) {
    let mut overrides: Vec<_> = variables
        .into_iter()
        .filter_map(|(name, text)| take_apart(prefix, name, text))
        .collect();
    overrides.sort_by(|left, right| order(left).cmp(&order(right)));
    let mut previous: Option<&Override> = None;
    for entry in &overrides {
        let twin = previous.filter(|previous| previous.segments == entry.segments);
        match (twin, value(entry)) {
            (Some(twin), _) => entry.fault(faults, "", format!("sets the same option as ${}", twin.name)),
            (None, Ok(value)) => lay(root, entry, value, faults),
            (None, Err(message)) => entry.fault(faults, "", message),
        }
        previous = Some(entry);
    }
}

impl Override {
    fn fault(&self, faults: &mut Faults, path: &str, message: impl Into<String>) {
        faults.push(Fault {
            source: format!("${}", self.name),
            line: 0,
            column: 0,
            path: path.to_owned(),
            message: message.into(),
        });
    }

    fn origin(&self) -> Origin {
        Origin::Variable(Arc::clone(&self.name))
    }
}

/// Indexes in the order of numbers, so that item 2 is appended before item 10.
fn order(entry: &Override) -> Vec<(u64, &str)> {
    let segments = entry.segments.iter();
    segments
        .map(|segment| (segment.parse().unwrap_or(u64::MAX), segment.as_str()))
        .collect()
}

fn take_apart(prefix: &str, name: String, text: String) -> Option<Override> {
    let head = name.get(..prefix.len())?;
    let rest = name.get(prefix.len()..)?.strip_prefix(SEPARATOR)?;
    if !head.eq_ignore_ascii_case(prefix) {
        return None;
    }
    let segments = rest.split(SEPARATOR).map(str::to_lowercase).collect();
    Some(Override {
        name: name.into(),
        segments,
        text,
    })
}

/// The value of a variable: plain text, or YAML where it opens like a list, a mapping or a quoted text.
fn value(entry: &Override) -> Result<Value, String> {
    if entry.text.len() > MAX_DOCUMENT_BYTES {
        return Err(format!("longer than {MAX_DOCUMENT_BYTES} bytes"));
    }
    let trimmed = entry.text.trim();
    if !trimmed.starts_with(['[', '{', '"', '\'']) {
        return Ok(Value::Scalar {
            text: trimmed.to_owned(),
            quoted: false,
        });
    }
    let depth_left = MAX_DEPTH.saturating_sub(entry.segments.len());
    match parse::parse("value", trimmed, depth_left) {
        Ok(mut tree) => {
            stamp(&mut tree, &entry.origin());
            Ok(tree.value)
        }
        Err(faults) => {
            let messages: Vec<_> = faults.iter().map(|fault| fault.message.as_str()).collect();
            Err(messages.join("; "))
        }
    }
}

/// Marks all of a parsed value as written in the variable.
fn stamp(tree: &mut Tree, origin: &Origin) {
    tree.origin = origin.clone();
    match &mut tree.value {
        Value::Scalar { .. } => {}
        Value::List(items) => items.iter_mut().for_each(|item| stamp(item, origin)),
        Value::Mapping(entries) => {
            for entry in entries {
                entry.key_origin = origin.clone();
                stamp(&mut entry.value, origin);
            }
        }
    }
}

/// Walks down to the place, making what is missing on the way, and sets the value there.
fn lay(root: &mut Tree, entry: &Override, value: Value, faults: &mut Faults) {
    if entry.segments.len() > MAX_DEPTH {
        entry.fault(faults, "", format!("more than {MAX_DEPTH} segments"));
        return;
    }
    let mut place = root;
    let mut path = String::new();
    for segment in &entry.segments {
        if segment.is_empty() {
            entry.fault(faults, &path, "has an empty segment in its name");
            return;
        }
        match step(place, segment, entry, &mut path) {
            Ok(next) => place = next,
            Err(message) => {
                entry.fault(faults, &path, message);
                return;
            }
        }
    }
    *place = Tree {
        origin: entry.origin(),
        value,
    };
}

fn step<'t>(place: &'t mut Tree, segment: &str, entry: &Override, path: &mut String) -> Result<&'t mut Tree, String> {
    let index: Option<usize> = segment.parse().ok();
    if place.is_null() {
        let value = match index {
            Some(_) => Value::List(Vec::new()),
            None => Value::Mapping(Vec::new()),
        };
        *place = Tree {
            origin: entry.origin(),
            value,
        };
    }
    match &mut place.value {
        Value::Scalar { .. } => Err(format!("is a single value, so `{segment}` cannot be set in it")),
        Value::List(items) => {
            let index = index.ok_or_else(|| format!("is a list, so `{segment}` must be an index"))?;
            let length = items.len();
            if index > length {
                return Err(format!("has {length} items, so item {index} cannot be set"));
            }
            if index == length {
                items.push(nothing(entry));
            }
            *path = index_path(path, index);
            Ok(&mut items[index])
        }
        Value::Mapping(entries) => {
            let position = match find(entries, segment)? {
                Some(position) => position,
                None => {
                    entries.push(Entry {
                        key: segment.to_owned(),
                        key_origin: entry.origin(),
                        value: nothing(entry),
                    });
                    entries.len() - 1
                }
            };
            *path = key_path(path, &entries[position].key);
            Ok(&mut entries[position].value)
        }
    }
}

/// The key that a segment means: without regard to case, and `-` alike with `_`, which a shell cannot write.
fn find(entries: &[Entry], segment: &str) -> Result<Option<usize>, String> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(segment);
    let mut found = entries
        .iter()
        .enumerate()
        .filter(|(_, entry)| plain(&entry.key) == wanted);
    let first = found.next();
    match (first, found.next()) {
        (Some((_, one)), Some((_, other))) => Err(format!("`{segment}` means both `{}` and `{}`", one.key, other.key)),
        (first, _) => Ok(first.map(|(position, _)| position)),
    }
}

fn nothing(entry: &Override) -> Tree {
    Tree {
        origin: entry.origin(),
        value: Value::Scalar {
            text: String::new(),
            quoted: false,
        },
    }
}

#[cfg(test)]
mod tests;
