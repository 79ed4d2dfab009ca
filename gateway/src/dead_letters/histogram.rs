//! How many dead letters have which reason, type, group and topic. Bounded: what is beyond counts as others.

use std::collections::BTreeMap;

use meridian_proto::meridian as proto;

use super::letter::Letter;

/// The most values of each list.
const MAX_VALUES: usize = 100;
const OTHERS: &str = "(others)";

/// Counts by value, in four lists.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    reasons: BTreeMap<String, u64>,
    types: BTreeMap<String, u64>,
    groups: BTreeMap<String, u64>,
    source_topics: BTreeMap<String, u64>,
}

impl Histogram {
    /// Counts a dead letter.
    pub fn add(&mut self, letter: &Letter) {
        count(&mut self.reasons, &letter.reason);
        count(&mut self.types, letter.type_name());
        count(&mut self.groups, &letter.group);
        let topic = letter.source_topic.as_ref().map_or("", |topic| topic.as_str());
        count(&mut self.source_topics, topic);
    }

    /// As a message, the most frequent first.
    pub fn to_message(&self) -> proto::DeadLetterHistogram {
        proto::DeadLetterHistogram {
            reasons: sorted(&self.reasons),
            types: sorted(&self.types),
            groups: sorted(&self.groups),
            source_topics: sorted(&self.source_topics),
        }
    }
}

fn count(values: &mut BTreeMap<String, u64>, value: &str) {
    let name = match values.contains_key(value) || values.len() < MAX_VALUES {
        true => value,
        false => OTHERS,
    };
    *values.entry(name.to_owned()).or_default() += 1;
}

fn sorted(values: &BTreeMap<String, u64>) -> Vec<proto::DeadLetterCount> {
    let count = |(value, count): (&String, &u64)| proto::DeadLetterCount {
        value: value.clone(),
        count: *count,
    };
    let mut counts: Vec<_> = values.iter().map(count).collect();
    counts.sort_by_key(|each| std::cmp::Reverse(each.count));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_and_bounded() {
        let mut values = BTreeMap::new();
        for number in 0..=MAX_VALUES {
            count(&mut values, &number.to_string());
        }
        for _ in 0..3 {
            count(&mut values, "7");
            count(&mut values, "another");
        }
        assert_eq!(values.len(), MAX_VALUES + 1);
        let counts = sorted(&values);
        assert_eq!((counts[0].value.as_str(), counts[0].count), ("(others)", 4));
        assert_eq!((counts[1].value.as_str(), counts[1].count), ("7", 4));
    }
}
