//! Due-time topics: events that are due later wait on the broker, not in memory. They serve publishing for later
//! (`deliverat`) and long delays of retries, on every kind of broker, for all that they need is appending and reading.
//!
//! A bucket is a topic of one partition whose records all wait the same time, so its head is always the next one due.
//! An event waits in the largest bucket that is not longer than the time it has left, then goes on to a smaller one, and
//! at last to its destination. Each step appends first and settles when that is confirmed: a crash repeats a step and
//! loses nothing.
//!
//! Module map:
//! - [`bucket`]: the buckets, and which one serves a wait.
//! - [`parked`]: the record of an event that waits, and back.
//! - [`waiting`]: pure: which records of a bucket go on when.
//! - `line`: the task of one bucket of one broker: reads, waits, appends, settles.
//! - [`desk`]: the buckets of all brokers: made on first use, read where they are there.

pub mod bucket;
pub mod desk;
mod line;
pub mod parked;
pub mod waiting;

pub use bucket::Bucket;
pub use desk::{BrokerDelays, DelayDesk};
pub use parked::{Aim, Parked, ParkedFault, park};
