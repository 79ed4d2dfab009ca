//! One session: open, handle, settle, renew, drain.
//!
//! A single loop owns the stream and the handlers at work. Handlers whose
//! stream is lost may run on for as long as their lease would have, before the
//! next session opens: so no more run than the concurrency. Their settlements
//! go nowhere, for the gateway has released their deliveries already.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use meridian_proto::meridian as wire;
use meridian_proto::meridian::subscribe_request::Request;
use meridian_proto::meridian::subscribe_response::Response;
use meridian_proto::meridian::subscriber_service_client::SubscriberServiceClient;
use meridian_proto::meridian::{SettlementAction, SettlementOutcome, SubscribeRequest};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tracing::{debug, warn};

use crate::endpoint::Gateway;
use crate::worker::fleet::Tally;
use crate::worker::options::Options;
use crate::worker::{Delivery, Handler, Settlement, SettlementAnswer};

/// Why a session ended.
#[derive(Debug)]
pub(crate) enum SessionEnd {
    /// The worker stops; everything is settled or given back.
    Stopped,
    /// The gateway asked for it.
    AskedToMove,
    /// The stream was lost, or never opened; another try may do.
    Lost { was_open: bool, reason: String },
    /// No try will do.
    Refused(Status),
}

const REQUESTS_WAITING: usize = 64;
const SETTLEMENTS_AT_ONCE: usize = 1024;
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Heartbeats missed before the stream is taken for dead.
const HEARTBEATS_MISSED: u32 = 3;

pub(crate) async fn run<H: Handler>(
    gateway: &Gateway,
    options: &Options,
    concurrency: usize,
    handler: Arc<H>,
    tally: &Tally,
    stopped: watch::Receiver<bool>,
) -> SessionEnd {
    let (requests, receiver) = mpsc::channel(REQUESTS_WAITING);
    let mut open = options.open.clone();
    open.credit_messages = u32::try_from(concurrency).unwrap_or(u32::MAX);
    let first = SubscribeRequest {
        request: Some(Request::Open(open)),
    };
    if requests.send(first).await.is_err() {
        return lost(false, "the request stream ended");
    }
    let mut client = SubscriberServiceClient::new(gateway.connect()).max_decoding_message_size(64 * 1024 * 1024);
    let opening = async {
        let mut responses = client.subscribe(ReceiverStream::new(receiver)).await?.into_inner();
        let opened = match responses.message().await? {
            Some(wire::SubscribeResponse {
                response: Some(Response::Opened(opened)),
            }) => opened,
            _ => return Err(Status::internal("the gateway did not open the session")),
        };
        Ok((responses, opened))
    };
    match tokio::time::timeout(OPEN_TIMEOUT, opening).await {
        Err(_) => lost(false, "the gateway did not answer in time"),
        Ok(Err(status)) if beyond_retry(status.code()) => SessionEnd::Refused(status),
        Ok(Err(status)) => lost(false, status.message()),
        Ok(Ok((responses, opened))) => {
            tally.sessions.fetch_add(1, Ordering::Relaxed);
            Session {
                requests,
                responses,
                handler,
                tally,
                stopped,
                lease: Duration::from_secs(opened.lease_seconds.max(1).into()),
                heartbeat: Duration::from_secs(opened.heartbeat_seconds.max(1).into()),
                drain_deadline: options.drain_deadline,
                at_work: JoinSet::new(),
                deliveries: HashMap::new(),
                settlements: Vec::new(),
                unconfirmed: HashMap::new(),
                leaving: None,
            }
            .run()
            .await
        }
    }
}

/// Codes that no retry mends; every other ends in another try.
fn beyond_retry(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
    )
}

fn lost(was_open: bool, reason: &str) -> SessionEnd {
    SessionEnd::Lost {
        was_open,
        reason: reason.to_owned(),
    }
}

/// Where a delivery was read, to tell its handler of the answer.
struct Place {
    topic: String,
    partition: u32,
    position: u64,
    event_id: String,
}

/// Why and until when a session leaves.
struct Leaving {
    asked_to_move: bool,
    deadline: Instant,
    released: bool,
}

struct Session<'a, H> {
    requests: mpsc::Sender<SubscribeRequest>,
    responses: Streaming<wire::SubscribeResponse>,
    handler: Arc<H>,
    tally: &'a Tally,
    stopped: watch::Receiver<bool>,
    lease: Duration,
    heartbeat: Duration,
    drain_deadline: Duration,
    at_work: JoinSet<Settlement>,
    deliveries: HashMap<Id, (u64, Place)>,
    settlements: Vec<wire::Settlement>,
    /// Settled and not confirmed yet; bounded by the credit, which the gateway
    /// gives back with the confirmation.
    unconfirmed: HashMap<u64, Place>,
    leaving: Option<Leaving>,
}

impl<H: Handler> Session<'_, H> {
    async fn run(mut self) -> SessionEnd {
        let end = self.run_stream().await;
        // Joining again before the handlers are done would run more of them
        // than the concurrency.
        let at_work = &mut self.at_work;
        let finish = async { while at_work.join_next().await.is_some() {} };
        if tokio::time::timeout(self.lease, finish).await.is_err() {
            warn!("handlers of a lost session did not end within their lease and are cancelled");
        }
        end
    }

    async fn run_stream(&mut self) -> SessionEnd {
        let mut renew_at = Instant::now() + self.lease / 3;
        let mut dead_at = Instant::now() + self.heartbeat * HEARTBEATS_MISSED;
        loop {
            let wake = match &self.leaving {
                Some(leaving) if !leaving.released => leaving.deadline.min(renew_at),
                _ => renew_at,
            };
            tokio::select! {
                message = self.responses.message() => match message {
                    Ok(Some(message)) => {
                        dead_at = Instant::now() + self.heartbeat * HEARTBEATS_MISSED;
                        self.on_response(message);
                    }
                    Ok(None) => return self.ended("the gateway ended the session"),
                    Err(status) if self.leaving.is_none() && beyond_retry(status.code()) => {
                        return SessionEnd::Refused(status);
                    }
                    Err(status) => return self.ended(status.message()),
                },
                Some(done) = self.at_work.join_next_with_id() => self.on_done(done),
                changed = self.stopped.changed(), if self.leaving.is_none() => {
                    if changed.is_err() || *self.stopped.borrow() {
                        self.leave(false, Instant::now() + self.drain_deadline);
                    }
                }
                () = sleep_until(wake) => {
                    if Instant::now() >= renew_at {
                        renew_at = Instant::now() + self.lease / 3;
                        self.renew();
                    }
                    self.release_after_deadline();
                }
                () = sleep_until(dead_at) => return lost(true, "no heartbeat came in time"),
            }
            // Others that are done at this moment are settled in the same message.
            while self.settlements.len() < SETTLEMENTS_AT_ONCE {
                match self.at_work.try_join_next_with_id() {
                    Some(done) => self.on_done(done),
                    None => break,
                }
            }
            if !self.send_settlements().await {
                return self.ended("the request stream ended");
            }
        }
    }

    fn on_response(&mut self, message: wire::SubscribeResponse) {
        match message.response {
            Some(Response::Deliveries(batch)) => {
                for delivery in batch.deliveries {
                    self.on_delivery(delivery);
                }
            }
            Some(Response::Settled(results)) => self.on_settled(&results),
            Some(Response::DrainRequested(request)) => {
                debug!(reason = request.reason, "the gateway asks to move");
                if self.leaving.is_none() {
                    self.leave(true, Instant::now() + self.drain_deadline);
                }
            }
            Some(Response::Heartbeat(heartbeat)) => {
                if heartbeat.not_reading_since.is_some() {
                    warn!(reason = heartbeat.not_reading_reason, "the group is not being read");
                }
            }
            Some(Response::DeliveryFailed(failed)) => {
                let reason = failed.error.map(|error| error.message).unwrap_or_default();
                warn!(
                    failed.topic,
                    failed.partition, failed.position, reason, "delivery failed"
                );
            }
            Some(Response::GroupGap(gap)) => {
                warn!(gap.topic, gap.partition, gap.missing_records, "records are missing");
            }
            Some(Response::Opened(_)) | None => {}
        }
    }

    fn on_delivery(&mut self, delivery: wire::Delivery) {
        let id = delivery.delivery_id;
        let delivery = match Delivery::read(delivery) {
            Ok(delivery) => delivery,
            Err(fault) => {
                self.settlements
                    .push(settlement(id, Settlement::Reject { reason: fault }));
                return;
            }
        };
        let place = Place {
            topic: delivery.topic().to_owned(),
            partition: delivery.partition(),
            position: delivery.position(),
            event_id: delivery.event().id().to_owned(),
        };
        let handler = self.handler.clone();
        let task = self.at_work.spawn(async move { handler.handle(delivery).await });
        self.deliveries.insert(task.id(), (id, place));
    }

    fn on_done(&mut self, done: Result<(Id, Settlement), JoinError>) {
        let (task, outcome) = match done {
            Ok((task, outcome)) => (task, outcome),
            Err(error) => (error.id(), panicked(&error)),
        };
        if let Some((delivery_id, place)) = self.deliveries.remove(&task) {
            self.unconfirmed.insert(delivery_id, place);
            self.settlements.push(settlement(delivery_id, outcome));
        }
    }

    fn on_settled(&mut self, results: &wire::SettlementResults) {
        for result in &results.results {
            // Renewals are answered too, and are no settlements.
            let settled = self.unconfirmed.remove(&result.delivery_id);
            let applied = result.outcome() == SettlementOutcome::Applied;
            if let Some(place) = settled {
                self.tally.settled.fetch_add(u64::from(applied), Ordering::Relaxed);
                self.handler.answered(&SettlementAnswer {
                    topic: place.topic,
                    partition: place.partition,
                    position: place.position,
                    event_id: place.event_id,
                    applied,
                });
            }
            match result.outcome() {
                SettlementOutcome::Applied => {}
                outcome => {
                    self.tally.stale.fetch_add(1, Ordering::Relaxed);
                    debug!(result.delivery_id, ?outcome, "settlement not applied");
                }
            }
        }
    }

    /// Extends the leases of what is at work.
    fn renew(&mut self) {
        let renewals = self.deliveries.values().map(|(delivery_id, _)| wire::Settlement {
            delivery_id: *delivery_id,
            action: SettlementAction::Renew.into(),
            ..wire::Settlement::default()
        });
        self.settlements.extend(renewals);
    }

    fn leave(&mut self, asked_to_move: bool, deadline: Instant) {
        self.leaving = Some(Leaving {
            asked_to_move,
            deadline,
            released: false,
        });
        self.request_drain(false);
    }

    /// Past the drain deadline what handlers still hold goes back at once.
    fn release_after_deadline(&mut self) {
        let due = |leaving: &Leaving| !leaving.released && Instant::now() >= leaving.deadline;
        if self.leaving.as_ref().is_some_and(due) {
            if let Some(leaving) = &mut self.leaving {
                leaving.released = true;
            }
            self.at_work.abort_all();
            self.deliveries.clear();
            self.request_drain(true);
        }
    }

    fn request_drain(&self, release_in_flight: bool) {
        let drain = wire::DrainSession { release_in_flight };
        let request = SubscribeRequest {
            request: Some(Request::Drain(drain)),
        };
        // A full request stream ends with the drain deadline on the other side.
        if self.requests.try_send(request).is_err() {
            warn!("the drain could not be asked for; the gateway will release by itself");
        }
    }

    async fn send_settlements(&mut self) -> bool {
        if self.settlements.is_empty() {
            return true;
        }
        let settle = wire::Settle {
            settlements: std::mem::take(&mut self.settlements),
        };
        self.requests
            .send(SubscribeRequest {
                request: Some(Request::Settle(settle)),
            })
            .await
            .is_ok()
    }

    fn ended(&self, reason: &str) -> SessionEnd {
        match &self.leaving {
            Some(leaving) if leaving.asked_to_move => SessionEnd::AskedToMove,
            Some(_) => SessionEnd::Stopped,
            None => lost(true, reason),
        }
    }
}

fn panicked(error: &JoinError) -> Settlement {
    warn!(%error, "the handler panicked");
    Settlement::Retry {
        reason: "the handler panicked".to_owned(),
    }
}

fn settlement(delivery_id: u64, outcome: Settlement) -> wire::Settlement {
    let (action, delay, reason) = match outcome {
        Settlement::Accept => (SettlementAction::Accept, None, String::new()),
        Settlement::Release { delay, reason } => (SettlementAction::Release, Some(delay), reason),
        Settlement::Retry { reason } => (SettlementAction::Release, None, reason),
        Settlement::Reject { reason } => (SettlementAction::Reject, None, reason),
    };
    wire::Settlement {
        delivery_id,
        action: action.into(),
        delay: delay.and_then(|delay| delay.try_into().ok()),
        reason,
        lease_seconds: 0,
    }
}
