//! Events and CPU time between two moments of a load that runs on.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::failure::Failure;
use crate::process_usage::ProcessUsage;
use crate::settings::Settings;

/// What one run measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) events_per_second: f64,
    /// Of the server's process; of this process where there is no server.
    pub(crate) cpu_microseconds_per_event: f64,
    pub(crate) peak_resident_mebibytes: f64,
    pub(crate) end_resident_mebibytes: f64,
}

/// Lets the load warm up, then measures it.
pub(crate) async fn measure(
    settings: &Settings,
    events: impl Fn() -> u64,
    usage: impl Fn() -> Result<ProcessUsage, Failure>,
) -> Result<Window, Failure> {
    sleep(settings.warm_up).await;
    let (started, events_before, usage_before) = (Instant::now(), events(), usage()?);
    sleep(settings.measured).await;
    let (elapsed, count) = (started.elapsed(), events() - events_before);
    let usage_after = usage()?;
    if count == 0 {
        return Err(Failure::new("measuring", "not one event went through"));
    }
    let cpu: Duration = usage_after.cpu - usage_before.cpu;
    Ok(Window {
        events_per_second: count as f64 / elapsed.as_secs_f64(),
        cpu_microseconds_per_event: cpu.as_secs_f64() * 1e6 / count as f64,
        peak_resident_mebibytes: mebibytes(usage_after.peak_resident_bytes),
        end_resident_mebibytes: mebibytes(usage_after.resident_bytes),
    })
}

/// Bytes in MiB.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
