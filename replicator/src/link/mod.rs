//! One link at work.
//!
//! - [`cell`]: what a link shares with those who ask and command it.
//! - [`lag`]: how far behind it is, in records and in seconds; pure.
//! - [`prepare`]: both ends checked, topics listed, target topics made.
//! - [`lanes`]: the lines of all partitions, and the batches taken from them.
//! - [`session`]: one reader from opening to closing: read, append, settle.
//! - [`outcomes`]: what the outcomes of appends do to the lines.
//! - [`dead_letter`]: a refused record kept at the source.
//! - [`run`]: the life of a link: sessions one after the other, and the waits between them.
//!
//! What holds: a link ends only when it is told to; a fault that can heal is
//! retried for ever, and one that cannot leaves it stopped with a reason.

mod cell;
mod dead_letter;
mod lag;
mod lanes;
mod outcomes;
mod prepare;
mod run;
mod session;

pub(crate) use cell::{LinkCell, Mode};
pub(crate) use run::Link;
