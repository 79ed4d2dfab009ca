//! What is being done, on standard error; the tables alone go to standard output.

use std::io::{self, Write as _};

/// Says how far the benchmarks are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress;

impl Progress {
    /// One line.
    pub(crate) fn say(self, line: &str) {
        // Whoever closed standard error does not want to know.
        let _ = writeln!(io::stderr(), "bench: {line}");
    }
}
