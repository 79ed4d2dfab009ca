//! A YAML document of rules, read into checked rules or into all of its faults,
//! each with line, column and path.
//!
//! ```yaml
//! rules:
//!   - name: orders
//!     when: { region: "us-*", type: ["com.acme.order.*", com.acme.refund] }
//!     send: { topic: orders, broker: main, region: us-east, key: partitionkey }
//! ```
//!
//! What holds: a document is taken whole or not at all; a rule that could never
//! match, for it names a region that nobody knows, is a fault.

use std::collections::HashMap;

use meridian_broker::{BrokerName, RegionName, TopicName};
use meridian_runtime::{Document, Faults, Mapping, Node};

use super::context::RuleContext;
use super::glob::Glob;
use super::rule::{KeyChoice, Rule};

/// The most rules of one document.
pub const MAX_RULES: usize = 10_000;
/// The most patterns of one matcher.
pub const MAX_PATTERNS: usize = 64;
/// The longest name of a rule.
pub const MAX_NAME_BYTES: usize = 63;

/// Reads a document; `source` is what faults call it.
///
/// # Errors
/// Every fault.
pub fn parse(source: &str, text: &str, context: &RuleContext) -> Result<Vec<Rule>, Faults> {
    let document = Document::parse(source, text)?;
    let mut faults = Faults::new();
    let rules = read(&document, context, &mut faults);
    faults.into_result_of(rules)
}

fn read(document: &Document, context: &RuleContext, faults: &mut Faults) -> Option<Vec<Rule>> {
    let root = document.root().mapping(&["rules"], faults)?;
    let list = root.required("rules", faults)?;
    let items = list.list(faults)?;
    if items.len() > MAX_RULES {
        list.fault(
            faults,
            format!("{} rules are too many; at most {MAX_RULES} are read", items.len()),
        );
        return None;
    }
    let mut reader = RuleReader {
        context,
        names: HashMap::new(),
    };
    let mut rules = Vec::with_capacity(items.len());
    for item in items {
        rules.extend(reader.rule(&item, faults));
    }
    Some(rules)
}

struct RuleReader<'a> {
    context: &'a RuleContext,
    /// Names so far, and the line of each.
    names: HashMap<String, u32>,
}

impl RuleReader<'_> {
    fn rule(&mut self, item: &Node<'_>, faults: &mut Faults) -> Option<Rule> {
        let rule = item.mapping(&["name", "when", "send"], faults)?;
        let name = self.name(&rule, faults);
        let when = rule.section("when", &["region", "type"], faults);
        let regions = self.regions(when.as_ref(), faults);
        let types = patterns(when.as_ref(), "type", faults);
        let send = rule.required("send", faults);
        let send = send.and_then(|node| node.mapping(&["topic", "broker", "region", "key"], faults));
        let destination = send.and_then(|send| self.destination(&send, faults));
        let (topic, broker, region, key) = destination?;
        let types = types.into_iter().map(|(glob, _)| glob).collect();
        Some(Rule {
            name: name?,
            regions,
            types,
            topic,
            broker,
            region,
            key,
        })
    }

    fn name(&mut self, rule: &Mapping<'_>, faults: &mut Faults) -> Option<String> {
        let node = rule.required("name", faults)?;
        let name = node.string(faults)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(allowed) {
            let what = format!("a rule's name is 1 to {MAX_NAME_BYTES} of a-z, A-Z, 0-9, '.', '_' and '-'");
            node.fault(faults, what);
            return None;
        }
        if let Some(line) = self.names.insert(name.clone(), node.line()) {
            node.fault(
                faults,
                format!("the rule on line {line} is called {name} too; receipts name rules, so names are unique"),
            );
        }
        Some(name)
    }

    fn regions(&self, when: Option<&Mapping<'_>>, faults: &mut Faults) -> Vec<Glob> {
        let mut globs = Vec::new();
        for (glob, node) in patterns(when, "region", faults) {
            let mut known = std::iter::once(&self.context.region).chain(&self.context.peers);
            if !known.any(|region| glob.matches(region.as_str())) {
                let message = format!(
                    "no known region matches {:?}, so the rule would never match; known: {}",
                    glob.pattern(),
                    self.context.known_regions()
                );
                node.fault(faults, message);
            }
            globs.push(glob);
        }
        globs
    }

    fn destination(
        &self,
        send: &Mapping<'_>,
        faults: &mut Faults,
    ) -> Option<(TopicName, Option<BrokerName>, Option<RegionName>, KeyChoice)> {
        let topic = send
            .required("topic", faults)
            .and_then(|node| node.parsed::<TopicName>(faults));
        let region = self.region(send, faults);
        let goes_elsewhere = region.as_ref().is_some_and(|region| *region != self.context.region);
        let broker = send.get("broker").and_then(|node| {
            let name = node.parsed::<BrokerName>(faults)?;
            // Another region's brokers are that region's to know.
            if !goes_elsewhere && self.context.broker_index(name.as_str()).is_none() {
                let known = self.context.known_brokers();
                node.fault(
                    faults,
                    format!("region {} has no broker {name}; known: {known}", self.context.region),
                );
            }
            Some(name)
        });
        let key = self.key(send, broker.as_ref(), goes_elsewhere, faults);
        Some((topic?, broker, region, key?))
    }

    fn region(&self, send: &Mapping<'_>, faults: &mut Faults) -> Option<RegionName> {
        let node = send.get("region")?;
        let region = node.parsed::<RegionName>(faults)?;
        if !self.context.knows_region(region.as_str()) {
            let known = self.context.known_regions();
            node.fault(
                faults,
                format!("region {region} is neither this one nor among `peers`; known: {known}"),
            );
        }
        Some(region)
    }

    fn key(
        &self,
        send: &Mapping<'_>,
        broker: Option<&BrokerName>,
        goes_elsewhere: bool,
        faults: &mut Faults,
    ) -> Option<KeyChoice> {
        let Some(node) = send.get("key") else {
            return Some(KeyChoice::default());
        };
        let word = node.string(faults)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if word.is_empty() || word.len() > 20 || !word.bytes().all(plain) {
            node.fault(
                faults,
                "a key is the name of an attribute (a-z and 0-9, 20 at most), or `none`",
            );
            return None;
        }
        let key = KeyChoice::from_word(&word);
        let index = broker.map_or(Some(self.context.default_broker), |name| {
            self.context.broker_index(name.as_str())
        });
        let facts = index.and_then(|index| self.context.brokers.get(index));
        if let Some(facts) = facts
            && !goes_elsewhere
            && key != KeyChoice::None
            && !(facts.capabilities.partitions && facts.capabilities.ordered)
        {
            node.fault(
                faults,
                format!(
                    "broker {} keeps no order by key; leave the key out, or send to another broker",
                    facts.name
                ),
            );
        }
        Some(key)
    }
}

/// One pattern, or a list of them, each with its place.
fn patterns<'a>(when: Option<&Mapping<'a>>, key: &str, faults: &mut Faults) -> Vec<(Glob, Node<'a>)> {
    let Some(node) = when.and_then(|when| when.get(key)) else {
        return Vec::new();
    };
    let nodes = if node.is_list() {
        let items = node.list(faults).unwrap_or_default();
        if items.is_empty() {
            node.fault(
                faults,
                "an empty list matches nothing; leave it out to match everything",
            );
        }
        if items.len() > MAX_PATTERNS {
            node.fault(
                faults,
                format!("{} patterns are too many; at most {MAX_PATTERNS}", items.len()),
            );
            return Vec::new();
        }
        items
    } else {
        vec![node]
    };
    let mut globs = Vec::with_capacity(nodes.len());
    for node in nodes {
        let Some(pattern) = node.string(faults) else { continue };
        match Glob::new(&pattern) {
            Ok(glob) => globs.push((glob, node)),
            Err(error) => node.fault(faults, error.to_string()),
        }
    }
    globs
}

#[cfg(test)]
pub(crate) mod tests;
