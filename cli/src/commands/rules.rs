//! `meridian rules`: get, validate, apply and explain the rules of a gateway.

use std::path::Path;

use meridian_event::EventBuilder;
use meridian_proto::meridian::{
    ApplyRulesRequest, ExplainRouteRequest, ExplainRouteResponse, GetRulesRequest, RuleFault, ValidateRulesRequest,
};
use serde::Serialize;

use crate::arguments::RulesCommand;
use crate::client;
use crate::failure::Failure;
use crate::output::Output;

#[derive(Serialize)]
struct RulesView {
    revision: u64,
    source: String,
    document: String,
}

#[derive(Serialize)]
struct Revision {
    revision: u64,
}

#[derive(Serialize)]
struct RouteView {
    revision: u64,
    rule: Option<String>,
    region: Option<String>,
    broker: Option<String>,
    topic: Option<String>,
    key: Option<String>,
    forwarded: bool,
    steps: Vec<StepView>,
}

#[derive(Serialize)]
struct StepView {
    rule: String,
    matched: bool,
    reason: String,
}

pub(crate) async fn run(command: RulesCommand, output: Output) -> Result<(), Failure> {
    match command {
        RulesCommand::Get { admin } => {
            let rules = client::routing(&admin.address)
                .await?
                .get_rules(GetRulesRequest {})
                .await?
                .into_inner();
            let view = RulesView {
                revision: rules.revision,
                source: rules.source,
                document: rules.document,
            };
            output.value(&view, || {
                format!(
                    "# revision {} from {}\n{}",
                    view.revision,
                    view.source,
                    view.document.trim_end()
                )
            })
        }
        RulesCommand::Validate { admin, file } => {
            let request = ValidateRulesRequest { document: read(&file)? };
            let response = client::routing(&admin.address)
                .await?
                .validate_rules(request)
                .await?
                .into_inner();
            refuse_faults(&file, &response.faults)?;
            output.value(&Vec::<String>::new(), || format!("{} has no faults", file.display()))
        }
        RulesCommand::Apply {
            admin,
            file,
            expected_revision,
        } => {
            let request = ApplyRulesRequest {
                document: read(&file)?,
                expected_revision,
            };
            let response = client::routing(&admin.address)
                .await?
                .apply_rules(request)
                .await?
                .into_inner();
            refuse_faults(&file, &response.faults)?;
            let revision = Revision {
                revision: response.revision,
            };
            output.value(&revision, || format!("revision {} is in force", revision.revision))
        }
        RulesCommand::Explain {
            admin,
            type_name,
            source,
            region,
            key,
            attributes,
        } => {
            let mut event = EventBuilder::new("explain", &source, &type_name);
            let named = [("region", region), ("partitionkey", key)];
            let named = named
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?)));
            for (name, value) in named.chain(attributes) {
                event = event.extension(&name, value.as_str());
            }
            let event = event.build().map_err(|fault| Failure::Usage(fault.to_string()))?;
            let request = ExplainRouteRequest {
                event: event.encoded().clone(),
            };
            let response = client::routing(&admin.address)
                .await?
                .explain_route(request)
                .await?
                .into_inner();
            let view = route_view(response);
            output.value(&view, || explain(&view))
        }
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::configuration(format!("cannot read {}: {error}", file.display())))
}

fn refuse_faults(file: &Path, faults: &[RuleFault]) -> Result<(), Failure> {
    if faults.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = faults
        .iter()
        .map(|fault| {
            format!(
                "{}:{}:{}: {}: {}",
                file.display(),
                fault.line,
                fault.column,
                fault.path,
                fault.message
            )
        })
        .collect();
    Err(Failure::configuration(format!(
        "the rules are refused and nothing is changed:\n{}",
        lines.join("\n")
    )))
}

fn route_view(response: ExplainRouteResponse) -> RouteView {
    let destination = response.destination;
    let field = |read: fn(&meridian_proto::meridian::RouteDestination) -> &String| {
        destination.as_ref().map(|destination| read(destination).clone())
    };
    RouteView {
        revision: response.revision,
        rule: Some(response.rule).filter(|rule| !rule.is_empty()),
        region: field(|destination| &destination.region),
        broker: field(|destination| &destination.broker),
        topic: field(|destination| &destination.topic),
        key: field(|destination| &destination.key).filter(|key| !key.is_empty()),
        forwarded: destination.as_ref().is_some_and(|destination| destination.forwarded),
        steps: response
            .steps
            .into_iter()
            .map(|step| StepView {
                rule: step.rule,
                matched: step.matched,
                reason: step.reason,
            })
            .collect(),
    }
}

fn explain(view: &RouteView) -> String {
    let mut lines: Vec<String> = view
        .steps
        .iter()
        .map(|step| match step.matched {
            true => format!("  {}: matches", step.rule),
            false => format!("  {}: no, {}", step.rule, step.reason),
        })
        .collect();
    let shown = |part: &Option<String>| part.clone().unwrap_or_default();
    lines.push(match &view.rule {
        None => format!(
            "no rule of revision {} matches: the event would be refused",
            view.revision
        ),
        Some(rule) => format!(
            "rule {rule} of revision {} sends it to {}/{}/{}{}{}",
            view.revision,
            shown(&view.region),
            shown(&view.broker),
            shown(&view.topic),
            view.key
                .as_ref()
                .map(|key| format!(" with key {key}"))
                .unwrap_or_default(),
            if view.forwarded {
                ", forwarded to that region's gateway"
            } else {
                ""
            },
        ),
    });
    lines.join("\n")
}
