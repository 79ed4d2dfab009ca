//! One configuration document: its name, its tree, and the way in. Parsing and overriding are the neighbours' business.
//!
//! What holds: a text longer than [`MAX_DOCUMENT_BYTES`] or deeper than [`MAX_DEPTH`] is refused, not tried.

use std::io::Read;
use std::path::Path;

use super::fault::{Fault, Faults};
use super::node::Node;
use super::overrides;
use super::parse;
use super::tree::Tree;

/// The longest text that is parsed: 1 MiB.
pub const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;
/// The deepest nesting that is parsed.
pub const MAX_DEPTH: usize = 64;

/// A parsed configuration.
#[derive(Debug, Clone)]
pub struct Document {
    source: String,
    root: Tree,
}

impl Document {
    /// Parses a text; `source_name` is what faults call it.
    pub fn parse(source_name: &str, text: &str) -> Result<Document, Faults> {
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(whole(
                source_name,
                format!("{} bytes long; at most {MAX_DOCUMENT_BYTES} are read", text.len()),
            ));
        }
        let root = parse::parse(source_name, text, MAX_DEPTH)?;
        Ok(Self {
            source: source_name.to_owned(),
            root,
        })
    }

    /// Reads and parses a file.
    pub fn load(path: &Path) -> Result<Document, Faults> {
        let name = path.display().to_string();
        let mut bytes = Vec::new();
        let limit = MAX_DOCUMENT_BYTES as u64 + 1;
        std::fs::File::open(path)
            .and_then(|file| file.take(limit).read_to_end(&mut bytes))
            .map_err(|error| whole(&name, format!("cannot be read: {error}")))?;
        if bytes.len() > MAX_DOCUMENT_BYTES {
            let message = format!("longer than {MAX_DOCUMENT_BYTES} bytes, the most that is read");
            return Err(whole(&name, message));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
            whole(&name, format!("not UTF-8 on line {line}"))
        })?;
        Self::parse(&name, &text)
    }

    /// Applies overrides such as `MERIDIAN__PUBLISH__MAX_EVENT_BYTES=1024` or `MERIDIAN__BROKERS__0__NAME=main`.
    ///
    /// Segments are matched without regard to case, `-` alike with `_`; a list is entered by index, and the index after
    /// the last appends. A value is a plain YAML scalar, and counts as a text where a text is wanted; one that opens
    /// with `[`, `{` or a quote is parsed as YAML. Variables that do not start with the prefix and `__` are left alone.
    pub fn with_overrides(
        mut self,
        prefix: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Document, Faults> {
        let mut faults = Faults::new();
        overrides::apply(&mut self.root, prefix, variables, &mut faults);
        faults.into_result(self)
    }

    /// The outermost value.
    pub fn root(&self) -> Node<'_> {
        Node::new(&self.source, &self.root, String::new())
    }

    /// The name that faults call the document.
    pub fn source(&self) -> &str {
        &self.source
    }
}

/// A fault of the document as a whole.
fn whole(source: &str, message: String) -> Faults {
    let mut faults = Faults::new();
    faults.push(Fault {
        source: source.to_owned(),
        line: 0,
        column: 0,
        path: String::new(),
        message,
    });
    faults
}

#[cfg(test)]
mod tests;
