//! Why a benchmark could not be run to its end. A figure that falls short is no
//! failure: it is printed with its target.

use std::error::Error;

/// What was done when it failed, and the cause.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {cause}")]
pub(crate) struct Failure {
    doing: String,
    cause: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// A failure of which the text is the whole story.
    pub(crate) fn new(doing: impl Into<String>, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            doing: doing.into(),
            cause: cause.into(),
        }
    }
}

/// Says what was being done when a call failed.
pub(crate) trait While<T> {
    /// The failure names what was being done.
    fn during(self, doing: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<Box<dyn Error + Send + Sync>>> While<T> for Result<T, E> {
    fn during(self, doing: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(doing, error))
    }
}
