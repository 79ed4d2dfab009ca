//! A publisher process: open loop at a set rate, each event's name taken from the
//! oracle first, each outcome told to it. SIGTERM flushes; the oracle's end ends it.

use std::error::Error;
use std::time::Duration;

use meridian_cli::history::EventName;
use meridian_tests::traffic::lines::Lines;
use meridian_tests::traffic::payload;
use meridian_worker_sdk::{PublishError, Publisher, Receipt};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::history::{Outcome, name_of};
use crate::plant::Plant;

const TICK: Duration = Duration::from_millis(20);
/// After a stall the backlog is made up for by so many at a time.
const TAKE_MAX: u64 = 50;
/// How long an event may take: longer than any fault lasts.
pub const DELIVERY_TIMEOUT: Duration = Duration::from_secs(60);

/// The type of every event.
pub const TYPE: &str = "com.acme.order.placed";

/// What a publisher process is told.
#[derive(Clone, Debug, clap::Args)]
pub struct PublisherArguments {
    /// Where the oracle listens.
    #[arg(long)]
    pub oracle: String,
    /// The gateways.
    #[arg(long, value_delimiter = ',')]
    pub gateways: Vec<String>,
    /// Events a second.
    #[arg(long)]
    pub rate: u32,
    /// A planted bug.
    #[arg(long)]
    pub plant: Option<Plant>,
}

/// Publishes until SIGTERM.
///
/// # Errors
/// When the oracle is gone, or the arguments are none.
pub async fn run(arguments: PublisherArguments) -> Result<(), Box<dyn Error>> {
    let oracle = Lines::connect(&arguments.oracle).await?;
    let gone = "the oracle is gone";
    let number: u32 = oracle.ask("publisher".to_owned()).await.ok_or(gone)?.parse()?;
    let publisher = Publisher::builder(arguments.gateways)
        .delivery_timeout(DELIVERY_TIMEOUT)
        .build()?;
    let mut terminated = signal(SignalKind::terminate())?;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pending = JoinSet::new();
    let (started, mut taken) = (Instant::now(), 0);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = terminated.recv() => break,
        }
        while pending.try_join_next().is_some() {}
        let due = (f64::from(arguments.rate) * started.elapsed().as_secs_f64()) as u64;
        let count = due.saturating_sub(taken).min(TAKE_MAX);
        if count == 0 {
            continue;
        }
        let first: u64 = oracle
            .ask(format!("take {number} {count}"))
            .await
            .ok_or(gone)?
            .parse()?;
        for sequence in first..first + count {
            let name = name_of(number, sequence);
            if arguments.plant == Some(Plant::AckBeforeStore) && Plant::strikes(name) {
                oracle.tell(format!("{} {name}", Outcome::Stored)).await;
                continue;
            }
            let sent = publisher.send(payload::event(name, TYPE, None)).await;
            let (oracle, plant) = (oracle.clone(), arguments.plant);
            // As many of these as the publisher's window has room for.
            pending.spawn(async move {
                let outcome = match sent {
                    Ok(pending) => pending.await,
                    Err(error) => Err(error),
                };
                let outcome = outcome_of(name, &outcome, plant);
                oracle.tell(format!("{outcome} {name}")).await
            });
        }
        taken += count;
    }
    publisher.flush().await;
    while pending.join_next().await.is_some() {}
    oracle.ask("bye".to_owned()).await.ok_or(gone)?;
    Ok(())
}

fn outcome_of(name: EventName, outcome: &Result<Receipt, PublishError>, plant: Option<Plant>) -> Outcome {
    match outcome {
        Ok(_) if plant == Some(Plant::RefusedDelivered) && Plant::strikes(name) => Outcome::Refused,
        Ok(_) => Outcome::Stored,
        Err(error) if error.may_be_stored() => Outcome::Unknown,
        Err(_) => Outcome::Refused,
    }
}
