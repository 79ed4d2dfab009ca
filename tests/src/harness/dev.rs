//! `meridian dev`: two regions in one process, on embedded brokers.

use std::path::PathBuf;

use serde_json::Value;

use super::gateway::READY;
use super::process::Process;
use super::scratch::{Scratch, meridian_binary};

/// Where one region of it answers.
#[derive(Clone, Debug)]
pub struct DevSite {
    /// The region.
    pub region: String,
    /// Publishers and workers.
    pub data: String,
    /// Operators.
    pub admin: String,
}

/// A running `meridian dev`; it comes back on other ports when it is started again.
#[derive(Debug)]
pub struct Dev {
    directory: PathBuf,
    log: PathBuf,
    process: Process,
    sites: Vec<DevSite>,
}

impl Dev {
    /// Starts it in a folder of the test.
    pub async fn start(scratch: &Scratch) -> Self {
        let (directory, log) = (scratch.path("dev"), scratch.path("dev.log"));
        let (process, sites) = launch(&directory, &log).await;
        Self {
            directory,
            log,
            process,
            sites,
        }
    }

    /// Where a region answers.
    ///
    /// # Panics
    /// When it has no such region.
    pub fn site(&self, region: &str) -> &DevSite {
        let site = self.sites.iter().find(|site| site.region == region);
        site.unwrap_or_else(|| panic!("no region {region} among {:?}", self.sites))
    }

    /// `kill -9`.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// Starts it in the same folder, on other ports.
    pub async fn start_again(&mut self) {
        (self.process, self.sites) = launch(&self.directory, &self.log).await;
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

async fn launch(directory: &std::path::Path, log: &std::path::Path) -> (Process, Vec<DevSite>) {
    let arguments = ["dev", "--any-ports", "--output", "json", "--directory"].map(str::to_owned);
    let arguments: Vec<String> = arguments.into_iter().chain([directory.display().to_string()]).collect();
    let mut process = Process::start("dev", &meridian_binary(), &arguments, log);
    let line = process.line(READY).await;
    process.ignore_output();
    let sites = sites(&line).unwrap_or_else(|| panic!("dev does not say where it is: {line}"));
    (process, sites)
}

/// The line that tells where everything is.
fn sites(line: &str) -> Option<Vec<DevSite>> {
    let value: Value = serde_json::from_str(line).ok()?;
    let site = |site: &Value| {
        Some(DevSite {
            region: site["region"].as_str()?.to_owned(),
            data: site["gateways"][0].as_str()?.to_owned(),
            admin: site["admin"].as_str()?.to_owned(),
        })
    };
    value["regions"].as_array()?.iter().map(site).collect()
}
