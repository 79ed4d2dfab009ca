//! What is wrong with a configuration, and where. Finding faults is left to the parser and the readers.
//!
//! What holds: a list of faults prints in the order of the file, whatever the order in which they were found, and keeps
//! no more than [`Faults::MAX_LISTED`], counting the rest.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The file, or `$NAME` for an environment override.
    pub source: String,
    /// The line, from 1; 0 where there is no place in a text (an override, a file that cannot be read).
    pub line: u32,
    /// The column in characters, from 1; 0 where the line is 0.
    pub column: u32,
    /// The dotted path, such as `brokers[0].kafka.bootstrap`; empty for the whole document.
    pub path: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.source)?;
        if self.line > 0 {
            write!(formatter, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(formatter, ": {}", self.path)?;
        }
        write!(formatter, ": {}", self.message)
    }
}

/// All that is wrong, gathered before anyone gives up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    listed: Vec<Fault>,
    omitted: usize,
}

impl Faults {
    /// How many faults are kept; a text wrong in more places than this is not mended place by place.
    pub const MAX_LISTED: usize = 500;

    /// No fault yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    pub fn push(&mut self, fault: Fault) {
        if self.is_full() {
            self.omitted = self.omitted.saturating_add(1);
        } else {
            self.listed.push(fault);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// Whether as many are kept as can be, so that looking for more is of no use.
    pub fn is_full(&self) -> bool {
        self.listed.len() >= Self::MAX_LISTED
    }

    /// How many there are, with those past [`MAX_LISTED`](Self::MAX_LISTED).
    pub fn len(&self) -> usize {
        self.listed.len().saturating_add(self.omitted)
    }

    /// The faults in the order in which they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.listed.iter()
    }

    /// `value` if nothing is wrong, else the faults in the order of the file.
    pub fn into_result<T>(mut self, value: T) -> Result<T, Faults> {
        if self.listed.is_empty() {
            return Ok(value);
        }
        self.listed.sort_by(by_position);
        Err(self)
    }

    /// Like [`into_result`](Self::into_result) for a value that readers may have failed to build. `None` without any
    /// fault would be a reader that swallowed one, and becomes a fault of its own.
    pub fn into_result_of<T>(mut self, value: Option<T>) -> Result<T, Faults> {
        match value {
            Some(value) => self.into_result(value),
            None => {
                if self.listed.is_empty() {
                    self.push(Fault {
                        source: "configuration".to_owned(),
                        line: 0,
                        column: 0,
                        path: String::new(),
                        message: "could not be read, and the reader did not say why; this is a bug".to_owned(),
                    });
                }
                self.listed.sort_by(by_position);
                Err(self)
            }
        }
    }
}

/// Files first, by line; overrides, which have no line, last.
fn by_position(left: &Fault, right: &Fault) -> std::cmp::Ordering {
    let key = |fault: &Fault| (fault.line == 0, fault.line, fault.column);
    (left.line == 0)
        .cmp(&(right.line == 0))
        .then_with(|| left.source.cmp(&right.source))
        .then_with(|| key(left).cmp(&key(right)))
        .then_with(|| left.path.cmp(&right.path))
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted: Vec<_> = self.listed.iter().collect();
        sorted.sort_by(|left, right| by_position(left, right));
        for (index, fault) in sorted.into_iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{fault}")?;
        }
        if self.omitted > 0 {
            write!(formatter, "\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl Extend<Fault> for Faults {
    fn extend<I: IntoIterator<Item = Fault>>(&mut self, faults: I) {
        for fault in faults {
            self.push(fault);
        }
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.listed.into_iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(source: &str, line: u32, column: u32, message: &str) -> Fault {
        Fault {
            source: source.to_owned(),
            line,
            column,
            path: "a.b".to_owned(),
            message: message.to_owned(),
        }
    }

    #[test]
    fn faults_print_in_file_order_with_overrides_last() {
        let mut faults = Faults::new();
        faults.push(fault("$MERIDIAN__A__B", 0, 0, "one"));
        faults.push(fault("g.yaml", 10, 2, "two"));
        faults.push(fault("g.yaml", 9, 30, "three"));
        assert_eq!(
            faults.to_string(),
            "g.yaml:9:30: a.b: three\ng.yaml:10:2: a.b: two\n$MERIDIAN__A__B: a.b: one"
        );
        let sorted = faults.into_result(()).unwrap_err();
        assert_eq!(sorted.iter().next().map(|fault| fault.line), Some(9));
    }

    #[test]
    fn faults_past_the_bound_are_counted_not_kept() {
        let mut faults = Faults::new();
        faults.extend((0..Faults::MAX_LISTED + 3).map(|_| fault("g.yaml", 1, 1, "x")));
        assert_eq!(faults.iter().count(), Faults::MAX_LISTED);
        assert_eq!(faults.len(), Faults::MAX_LISTED + 3);
        assert!(faults.to_string().ends_with("\nand 3 more"));
    }

    #[test]
    fn a_value_without_faults_passes_and_a_silent_reader_does_not() {
        assert_eq!(Faults::new().into_result(7), Ok(7));
        assert_eq!(Faults::new().into_result_of(Some(7)), Ok(7));
        assert_eq!(Faults::new().into_result_of::<u8>(None).unwrap_err().len(), 1);
    }
}
