//! What becomes of deliveries: the words that settle them, and the dead letters.
//!
//! Module map:
//! - [`word`]: a settlement as it was sent becomes a [`Word`], or a fault that names its field.
//! - [`dead_letter`]: names of dead-letter topics, and the record that goes there.
//! - [`retry`]: the record that waits for its next attempt, and what it went through before.
//! - [`dead_letter_writer`]: appends both until they are durable, for ever with backoff.

pub mod dead_letter;
pub mod dead_letter_writer;
pub mod retry;
pub mod word;

pub use dead_letter::{DeadLetterTopicPattern, DeadLetterTopicPatternError};
pub use dead_letter_writer::{AwayDone, DeadLetterWriter, DeadLetterWriterState};
pub use word::{Word, WordFault, WordLimits};
