//! Publish streams that cost their client as little as they can: events framed
//! beforehand, receipts counted and not decoded.
//!
//! Closed loop: so many batches in flight, a new one for each that is complete.
//! Open loop: events are due by the clock, whether or not earlier ones have been
//! answered, and a latency counts from the time when the event was due, so that a
//! stall shows in every event that it delayed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use crate::clients::stream_codec::{Answer, Batch, StreamCodec};
use crate::events::EventPool;
use crate::failure::{Failure, While as _};
use crate::latency;

const PUBLISH_STREAM: &str = "/meridian.v1.PublisherService/PublishStream";
/// Batches of one open-loop stream that are not complete, at most.
const OPEN_LOOP_BATCHES: usize = 256;
/// The least time between two batches of an open-loop stream; timers tick in
/// milliseconds.
const TICK: Duration = Duration::from_millis(1);

/// How the load is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StreamShape {
    /// Connections, with one stream each.
    pub(crate) streams: usize,
    /// Batches of one stream in flight.
    pub(crate) batches_in_flight: usize,
    /// Events of one batch, at most.
    pub(crate) batch_events: usize,
}

/// What has come back so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    receipts: AtomicU64,
    failures: AtomicU64,
}

impl Counters {
    /// Events with a receipt.
    pub(crate) fn receipts(&self) -> u64 {
        self.receipts.load(Ordering::Relaxed)
    }

    fn add(&self, answer: &Answer) -> Result<(), Failure> {
        self.receipts.fetch_add(answer.receipts.len() as u64, Ordering::Relaxed);
        self.failures.fetch_add(answer.failures, Ordering::Relaxed);
        match &answer.first_failure {
            None => Ok(()),
            Some(status) => {
                let text = String::from_utf8_lossy(status).into_owned();
                Err(Failure::new(
                    "publishing",
                    format!("{} events got no receipt; the first: {text}", answer.failures),
                ))
            }
        }
    }
}

/// A closed loop at work.
pub(crate) struct ClosedLoop {
    counters: Arc<Counters>,
    stopping: Arc<AtomicBool>,
    lanes: JoinSet<Result<(), Failure>>,
}

impl ClosedLoop {
    /// Connects and begins to publish.
    pub(crate) async fn start(address: &str, pool: &Arc<EventPool>, shape: StreamShape) -> Result<Self, Failure> {
        let counters = Arc::new(Counters::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let mut lanes = JoinSet::new();
        for number in 0..shape.streams {
            let source = Source::new(pool.clone(), number, shape);
            let lane = Lane::open(address, shape.batches_in_flight).await?;
            lanes.spawn(lane.run_closed(source, shape, counters.clone(), stopping.clone()));
        }
        Ok(Self {
            counters,
            stopping,
            lanes,
        })
    }

    /// Events with a receipt so far.
    pub(crate) fn receipts(&self) -> u64 {
        self.counters.receipts()
    }

    /// Sends nothing more and waits for what is in flight.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        self.stopping.store(true, Ordering::Relaxed);
        while let Some(lane) = self.lanes.join_next().await {
            lane.during("publishing")??;
        }
        Ok(())
    }
}

/// Publishes `rate` events a second in all; returns the latencies, in nanoseconds,
/// of the events that were due after `warm_up`.
pub(crate) async fn open_loop(
    address: &str,
    pool: &Arc<EventPool>,
    shape: StreamShape,
    rate: f64,
    warm_up: Duration,
    measured: Duration,
) -> Result<Histogram<u64>, Failure> {
    let mut lanes = JoinSet::new();
    for number in 0..shape.streams {
        let source = Source::new(pool.clone(), number, shape);
        let lane = Lane::open(address, OPEN_LOOP_BATCHES).await?;
        let pace = Pace {
            rate: rate / shape.streams as f64,
            warm_up,
            measured,
        };
        lanes.spawn(lane.run_open(source, shape, pace));
    }
    let mut latencies = latency::histogram()?;
    while let Some(lane) = lanes.join_next().await {
        let of_lane = lane.during("publishing")??;
        latencies.add(of_lane).during("adding up latencies")?;
    }
    Ok(latencies)
}

/// Where one stream's events come from: the pool, each stream from a place of its own.
struct Source {
    pool: Arc<EventPool>,
    next_event: u64,
    next_batch: u64,
}

impl Source {
    fn new(pool: Arc<EventPool>, stream: usize, shape: StreamShape) -> Self {
        let next_event = (pool.events().len() / shape.streams * stream) as u64;
        Self {
            pool,
            next_event,
            next_batch: 1,
        }
    }

    /// The next batch, and how many events are in it.
    fn batch(&mut self, events: usize) -> (Batch, usize) {
        let (framed_events, count) = self.pool.batch(self.next_event, events);
        let batch = Batch {
            number: self.next_batch,
            framed_events,
        };
        self.next_event += count as u64;
        self.next_batch += 1;
        (batch, count)
    }
}

#[derive(Clone, Copy)]
struct Pace {
    rate: f64,
    warm_up: Duration,
    measured: Duration,
}

/// One stream.
struct Lane {
    batches: mpsc::Sender<Batch>,
    answers: Streaming<Answer>,
}

impl Lane {
    async fn open(address: &str, queue: usize) -> Result<Self, Failure> {
        let channel = connect(address).await?;
        let mut client = Grpc::new(channel).max_decoding_message_size(64 * 1024 * 1024);
        client.ready().await.during("connecting to the gateway")?;
        let (batches, receiver) = mpsc::channel(queue);
        let path = PathAndQuery::from_static(PUBLISH_STREAM);
        let request = tonic::Request::new(ReceiverStream::new(receiver));
        let response = client
            .streaming(request, path, StreamCodec)
            .await
            .during("opening a publish stream")?;
        Ok(Self {
            batches,
            answers: response.into_inner(),
        })
    }

    async fn run_closed(
        mut self,
        mut source: Source,
        shape: StreamShape,
        counters: Arc<Counters>,
        stopping: Arc<AtomicBool>,
    ) -> Result<(), Failure> {
        let mut in_flight = 0;
        loop {
            while in_flight < shape.batches_in_flight && !stopping.load(Ordering::Relaxed) {
                let (batch, _) = source.batch(shape.batch_events);
                self.batches.send(batch).await.during("sending a batch")?;
                in_flight += 1;
            }
            if in_flight == 0 {
                return Ok(());
            }
            let answer = self.answer().await?;
            counters.add(&answer)?;
            in_flight -= usize::from(answer.batch_complete);
        }
    }

    async fn run_open(mut self, mut source: Source, shape: StreamShape, pace: Pace) -> Result<Histogram<u64>, Failure> {
        let started = Instant::now();
        let total = (pace.rate * (pace.warm_up + pace.measured).as_secs_f64()) as u64;
        let measured_from = (pace.rate * pace.warm_up.as_secs_f64()) as u64;
        let due_at = |event: u64| started + Duration::from_secs_f64(event as f64 / pace.rate);
        let counters = Counters::default();
        let mut latencies = latency::histogram()?;
        // The number of the first event of each batch on its way.
        let mut first_events: HashMap<u64, u64> = HashMap::with_capacity(OPEN_LOOP_BATCHES);
        let mut sent = 0;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        while sent < total || !first_events.is_empty() {
            tokio::select! {
                _ = ticks.tick(), if sent < total => {
                    let due = (pace.rate * started.elapsed().as_secs_f64()) as u64;
                    let due = due.min(total);
                    while sent < due && first_events.len() < OPEN_LOOP_BATCHES {
                        let most = shape.batch_events.min((due - sent) as usize);
                        let (batch, count) = source.batch(most);
                        first_events.insert(batch.number, sent);
                        sent += count as u64;
                        self.batches.send(batch).await.during("sending a batch")?;
                    }
                }
                answer = self.answer() => {
                    let answer = answer?;
                    let now = Instant::now();
                    counters.add(&answer)?;
                    let first = first_events.get(&answer.batch_number).copied();
                    let first = first.ok_or_else(|| Failure::new("reading an answer", "it is of no batch that was sent"))?;
                    for index in &answer.receipts {
                        let event = first + u64::from(*index);
                        if event >= measured_from {
                            latencies.saturating_record(latency::nanoseconds(now - due_at(event)));
                        }
                    }
                    if answer.batch_complete {
                        first_events.remove(&answer.batch_number);
                    }
                }
            }
        }
        Ok(latencies)
    }

    async fn answer(&mut self) -> Result<Answer, Failure> {
        let answer = self.answers.message().await.during("reading an answer")?;
        answer.ok_or_else(|| Failure::new("reading an answer", "the gateway ended the stream"))
    }
}

/// A connection with Nagle's algorithm off, as every client here has it.
pub(crate) async fn connect(address: &str) -> Result<Channel, Failure> {
    let endpoint = Endpoint::from_shared(address.to_owned()).during(format!("reading the address {address}"))?;
    endpoint
        .tcp_nodelay(true)
        .connect()
        .await
        .during(format!("connecting to {address}"))
}
