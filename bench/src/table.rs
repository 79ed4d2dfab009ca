//! The one table that is printed, in the form that docs/performance.md holds.

use std::fmt::Write as _;

use crate::statistics::Samples;

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// The ratio to what it is compared with is at least this.
    Ratio(f64),
    /// The ratio to what it is compared with is at most this.
    RatioAtMost(f64),
    /// The figure is at least this.
    AtLeast(f64),
    /// There is none: the figure is for information.
    None,
}

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What was done, such as `stream publish, Kafka`.
    pub(crate) name: String,
    /// What the figure counts, such as `receipts/s`.
    pub(crate) unit: &'static str,
    /// One sample a run.
    pub(crate) samples: Samples,
    /// What the same was done with, without Meridian.
    pub(crate) against: Option<(&'static str, Samples)>,
    /// What it should be.
    pub(crate) target: Target,
}

impl Row {
    /// A figure without comparison and target.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, samples: Samples) -> Self {
        Self {
            name: name.into(),
            unit,
            samples,
            against: None,
            target: Target::None,
        }
    }

    /// The same, compared with this.
    pub(crate) fn against(mut self, name: &'static str, samples: Samples) -> Self {
        self.against = Some((name, samples));
        self
    }

    /// The same, with a target.
    pub(crate) fn target(mut self, target: Target) -> Self {
        self.target = target;
        self
    }

    /// Ratio of the medians.
    fn ratio(&self) -> Option<f64> {
        self.against
            .as_ref()
            .map(|(_, other)| self.samples.median() / other.median())
    }

    fn verdict(&self) -> String {
        let (text, holds) = match self.target {
            Target::None => return String::new(),
            Target::Ratio(least) => (
                format!("≥ {least} of it"),
                self.ratio().is_some_and(|ratio| ratio >= least),
            ),
            Target::RatioAtMost(most) => (
                format!("≤ {most} of it"),
                self.ratio().is_some_and(|ratio| ratio <= most),
            ),
            Target::AtLeast(least) => (format!("≥ {}", number(least)), self.samples.median() >= least),
        };
        format!("{text}: {}", if holds { "holds" } else { "**falls short**" })
    }

    fn render(&self, out: &mut String) {
        let against = self
            .against
            .as_ref()
            .map_or_else(String::new, |(name, samples)| format!("{name}: {}", spread(samples)));
        let ratio = self.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let (name, unit, samples, verdict) = (&self.name, self.unit, spread(&self.samples), self.verdict());
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| {name} | {unit} | {samples} | {against} | {ratio} | {verdict} |");
    }
}

/// The rows as Markdown.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut out = String::from(
        "| what | unit | median [lowest..highest] | compared with | ratio | target |\n|---|---|---|---|---|---|\n",
    );
    for row in rows {
        row.render(&mut out);
    }
    out
}

fn spread(samples: &Samples) -> String {
    let (least, most) = samples.ends();
    if least == most {
        return number(least);
    }
    format!("{} [{}..{}]", number(samples.median()), number(least), number(most))
}

/// Three digits that mean something, thousands apart.
fn number(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude >= 1000.0 => thousands(value.round() as i64),
        magnitude if magnitude >= 100.0 => format!("{value:.0}"),
        magnitude if magnitude >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut out = String::from(if value < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_ratio_and_verdict() {
        let row = Row::new(
            "stream publish, Kafka",
            "receipts/s",
            [150_000.0, 140_000.0, 160_000.0].into_iter().collect(),
        )
        .against("raw producer", [200_000.0].into_iter().collect())
        .target(Target::Ratio(0.6));
        let text = render(&[row]);
        let expected = "| stream publish, Kafka | receipts/s | 150,000 [140,000..160,000] | raw producer: 200,000 | 0.75 | ≥ 0.6 of it: holds |\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn a_figure_below_its_target_falls_short() {
        let row = Row::new("x", "receipts/s", [199_999.0].into_iter().collect()).target(Target::AtLeast(200_000.0));
        assert!(row.verdict().contains("falls short"));
    }
}
