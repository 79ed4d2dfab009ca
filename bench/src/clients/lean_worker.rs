//! Sessions that cost their worker as little as they can: a delivery is accepted as
//! soon as it has come, each batch of deliveries with one message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use meridian_proto::meridian::subscribe_request::Request as Word;
use meridian_proto::meridian::subscribe_response::Response as Answer;
use meridian_proto::meridian::subscriber_service_client::SubscriberServiceClient;
use meridian_proto::meridian::{
    OpenSession, Ordering as EventOrdering, Settle, Settlement, SettlementAction, SettlementOutcome, StartPosition,
    SubscribeRequest,
};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::clients::lean_stream::connect;
use crate::failure::{Failure, While as _};

const SESSIONS: usize = 4;
const CREDIT_MESSAGES: u32 = 2_000;
const CREDIT_BYTES: u64 = 64 * 1024 * 1024;
const REQUESTS_WAITING: usize = 64;
const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// Sessions at work.
pub(crate) struct LeanWorker {
    settled: Arc<AtomicU64>,
    sessions: JoinSet<Result<(), Failure>>,
}

fn open(group: &str, topic: &str, ordering: EventOrdering, number: usize, credit_messages: u32) -> SubscribeRequest {
    SubscribeRequest {
        request: Some(Word::Open(OpenSession {
            group: group.to_owned(),
            topics: vec![topic.to_owned()],
            worker_id: format!("lean-{number}"),
            credit_messages,
            credit_bytes: CREDIT_BYTES,
            ordering: ordering.into(),
            start_position: StartPosition::Earliest.into(),
            ..OpenSession::default()
        })),
    }
}

impl LeanWorker {
    /// Makes the group, so that it has what is published from then on.
    pub(crate) async fn make_group(
        address: &str,
        group: &str,
        topic: &str,
        ordering: EventOrdering,
    ) -> Result<(), Failure> {
        let (requests, receiver) = mpsc::channel(1);
        let first = open(group, topic, ordering, 0, 0);
        requests.send(first).await.during("opening a session")?;
        let mut client = SubscriberServiceClient::new(connect(address).await?);
        let mut answers = client
            .subscribe(ReceiverStream::new(receiver))
            .await
            .during("opening a session")?
            .into_inner();
        // A heartbeat with positions: the group has its partitions.
        while let Some(message) = answers.message().await.during("waiting for the group")? {
            if let Some(Answer::Heartbeat(heartbeat)) = message.response
                && !heartbeat.positions.is_empty()
            {
                return Ok(());
            }
        }
        Err(Failure::new("waiting for the group", "the session ended"))
    }

    /// Opens the sessions and begins to accept.
    pub(crate) async fn start(
        address: &str,
        group: &str,
        topic: &str,
        ordering: EventOrdering,
    ) -> Result<Self, Failure> {
        let settled = Arc::new(AtomicU64::new(0));
        let mut sessions = JoinSet::new();
        for number in 0..SESSIONS {
            let client =
                SubscriberServiceClient::new(connect(address).await?).max_decoding_message_size(MAX_MESSAGE_BYTES);
            let first = open(group, topic, ordering, number, CREDIT_MESSAGES);
            sessions.spawn(accept(client, first, settled.clone()));
        }
        Ok(Self { settled, sessions })
    }

    /// Events whose settlement was applied so far.
    pub(crate) fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    /// Ends the sessions.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        self.sessions.abort_all();
        while let Some(ended) = self.sessions.join_next().await {
            match ended {
                Ok(result) => result?,
                Err(error) if error.is_cancelled() => {}
                Err(error) => return Err(Failure::new("running a session", error)),
            }
        }
        Ok(())
    }
}

async fn accept(
    mut client: SubscriberServiceClient<tonic::transport::Channel>,
    first: SubscribeRequest,
    settled: Arc<AtomicU64>,
) -> Result<(), Failure> {
    let (requests, receiver) = mpsc::channel(REQUESTS_WAITING);
    requests.send(first).await.during("opening a session")?;
    let mut answers = client
        .subscribe(ReceiverStream::new(receiver))
        .await
        .during("opening a session")?
        .into_inner();
    while let Some(message) = answers.message().await.during("receiving deliveries")? {
        match message.response {
            Some(Answer::Deliveries(batch)) => {
                let settlements = batch.deliveries.iter().map(|delivery| Settlement {
                    delivery_id: delivery.delivery_id,
                    action: SettlementAction::Accept.into(),
                    ..Settlement::default()
                });
                let settle = Settle {
                    settlements: settlements.collect(),
                };
                let request = SubscribeRequest {
                    request: Some(Word::Settle(settle)),
                };
                requests.send(request).await.during("settling")?;
            }
            Some(Answer::Settled(results)) => {
                let is_applied = |outcome| outcome == i32::from(SettlementOutcome::Applied);
                let applied = results
                    .results
                    .iter()
                    .filter(|result| is_applied(result.outcome))
                    .count();
                settled.fetch_add(applied as u64, Ordering::Relaxed);
            }
            _ => {}
        }
    }
    Err(Failure::new("receiving deliveries", "the gateway ended a session"))
}
