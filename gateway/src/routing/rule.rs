//! One rule, checked: when it matches, and where it sends.
//!
//! A rule knows nothing of its neighbours; order and names are the document's
//! business. What holds: every name in it has passed its grammar.

use bytes::Bytes;
use meridian_broker::{BrokerName, RegionName, TopicName};
use meridian_event::Event;
use meridian_event::attribute::PARTITION_KEY;

use super::glob::Glob;

/// A rule of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, unique in its document.
    pub name: String,
    /// Home regions that it is for, any of them; empty means all.
    pub regions: Vec<Glob>,
    /// Event types that it is for, any of them; empty means all.
    pub types: Vec<Glob>,
    /// The topic that it sends to.
    pub topic: TopicName,
    /// The broker, where named; else the default broker.
    pub broker: Option<BrokerName>,
    /// The region, where named; else the event's home region.
    pub region: Option<RegionName>,
    /// What becomes the record's key.
    pub key: KeyChoice,
}

/// What becomes the key of the record.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum KeyChoice {
    /// The attribute `partitionkey`; a record without it has no key.
    #[default]
    PartitionKey,
    /// `subject`.
    Subject,
    /// `source`.
    Source,
    /// `id`.
    Id,
    /// No key: any partition.
    None,
    /// Another attribute, in its canonical form.
    Attribute(String),
}

/// Why a rule does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// None of the region patterns does.
    Region,
    /// None of the type patterns does.
    Type,
}

impl Rule {
    /// Whether an event of this home region and type is the rule's.
    pub fn matches(&self, region: &str, type_name: &str) -> bool {
        self.mismatch(region, type_name).is_none()
    }

    /// The first matcher that fails.
    pub fn mismatch(&self, region: &str, type_name: &str) -> Option<Mismatch> {
        if !matches_any(&self.regions, region) {
            return Some(Mismatch::Region);
        }
        (!matches_any(&self.types, type_name)).then_some(Mismatch::Type)
    }
}

fn matches_any(globs: &[Glob], text: &str) -> bool {
    globs.is_empty() || globs.iter().any(|glob| glob.matches(text))
}

impl KeyChoice {
    /// The choice of its word in a rule.
    pub fn from_word(word: &str) -> Self {
        match word {
            PARTITION_KEY => Self::PartitionKey,
            "subject" => Self::Subject,
            "source" => Self::Source,
            "id" => Self::Id,
            "none" => Self::None,
            other => Self::Attribute(other.to_owned()),
        }
    }

    /// The key of an event; a slice of its bytes where it is text.
    pub fn of(&self, event: &Event) -> Option<Bytes> {
        let text = match self {
            Self::PartitionKey => event.partition_key(),
            Self::Subject => event.subject(),
            Self::Source => Some(event.source()),
            Self::Id => Some(event.id()),
            Self::None => None,
            Self::Attribute(name) => {
                let value = event.attribute(name)?;
                return Some(match value.as_text() {
                    Some(text) => event.slice_of(text),
                    None => Bytes::from(value.canonical().into_owned()),
                });
            }
        };
        text.map(|text| event.slice_of(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_event::EventBuilder;

    #[test]
    fn the_key_is_what_the_rule_chose() {
        let event = EventBuilder::new("7", "/shop", "t")
            .subject("order/7")
            .extension("partitionkey", "customer-1")
            .extension("size", 12)
            .build()
            .unwrap();
        for (word, key) in [
            ("partitionkey", Some("customer-1")),
            ("subject", Some("order/7")),
            ("source", Some("/shop")),
            ("id", Some("7")),
            ("none", None),
            ("size", Some("12")),
            ("absent", None),
        ] {
            assert_eq!(KeyChoice::from_word(word).of(&event), key.map(Bytes::from), "{word}");
        }
    }
}
