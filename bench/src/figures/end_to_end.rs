//! From a publisher to a worker: how long after an event was due a handler has
//! accepted it.
//!
//! Publisher and worker are the SDK's, in this process, so that one clock measures.
//! The data begin with the event's number and the time when it was due.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use meridian_worker_sdk::{Delivery, Pending, Publisher, Settlement, Worker};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::events::{DATA_BYTES, event};
use crate::failure::{Failure, While as _};
use crate::figures::stream::{delete_topic, make_topic, topic_name};
use crate::gateway::{BrokerChoice, Gateway};
use crate::latency::{self, milliseconds_at};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::statistics::Samples;
use crate::table::Row;

const WORKER_CONCURRENCY: usize = 1_024;
const WINDOW_EVENTS: usize = 65_536;
const TICK: Duration = Duration::from_millis(1);
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
const FIRST_ARRIVAL_DEADLINE: Duration = Duration::from_secs(60);
/// In the place of a due time: an event that only warms up.
const NOT_MEASURED: u64 = u64::MAX;

/// Measures one broker at `rate` events a second.
pub(crate) async fn run(
    settings: &Settings,
    broker: &BrokerChoice,
    rate: f64,
    progress: &Progress,
) -> Result<Vec<Row>, Failure> {
    let (mut median, mut high) = (Samples::default(), Samples::default());
    let mut cpu = Samples::default();
    for run in 0..settings.runs {
        let outcome = one_run(settings, broker, rate).await?;
        median.push(milliseconds_at(&outcome.latencies, 0.5));
        high.push(milliseconds_at(&outcome.latencies, 0.99));
        cpu.push(outcome.cpu_microseconds_per_event);
        progress.say(&format!(
            "end to end, {}, run {} of {}: p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, {} events, {} came twice",
            broker.name(),
            run + 1,
            settings.runs,
            milliseconds_at(&outcome.latencies, 0.5),
            milliseconds_at(&outcome.latencies, 0.99),
            milliseconds_at(&outcome.latencies, 0.999),
            outcome.latencies.len(),
            outcome.duplicates
        ));
    }
    let name = |what| format!("end to end, {}, at {rate:.0}/s: {what}", broker.name());
    Ok(vec![
        Row::new(name("p50"), "ms", median),
        Row::new(name("p99"), "ms", high),
        Row::new(name("gateway CPU"), "µs/event", cpu),
    ])
}

struct Outcome {
    latencies: Histogram<u64>,
    duplicates: u64,
    cpu_microseconds_per_event: f64,
}

async fn one_run(settings: &Settings, broker: &BrokerChoice, rate: f64) -> Result<Outcome, Failure> {
    let topic = topic_name("end-to-end");
    make_topic(broker, &topic).await?;
    let gateway = Gateway::start(&settings.installation, broker, &topic).await?;
    let publisher = Publisher::builder([gateway.address()])
        .max_in_flight_events(WINDOW_EVENTS)
        .build();
    let publisher = publisher.during("making a publisher")?;
    let total = (rate * (settings.warm_up + settings.measured).as_secs_f64()) as u64;
    let arrivals = Arc::new(Arrivals::new(total)?);
    let (stop, stopped) = oneshot::channel::<()>();
    let worker = Worker::builder([gateway.address()], topic.clone(), [topic.as_str()]).concurrency(WORKER_CONCURRENCY);
    let seen = arrivals.clone();
    let handler = move |delivery: Delivery| {
        seen.see(&delivery);
        async { Settlement::Accept }
    };
    let worker = tokio::spawn(worker.run(handler, async {
        // A sender that is gone stops the worker as well.
        let _ = stopped.await;
    }));
    // The first event arrives once the group has its partitions.
    send(&publisher, 0, NOT_MEASURED).await?.await.during("publishing")?;
    arrivals.wait_for(1, FIRST_ARRIVAL_DEADLINE).await?;

    let cpu_before = gateway.usage()?.cpu;
    let first_measured = (rate * settings.warm_up.as_secs_f64()) as u64;
    publish_at(&publisher, &arrivals, rate, total, first_measured).await?;
    arrivals.wait_for(1 + total, DRAIN_DEADLINE).await?;
    let cpu = gateway.usage()?.cpu - cpu_before;
    drop(stop);
    worker
        .await
        .during("running the worker")?
        .during("running the worker")?;
    delete_topic(broker, &topic, &gateway).await?;
    gateway.stop().await?;
    let cpu_microseconds_per_event = cpu.as_secs_f64() * 1e6 / total as f64;
    let seen = arrivals.lock();
    Ok(Outcome {
        latencies: seen.latencies.clone(),
        duplicates: seen.duplicates,
        cpu_microseconds_per_event,
    })
}

async fn publish_at(
    publisher: &Publisher,
    arrivals: &Arrivals,
    rate: f64,
    total: u64,
    first_measured: u64,
) -> Result<(), Failure> {
    let (pending, outcomes) = mpsc::channel(WINDOW_EVENTS);
    let receipts = tokio::spawn(expect_receipts(outcomes));
    let started = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut sent = 0;
    while sent < total {
        ticks.tick().await;
        let due = (rate * started.elapsed().as_secs_f64()) as u64;
        while sent < due.min(total) {
            let due_at = started + Duration::from_secs_f64(sent as f64 / rate);
            let since_origin = match sent < first_measured {
                true => NOT_MEASURED,
                false => latency::nanoseconds(due_at - arrivals.origin),
            };
            let sending = send(publisher, sent + 1, since_origin).await?;
            pending.send(sending).await.during("publishing")?;
            sent += 1;
        }
    }
    drop(pending);
    receipts.await.during("publishing")?
}

async fn expect_receipts(mut outcomes: mpsc::Receiver<Pending>) -> Result<(), Failure> {
    while let Some(outcome) = outcomes.recv().await {
        outcome.await.during("publishing")?;
    }
    Ok(())
}

async fn send(publisher: &Publisher, number: u64, due_since_origin: u64) -> Result<Pending, Failure> {
    let data = write_data(number, due_since_origin);
    publisher.send(event(number, &data)?).await.during("publishing")
}

/// What the worker has seen.
struct Arrivals {
    origin: Instant,
    seen: Mutex<Seen>,
    /// Distinct events.
    count: watch::Sender<u64>,
}

struct Seen {
    latencies: Histogram<u64>,
    /// By the event's number.
    numbers: Vec<bool>,
    duplicates: u64,
}

impl Arrivals {
    fn new(total: u64) -> Result<Self, Failure> {
        let numbers = vec![false; total as usize + 1];
        let seen = Seen {
            latencies: latency::histogram()?,
            numbers,
            duplicates: 0,
        };
        Ok(Self {
            origin: Instant::now(),
            seen: Mutex::new(seen),
            count: watch::Sender::new(0),
        })
    }

    fn see(&self, delivery: &Delivery) {
        let now = latency::nanoseconds(self.origin.elapsed());
        let Some(data) = delivery.event().data_bytes() else {
            return;
        };
        let Some((number, due)) = read_data(&data) else { return };
        let mut seen = self.lock();
        let Some(was_seen) = seen.numbers.get_mut(number as usize) else {
            return;
        };
        if std::mem::replace(was_seen, true) {
            seen.duplicates += 1;
            return;
        }
        if due != NOT_MEASURED {
            seen.latencies.saturating_record(now.saturating_sub(due));
        }
        drop(seen);
        self.count.send_modify(|count| *count += 1);
    }

    async fn wait_for(&self, least: u64, deadline: Duration) -> Result<(), Failure> {
        let mut count = self.count.subscribe();
        let arrived = timeout(deadline, count.wait_for(|count| *count >= least)).await.is_ok();
        if arrived {
            return Ok(());
        }
        let (count, seen) = (*self.count.borrow(), self.lock());
        let first = seen.numbers.iter().position(|was_seen| !was_seen);
        let last = seen.numbers.iter().rposition(|was_seen| !was_seen);
        let cause = format!("{count} of {least} events arrived in time; numbers {first:?} to {last:?} are missing");
        Err(Failure::new("waiting for the worker", cause))
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_data(number: u64, due_since_origin: u64) -> [u8; DATA_BYTES] {
    let mut data = [b'.'; DATA_BYTES];
    data[..8].copy_from_slice(&number.to_be_bytes());
    data[8..16].copy_from_slice(&due_since_origin.to_be_bytes());
    data
}

fn read_data(data: &[u8]) -> Option<(u64, u64)> {
    let (number, rest) = data.split_first_chunk()?;
    let due = rest.first_chunk()?;
    Some((u64::from_be_bytes(*number), u64::from_be_bytes(*due)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_are_read_as_they_were_written() {
        assert_eq!(read_data(&write_data(7, NOT_MEASURED)), Some((7, NOT_MEASURED)));
        assert_eq!(read_data(b"short"), None);
    }
}
