//! Sessions over real gRPC on an embedded broker: deliveries, settlements, credit, order, dead letters, draining.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::time::Duration;

use harness::{RULES, TestGateway, event};
use meridian_proto::meridian as wire;
use meridian_proto::meridian::subscribe_request::Request as Said;
use meridian_proto::meridian::subscribe_response::Response as Heard;
use meridian_proto::meridian::subscriber_service_client::SubscriberServiceClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// A worker that speaks the contract itself.
struct Session {
    say: mpsc::Sender<wire::SubscribeRequest>,
    hear: Streaming<wire::SubscribeResponse>,
    /// Delivered while something else was waited for.
    delivered: Vec<wire::Delivery>,
}

fn open(credit: u32) -> wire::OpenSession {
    wire::OpenSession {
        group: "billing".to_owned(),
        topics: vec!["orders".to_owned()],
        worker_id: "w".to_owned(),
        credit_messages: credit,
        credit_bytes: 1 << 20,
        ..Default::default()
    }
}

impl Session {
    async fn open(here: &TestGateway, open: wire::OpenSession) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(64);
        say.send(wire::SubscribeRequest {
            request: Some(Said::Open(open)),
        })
        .await
        .unwrap();
        let mut client = SubscriberServiceClient::new(here.channel().await);
        let hear = client.subscribe(ReceiverStream::new(said)).await?.into_inner();
        Ok(Self {
            say,
            hear,
            delivered: Vec::new(),
        })
    }

    async fn hear(&mut self) -> Result<Heard, Status> {
        let within = Duration::from_secs(20);
        let heard = tokio::time::timeout(within, self.hear.message())
            .await
            .expect("nothing came in time")?;
        Ok(heard.expect("the stream has ended").response.unwrap())
    }

    /// Waits for so many deliveries.
    async fn deliveries(&mut self, count: usize) -> Vec<wire::Delivery> {
        let mut deliveries = std::mem::take(&mut self.delivered);
        while deliveries.len() < count {
            if let Heard::Deliveries(batch) = self.hear().await.unwrap() {
                deliveries.extend(batch.deliveries);
            }
        }
        deliveries
    }

    async fn settle(&mut self, delivery_id: u64, action: wire::SettlementAction) -> wire::SettlementResult {
        let settlement = wire::Settlement {
            delivery_id,
            action: action.into(),
            reason: "because".to_owned(),
            ..Default::default()
        };
        let settle = wire::Settle {
            settlements: vec![settlement],
        };
        self.say
            .send(wire::SubscribeRequest {
                request: Some(Said::Settle(settle)),
            })
            .await
            .unwrap();
        loop {
            match self.hear().await.unwrap() {
                Heard::Settled(settled) => return settled.results.into_iter().next().unwrap(),
                Heard::Deliveries(batch) => self.delivered.extend(batch.deliveries),
                _ => {}
            }
        }
    }
}

async fn started(events: usize, keys: usize) -> TestGateway {
    let here = TestGateway::start("us-east", RULES, "").await;
    let event = |number: usize| {
        event(
            &number.to_string(),
            "com.acme.order.placed",
            &format!("k{}", number % keys),
        )
    };
    let results = here.publish((0..events).map(event).collect()).await;
    for result in &results {
        harness::receipt(result);
    }
    here
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_opened_and_settles_by_id() {
    let here = started(3, 3).await;
    let mut worker = Session::open(&here, open(10)).await.unwrap();
    let Heard::Opened(opened) = worker.hear().await.unwrap() else {
        panic!("the first message is `opened`")
    };
    assert_eq!(
        (opened.region.as_str(), opened.lease_seconds, opened.credit_messages),
        ("us-east", 30, 10)
    );
    let deliveries = worker.deliveries(3).await;
    assert!(
        deliveries
            .iter()
            .all(|delivery| delivery.attempt == 1 && delivery.topic == "orders")
    );
    let accepted = worker
        .settle(deliveries[0].delivery_id, wire::SettlementAction::Accept)
        .await;
    assert_eq!(accepted.outcome(), wire::SettlementOutcome::Applied);
    let again = worker
        .settle(deliveries[0].delivery_id, wire::SettlementAction::Accept)
        .await;
    assert_eq!(again.outcome(), wire::SettlementOutcome::UnknownDelivery);
    let nonsense = worker
        .settle(deliveries[1].delivery_id, wire::SettlementAction::Unspecified)
        .await;
    assert_eq!(nonsense.outcome(), wire::SettlementOutcome::Invalid);
    assert!(here.gateway.shutdown().await.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn never_more_in_flight_than_credit_and_one_at_a_time_for_a_key() {
    let here = started(40, 40).await;
    let mut worker = Session::open(&here, open(5)).await.unwrap();
    let mut held = worker.deliveries(5).await;
    let mut seen = held.len();
    while seen < 40 {
        let first = held.remove(0);
        worker.settle(first.delivery_id, wire::SettlementAction::Accept).await;
        let more = worker.deliveries(1).await;
        seen += more.len();
        held.extend(more);
        assert!(held.len() <= 5, "{} in flight", held.len());
    }

    let here = started(10, 1).await;
    let mut worker = Session::open(&here, open(5)).await.unwrap();
    for number in 0..10 {
        let deliveries = worker.deliveries(1).await;
        let ids: Vec<_> = deliveries.iter().map(|delivery| delivery.position).collect();
        assert_eq!(ids, [number], "one key: in order, one at a time");
        worker
            .settle(deliveries[0].delivery_id, wire::SettlementAction::Accept)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_worker_held_comes_again_with_the_attempt_counted() {
    let here = started(1, 1).await;
    let mut lost = Session::open(&here, open(1)).await.unwrap();
    assert_eq!(lost.deliveries(1).await[0].attempt, 1);
    drop(lost);
    let mut worker = Session::open(&here, open(1)).await.unwrap();
    let again = worker.deliveries(1).await;
    assert_eq!(again[0].attempt, 2);
    worker
        .settle(again[0].delivery_id, wire::SettlementAction::Accept)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_event_goes_to_the_dead_letters_and_others_go_on() {
    let here = started(2, 1).await;
    let mut worker = Session::open(&here, open(1)).await.unwrap();
    let first = worker.deliveries(1).await;
    worker
        .settle(first[0].delivery_id, wire::SettlementAction::Reject)
        .await;
    let second = worker.deliveries(1).await;
    assert_eq!(second[0].position, 1);
    let dead = wire::OpenSession {
        group: "undertaker".to_owned(),
        topics: vec!["orders.dead-letters".to_owned()],
        ..open(1)
    };
    let mut undertaker = Session::open(&here, dead).await.unwrap();
    let dead = undertaker.deliveries(1).await;
    assert_eq!(dead[0].topic, "orders.dead-letters");
    assert_eq!(dead[0].event, first[0].event, "as it was");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settled_work_does_not_come_again_after_a_restart() {
    let here = started(100, 10).await;
    let mut worker = Session::open(&here, open(100)).await.unwrap();
    let mut settled = 0;
    while settled < 60 {
        for delivery in worker.deliveries(1).await {
            if settled < 60 {
                worker
                    .settle(delivery.delivery_id, wire::SettlementAction::Accept)
                    .await;
                settled += 1;
            }
        }
    }
    let TestGateway { gateway, folder, .. } = here;
    assert!(gateway.shutdown().await.is_clean());
    let config = harness::config(folder.path(), "us-east", "");
    let metrics = meridian_runtime::Metrics::new([("region", "us-east")]);
    let environment = meridian_gateway::Environment::new(meridian_runtime::SystemClock::shared(), metrics.clone());
    let gateway = meridian_gateway::Gateway::start(config, environment).await.unwrap();
    let here = TestGateway {
        gateway,
        folder,
        metrics,
    };
    let mut worker = Session::open(&here, open(100)).await.unwrap();
    let mut left = 0;
    while left < 40 {
        for delivery in worker.deliveries(1).await {
            assert_eq!(delivery.attempt, 1, "a shutdown counts no attempt");
            worker
                .settle(delivery.delivery_id, wire::SettlementAction::Accept)
                .await;
            left += 1;
        }
    }
    assert_eq!(left, 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_gateway_asks_workers_to_move() {
    let here = started(1, 1).await;
    let here = here.restart("us-east", "siblings: ['gateway-2:7400']\n").await;
    let mut worker = Session::open(&here, open(1)).await.unwrap();
    worker.deliveries(1).await;
    let draining = async {
        loop {
            if let Heard::DrainRequested(request) = worker.hear().await.unwrap() {
                break request;
            }
        }
    };
    let shutdown = here.gateway.shutdown();
    tokio::pin!(shutdown);
    let request = tokio::select! {
        request = draining => request,
        _ = &mut shutdown => panic!("stopped before the worker was asked"),
    };
    assert_eq!(request.reason, "the gateway stops");
    assert_eq!(request.gateways, ["gateway-2:7400"]);
    drop(worker);
    assert!(shutdown.await.is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_makes_no_sense_is_refused_with_its_fields() {
    let here = started(0, 1).await;
    let bad = wire::OpenSession {
        group: "no spaces".to_owned(),
        topics: vec![],
        ordering: 9,
        ..open(1)
    };
    let status = Session::open(&here, bad).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    for field in ["open.group", "open.topics", "open.ordering"] {
        let details = tonic_types::StatusExt::get_error_details(&status);
        let violations = details.bad_request().unwrap().field_violations.clone();
        assert!(
            violations.iter().any(|violation| violation.field == field),
            "{field} in {violations:?}"
        );
    }
    let _first = Session::open(&here, open(1)).await.unwrap();
    let other = wire::OpenSession {
        ordering: wire::Ordering::None.into(),
        ..open(1)
    };
    let status = Session::open(&here, other).await.err().unwrap();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status
            .message()
            .contains("open.ordering = KEY, this session asks for NONE"),
        "{}",
        status.message()
    );
}
