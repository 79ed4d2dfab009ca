//! Which topics a link mirrors, and what they are called at the target.
//!
//! - [`pattern`]: one pattern of topic names.
//! - [`selection`]: patterns, exclusions, and what is left out by default.
//! - [`naming`]: the name of a mirror.

pub mod naming;
pub mod pattern;
pub mod selection;

pub use naming::Naming;
pub use pattern::{PatternError, TopicPattern};
pub use selection::TopicSelection;
