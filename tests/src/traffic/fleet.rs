//! Workers as tasks of the test, each delivery recorded before it is accepted.

use std::time::Duration;

use meridian_worker_sdk::{Delivery, Settlement, Worker, WorkerError, WorkerReport};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;

use super::payload;
use super::record::{Record, place};
use crate::harness::wait::flow;

/// The SDK gives back what is held after 20 s.
const LEFT: Duration = Duration::from_secs(40);
const TOPIC_LOOKS: usize = 300;
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// A group's workers.
#[derive(Clone, Debug)]
pub struct FleetPlan {
    /// The region, for the record.
    pub region: String,
    /// Its gateways.
    pub gateways: Vec<String>,
    /// The group.
    pub group: String,
    /// What it reads.
    pub topics: Vec<String>,
    /// Workers, each with sessions of its own.
    pub workers: usize,
    /// Handlers of each.
    pub concurrency: usize,
}

impl FleetPlan {
    /// Two workers of sixteen handlers.
    pub fn new(region: &str, gateways: &[String], group: &str, topics: &[String]) -> Self {
        Self {
            region: region.to_owned(),
            gateways: gateways.to_vec(),
            group: group.to_owned(),
            topics: topics.to_vec(),
            workers: 2,
            concurrency: 16,
        }
    }
}

/// Workers at work.
#[derive(Debug)]
pub struct Fleet {
    stop: watch::Sender<bool>,
    workers: JoinSet<WorkerReport>,
}

impl Fleet {
    /// Starts the workers; a topic that is not there yet is waited for.
    pub fn start(plans: Vec<FleetPlan>, record: &Record) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut workers = JoinSet::new();
        for plan in plans {
            for number in 0..plan.workers {
                workers.spawn(work(plan.clone(), number, record.clone(), stopped.clone()));
            }
        }
        Self { stop, workers }
    }

    /// Lets every worker finish and leave; the sum of their reports.
    ///
    /// # Panics
    /// When a worker failed, or has not left long after its drain's deadline.
    pub async fn stop(mut self) -> WorkerReport {
        self.stop.send_replace(true);
        let mut sum = WorkerReport::default();
        let all = async {
            while let Some(report) = self.workers.join_next().await {
                let report = report.expect("a worker does not fail");
                sum.settled += report.settled;
                sum.stale += report.stale;
                sum.sessions += report.sessions;
            }
        };
        timeout(LEFT, all)
            .await
            .expect("a worker leaves within its drain's deadline");
        sum
    }
}

async fn work(plan: FleetPlan, number: usize, record: Record, stopped: watch::Receiver<bool>) -> WorkerReport {
    for _ in 0..TOPIC_LOOKS {
        match run(&plan, number, &record, stopped.clone()).await {
            Ok(report) => return report,
            Err(WorkerError::Refused {
                code: Code::NotFound, ..
            }) if !*stopped.borrow() => flow(LOOK_AGAIN).await,
            Err(WorkerError::Refused {
                code: Code::NotFound, ..
            }) => return WorkerReport::default(),
            Err(error) => panic!("worker {number} of {}: {error}", plan.group),
        }
    }
    panic!("the topics {:?} of {} never appeared", plan.topics, plan.group);
}

async fn run(
    plan: &FleetPlan,
    number: usize,
    record: &Record,
    mut stopped: watch::Receiver<bool>,
) -> Result<WorkerReport, WorkerError> {
    let (region, group, record) = (plan.region.clone(), plan.group.clone(), record.clone());
    let handler = move |delivery: Delivery| {
        let place = place(&region, delivery.topic(), &group);
        let event = delivery.event();
        let name = payload::read(event.id(), &event.data_bytes().unwrap_or_default());
        record.delivered(
            &place,
            name,
            (delivery.partition(), delivery.position()),
            delivery.attempt(),
        );
        async { Settlement::Accept }
    };
    let stop = async move {
        // A fleet that was dropped stops its workers too.
        let _ = stopped.wait_for(|stopped| *stopped).await;
    };
    Worker::builder(plan.gateways.clone(), plan.group.clone(), plan.topics.clone())
        .worker_id(format!("{}-{number}", plan.region))
        .concurrency(plan.concurrency)
        .run(handler, stop)
        .await
}
