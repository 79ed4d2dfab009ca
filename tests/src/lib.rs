//! What the tests over real processes stand on. The tests themselves are in
//! `tests/system`, the house rules in `tests/tidy`.
//!
//! - [`harness`]: gateways, replicators and Kafka clusters as processes with kill,
//!   stop, freeze and restart; ports, files, waiting.
//! - [`traffic`]: publishers and workers whose every act is recorded and judged by
//!   the checker of `meridian-cli`.
//!
//! What holds: every process ends with the test that started it; nothing waits
//! without a deadline; a test that fails shows the end of its processes' logs.
#![allow(clippy::print_stderr)] // A failing test shows the logs of its processes.

pub mod harness;
pub mod traffic;
