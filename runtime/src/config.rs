//! Configuration from YAML: a file is parsed into a tree that knows where each value stands, and read by readers that
//! collect faults instead of stopping at the first. What the options mean is left to those who read them.
//!
//! What holds: every fault names its file, line, column and dotted path; unknown and repeated keys are refused; a key
//! without a value counts as absent; nothing is read from the environment but what the caller passes in; a value never
//! shows up in a message of a secret. YAML is taken without tags, aliases and merge keys, one document a file.
//!
//! ```
//! use std::time::Duration;
//! use meridian_runtime::{Document, Faults};
//!
//! let document = Document::parse("gateway.yaml", "publish:\n  max_event_byte: 0\n").unwrap();
//! let mut faults = Faults::new();
//! if let Some(root) = document.root().mapping(&["publish"], &mut faults) {
//!     if let Some(publish) = root.section("publish", &["max_event_bytes", "deadline_seconds"], &mut faults) {
//!         let _ = publish.u64_or("max_event_bytes", 1_048_576, 1..=16_777_216, &mut faults);
//!         let _ = publish.seconds_or("deadline_seconds", Duration::from_secs(5), 0.001..=60.0, &mut faults);
//!     }
//! }
//! assert_eq!(
//!     faults.to_string(),
//!     "gateway.yaml:2:3: publish.max_event_byte: unknown key; did you mean `max_event_bytes`?"
//! );
//! ```

mod document;
mod fault;
mod mapping;
mod node;
mod overrides;
mod parse;
mod scalar;
mod secret_reference;
mod suggest;
mod tree;

pub use document::{Document, MAX_DEPTH, MAX_DOCUMENT_BYTES};
pub use fault::{Fault, Faults};
pub use mapping::Mapping;
pub use node::Node;
pub use secret_reference::{MAX_SECRET_BYTES, SecretSources};
