//! Chaos: publishers, workers, gateways and a broker as processes, blows on all of
//! them drawn from a seed, and a checker over the history of what happened.
//!
//! - [`history`]: the lines of the history.
//! - [`checker`]: what a history comes to; pure, with tests that show each check red.
//! - [`schedule`]: which blow falls on what and when; pure.
//! - [`plant`]: planted bugs.
//! - [`oracle`]: issues names, writes the history, is never faulted.
//! - [`publisher`], [`worker`]: the children.
//! - [`victims`]: the processes that are struck.
//! - [`broker`]: the kinds of broker that a run may have.
//! - [`run`]: a run from start to verdict.
//! - [`report`]: the verdict and its figures, as text.
//!
//! What holds: a run with too little traffic or too few blows is void, not green; a
//! red run keeps its history; every process ends with the program.

pub mod broker;
pub mod checker;
pub mod history;
pub mod oracle;
pub mod plant;
pub mod publisher;
pub mod report;
pub mod run;
pub mod schedule;
pub mod victims;
pub mod worker;
