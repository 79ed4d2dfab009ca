//! Where an event would go, and why each rule before did not match: the linear
//! walk that the index spares, in words.

use meridian_proto::meridian as proto;

use super::rule::{Mismatch, Rule};
use super::table::{RouteTable, Target};
use crate::fault::Refusal;
use meridian_event::Event;

/// Explains the route of an event under a table.
///
/// # Errors
/// `UNKNOWN_REGION` when the event names a region that is not known.
pub fn explain(table: &RouteTable, event: &Event) -> Result<proto::ExplainRouteResponse, Refusal> {
    let home = table.home_region(event.region())?;
    let type_name = event.type_name();
    let mut response = proto::ExplainRouteResponse {
        revision: table.revision(),
        ..Default::default()
    };
    for (rule_index, rule) in table.rules().iter().enumerate() {
        let mismatch = rule.mismatch(home.as_str(), type_name);
        response.steps.push(proto::RuleStep {
            rule: rule.name.clone(),
            matched: mismatch.is_none(),
            reason: reason(rule, mismatch, home.as_str(), type_name),
        });
        if mismatch.is_none() {
            response.rule = rule.name.clone();
            response.destination = Some(destination(table, event, rule_index, home));
            break;
        }
    }
    Ok(response)
}

fn destination(
    table: &RouteTable,
    event: &Event,
    rule_index: usize,
    home: &meridian_broker::RegionName,
) -> proto::RouteDestination {
    let route = table.route_of(rule_index, home);
    let rule = route.rule;
    let key = rule.key.of(event).unwrap_or_default();
    let (region, broker) = match route.target {
        Target::Local { broker_index } => {
            let context = table.context();
            let broker = context.brokers.get(broker_index).map(|broker| broker.name.to_string());
            (context.region.to_string(), broker.unwrap_or_default())
        }
        Target::Peer { region } => {
            let broker = rule.broker.as_ref().map(ToString::to_string);
            (region.to_string(), broker.unwrap_or_default())
        }
    };
    proto::RouteDestination {
        region,
        broker,
        topic: rule.topic.to_string(),
        key: String::from_utf8_lossy(&key).into_owned(),
        forwarded: matches!(route.target, Target::Peer { .. }),
    }
}

fn reason(rule: &Rule, mismatch: Option<Mismatch>, home: &str, type_name: &str) -> String {
    let (what, value, globs) = match mismatch {
        None => return "region and type match".to_owned(),
        Some(Mismatch::Region) => ("region", home, &rule.regions),
        Some(Mismatch::Type) => ("type", type_name, &rule.types),
    };
    let patterns: Vec<&str> = globs.iter().map(super::glob::Glob::pattern).collect();
    format!("{what} {value:?} does not match {}", patterns.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::document;
    use meridian_event::EventBuilder;
    use std::sync::Arc;

    #[test]
    fn each_rule_up_to_the_match_gives_its_reason() {
        let text = "
rules:
  - { name: europe, when: { region: 'eu-*' }, send: { topic: a } }
  - { name: orders, when: { type: ['order.*', refund] }, send: { topic: b } }
  - { name: rest, send: { topic: c, key: source } }
  - { name: never, send: { topic: d } }
";
        let context = document::tests::context();
        let rules = document::parse("r", text, &context).unwrap();
        let table = RouteTable::new(2, Arc::from(text), rules, Arc::new(context));
        let event = EventBuilder::new("1", "/s", "payment").build().unwrap();
        let answer = explain(&table, &event).unwrap();
        let steps: Vec<_> = answer
            .steps
            .iter()
            .map(|step| (step.rule.as_str(), step.matched, step.reason.as_str()))
            .collect();
        assert_eq!(
            steps,
            [
                ("europe", false, "region \"us-east\" does not match eu-*"),
                ("orders", false, "type \"payment\" does not match order.*, refund"),
                ("rest", true, "region and type match"),
            ]
        );
        let destination = answer.destination.unwrap();
        assert_eq!(
            (
                destination.broker.as_str(),
                destination.topic.as_str(),
                destination.key.as_str()
            ),
            ("main", "c", "/s")
        );
        assert!(!destination.forwarded && answer.rule == "rest" && answer.revision == 2);
    }
}
