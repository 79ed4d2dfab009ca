//! The verdict of a run and its figures, as text.

use std::fmt;
use std::time::Duration;

use crate::checker::{Figures, Resume};
use crate::history::{Blow, Part};
use crate::schedule::Planned;

/// What a run showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every promise held.
    Green,
    /// These did not.
    Red(Vec<String>),
    /// Too little happened for it to show anything.
    Void(Vec<String>),
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, reasons) = match self {
            Verdict::Green => return formatter.write_str("GREEN: every promise held"),
            Verdict::Red(reasons) => ("RED", reasons),
            Verdict::Void(reasons) => ("VOID", reasons),
        };
        write!(formatter, "{word}: {}", reasons.join("; "))
    }
}

/// A planned blow as a line.
pub fn planned(blow: &Planned) -> String {
    let (at, lasts) = (blow.at.as_secs_f64(), blow.lasts.as_secs_f64());
    format!(
        "{at:7.1} s  {} {} {} for {lasts:.1} s",
        blow.blow, blow.part, blow.which
    )
}

/// The figures as a table.
pub fn figures(figures: &Figures) -> String {
    let mut text = format!(
        "{} attempted, {} acknowledged, {} refused, {} unknown\n",
        figures.attempted, figures.acknowledged, figures.refused, figures.unknown
    );
    let mut row = |cells: [String; 12]| {
        let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:>10}")).collect();
        text.push_str(cells.join(" ").trim_end());
        text.push('\n');
    };
    row(HEADS.map(str::to_owned));
    for (name, group) in &figures.groups {
        let counts = [
            group.delivered,
            group.settled,
            group.lost,
            group.reordered,
            group.duplicated,
            group.again_excused,
            group.again_unexcused,
            group.recovered,
            group.refused_delivered,
            group.unexpected + group.damaged,
            group.highest_attempt.into(),
        ];
        let mut cells: [String; 12] = std::array::from_fn(|_| name.clone());
        for (cell, count) in cells.iter_mut().skip(1).zip(counts) {
            *cell = count.to_string();
        }
        row(cells);
    }
    for part in Part::ALL {
        let blows = Blow::ALL
            .iter()
            .map(|blow| format!("{} {blow}", figures.struck(*part, *blow)));
        text.push_str(&format!(
            "blows on {part:<10}{}\n",
            blows.collect::<Vec<_>>().join(", ")
        ));
    }
    for group in figures.groups.keys() {
        text.push_str(&resume(group, &figures.resume));
    }
    for example in &figures.examples {
        text.push_str(&format!("  {example}\n"));
    }
    text
}

const HEADS: [&str; 12] = [
    "group",
    "delivered",
    "settled",
    "lost",
    "reordered",
    "duplicates",
    "excused",
    "unexcused",
    "recovered",
    "refused",
    "unexpected",
    "attempts",
];

/// How soon a group's deliveries came back after a gateway was killed.
fn resume(group: &str, resumes: &[Resume]) -> String {
    let of_group: Vec<_> = resumes.iter().filter(|resume| resume.group == group).collect();
    let undisturbed = of_group.iter().filter(|resume| !resume.disturbed);
    let mut times: Vec<u64> = undisturbed.filter_map(|resume| resume.after_ms).collect();
    times.sort_unstable();
    let longest_ms = of_group.iter().filter_map(|resume| resume.after_ms).max();
    let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
    let longest = longest_ms.map_or_else(|| "none".to_owned(), |ms| format!("{:.1} s", seconds(ms)));
    let kills = of_group.len();
    match times.last() {
        None => format!(
            "{group}: deliveries came back at the latest {longest} after each of {kills} kills of a gateway, all disturbed by other blows\n"
        ),
        Some(last) => format!(
            "{group}: deliveries came back {:.1} s (median) to {:.1} s after {} undisturbed kills of a gateway; at the latest {longest} after each of {kills}\n",
            seconds(times[times.len() / 2]),
            seconds(*last),
            times.len(),
        ),
    }
}
