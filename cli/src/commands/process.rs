//! `meridian gateway` and `meridian replicator`: processes that run until a signal.
//!
//! Once both ports listen, one JSON line on standard output says where. Logs go
//! to standard error. The first SIGTERM or SIGINT stops in order, a second one
//! at once.

use std::io::IsTerminal as _;
use std::net::SocketAddr;

use meridian_gateway::{Environment, Gateway, GatewayConfig};
use meridian_replicator::{Replicator, ReplicatorConfig};
use meridian_runtime::{
    Faults, LogFormat, LogOptions, Metrics, PhaseOutcome, ShutdownReport, SystemClock, TerminationSignals, init_tracing,
};
use serde::Serialize;

use crate::arguments::{LogArguments, LogLines, ProcessArguments};
use crate::failure::Failure;
use crate::output::Output;

/// Where a process listens.
#[derive(Serialize)]
struct Listening {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<SocketAddr>,
    admin: SocketAddr,
}

#[derive(Serialize)]
struct Checked<'a> {
    file: &'a str,
    faults: Vec<String>,
}

pub(crate) async fn gateway(arguments: &ProcessArguments, output: Output) -> Result<(), Failure> {
    let config = GatewayConfig::load(&arguments.config, std::env::vars());
    if arguments.check {
        return report_check(arguments, config.map(drop), output);
    }
    let config = config.map_err(Failure::configuration)?;
    start_logging(&arguments.log)?;
    let mut signals = listen()?;
    let metrics = Metrics::new([("region", config.region.to_string())]);
    let environment = Environment::new(SystemClock::shared(), metrics);
    let gateway = Gateway::start(config, environment).await.map_err(Failure::failed)?;
    say_listening(Some(gateway.data_address()), gateway.admin_address(), output)?;
    let signal = signals.next().await;
    tracing::info!(%signal, "stopping");
    finish(gateway.shutdown(), &mut signals).await
}

pub(crate) async fn replicator(arguments: &ProcessArguments, output: Output) -> Result<(), Failure> {
    let config = ReplicatorConfig::load(&arguments.config, std::env::vars());
    if arguments.check {
        return report_check(arguments, config.map(drop), output);
    }
    let config = config.map_err(Failure::configuration)?;
    start_logging(&arguments.log)?;
    let mut signals = listen()?;
    let environment =
        meridian_replicator::Environment::new(SystemClock::shared(), Metrics::new([("process", "replicator")]));
    let replicator = Replicator::start(config, environment).await.map_err(Failure::failed)?;
    say_listening(None, replicator.admin_address(), output)?;
    let signal = signals.next().await;
    tracing::info!(%signal, "stopping");
    finish(replicator.shutdown(), &mut signals).await
}

/// Tells every fault of the file; exit 64 when there is one.
fn report_check(arguments: &ProcessArguments, checked: Result<(), Faults>, output: Output) -> Result<(), Failure> {
    let file = arguments.config.display().to_string();
    match checked {
        Ok(()) => output.value(
            &Checked {
                file: &file,
                faults: Vec::new(),
            },
            || format!("{file}: no fault"),
        ),
        Err(faults) => Err(Failure::configuration(faults)),
    }
}

/// Sets logging up as the flags say; coloured on a terminal alone.
pub(crate) fn start_logging(arguments: &LogArguments) -> Result<(), Failure> {
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let format = match arguments.log_format {
        LogLines::Text => LogFormat::Text,
        LogLines::Json => LogFormat::Json,
    };
    let options = LogOptions {
        format,
        filter: arguments.log.clone(),
        colour: colour && format == LogFormat::Text,
    };
    init_tracing(&options).map_err(Failure::configuration)
}

pub(crate) fn listen() -> Result<TerminationSignals, Failure> {
    TerminationSignals::listen().map_err(|error| Failure::failed(format!("cannot listen for signals: {error}")))
}

fn say_listening(data: Option<SocketAddr>, admin: SocketAddr, output: Output) -> Result<(), Failure> {
    let line = serde_json::to_string(&Listening { data, admin }).map_err(Failure::failed)?;
    output.line(&line)
}

/// Waits for the shutdown; a second signal ends the wait.
async fn finish(
    shutdown: impl Future<Output = ShutdownReport>,
    signals: &mut TerminationSignals,
) -> Result<(), Failure> {
    tokio::select! {
        report = shutdown => verdict(&report),
        signal = signals.next() => Err(Failure::failed(format!("stopped at once by a second {signal}"))),
    }
}

/// Fails when a phase of the shutdown was not finished.
pub(crate) fn verdict(report: &ShutdownReport) -> Result<(), Failure> {
    let unfinished = report
        .phases
        .iter()
        .filter(|phase| phase.outcome != PhaseOutcome::Finished);
    let unfinished: Vec<String> = unfinished
        .map(|phase| format!("{} ({})", phase.name, phase.outcome))
        .collect();
    match unfinished.is_empty() {
        true => Ok(()),
        false => Err(Failure::failed(format!(
            "stopped before all was done: {}",
            unfinished.join(", ")
        ))),
    }
}
