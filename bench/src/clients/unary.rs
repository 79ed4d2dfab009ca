//! One event a call: many calls at the same time over a few connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hdrhistogram::Histogram;
use meridian_proto::meridian::publish_result::Outcome;
use meridian_proto::meridian::publisher_service_client::PublisherServiceClient;
use meridian_proto::meridian::{PublishRequest, PublishResponse};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::clients::lean_stream::connect;
use crate::events::EventPool;
use crate::failure::{Failure, While as _};
use crate::latency;

/// How the load is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UnaryShape {
    /// Connections.
    pub(crate) connections: usize,
    /// Calls at the same time on each.
    pub(crate) calls: usize,
}

/// Calls at work.
pub(crate) struct UnaryLoad {
    receipts: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    callers: JoinSet<Result<Histogram<u64>, Failure>>,
}

impl UnaryLoad {
    /// Connects and begins to call.
    pub(crate) async fn start(address: &str, pool: &Arc<EventPool>, shape: UnaryShape) -> Result<Self, Failure> {
        let receipts = Arc::new(AtomicU64::new(0));
        let stopping = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for connection in 0..shape.connections {
            let client = PublisherServiceClient::new(connect(address).await?);
            for call in 0..shape.calls {
                let first = (connection * shape.calls + call) * 64;
                let caller = Caller {
                    client: client.clone(),
                    pool: pool.clone(),
                    next_event: first,
                };
                callers.spawn(caller.run(receipts.clone(), stopping.clone()));
            }
        }
        Ok(Self {
            receipts,
            stopping,
            callers,
        })
    }

    /// Events with a receipt so far.
    pub(crate) fn receipts(&self) -> u64 {
        self.receipts.load(Ordering::Relaxed)
    }

    /// Calls no more, waits for what is in flight, and returns the latencies of all
    /// calls, in nanoseconds.
    pub(crate) async fn finish(mut self) -> Result<Histogram<u64>, Failure> {
        self.stopping.store(true, Ordering::Relaxed);
        let mut latencies = latency::histogram()?;
        while let Some(caller) = self.callers.join_next().await {
            latencies
                .add(caller.during("publishing")??)
                .during("adding up latencies")?;
        }
        Ok(latencies)
    }
}

struct Caller {
    client: PublisherServiceClient<Channel>,
    pool: Arc<EventPool>,
    next_event: usize,
}

impl Caller {
    async fn run(mut self, receipts: Arc<AtomicU64>, stopping: Arc<AtomicBool>) -> Result<Histogram<u64>, Failure> {
        let mut latencies = latency::histogram()?;
        while !stopping.load(Ordering::Relaxed) {
            let events = self.pool.events();
            let event = events[self.next_event % events.len()].encoded().clone();
            self.next_event += 1;
            let called = Instant::now();
            let request = PublishRequest {
                events: vec![event],
                forwarded_by: Vec::new(),
            };
            let response = self.client.publish(request).await.during("publishing")?;
            latencies.saturating_record(latency::nanoseconds(called.elapsed()));
            expect_receipt(response.into_inner())?;
            receipts.fetch_add(1, Ordering::Relaxed);
        }
        Ok(latencies)
    }
}

/// The receipt of a single event, or why there is none.
pub(crate) fn expect_receipt(response: PublishResponse) -> Result<(), Failure> {
    match response.results.into_iter().next().and_then(|result| result.outcome) {
        Some(Outcome::Receipt(_)) => Ok(()),
        Some(Outcome::Refusal(status) | Outcome::Unknown(status)) => {
            Err(Failure::new("publishing", format!("no receipt: {}", status.message)))
        }
        None => Err(Failure::new("publishing", "an answer without an outcome")),
    }
}
