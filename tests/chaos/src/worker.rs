//! A worker process: tells the oracle what it has, and accepts it once that is noted.
//! SIGTERM lets it finish and leave; the oracle's end ends it.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use meridian_proto::meridian::Ordering;
use meridian_tests::harness::wait::flow;
use meridian_tests::traffic::lines::Lines;
use meridian_tests::traffic::payload;
use meridian_worker_sdk::{Delivery, Handler, Settlement, SettlementAnswer, Worker, WorkerError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tonic::Code;

use crate::history::Place;

const TOPIC_LOOKS: usize = 300;
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What a worker process is told.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkerArguments {
    /// Where the oracle listens.
    #[arg(long)]
    pub oracle: String,
    /// The gateways.
    #[arg(long, value_delimiter = ',')]
    pub gateways: Vec<String>,
    /// The group.
    #[arg(long)]
    pub group: String,
    /// What it reads.
    #[arg(long)]
    pub topic: String,
    /// In order of keys; else in no order.
    #[arg(long)]
    pub ordered: bool,
}

/// Works until SIGTERM.
///
/// # Errors
/// When the oracle is gone, or a gateway refuses the session for good.
pub async fn run(arguments: WorkerArguments) -> Result<(), Box<dyn Error>> {
    let lines = Lines::connect(&arguments.oracle).await?;
    let (stop, mut terminated) = (Arc::new(Notify::new()), signal(SignalKind::terminate())?);
    let stopping = Arc::clone(&stop);
    tokio::spawn(async move {
        terminated.recv().await;
        stopping.notify_one();
    });
    for _ in 0..TOPIC_LOOKS {
        let handler = Telling {
            lines: lines.clone(),
            group: arguments.group.clone(),
            stop: Arc::clone(&stop),
        };
        let mut worker = Worker::builder(arguments.gateways.clone(), &arguments.group, [&arguments.topic])
            .concurrency(8)
            // A short lease: one that a frozen worker holds comes back while the run lasts.
            .lease_seconds(10);
        if !arguments.ordered {
            worker = worker.ordering(Ordering::None);
        }
        match worker.run(handler, stop.notified()).await {
            // The first event makes the topic.
            Err(WorkerError::Refused {
                code: Code::NotFound, ..
            }) => {
                flow(LOOK_AGAIN).await;
            }
            Err(error) => return Err(error.into()),
            Ok(_) => {
                lines.ask("bye".to_owned()).await.ok_or("the oracle is gone")?;
                return Ok(());
            }
        }
    }
    Err(format!("the topic {} never appeared", arguments.topic).into())
}

struct Telling {
    lines: Lines,
    group: String,
    stop: Arc<Notify>,
}

impl Handler for Telling {
    async fn handle(&self, delivery: Delivery) -> Settlement {
        let event = delivery.event();
        let fits = payload::read(event.id(), &event.data_bytes().unwrap_or_default()).is_some();
        let place = Place {
            topic: delivery.topic().to_owned(),
            partition: delivery.partition(),
            position: delivery.position(),
        };
        let id = if fits { event.id() } else { "-" };
        let line = format!("delivered {} {place} {} {id}", self.group, delivery.attempt());
        if self.lines.ask(line).await.is_some() {
            return Settlement::Accept;
        }
        self.stop.notify_one();
        Settlement::Release {
            delay: Duration::ZERO,
            reason: "the oracle is gone".to_owned(),
        }
    }

    fn answered(&self, answer: &SettlementAnswer) {
        if answer.applied {
            let place = Place {
                topic: answer.topic.clone(),
                partition: answer.partition,
                position: answer.position,
            };
            // What is not told is not held against anybody.
            self.lines.try_tell(format!("settled {} {place}", self.group));
        }
    }
}
