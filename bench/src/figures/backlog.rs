//! A million events of backlog and a worker that is stuck: what the gateway's
//! memory does while nothing moves, and while another worker takes the rest.
//!
//! The stuck worker holds one event under a lease that outlasts the figure, so one
//! key in a thousand stays locked.

use std::sync::Arc;
use std::time::Duration;

use meridian_proto::meridian::Ordering as EventOrdering;
use meridian_proto::meridian::subscribe_request::Request as Word;
use meridian_proto::meridian::subscribe_response::Response as Answer;
use meridian_proto::meridian::subscriber_service_client::SubscriberServiceClient;
use meridian_proto::meridian::{OpenSession, StartPosition, SubscribeRequest, SubscribeResponse};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::clients::lean_stream::{ClosedLoop, StreamShape, connect};
use crate::clients::lean_worker::LeanWorker;
use crate::events::EventPool;
use crate::failure::{Failure, While as _};
use crate::figures::stream::{delete_topic, make_topic, topic_name};
use crate::figures::window::mebibytes;
use crate::gateway::{BrokerChoice, Gateway};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::statistics::Samples;
use crate::table::Row;

const EVENTS: u64 = 1_000_000;
/// Of these, at most so many wait for the stuck worker's key.
const LOCKED_SHARE: f64 = 0.01;
const GROUP: &str = "bench";
const STUCK_LEASE_SECONDS: u32 = 3_600;
const SAMPLE_PAUSE: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_secs(300);

/// Watches one broker's gateway for `watched` while nothing moves.
pub(crate) async fn run(
    settings: &Settings,
    broker: &BrokerChoice,
    shape: StreamShape,
    watched: Duration,
    progress: &Progress,
) -> Result<Vec<Row>, Failure> {
    let topic = topic_name("backlog");
    make_topic(broker, &topic).await?;
    let gateway = Gateway::start(&settings.installation, broker, &topic).await?;
    let address = gateway.address();
    LeanWorker::make_group(&address, GROUP, &topic, EventOrdering::Key).await?;
    let load = ClosedLoop::start(&address, &Arc::new(EventPool::new(1)?), shape).await?;
    let filled = peak_until(&gateway, || load.receipts() >= EVENTS, DEADLINE).await;
    load.finish().await?;
    let published = filled?;

    let stuck = StuckWorker::open(&address, &topic).await?;
    let still = peak_until(&gateway, || false, watched).await?;
    let worker = LeanWorker::start(&address, GROUP, &topic, EventOrdering::Key).await?;
    let enough = EVENTS - (EVENTS as f64 * LOCKED_SHARE) as u64;
    let taken = peak_until(&gateway, || worker.settled() >= enough, DEADLINE).await?;
    let settled = worker.settled();
    worker.finish().await?;
    drop(stuck);
    delete_topic(broker, &topic, &gateway).await?;
    gateway.stop().await?;
    if settled < enough {
        return Err(Failure::new(
            "taking the backlog",
            format!("{settled} of {EVENTS} events were settled in {DEADLINE:?}"),
        ));
    }
    progress.say(&format!(
        "backlog, {}: peaks {published:.0} MiB publishing, {still:.0} MiB stuck, {taken:.0} MiB taking",
        broker.name()
    ));
    let name = |what: &str| format!("backlog of {EVENTS} and a stuck worker, {}: {what}", broker.name());
    let one = |value: f64| -> Samples { [value].into_iter().collect() };
    Ok(vec![
        Row::new(
            name(&format!("memory, {} s of nothing", watched.as_secs())),
            "MiB",
            one(still),
        )
        .against("peak while it was published", one(published)),
        Row::new(name("memory while another worker takes it"), "MiB", one(taken))
            .against("peak while it was published", one(published)),
    ])
}

/// The peak of resident memory in MiB until something holds, or `limit` is over.
async fn peak_until(gateway: &Gateway, holds: impl Fn() -> bool, limit: Duration) -> Result<f64, Failure> {
    let end = Instant::now() + limit;
    let mut peak: f64 = 0.0;
    loop {
        peak = peak.max(mebibytes(gateway.usage()?.resident_bytes));
        if holds() || Instant::now() >= end {
            return Ok(peak);
        }
        sleep(SAMPLE_PAUSE).await;
    }
}

/// A session that has one event and keeps it; it ends with the value.
struct StuckWorker {
    _requests: mpsc::Sender<SubscribeRequest>,
    _answers: Streaming<SubscribeResponse>,
}

impl StuckWorker {
    async fn open(address: &str, topic: &str) -> Result<Self, Failure> {
        let (requests, receiver) = mpsc::channel(1);
        let open = OpenSession {
            group: GROUP.to_owned(),
            topics: vec![topic.to_owned()],
            worker_id: "stuck".to_owned(),
            credit_messages: 1,
            credit_bytes: 1024 * 1024,
            lease_seconds: STUCK_LEASE_SECONDS,
            start_position: StartPosition::Earliest.into(),
            ..OpenSession::default()
        };
        let request = SubscribeRequest {
            request: Some(Word::Open(open)),
        };
        requests.send(request).await.during("opening a session")?;
        let mut client = SubscriberServiceClient::new(connect(address).await?);
        let answers = client.subscribe(ReceiverStream::new(receiver)).await;
        let mut answers = answers.during("opening a session")?.into_inner();
        while let Some(message) = answers.message().await.during("waiting for an event")? {
            if matches!(message.response, Some(Answer::Deliveries(_))) {
                return Ok(Self {
                    _requests: requests,
                    _answers: answers,
                });
            }
        }
        Err(Failure::new("waiting for an event", "the session ended"))
    }
}
