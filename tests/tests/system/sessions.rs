//! Sessions as a worker without our SDK sees them: credit, the words of settlement,
//! dead letters, leases, heartbeats.

use std::collections::VecDeque;
use std::time::Duration;

use meridian_event::Event;
use meridian_proto::meridian::publish_result::Outcome;
use meridian_proto::meridian::subscribe_request::Request;
use meridian_proto::meridian::subscribe_response::Response;
use meridian_proto::meridian::{
    AddCredit, Delivery, Heartbeat, OpenSession, SessionOpened, Settle, Settlement, SettlementAction,
    SettlementOutcome, SettlementResult, SubscribeRequest, SubscribeResponse,
};
use meridian_tests::harness::{Brokers, Gateway, GatewayPlan, Scratch, eventually, meridian, wire};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::regions::{ORDER, US};

const RULES: &str = "rules:\n  - name: orders\n    send: { topic: orders }\n";
const SOON: Duration = Duration::from_secs(20);
/// Long enough for a gateway that would pass its bound to show it.
const QUIET: Duration = Duration::from_secs(1);

pub(crate) async fn gateway_with(scratch: &Scratch, events: u32) -> Gateway {
    let gateway = GatewayPlan::new(US, Brokers::Embedded, RULES).start(scratch).await;
    gateway.ready().await;
    let events: Vec<_> = (0..events)
        .map(|number| wire::event(&format!("event-{number}"), ORDER))
        .collect();
    for result in wire::publish(&gateway.data(), &events).await.unwrap() {
        wire::receipt(&result);
    }
    gateway
}

pub(crate) fn open(topic: &str, credit_messages: u32) -> OpenSession {
    OpenSession {
        group: "billing".to_owned(),
        topics: vec![topic.to_owned()],
        worker_id: "raw".to_owned(),
        credit_messages,
        credit_bytes: 1 << 20,
        ..OpenSession::default()
    }
}

/// One session: what came and was not looked at yet waits by its kind.
pub(crate) struct Session {
    requests: mpsc::Sender<SubscribeRequest>,
    responses: Streaming<SubscribeResponse>,
    opened: SessionOpened,
    deliveries: VecDeque<Delivery>,
    settled: VecDeque<SettlementResult>,
    heartbeats: VecDeque<Heartbeat>,
}

impl Session {
    pub(crate) async fn open(gateway: &Gateway, open: OpenSession) -> Result<Self, Status> {
        let (requests, outgoing) = mpsc::channel(64);
        requests
            .send(SubscribeRequest {
                request: Some(Request::Open(open)),
            })
            .await
            .unwrap();
        let mut client = wire::subscriber(&gateway.data());
        let mut responses = client.subscribe(ReceiverStream::new(outgoing)).await?.into_inner();
        let first = timeout(SOON, responses.message())
            .await
            .expect("a session is opened soon")?;
        let Some(Response::Opened(opened)) = first.and_then(|first| first.response) else {
            panic!("the first answer opens the session");
        };
        let (deliveries, settled, heartbeats) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Ok(Self {
            requests,
            responses,
            opened,
            deliveries,
            settled,
            heartbeats,
        })
    }

    async fn send(&self, request: Request) {
        self.requests
            .send(SubscribeRequest { request: Some(request) })
            .await
            .unwrap();
    }

    /// Takes in the next answer; false when none comes within the deadline.
    async fn read(&mut self, deadline: Duration) -> bool {
        let Ok(message) = timeout(deadline, self.responses.message()).await else {
            return false;
        };
        match message.unwrap().expect("the stream goes on").response {
            Some(Response::Deliveries(batch)) => self.deliveries.extend(batch.deliveries),
            Some(Response::Settled(results)) => self.settled.extend(results.results),
            Some(Response::Heartbeat(heartbeat)) => self.heartbeats.push_back(heartbeat),
            other => panic!("unexpected: {other:?}"),
        }
        true
    }

    pub(crate) async fn delivery(&mut self) -> Delivery {
        loop {
            if let Some(delivery) = self.deliveries.pop_front() {
                return delivery;
            }
            assert!(self.read(SOON).await, "no delivery came");
        }
    }

    /// So many deliveries, and then no more for a while.
    async fn exactly(&mut self, count: usize) -> Vec<Delivery> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(self.delivery().await);
        }
        while self.read(QUIET).await {}
        assert_eq!(self.deliveries.len(), 0, "more than the credit of {count} came");
        taken
    }

    pub(crate) async fn settle(
        &mut self,
        delivery_id: u64,
        action: SettlementAction,
        reason: &str,
    ) -> SettlementOutcome {
        let settlement = Settlement {
            delivery_id,
            action: action.into(),
            reason: reason.to_owned(),
            ..Settlement::default()
        };
        self.send(Request::Settle(Settle {
            settlements: vec![settlement],
        }))
        .await;
        loop {
            if let Some(result) = self.settled.pop_front() {
                assert_eq!(result.delivery_id, delivery_id);
                return result.outcome();
            }
            assert!(self.read(SOON).await, "no answer to a settlement came");
        }
    }
}

/// How a session is refused: at once, or after it was opened, when the broker has answered.
async fn refusal(gateway: &Gateway, open: OpenSession) -> Option<Status> {
    let mut session = match Session::open(gateway, open).await {
        Ok(session) => session,
        Err(status) => return Some(status),
    };
    timeout(SOON, async {
        loop {
            match session.responses.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
    })
    .await
    .ok()?
}

pub(crate) fn id(delivery: &Delivery) -> String {
    Event::scan(delivery.event.clone()).unwrap().id().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_in_flight_than_the_credit() {
    let scratch = Scratch::new("credit");
    let gateway = gateway_with(&scratch, 20).await;
    let mut session = Session::open(&gateway, open("orders", 3)).await.unwrap();
    assert_eq!(
        (session.opened.region.as_str(), session.opened.credit_messages),
        (US, 3)
    );
    let held = session.exactly(3).await;
    assert_eq!(
        session.settle(held[1].delivery_id, SettlementAction::Accept, "").await,
        SettlementOutcome::Applied
    );
    session.exactly(1).await;
    session
        .send(Request::AddCredit(AddCredit { messages: 2, bytes: 0 }))
        .await;
    session.exactly(2).await;
    session
        .send(Request::AddCredit(AddCredit { messages: -4, bytes: 0 }))
        .await;
    assert_eq!(
        session.settle(held[0].delivery_id, SettlementAction::Accept, "").await,
        SettlementOutcome::Applied
    );
    session.exactly(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_word_of_settlement_does_what_it_says() {
    let scratch = Scratch::new("words");
    let gateway = gateway_with(&scratch, 2).await;
    let mut session = Session::open(&gateway, open("orders", 1)).await.unwrap();
    let first = session.delivery().await;
    assert_eq!(first.attempt, 1);
    assert_eq!(
        session.settle(first.delivery_id, SettlementAction::Renew, "").await,
        SettlementOutcome::Applied
    );
    assert_eq!(
        session
            .settle(first.delivery_id, SettlementAction::Release, "busy")
            .await,
        SettlementOutcome::Applied
    );
    let mut seen = vec![session.delivery().await];
    if id(&seen[0]) != id(&first) {
        session.settle(seen[0].delivery_id, SettlementAction::Accept, "").await;
        seen.push(session.delivery().await);
    }
    let again = seen.pop().unwrap();
    assert_eq!((id(&again), again.attempt), (id(&first), 2));
    assert_eq!(
        session
            .settle(again.delivery_id, SettlementAction::Reject, "no such customer")
            .await,
        SettlementOutcome::Applied
    );
    assert_eq!(
        session.settle(again.delivery_id, SettlementAction::Accept, "").await,
        SettlementOutcome::UnknownDelivery
    );

    let mut letters = OpenSession {
        group: "letters".to_owned(),
        ..open("orders.dead-letters", 1)
    };
    letters.worker_id = "postman".to_owned();
    let mut letters = Session::open(&gateway, letters).await.unwrap();
    let letter = letters.delivery().await;
    assert_eq!(id(&letter), id(&first), "the dead letter is the event as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_says_nothing_loses_its_lease() {
    let scratch = Scratch::new("lease");
    let gateway = gateway_with(&scratch, 1).await;
    let mut silent = Session::open(
        &gateway,
        OpenSession {
            lease_seconds: 1,
            ..open("orders", 1)
        },
    )
    .await
    .unwrap();
    let held = silent.delivery().await;
    let again = silent.delivery().await;
    assert_eq!((id(&again), again.attempt), (id(&held), 2));
    let late = silent.settle(held.delivery_id, SettlementAction::Accept, "").await;
    assert!(
        matches!(late, SettlementOutcome::Stale | SettlementOutcome::UnknownDelivery),
        "{late:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_tell_the_position_and_a_bad_opening_is_refused() {
    let scratch = Scratch::new("heartbeat");
    let gateway = gateway_with(&scratch, 5).await;
    let mut session = Session::open(&gateway, open("orders", 10)).await.unwrap();
    let held = session.exactly(5).await;
    for delivery in &held {
        session.settle(delivery.delivery_id, SettlementAction::Accept, "").await;
    }
    let heartbeat = loop {
        assert!(session.read(SOON).await, "no heartbeat came");
        let settled = |heartbeat: &Heartbeat| {
            heartbeat
                .positions
                .iter()
                .map(|each| each.settled_position)
                .sum::<u64>()
                == 5
        };
        if let Some(heartbeat) = session.heartbeats.pop_front().filter(settled) {
            break heartbeat;
        }
    };
    assert_eq!(heartbeat.not_reading_since, None);
    assert_eq!(heartbeat.positions.iter().map(|each| each.end_position).sum::<u64>(), 5);

    for (bad, code) in [
        (
            OpenSession {
                group: String::new(),
                ..open("orders", 1)
            },
            tonic::Code::InvalidArgument,
        ),
        (
            OpenSession {
                topics: Vec::new(),
                ..open("orders", 1)
            },
            tonic::Code::InvalidArgument,
        ),
        (open("orders.dead-letters", 1), tonic::Code::FailedPrecondition),
    ] {
        let what = format!("{bad:?}");
        let refused = refusal(&gateway, bad).await.unwrap_or_else(|| panic!("taken: {what}"));
        assert_eq!(refused.code(), code, "{what}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_yet_is_waited_for() {
    let scratch = Scratch::new("no-topic");
    let gateway = gateway_with(&scratch, 1).await;
    let mut session = Session::open(&gateway, open("later", 1)).await.unwrap();
    while session.heartbeats.is_empty() {
        assert!(session.read(SOON).await, "no heartbeat came");
    }
    let admin = gateway.admin();
    meridian(&["topics", "create", "later", "--partitions", "2", "--admin", &admin])
        .await
        .success();
    let rules = "rules:\n  - name: later\n    send: { topic: later }\n";
    std::fs::write(gateway.rules_file(), rules).unwrap();
    eventually(SOON, "an event to go to the new topic", || async {
        let results = wire::publish(&gateway.data(), &[wire::event("event-later", ORDER)])
            .await
            .unwrap();
        matches!(&results[0].outcome, Some(Outcome::Receipt(receipt)) if receipt.topic == "later")
    })
    .await;
    assert_eq!(id(&session.delivery().await), "event-later");
}
