//! Publishers at a set rate until they are stopped.
//!
//! Open loop: an event is due by the clock, so a stall of the gateway shows. Each
//! stream has a publisher number of its own, for the order that is promised is
//! that of one publisher's key at one place.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use meridian_cli::history::EventName;
use meridian_worker_sdk::Publisher;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::payload;
use super::record::Record;

const TICK: Duration = Duration::from_millis(5);
const OUTCOMES_LATE: Duration = Duration::from_secs(20);
const KEYS: u32 = 40;
static NEXT_PUBLISHER: AtomicU32 = AtomicU32::new(1);

/// What is published, and where.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// Gateways of the publisher's region.
    pub gateways: Vec<String>,
    /// The stream's name in the record.
    pub stream: String,
    /// The events' type.
    pub type_name: String,
    /// The events' home region, when they name one.
    pub region: Option<String>,
    /// Events a second.
    pub rate: u32,
    /// How long an event may take.
    pub delivery_timeout: Duration,
}

impl LoadPlan {
    /// Events without a region of their own.
    pub fn new(gateways: &[String], stream: &str, type_name: &str, rate: u32) -> Self {
        Self {
            gateways: gateways.to_vec(),
            stream: stream.to_owned(),
            type_name: type_name.to_owned(),
            region: None,
            rate,
            delivery_timeout: Duration::from_secs(60),
        }
    }

    /// Names the events' home region.
    #[must_use]
    pub fn region(mut self, region: &str) -> Self {
        self.region = Some(region.to_owned());
        self
    }
}

/// Publishers at work.
#[derive(Debug)]
pub struct Load {
    stop: watch::Sender<bool>,
    publishers: JoinSet<()>,
    longest_delivery: Duration,
}

impl Load {
    /// Starts one publisher for each plan.
    pub fn start(plans: Vec<LoadPlan>, record: &Record) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut publishers = JoinSet::new();
        let longest_delivery = plans.iter().map(|plan| plan.delivery_timeout).max().unwrap_or_default();
        for plan in plans {
            publishers.spawn(publish(plan, record.clone(), stopped.clone()));
        }
        Self {
            stop,
            publishers,
            longest_delivery,
        }
    }

    /// Stops publishing, and waits until every event has its outcome.
    ///
    /// # Panics
    /// When a publisher failed, or an event has no outcome long after its time.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async {
            while let Some(ended) = self.publishers.join_next().await {
                ended.expect("a publisher does not panic");
            }
        };
        let late = "an event has no outcome long after its delivery time-out";
        timeout(self.longest_delivery + OUTCOMES_LATE, all).await.expect(late);
    }
}

async fn publish(plan: LoadPlan, record: Record, mut stopped: watch::Receiver<bool>) {
    let number = NEXT_PUBLISHER.fetch_add(1, Ordering::Relaxed);
    let publisher = Publisher::builder(plan.gateways.clone())
        .delivery_timeout(plan.delivery_timeout)
        .build();
    let publisher = publisher.expect("the plan names gateways");
    let started = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stopped.wait_for(|stopped| *stopped) => break,
        }
        let due = (f64::from(plan.rate) * started.elapsed().as_secs_f64()) as u64;
        while sent < due && !*stopped.borrow() {
            send(&publisher, &plan, &record, number, sent).await;
            sent += 1;
        }
    }
    publisher.flush().await;
}

async fn send(publisher: &Publisher, plan: &LoadPlan, record: &Record, number: u32, sequence: u64) {
    let name = EventName {
        publisher: number,
        key: (sequence % u64::from(KEYS)) as u32,
        sequence,
    };
    record.attempted(name, &plan.stream);
    let event = payload::event(name, &plan.type_name, plan.region.as_deref());
    match publisher.send(event).await {
        Err(error) => record.outcome::<()>(name, Err(error)),
        Ok(pending) => {
            let record = record.clone();
            // As many of these as the publisher's window has room for.
            tokio::spawn(async move { record.outcome(name, pending.await) });
        }
    }
}
