//! Idempotent publishing: a window over `source` and `id`, topic by topic, in
//! which an event that comes again gets the receipt of its first time.
//!
//! - [`options`]: which topics have a window, how long, and where it is kept.
//! - [`claim`]: what names an event, and the trait of what keeps windows.
//! - [`window`]: a window in memory, pure.
//! - [`memory`]: that window as a store of this process.
//! - [`redis`]: a store that the gateways of a region share.
//! - [`windows`]: what publishing asks: append it, answer it, or wait.
//!
//! CloudEvents 1.0, section 3.1: events with equal `source` and `id` may be taken
//! for duplicates.

pub mod claim;
pub mod memory;
pub mod options;
pub mod redis;
pub mod window;
pub mod windows;

pub use claim::Claim;
pub use options::IdempotenceOptions;
pub use windows::{Verdict, Windows};
