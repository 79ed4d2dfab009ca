//! Turns YAML text into a tree with places, from the parser's events. Reading values is left to `Node`.
//!
//! What holds: it never panics, whatever the text; input size and depth are bounded by the caller and the parser's own
//! limits; repeated keys, tags, aliases and further documents are faults, gathered up to the first syntax error.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use granit_parser::{Event, Marker, Parser, ScalarStyle, Tag};

use super::fault::{Fault, Faults};
use super::tree::{Entry, Origin, Tree, Value, index_path, key_path};

/// Parses one document no deeper than `max_depth`. An empty text is an empty scalar at 1:1.
pub(super) fn parse(source: &str, text: &str, max_depth: usize) -> Result<Tree, Faults> {
    let mut options = granit_parser::options! {
        flow_nesting_limit: max_depth,
        block_nesting_limit: max_depth,
        disallow_directives: true,
    };
    options.set_emit_comments(false);
    let mut builder = Builder::new(source, max_depth);
    for event in Parser::new_from_str_with_options(text, options) {
        match event {
            Ok((event, span)) => {
                if !builder.event(event, span.start) {
                    break;
                }
            }
            Err(error) => {
                builder.fault(*error.marker(), format!("not valid YAML: {}", error.info()));
                break;
            }
        }
    }
    builder.finish()
}

/// A collection that is still open.
enum Open {
    List {
        origin: Origin,
        items: Vec<Tree>,
    },
    Mapping {
        origin: Origin,
        entries: Vec<Entry>,
        /// Each key and the line of its first appearance, so that a text of many keys stays cheap.
        seen: HashMap<String, u32>,
        pending: Option<(String, Origin)>,
    },
}

struct Builder<'a> {
    source: &'a str,
    max_depth: usize,
    open: Vec<Open>,
    root: Option<Tree>,
    documents: usize,
    faults: Faults,
}

impl<'a> Builder<'a> {
    fn new(source: &'a str, max_depth: usize) -> Self {
        Self {
            source,
            max_depth,
            open: Vec::new(),
            root: None,
            documents: 0,
            faults: Faults::new(),
        }
    }

    /// Takes one event; false when there is no sense in going on.
    fn event(&mut self, event: Event<'_>, at: Marker) -> bool {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    self.fault(at, "a second document; one file holds one document".to_owned());
                    return false;
                }
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                self.fault(at, "aliases are not supported; write the value out".to_owned());
                self.place(empty(at), at);
            }
            Event::Scalar(text, style, _, tag) => {
                self.refuse_tag(tag.as_deref(), at);
                let tree = Tree {
                    origin: origin(at),
                    value: Value::Scalar {
                        text: text.into_owned(),
                        quoted: style != ScalarStyle::Plain,
                    },
                };
                self.place(tree, at);
            }
            Event::SequenceStart(_, _, tag) => {
                self.refuse_tag(tag.as_deref(), at);
                let origin = origin(at);
                return self.push(
                    Open::List {
                        origin,
                        items: Vec::new(),
                    },
                    at,
                );
            }
            Event::MappingStart(_, _, tag) => {
                self.refuse_tag(tag.as_deref(), at);
                let open = Open::Mapping {
                    origin: origin(at),
                    entries: Vec::new(),
                    seen: HashMap::new(),
                    pending: None,
                };
                return self.push(open, at);
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(at),
            _ => {}
        }
        true
    }

    fn push(&mut self, open: Open, at: Marker) -> bool {
        if self.open.len() >= self.max_depth {
            let message = format!("nested too deep; at most {} levels", self.max_depth);
            self.fault(at, message);
            return false;
        }
        self.open.push(open);
        true
    }

    fn close(&mut self, at: Marker) {
        let tree = match self.open.pop() {
            Some(Open::List { origin, items }) => Tree {
                origin,
                value: Value::List(items),
            },
            Some(Open::Mapping { origin, entries, .. }) => Tree {
                origin,
                value: Value::Mapping(entries),
            },
            None => return,
        };
        self.place(tree, at);
    }

    /// Puts a finished value where it belongs: item, key, value or root.
    fn place(&mut self, tree: Tree, at: Marker) {
        match self.open.last_mut() {
            None => self.root = Some(tree),
            Some(Open::List { items, .. }) => items.push(tree),
            Some(Open::Mapping {
                pending, entries, seen, ..
            }) => match pending.take() {
                Some((key, key_origin)) => match seen.entry(key.clone()) {
                    Slot::Vacant(slot) => {
                        slot.insert(line_of(&key_origin));
                        entries.push(Entry {
                            key,
                            key_origin,
                            value: tree,
                        });
                    }
                    Slot::Occupied(first) => {
                        let line = first.get();
                        let message = format!("repeated key; first written on line {line}");
                        self.fault_at(&key_origin, &key, message);
                    }
                },
                None => {
                    let Tree {
                        origin: key_origin,
                        value,
                    } = tree;
                    match value {
                        Value::Scalar { text, .. } => *pending = Some((text, key_origin)),
                        Value::List(_) | Value::Mapping(_) => {
                            *pending = Some((String::new(), key_origin));
                            self.fault(at, "a key must be a text, not a list or mapping".to_owned());
                        }
                    }
                }
            },
        }
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, at: Marker) {
        if tag.is_some() {
            self.fault(at, "tags are not supported; quote a text to keep it a text".to_owned());
        }
    }

    fn fault(&mut self, at: Marker, message: String) {
        let path = self.path();
        let (line, column) = position(at);
        self.faults.push(Fault {
            source: self.source.to_owned(),
            line,
            column,
            path,
            message,
        });
    }

    fn fault_at(&mut self, at: &Origin, key: &str, message: String) {
        let path = key_path(&self.path(), key);
        let (line, column) = match at {
            Origin::File { line, column } => (*line, *column),
            Origin::Variable(_) => (0, 0),
        };
        self.faults.push(Fault {
            source: self.source.to_owned(),
            line,
            column,
            path,
            message,
        });
    }

    /// The path of the place that is being filled.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match open {
                Open::List { items, .. } => path = index_path(&path, items.len()),
                Open::Mapping {
                    pending: Some((key, _)),
                    ..
                } => path = key_path(&path, key),
                Open::Mapping { pending: None, .. } => {}
            }
        }
        path
    }

    fn finish(self) -> Result<Tree, Faults> {
        let root = self.root.unwrap_or(Tree {
            origin: Origin::File { line: 1, column: 1 },
            value: Value::Scalar {
                text: String::new(),
                quoted: false,
            },
        });
        self.faults.into_result(root)
    }
}

fn empty(at: Marker) -> Tree {
    Tree {
        origin: origin(at),
        value: Value::Scalar {
            text: String::new(),
            quoted: false,
        },
    }
}

fn line_of(origin: &Origin) -> u32 {
    match origin {
        Origin::File { line, .. } => *line,
        Origin::Variable(_) => 0,
    }
}

fn origin(at: Marker) -> Origin {
    let (line, column) = position(at);
    Origin::File { line, column }
}

/// The parser counts lines from 1 and columns from 0.
fn position(at: Marker) -> (u32, u32) {
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    (narrow(at.line().max(1)), narrow(at.col().saturating_add(1)))
}
