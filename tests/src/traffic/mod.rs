//! Traffic that can be judged: every attempt, outcome and delivery is recorded.
//!
//! - [`payload`]: an event's data is a function of its id, so damage shows.
//! - [`record`]: the history shared by publishers and workers, and its verdict.
//! - [`load`]: publishers at a set rate until they are stopped.
//! - [`fleet`]: workers as tasks of the test.
//! - [`lines`]: a child process's line to the program that watches it.
//! - [`report`]: how a worker process reports a delivery before it accepts it.
//! - [`worker_process`]: that process, as the test holds it.

pub mod fleet;
pub mod lines;
pub mod load;
pub mod payload;
pub mod record;
pub mod report;
pub mod worker_process;

pub use fleet::{Fleet, FleetPlan};
pub use load::{Load, LoadPlan};
pub use record::{Mark, Record, Streams};
pub use worker_process::{Reports, WorkerProcess};
