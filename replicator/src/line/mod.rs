//! One partition of a source on its way to the target, in order; pure.
//!
//! - [`item`]: what a line holds of a record.
//! - [`verdict`]: what an append's error means for a line.
//! - [`line`](mod@line): the line itself.
//!
//! What holds: records of a line are handed out for appending in order; after a
//! failure nothing later goes until everything in flight has its outcome, and
//! then the line goes back to the failed record; a record is settled only after
//! all before it.

mod item;
#[expect(clippy::module_inception, reason = "the line is the idea of this folder")]
mod line;
#[cfg(test)]
mod simulation;
mod verdict;

pub(crate) use item::{Item, Refusal, Settled};
pub(crate) use line::{Line, Phase};
pub(crate) use verdict::{Verdict, verdict};
