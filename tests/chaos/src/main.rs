//! `meridian-chaos`: runs chaos, or judges a history that was kept.
//!
//! Exit codes: 0 green, 1 red, 2 usage, 3 void.
#![allow(clippy::print_stdout, clippy::print_stderr)] // It is a program; its output is the report.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use meridian_chaos::broker::BrokerKind;
use meridian_chaos::checker::Checker;
use meridian_chaos::history::Entry;
use meridian_chaos::plant::Plant;
use meridian_chaos::publisher::PublisherArguments;
use meridian_chaos::report::{self, Verdict};
use meridian_chaos::run::{GROUPS, RunPlan, run};
use meridian_chaos::worker::WorkerArguments;
use meridian_chaos::{publisher, worker};
use tokio::signal::unix::{SignalKind, signal};

/// Kills and freezes gateways, workers, publishers and the broker under load, and judges the history.
#[derive(Debug, Parser)]
#[command(name = "meridian-chaos")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run chaos and judge it.
    Run(RunArguments),
    /// Judge a history again.
    Judge {
        /// The file.
        history: PathBuf,
        /// The broker of its run.
        #[arg(long, default_value = "embedded")]
        broker: BrokerKind,
    },
    /// A publisher process of a run.
    #[command(hide = true)]
    Publisher(PublisherArguments),
    /// A worker process of a run.
    #[command(hide = true)]
    Worker(WorkerArguments),
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// The broker.
    #[arg(long, default_value = "embedded")]
    broker: BrokerKind,
    /// For how long blows fall, in minutes.
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// What the blows are drawn from. Default: another each time; it is printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Events a second.
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Plant a bug: the verdict must turn red.
    #[arg(long)]
    plant: Option<Plant>,
    /// Keep the files of a green run too.
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    match Arguments::parse().command {
        Command::Run(arguments) => chaos(arguments).await,
        Command::Judge { history, broker } => judge(&history, broker),
        Command::Publisher(arguments) => publisher::run(arguments).await.map(|()| ExitCode::SUCCESS),
        Command::Worker(arguments) => worker::run(arguments).await.map(|()| ExitCode::SUCCESS),
    }
}

async fn chaos(arguments: RunArguments) -> Result<ExitCode, Box<dyn Error>> {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    println!(
        "chaos: broker {:?}, {} minutes, seed {seed}",
        arguments.broker, arguments.minutes
    );
    let plan = RunPlan {
        broker: arguments.broker,
        length: Duration::try_from_secs_f64(arguments.minutes * 60.0)?,
        seed,
        rate: arguments.rate,
        plant: arguments.plant,
        program: std::env::current_exe()?,
        keep: arguments.keep,
    };
    let began = Instant::now();
    let say = move |text: &str| println!("{:6.1} s  {text}", began.elapsed().as_secs_f64());
    let (mut interrupted, mut terminated) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let run = tokio::select! {
        run = run(&plan, &say) => run?,
        // Everything that was started ends with the run's values.
        _ = interrupted.recv() => return Err("interrupted".into()),
        _ = terminated.recv() => return Err("terminated".into()),
    };
    print!("{}", report::figures(&run.figures));
    println!("{}", run.verdict);
    if let Some(history) = &run.history {
        println!("history and logs: {}", history.display());
    }
    Ok(code(&run.verdict))
}

fn judge(history: &std::path::Path, broker: BrokerKind) -> Result<ExitCode, Box<dyn Error>> {
    let text = std::fs::read_to_string(history)?;
    let mut checker = Checker::new(&GROUPS, broker.commit_slack());
    for (index, line) in text.lines().enumerate() {
        let entry = Entry::parse(line).ok_or_else(|| format!("line {}: no entry: {line}", index + 1))?;
        checker.note(&entry);
    }
    let figures = checker.figures();
    print!("{}", report::figures(&figures));
    let verdict = match figures.broken() {
        broken if broken.is_empty() => Verdict::Green,
        broken => Verdict::Red(broken),
    };
    println!("{verdict}");
    Ok(code(&verdict))
}

fn code(verdict: &Verdict) -> ExitCode {
    match verdict {
        Verdict::Green => ExitCode::SUCCESS,
        Verdict::Red(_) => ExitCode::FAILURE,
        Verdict::Void(_) => ExitCode::from(3),
    }
}
