//! The rules in force, compiled: immutable, with a revision. One event is routed
//! under one table, however often tables change meanwhile.

use std::sync::Arc;

use meridian_broker::{BrokerName, RegionName, TopicName};
use meridian_event::Event;

use super::context::RuleContext;
use super::index::RuleIndex;
use super::rule::Rule;
use crate::fault::{FaultCode, Refusal};

/// A rule set under its revision.
#[derive(Debug)]
pub struct RouteTable {
    revision: u64,
    document: Arc<str>,
    rules: Vec<Rule>,
    /// For each rule, the index of its broker among those of this region.
    broker_indices: Vec<usize>,
    index: RuleIndex,
    context: Arc<RuleContext>,
}

/// Where one event goes.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// Index of the rule that matched.
    pub rule_index: usize,
    /// That rule.
    pub rule: &'a Rule,
    /// This region's broker by index, or another region.
    pub target: Target<'a>,
}

/// Who stores the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A broker of this region, by its index in the context.
    Local {
        /// The index.
        broker_index: usize,
    },
    /// The gateway of another region.
    Peer {
        /// Which.
        region: &'a RegionName,
    },
}

impl RouteTable {
    /// Compiles checked rules.
    pub fn new(revision: u64, document: Arc<str>, rules: Vec<Rule>, context: Arc<RuleContext>) -> Self {
        let broker_index = |rule: &Rule| {
            let named = rule.broker.as_ref();
            named
                .and_then(|name| context.broker_index(name.as_str()))
                .unwrap_or(context.default_broker)
        };
        Self {
            revision,
            document,
            broker_indices: rules.iter().map(broker_index).collect(),
            index: RuleIndex::new(&rules),
            rules,
            context,
        }
    }

    /// A table without rules: everything is refused.
    pub fn empty(context: Arc<RuleContext>) -> Self {
        Self::new(0, Arc::from("rules: []\n"), Vec::new(), context)
    }

    /// The revision; rises by one from table to table.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The document as it was applied.
    pub fn document(&self) -> &Arc<str> {
        &self.document
    }

    /// The rules in order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The broker of this region that a rule would send to, by its index.
    pub fn broker_index(&self, rule_index: usize) -> usize {
        self.broker_indices[rule_index]
    }

    /// What the rules were checked against.
    pub fn context(&self) -> &RuleContext {
        &self.context
    }

    /// Where an event goes.
    ///
    /// # Errors
    /// `UNKNOWN_REGION` when its region is none that is known, `NO_ROUTE` when no
    /// rule matches.
    pub fn route(&self, event: &Event) -> Result<Route<'_>, Refusal> {
        self.route_by(event.region(), event.type_name())
    }

    /// The same by what routing looks at: the `region` attribute and the type.
    ///
    /// # Errors
    /// As [`RouteTable::route`].
    pub fn route_by(&self, region: Option<&str>, type_name: &str) -> Result<Route<'_>, Refusal> {
        let home = self.home_region(region)?;
        match self.index.first_match(&self.rules, home.as_str(), type_name) {
            Some(rule_index) => Ok(self.route_of(rule_index, home)),
            None => Err(self.no_route(home, type_name)),
        }
    }

    /// The topics that rules send to on brokers of this region, without repeats.
    pub fn local_topics(&self) -> std::collections::BTreeSet<(BrokerName, TopicName)> {
        let here = |rule: &Rule| rule.region.as_ref().is_none_or(|region| *region == self.context.region);
        let local = self
            .rules
            .iter()
            .zip(&self.broker_indices)
            .filter(|(rule, _)| here(rule));
        local
            .filter_map(|(rule, index)| {
                let broker = self.context.brokers.get(*index)?;
                Some((broker.name.clone(), rule.topic.clone()))
            })
            .collect()
    }

    /// The event's home region: what it says, or this one.
    pub(crate) fn home_region(&self, region: Option<&str>) -> Result<&RegionName, Refusal> {
        let own = &self.context.region;
        match region {
            None => Ok(own),
            Some(name) if name == own.as_str() => Ok(own),
            Some(name) => self.context.peers.get(name).ok_or_else(|| self.unknown_region(name)),
        }
    }

    pub(super) fn route_of<'a>(&'a self, rule_index: usize, home: &'a RegionName) -> Route<'a> {
        let rule = &self.rules[rule_index];
        let region = rule.region.as_ref().unwrap_or(home);
        let target = if *region == self.context.region {
            Target::Local {
                broker_index: self.broker_indices[rule_index],
            }
        } else {
            Target::Peer { region }
        };
        Route {
            rule_index,
            rule,
            target,
        }
    }

    fn unknown_region(&self, name: &str) -> Refusal {
        let known = self.context.known_regions();
        let what = format!("region {name:?} is not known here; known: {known}");
        Refusal::new(FaultCode::UnknownRegion, what.clone()).with_field("attributes.region", what)
    }

    fn no_route(&self, home: &RegionName, type_name: &str) -> Refusal {
        let revision = self.revision;
        let message = format!(
            "no rule of revision {revision} matches an event of region {home} and type {type_name:?}; \
             ask the operator for a rule, or see why with `meridian rules explain`"
        );
        Refusal::new(FaultCode::NoRoute, message.clone())
            .with_field("type", message)
            .with_resource("route", type_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::document;

    fn table(text: &str) -> RouteTable {
        let context = document::tests::context();
        let rules = document::parse("rules.yaml", text, &context).unwrap();
        RouteTable::new(4, Arc::from(text), rules, Arc::new(context))
    }

    const RULES: &str = "
rules:
  - { name: orders, when: { type: 'order.*' }, send: { topic: orders } }
  - { name: audit, when: { type: 'audit.*' }, send: { topic: audit, region: eu-west } }
  - { name: fast, when: { region: us-east }, send: { topic: fast, broker: fast } }
";

    #[test]
    fn an_event_goes_to_its_home_region_unless_the_rule_says_otherwise() {
        let table = table(RULES);
        let eu_west = RegionName::new("eu-west").unwrap();
        for (region, type_name, rule, target) in [
            (None, "order.placed", "orders", Target::Local { broker_index: 1 }),
            (Some("us-east"), "x", "fast", Target::Local { broker_index: 0 }),
            (
                Some("eu-west"),
                "order.placed",
                "orders",
                Target::Peer { region: &eu_west },
            ),
            (None, "audit.x", "audit", Target::Peer { region: &eu_west }),
        ] {
            let route = table.route_by(region, type_name).unwrap();
            assert_eq!((route.rule.name.as_str(), route.target), (rule, target), "{type_name}");
        }
    }

    #[test]
    fn what_cannot_be_routed_says_what_is_known() {
        let table = table(RULES);
        let refusal = table.route_by(Some("mars"), "order.placed").unwrap_err();
        assert_eq!(refusal.code(), FaultCode::UnknownRegion);
        assert_eq!(
            refusal.message(),
            "region \"mars\" is not known here; known: us-east, eu-west"
        );
        let refusal = table.route_by(Some("eu-west"), "x").unwrap_err();
        assert_eq!(refusal.code(), FaultCode::NoRoute);
        assert!(
            refusal
                .message()
                .starts_with("no rule of revision 4 matches an event of region eu-west and type \"x\"")
        );
    }

    #[test]
    fn only_topics_of_this_region_are_local() {
        let topics = table(RULES).local_topics();
        let names: Vec<String> = topics
            .iter()
            .map(|(broker, topic)| format!("{broker}/{topic}"))
            .collect();
        assert_eq!(names, ["fast/fast", "main/orders"]);
    }
}
