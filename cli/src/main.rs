//! The `meridian` binary: arguments in, exit code out.
//!
//! Everything else is in the library beside it. Exit codes: 0 ok, 1 failed,
//! 2 usage, 64 bad configuration.

use std::process::ExitCode;

use clap::Parser as _;
use meridian_cli::arguments::Arguments;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    meridian_cli::run(arguments)
}
