//! Load programs: what a gateway takes, how fast it answers, and what it costs, next
//! to the same work without it. docs/performance.md holds the table and says how it
//! is to be read.
//!
//! Module map:
//! - [`arguments`], [`settings`]: what is to be measured, how, and where.
//! - [`figures`]: one file for each command.
//! - [`clients`]: whoever puts load on a server; [`events`]: what they publish.
//! - [`gateway`], [`null_server`]: the processes under load.
//! - [`process_usage`], [`latency`], [`statistics`], [`table`], [`progress`]:
//!   measuring and telling.
//! - [`suite`]: the commands, and what they print.

use std::process::ExitCode;

use clap::Parser as _;

mod arguments;
mod clients;
mod events;
mod failure;
mod figures;
mod gateway;
mod latency;
mod null_server;
mod process_usage;
mod progress;
mod settings;
mod statistics;
mod suite;
mod table;

/// As the gateway has it, so that both sides of a comparison allocate alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match suite::run(arguments::Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            progress::Progress.say(&failure.to_string());
            ExitCode::FAILURE
        }
    }
}
