//! One stream is one session: the first message opens it, every further one becomes a command of its group.
//!
//! What holds: a worker that breaks the contract ends its own session and nothing else; a stream that is lost is told
//! to the group at once, also when the client goes away while its session is being opened.

use std::sync::Arc;
use std::time::Duration;

use meridian_proto::meridian as wire;
use meridian_proto::meridian::subscribe_request::Request as Message;
use meridian_proto::meridian::subscriber_service_server::SubscriberService;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::group::Command;
use super::outbound::{self, Outbound, SessionStream};
use super::registry::{Joined, Subscriptions};
use super::terms::{OpenTerms, read_open};
use crate::fault::{FaultCode, Refusal};

/// How long a worker may take to say what it wants.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Serves SubscriberService.
pub struct Service {
    subscriptions: Arc<Subscriptions>,
}

impl Service {
    pub(super) fn new(subscriptions: Arc<Subscriptions>) -> Self {
        Self { subscriptions }
    }
}

#[tonic::async_trait]
impl SubscriberService for Service {
    type SubscribeStream = SessionStream;

    async fn subscribe(
        &self,
        request: Request<Streaming<wire::SubscribeRequest>>,
    ) -> Result<Response<SessionStream>, Status> {
        let slot = self.subscriptions.slot()?;
        let mut messages = request.into_inner();
        let open = timeout(OPEN_LIMIT, first(&mut messages)).await;
        let open = open.unwrap_or_else(|_| Err(invalid("the first message, `open`, did not come in time").into()))?;
        let terms = read_open(open, self.subscriptions.options(), self.subscriptions.brokers())?;
        let (outbound, stream) = outbound::channel(slot);
        let (answer, answered) = oneshot::channel();
        // A task of its own, for this future is dropped when the client goes away: whoever has joined must be heard of.
        tokio::spawn(serve(
            Arc::clone(&self.subscriptions),
            terms,
            messages,
            outbound,
            answer,
        ));
        let joined = answered.await;
        joined.unwrap_or_else(|_| {
            Err(Refusal::new(
                FaultCode::Draining,
                "the session was not opened; try again",
            ))
        })?;
        Ok(Response::new(stream))
    }
}

/// A session from joining its group to its end.
async fn serve(
    subscriptions: Arc<Subscriptions>,
    terms: OpenTerms,
    messages: Streaming<wire::SubscribeRequest>,
    outbound: Outbound,
    answer: oneshot::Sender<Result<(), Refusal>>,
) {
    let session_id = uuid::Uuid::new_v4().to_string();
    let joined = subscriptions.join(terms, session_id, &outbound).await;
    let gone = outbound.gone();
    drop(outbound); // the group has it, and the stream ends when the group lets go of it
    // When nobody waits for the answer any more, the stream is gone, which is seen at once.
    match joined {
        Ok(joined) => {
            let _ = answer.send(Ok(()));
            listen(messages, joined, gone).await;
        }
        Err(refusal) => drop(answer.send(Err(refusal))),
    }
}

async fn first(messages: &mut Streaming<wire::SubscribeRequest>) -> Result<wire::OpenSession, Status> {
    match messages.message().await? {
        Some(wire::SubscribeRequest {
            request: Some(Message::Open(open)),
        }) => Ok(open),
        Some(_) => Err(invalid("the first message must be `open`").into()),
        None => Err(invalid("the stream ended before its first message, `open`").into()),
    }
}

fn invalid(words: &str) -> Refusal {
    Refusal::new(FaultCode::InvalidSession, words).with_field("open", words)
}

/// Passes on what the worker says until its stream ends.
async fn listen(mut messages: Streaming<wire::SubscribeRequest>, joined: Joined, gone: CancellationToken) {
    let Joined { session, commands } = joined;
    loop {
        let message = tokio::select! {
            () = gone.cancelled() => break,
            message = messages.message() => message,
        };
        let Ok(Some(wire::SubscribeRequest { request })) = message else {
            break;
        };
        let command = match request {
            Some(Message::Settle(wire::Settle { settlements })) => Command::Settle { session, settlements },
            Some(Message::AddCredit(wire::AddCredit { messages, bytes })) => Command::AddCredit {
                session,
                messages,
                bytes,
            },
            Some(Message::Drain(wire::DrainSession { release_in_flight })) => Command::Drain {
                session,
                release_in_flight,
            },
            Some(Message::Open(_)) => refuse(session, "the session is open already; `open` comes once"),
            None => refuse(session, "the message says nothing that this gateway knows"),
        };
        if commands.send(command).await.is_err() {
            return; // the group has ended, and the stream with it
        }
    }
    // A group that has ended needs not know.
    let _ = commands.send(Command::Gone { session }).await;
}

fn refuse(session: crate::dispatch::SessionId, words: &str) -> Command {
    Command::Refuse {
        session,
        refusal: Refusal::new(FaultCode::InvalidSession, words),
    }
}
