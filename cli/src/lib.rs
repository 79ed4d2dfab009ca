//! The command line of Meridian.
//!
//! Module map:
//! - [`arguments`]: every command, its flags and the examples of its help.
//! - `commands`: one file a command.
//! - [`demo`]: the traffic, the workers and the verdict of `meridian dev --demo`.
//! - [`history`]: counts what was lost, doubled or reordered (pure).
//! - `client`: connections to gateways, and their errors.
//! - [`failure`]: what went wrong, and the exit code for it.
//! - `output`: tables for people, JSON for programs.

use std::process::ExitCode;

pub mod arguments;
mod client;
mod commands;
pub mod demo;
pub mod failure;
pub mod history;
mod output;

/// Runs the command and says how it ended.
pub fn run(arguments: arguments::Arguments) -> ExitCode {
    let output = output::Output::new(arguments.output);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            output.fail(&failure::Failure::failed(format!("cannot start: {error}")));
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(commands::run(arguments, &output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.fail(&failure);
            failure.exit_code()
        }
    }
}
