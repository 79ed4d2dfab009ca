//! One file a command.

mod dev;
mod dlq;
mod drain;
mod group_changes;
mod groups;
mod links;
mod process;
mod publish;
mod rules;
mod subscribe;
mod topics;

use crate::arguments::{Arguments, Command};
use crate::failure::Failure;
use crate::output::Output;

/// Runs the command that was asked for.
pub(crate) async fn run(arguments: Arguments, output: &Output) -> Result<(), Failure> {
    let output = *output;
    match arguments.command {
        Command::Gateway(arguments) => process::gateway(&arguments, output).await,
        Command::Replicator(arguments) => process::replicator(&arguments, output).await,
        Command::Dev(arguments) => dev::run(arguments, output).await,
        Command::Publish(arguments) => publish::run(arguments, output).await,
        Command::Subscribe(arguments) => subscribe::run(arguments, output).await,
        Command::Rules(command) => rules::run(command, output).await,
        Command::Topics(command) => topics::run(command, output).await,
        Command::Groups(command) => groups::run(command, output).await,
        Command::Dlq(command) => dlq::run(command, output).await,
        Command::Links(command) => links::run(command, output).await,
        Command::Drain(arguments) => drain::run(arguments, output).await,
        Command::DemoWorkers(arguments) => crate::demo::work_in_region(&arguments.region, &arguments.against).await,
    }
}
