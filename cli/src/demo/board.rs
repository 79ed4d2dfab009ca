//! The live table and the summary.
//!
//! On a terminal the table is drawn in place twice a second; elsewhere a line
//! comes every five seconds, so that a log stays readable.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use meridian_proto::meridian::{DescribeGroupRequest, ListLinksRequest};
use serde::Serialize;
use tokio::time::Instant;

use crate::client;
use crate::demo::collector::Figures;
use crate::demo::plan::FLEETS;
use crate::demo::{Settings, Sites};
use crate::failure::Failure;
use crate::history::Verdict;
use crate::output::{Output, table};

const LINE_EVERY: Duration = Duration::from_secs(5);

/// What the operators' services say; what cannot be had is left out.
#[derive(Debug, Default)]
pub(crate) struct Lags {
    /// Unsettled events by region.
    groups: BTreeMap<String, u64>,
    /// Link, its state, records and seconds behind, records mirrored.
    links: Vec<(String, String, u64, f64, u64)>,
}

/// Asks gateways and replicator how far behind everything is.
pub(crate) async fn lags(sites: &Sites) -> Lags {
    let mut lags = Lags::default();
    for site in &sites.regions {
        let Ok(mut operations) = client::operations(&site.admin).await else {
            continue;
        };
        let mut total = 0;
        for fleet in FLEETS.iter().filter(|fleet| fleet.region == site.region) {
            let request = DescribeGroupRequest {
                broker: String::new(),
                name: fleet.group.to_owned(),
            };
            if let Ok(group) = operations.describe_group(request).await {
                total += group.into_inner().lag_messages;
            }
        }
        lags.groups.insert(site.region.clone(), total);
    }
    if let Ok(mut replication) = client::replication(&sites.replicator).await
        && let Ok(links) = replication.list_links(ListLinksRequest {}).await
    {
        lags.links = links
            .into_inner()
            .links
            .into_iter()
            .map(|link| {
                let state = link
                    .state()
                    .as_str_name()
                    .trim_start_matches("LINK_STATE_")
                    .to_lowercase();
                (
                    link.name,
                    state,
                    link.lag_messages,
                    link.lag_seconds,
                    link.mirrored_records,
                )
            })
            .collect();
    }
    lags
}

/// Draws the table.
pub(crate) struct Board {
    settings: Settings,
    output: Output,
    started: Instant,
    drawn_at: Option<Instant>,
    drawn_lines: usize,
    in_place: bool,
    before: BTreeMap<String, (u64, u64)>,
}

impl Board {
    pub(crate) fn new(settings: Settings, output: Output) -> Self {
        Self {
            settings,
            output,
            started: Instant::now(),
            drawn_at: None,
            drawn_lines: 0,
            in_place: std::io::stdout().is_terminal() && !output.is_json(),
            before: BTreeMap::new(),
        }
    }

    pub(crate) fn refresh(
        &mut self,
        figures: &BTreeMap<String, Figures>,
        lags: &Lags,
        publishing: bool,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        let since = self.drawn_at.map_or(now - self.started, |at| now - at);
        let every = if self.in_place { Duration::ZERO } else { LINE_EVERY };
        if self.output.is_json() || since < every || since.is_zero() {
            return Ok(());
        }
        let elapsed = (now - self.started).as_secs().min(self.settings.duration.as_secs());
        let phase = match publishing {
            true => format!("{elapsed} s of {} s", self.settings.duration.as_secs()),
            false => "published; waiting for the rest".to_owned(),
        };
        let regions = self.region_rows(figures, lags, since);
        let links: Vec<Vec<String>> = lags
            .links
            .iter()
            .map(|(name, state, records, seconds, mirrored)| {
                vec![
                    name.clone(),
                    state.clone(),
                    mirrored.to_string(),
                    records.to_string(),
                    format!("{seconds:.1} s"),
                ]
            })
            .collect();
        let text = [
            format!("meridian demo: {phase}"),
            table(
                &[
                    "REGION",
                    "PUBLISHED/S",
                    "PUBLISH P50",
                    "P99",
                    "DELIVERED/S",
                    "END TO END P50",
                    "P99",
                    "LAG",
                ],
                &regions,
            ),
            table(&["LINK", "STATE", "MIRRORED", "BEHIND", "BEHIND BY"], &links),
        ]
        .join("\n");
        self.drawn_at = Some(now);
        self.draw(&text)
    }

    fn region_rows(&mut self, figures: &BTreeMap<String, Figures>, lags: &Lags, since: Duration) -> Vec<Vec<String>> {
        let rate = |now: u64, before: u64| format!("{:.0}", (now - before) as f64 / since.as_secs_f64());
        figures
            .iter()
            .map(|(region, figures)| {
                let (stored, delivered) = self
                    .before
                    .insert(region.clone(), (figures.stored, figures.delivered))
                    .unwrap_or_default();
                vec![
                    region.clone(),
                    rate(figures.stored, stored),
                    milliseconds(&figures.publish, 50.0),
                    milliseconds(&figures.publish, 99.0),
                    rate(figures.delivered, delivered),
                    milliseconds(&figures.end_to_end, 50.0),
                    milliseconds(&figures.end_to_end, 99.0),
                    lags.groups
                        .get(region)
                        .map_or_else(|| "?".to_owned(), ToString::to_string),
                ]
            })
            .collect()
    }

    fn draw(&mut self, text: &str) -> Result<(), Failure> {
        if self.in_place && self.drawn_lines > 0 {
            // Up to the table's first line, then clear to the end of the screen.
            self.output.line(&format!("\x1b[{}A\x1b[J{text}", self.drawn_lines))?;
        } else {
            self.output.line(text)?;
        }
        self.drawn_lines = text.lines().count();
        Ok(())
    }

    /// The figures and the verdict; the last line says how it ended.
    pub(crate) fn summary(
        &self,
        figures: &BTreeMap<String, Figures>,
        verdict: &Verdict,
        reasons: &BTreeMap<String, u64>,
        output: Output,
    ) -> Result<(), Failure> {
        let summary = Summary::new(figures, verdict, reasons);
        output.value(&summary, || summary.text(verdict))
    }
}

fn milliseconds(histogram: &Histogram<u64>, percentile: f64) -> String {
    match histogram.is_empty() {
        true => "-".to_owned(),
        false => format!("{:.1} ms", histogram.value_at_percentile(percentile) as f64 / 1000.0),
    }
}

#[derive(Serialize)]
struct Summary {
    holds: bool,
    attempted: u64,
    stored: u64,
    refused: u64,
    unknown: u64,
    expected_deliveries: u64,
    deliveries: u64,
    lost: u64,
    out_of_order: u64,
    duplicated: u64,
    unexpected: u64,
    misplaced: u64,
    unreadable: u64,
    failures: BTreeMap<String, u64>,
    regions: BTreeMap<String, RegionSummary>,
}

#[derive(Serialize)]
struct RegionSummary {
    publish_p50_milliseconds: f64,
    publish_p99_milliseconds: f64,
    end_to_end_p50_milliseconds: f64,
    end_to_end_p99_milliseconds: f64,
}

impl Summary {
    fn new(figures: &BTreeMap<String, Figures>, verdict: &Verdict, reasons: &BTreeMap<String, u64>) -> Self {
        let percentile = |histogram: &Histogram<u64>, at| histogram.value_at_percentile(at) as f64 / 1000.0;
        Self {
            holds: verdict.holds(),
            attempted: verdict.attempted,
            stored: verdict.stored,
            refused: verdict.refused,
            unknown: verdict.unknown,
            expected_deliveries: verdict.expected,
            deliveries: verdict.delivered,
            lost: verdict.lost,
            out_of_order: verdict.reordered,
            duplicated: verdict.duplicated,
            unexpected: verdict.unexpected,
            misplaced: verdict.misplaced,
            unreadable: verdict.unreadable,
            failures: reasons.clone(),
            regions: figures
                .iter()
                .map(|(region, figures)| {
                    let summary = RegionSummary {
                        publish_p50_milliseconds: percentile(&figures.publish, 50.0),
                        publish_p99_milliseconds: percentile(&figures.publish, 99.0),
                        end_to_end_p50_milliseconds: percentile(&figures.end_to_end, 50.0),
                        end_to_end_p99_milliseconds: percentile(&figures.end_to_end, 99.0),
                    };
                    (region.clone(), summary)
                })
                .collect(),
        }
    }

    fn text(&self, verdict: &Verdict) -> String {
        let mut lines = vec![String::new()];
        for (region, figures) in &self.regions {
            lines.push(format!(
                "{region}: publish p50 {:.1} ms, p99 {:.1} ms; publish to worker p50 {:.1} ms, p99 {:.1} ms",
                figures.publish_p50_milliseconds,
                figures.publish_p99_milliseconds,
                figures.end_to_end_p50_milliseconds,
                figures.end_to_end_p99_milliseconds
            ));
        }
        lines.push(format!(
            "events: {} attempted, {} stored, {} refused, {} unknown",
            self.attempted, self.stored, self.refused, self.unknown
        ));
        lines.extend(
            self.failures
                .iter()
                .map(|(reason, count)| format!("  {count} x {reason}")),
        );
        lines.push(format!(
            "deliveries: {} of {} expected, local and mirrored; {} duplicates, {} unexpected, {} misplaced, {} unreadable",
            self.deliveries, self.expected_deliveries, self.duplicated, self.unexpected, self.misplaced, self.unreadable
        ));
        lines.extend(verdict.examples.iter().map(|example| format!("  {example}")));
        lines.push(format!(
            "{}: {} lost, {} out of order",
            if self.holds { "PASS" } else { "FAIL" },
            self.lost,
            self.out_of_order
        ));
        lines.join("\n")
    }
}
