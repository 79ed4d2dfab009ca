//! A worker process: tells the oracle what it has, and accepts it once that is noted.
//! SIGTERM lets it finish and leave; the oracle's end ends it.

use std::collections::HashMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use meridian_event::stamp::RECORDED_TIME;
use meridian_event::{AttributeValue, Event};
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
            recorded: Mutex::default(),
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
    /// When the records at hand were stored, by place and id of the event; those of lost streams stay until the
    /// place comes again.
    recorded: Mutex<HashMap<(Place, String), i64>>,
}

impl Telling {
    fn recorded(&self) -> std::sync::MutexGuard<'_, HashMap<(Place, String), i64>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When the gateway took the event in.
fn recorded_ms(event: &Event) -> Option<i64> {
    match event.attribute(RECORDED_TIME)? {
        AttributeValue::Timestamp { seconds, nanos } => Some(seconds * 1_000 + i64::from(nanos) / 1_000_000),
        _ => None,
    }
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
        let copy = match (fits, recorded_ms(event)) {
            (true, Some(recorded_ms)) => {
                let key = (place.clone(), event.id().to_owned());
                self.recorded().insert(key, recorded_ms);
                format!("{}@{recorded_ms}", event.id())
            }
            _ => "-".to_owned(),
        };
        let line = format!("delivered {} {place} {} {copy}", self.group, delivery.attempt());
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
        let place = Place {
            topic: answer.topic.clone(),
            partition: answer.partition,
            position: answer.position,
        };
        let key = (place, answer.event_id.clone());
        let recorded_ms = self.recorded().remove(&key);
        if let Some(recorded_ms) = recorded_ms
            && answer.applied
        {
            // What is not told is not held against anybody.
            let (place, id) = key;
            self.lines
                .try_tell(format!("settled {} {place} {id}@{recorded_ms}", self.group));
        }
    }
}
