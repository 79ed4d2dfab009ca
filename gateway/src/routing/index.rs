//! Finds the first rule that matches, in time that does not grow with the number
//! of rules.
//!
//! Rules are filed under their region (exact, or any) and under what their type
//! begins with: the whole type where the pattern has no star, else the part
//! before the first star. An event looks at the files of its own type and of each
//! beginning of it that some rule has. Cost grows only with the rules that share
//! one file; within a file, rules are tried in order and whole. What holds: the
//! answer is that of trying all rules one by one, which a property test checks.

use std::collections::HashMap;

use super::rule::Rule;

/// Rules by region and by the beginning of their type.
#[derive(Debug, Default)]
pub struct RuleIndex {
    by_region: HashMap<Box<str>, TypeIndex>,
    any_region: TypeIndex,
}

#[derive(Debug, Default)]
struct TypeIndex {
    exact: HashMap<Box<str>, Vec<u32>>,
    by_prefix: HashMap<Box<str>, Vec<u32>>,
    /// The lengths of the prefixes, rising: few, and at most as many as a pattern
    /// has bytes.
    prefix_lengths: Vec<usize>,
}

impl RuleIndex {
    /// An index of `rules`.
    pub fn new(rules: &[Rule]) -> Self {
        let mut index = Self::default();
        for (number, rule) in (0_u32..).zip(rules) {
            if rule.regions.is_empty() {
                index.any_region.add(number, rule);
            }
            for glob in &rule.regions {
                match glob.literal() {
                    Some(region) => index.by_region.entry(Box::from(region)).or_default().add(number, rule),
                    None => index.any_region.add(number, rule),
                }
            }
        }
        index
    }

    /// The first of `rules` that matches; they are those the index was made of.
    pub fn first_match(&self, rules: &[Rule], region: &str, type_name: &str) -> Option<usize> {
        let mut best = u32::MAX;
        let own = self.by_region.get(region);
        for types in own.into_iter().chain([&self.any_region]) {
            best = types.first_match(rules, region, type_name, best);
        }
        (best != u32::MAX).then_some(best as usize)
    }
}

impl TypeIndex {
    fn add(&mut self, number: u32, rule: &Rule) {
        if rule.types.is_empty() {
            self.add_prefix(number, "");
        }
        for glob in &rule.types {
            match glob.literal() {
                Some(literal) => push(self.exact.entry(Box::from(literal)).or_default(), number),
                None => self.add_prefix(number, glob.prefix()),
            }
        }
    }

    fn add_prefix(&mut self, number: u32, prefix: &str) {
        push(self.by_prefix.entry(Box::from(prefix)).or_default(), number);
        if let Err(at) = self.prefix_lengths.binary_search(&prefix.len()) {
            self.prefix_lengths.insert(at, prefix.len());
        }
    }

    /// The first match below `best`, else `best`.
    fn first_match(&self, rules: &[Rule], region: &str, type_name: &str, mut best: u32) -> u32 {
        let mut look_at = |file: Option<&Vec<u32>>| {
            let below = file.into_iter().flatten().take_while(|number| **number < best);
            let found = below
                .copied()
                .find(|number| rules[*number as usize].matches(region, type_name));
            best = found.unwrap_or(best);
        };
        if !self.exact.is_empty() {
            look_at(self.exact.get(type_name));
        }
        for length in &self.prefix_lengths {
            let Some(prefix) = type_name.get(..*length) else {
                if *length > type_name.len() {
                    break;
                }
                continue; // inside a character, so no prefix ends there
            };
            look_at(self.by_prefix.get(prefix));
        }
        best
    }
}

/// Adds a number that is not smaller than any before; once is enough.
fn push(file: &mut Vec<u32>, number: u32) {
    if file.last() != Some(&number) {
        file.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::glob::Glob;
    use crate::routing::rule::KeyChoice;
    use meridian_broker::TopicName;
    use proptest::prelude::*;

    fn rule(regions: &[String], types: &[String]) -> Rule {
        let globs = |patterns: &[String]| patterns.iter().map(|text| Glob::new(text).unwrap()).collect();
        Rule {
            name: "r".to_owned(),
            regions: globs(regions),
            types: globs(types),
            topic: TopicName::new("t").unwrap(),
            broker: None,
            region: None,
            key: KeyChoice::None,
        }
    }

    fn one_by_one(rules: &[Rule], region: &str, type_name: &str) -> Option<usize> {
        rules.iter().position(|rule| rule.matches(region, type_name))
    }

    proptest! {
        #[test]
        fn it_answers_as_trying_the_rules_one_by_one(
            written in prop::collection::vec(
                (prop::collection::vec("(a|b|a\\*|\\*)", 0..3), prop::collection::vec("[xyé.]{0,3}\\*?[xyé.]{0,2}", 0..3)),
                0..30,
            ),
            events in prop::collection::vec(("(a|b|c)", "[xyé.]{1,5}"), 20),
        ) {
            let rules: Vec<Rule> = written
                .into_iter()
                .map(|(regions, mut types)| {
                    types.retain(|text| !text.is_empty());
                    rule(&regions, &types)
                })
                .collect();
            let index = RuleIndex::new(&rules);
            for (region, type_name) in events {
                prop_assert_eq!(
                    index.first_match(&rules, &region, &type_name),
                    one_by_one(&rules, &region, &type_name)
                );
            }
        }
    }

    #[test]
    fn ten_thousand_rules_cost_no_more_than_ten() {
        let rules = |count: usize| -> Vec<Rule> {
            (0..count)
                .map(|number| rule(&[], &[format!("com.acme.kind{number}.*")]))
                .collect()
        };
        let time = |rules: &[Rule]| {
            let index = RuleIndex::new(rules);
            let type_name = format!("com.acme.kind{}.placed", rules.len() - 1);
            let started = std::time::Instant::now();
            for _ in 0..20_000 {
                assert_eq!(index.first_match(rules, "us-east", &type_name), Some(rules.len() - 1));
            }
            started.elapsed()
        };
        let (few, many) = (time(&rules(10)), time(&rules(10_000)));
        // Caches and more prefix lengths cost something; a scan would cost a thousand times.
        assert!(many < few * 50, "{few:?} against {many:?}");
    }
}
