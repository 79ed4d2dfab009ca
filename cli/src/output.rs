//! Tables for people, JSON for programs.
//!
//! Results go to standard output, faults to standard error. Colour only where
//! standard error is a terminal and `NO_COLOR` is not set.
#![allow(clippy::print_stdout, clippy::print_stderr)] // The one place that prints.

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

use crate::arguments::OutputFormat;
use crate::failure::Failure;

/// Where results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    format: OutputFormat,
}

impl Output {
    pub(crate) fn new(format: OutputFormat) -> Self {
        Self { format }
    }

    pub(crate) fn is_json(self) -> bool {
        self.format == OutputFormat::Json
    }

    /// One result: JSON of the value, or the text that describes it.
    pub(crate) fn value(self, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let line = match self.format {
            OutputFormat::Json => serde_json::to_string(value).map_err(Failure::failed)?,
            OutputFormat::Table => text(),
        };
        self.line(&line)
    }

    /// Rows: one JSON array, or an aligned table.
    pub(crate) fn rows(
        self,
        rows: &[impl Serialize],
        heads: &[&str],
        cells: impl Fn(usize) -> Vec<String>,
    ) -> Result<(), Failure> {
        match self.format {
            OutputFormat::Json => self.line(&serde_json::to_string(rows).map_err(Failure::failed)?),
            OutputFormat::Table => {
                let body: Vec<Vec<String>> = (0..rows.len()).map(cells).collect();
                self.line(&table(heads, &body))
            }
        }
    }

    /// One line, as it is. A reader that went away ends the command quietly.
    pub(crate) fn line(self, line: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(|error| Failure::failed(format!("cannot write: {error}")))
    }

    pub(crate) fn fail(self, failure: &Failure) {
        if self.is_json() {
            eprintln!("{}", serde_json::json!({ "error": failure.to_string() }));
        } else if colour_allowed() {
            eprintln!("\x1b[31merror:\x1b[0m {failure}");
        } else {
            eprintln!("error: {failure}");
        }
    }
}

fn colour_allowed() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Columns as wide as their widest cell, two spaces apart.
pub(crate) fn table(heads: &[&str], body: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = body.iter().filter_map(|row| row.get(column));
        let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        widest.max(heads.get(column).map_or(0, |head| head.chars().count()))
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(heads.to_vec())];
    lines.extend(body.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let body = vec![
            vec!["orders".to_owned(), "8".to_owned()],
            vec!["us-east.orders".to_owned(), "16".to_owned()],
        ];
        assert_eq!(
            table(&["TOPIC", "PARTITIONS"], &body),
            "TOPIC           PARTITIONS\norders          8\nus-east.orders  16"
        );
    }
}
