//! `meridian dev`: two regions in one process on embedded brokers, a link each
//! way, and on wish the demo.
//!
//! - [`layout`]: where everything is: ports, folders, configuration.
//! - [`regions`]: starts and stops the regions and their links.
//!
//! Everything is what runs in production but for the brokers.

use std::path::{Path, PathBuf};

use super::process::{listen, start_logging};
use crate::arguments::DevArguments;
use crate::demo::{self, Settings, Sites};
use crate::failure::Failure;
use crate::output::Output;

mod layout;
mod regions;

use layout::Layout;
use regions::Regions;

pub(crate) async fn run(mut arguments: DevArguments, output: Output) -> Result<(), Failure> {
    if arguments.print_demo_rules {
        return output.line(demo::rules_document().trim_end());
    }
    if arguments.demo && arguments.log.log == DEFAULT_LOG {
        // The table has the terminal.
        arguments.log.log = "warn".to_owned();
    }
    start_logging(&arguments.log)?;
    let settings = Settings {
        duration: arguments.duration,
        rate: arguments.rate,
        worker_processes: arguments.against.is_some(),
    };
    if let Some(file) = &arguments.against {
        return demo::run(&Sites::load(file)?, settings, output, Some(file)).await;
    }
    let mut signals = listen()?;
    let folder = Folder::new(arguments.directory.as_deref())?;
    let layout = Layout::new(folder.path(), arguments.any_ports)?;
    let regions = Regions::start(&layout).await?;
    let outcome = if arguments.demo {
        tokio::select! {
            outcome = demo::run(&regions.sites, settings, output, None) => outcome,
            signal = signals.next() => Err(Failure::failed(format!("the demo was ended by {signal}"))),
        }
    } else {
        regions.introduce(folder.path(), output)?;
        signals.next().await;
        Ok(())
    };
    let stopped = tokio::select! {
        stopped = regions.stop() => stopped,
        signal = signals.next() => Err(Failure::failed(format!("stopped at once by a second {signal}"))),
    };
    outcome.and(stopped)
}

/// The default of `--log`.
const DEFAULT_LOG: &str = "info";

/// A folder that stays, or one that goes with the process.
enum Folder {
    Kept(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Folder {
    fn new(kept: Option<&Path>) -> Result<Self, Failure> {
        match kept {
            Some(path) => Ok(Folder::Kept(path.to_owned())),
            None => {
                let made = tempfile::Builder::new().prefix("meridian-dev-").tempdir();
                made.map(Folder::Temporary).map_err(|error| {
                    Failure::failed(format!(
                        "cannot make a temporary folder: {error}; name one with --directory"
                    ))
                })
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Folder::Kept(path) => path,
            Folder::Temporary(folder) => folder.path(),
        }
    }
}
