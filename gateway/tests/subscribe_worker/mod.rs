//! A worker that speaks the contract itself, for the tests of sessions.

#![allow(dead_code, unreachable_pub)] // each test binary uses its own part of it

pub mod scripted_reader;

use std::time::Duration;

use bytes::Bytes;
use meridian_proto::meridian as wire;
use meridian_proto::meridian::subscribe_request::Request as Said;
use meridian_proto::meridian::subscribe_response::Response as Heard;
use meridian_proto::meridian::subscriber_service_client::SubscriberServiceClient;
use meridian_proto::meridian::{SettlementAction, SettlementOutcome};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::harness::SOON;

/// One session; what comes while something else is waited for is kept.
pub struct Worker {
    say: mpsc::Sender<wire::SubscribeRequest>,
    hear: Streaming<wire::SubscribeResponse>,
    pub deliveries: Vec<wire::Delivery>,
    pub results: Vec<wire::SettlementResult>,
    pub others: Vec<Heard>,
}

/// A session of `billing` over `orders`.
pub fn open(worker_id: &str, credit_messages: u32) -> wire::OpenSession {
    wire::OpenSession {
        group: "billing".to_owned(),
        topics: vec!["orders".to_owned()],
        worker_id: worker_id.to_owned(),
        credit_messages,
        credit_bytes: 1 << 20,
        ..Default::default()
    }
}

/// One settlement.
pub fn settlement(delivery: &wire::Delivery, action: SettlementAction) -> wire::Settlement {
    wire::Settlement {
        delivery_id: delivery.delivery_id,
        action: action.into(),
        reason: "because".to_owned(),
        ..Default::default()
    }
}

impl Worker {
    pub async fn open(channel: Channel, open: wire::OpenSession) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(64);
        let first = wire::SubscribeRequest {
            request: Some(Said::Open(open)),
        };
        say.send(first).await.unwrap();
        let mut client = SubscriberServiceClient::new(channel).max_decoding_message_size(64 << 20);
        let hear = client.subscribe(ReceiverStream::new(said)).await?.into_inner();
        Ok(Self {
            say,
            hear,
            deliveries: Vec::new(),
            results: Vec::new(),
            others: Vec::new(),
        })
    }

    pub async fn say(&self, request: Said) {
        let request = wire::SubscribeRequest { request: Some(request) };
        self.say.send(request).await.unwrap();
    }

    /// Hears one message; `None` at the end of the stream.
    pub async fn hear(&mut self) -> Result<Option<()>, Status> {
        let heard = tokio::time::timeout(SOON, self.hear.message())
            .await
            .expect("nothing came in time")?;
        Ok(heard.map(|heard| self.keep(heard)))
    }

    fn keep(&mut self, heard: wire::SubscribeResponse) {
        match heard.response.unwrap() {
            Heard::Deliveries(batch) => self.deliveries.extend(batch.deliveries),
            Heard::Settled(settled) => self.results.extend(settled.results),
            other => self.others.push(other),
        }
    }

    /// Hears what comes within a time, in which nothing may come.
    pub async fn hear_for(&mut self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while let Ok(heard) = tokio::time::timeout_at(until, self.hear.message()).await {
            let heard = heard.unwrap().expect("the stream has ended");
            self.keep(heard);
        }
    }

    /// The next deliveries.
    pub async fn next(&mut self, count: usize) -> Vec<wire::Delivery> {
        while self.deliveries.len() < count {
            self.hear().await.unwrap().expect("the stream has ended");
        }
        self.deliveries.drain(..count).collect()
    }

    pub async fn one(&mut self) -> wire::Delivery {
        self.next(1).await.remove(0)
    }

    /// Waits for a message of another kind.
    pub async fn other<T>(&mut self, what: impl Fn(&Heard) -> Option<T>) -> T {
        loop {
            if let Some(found) = self.others.iter().find_map(&what) {
                self.others.retain(|other| what(other).is_none());
                return found;
            }
            self.hear().await.unwrap().expect("the stream has ended");
        }
    }

    pub async fn settle_all(&mut self, settlements: Vec<wire::Settlement>) -> Vec<SettlementOutcome> {
        let count = settlements.len();
        self.say(Said::Settle(wire::Settle { settlements })).await;
        while self.results.len() < count {
            self.hear().await.unwrap().expect("the stream has ended");
        }
        self.results.drain(..count).map(|result| result.outcome()).collect()
    }

    pub async fn settle(&mut self, delivery: &wire::Delivery, action: SettlementAction) -> SettlementOutcome {
        self.settle_all(vec![settlement(delivery, action)]).await[0]
    }

    pub async fn accept(&mut self, delivery: &wire::Delivery) {
        let outcome = self.settle(delivery, SettlementAction::Accept).await;
        assert_eq!(outcome, SettlementOutcome::Applied, "{}", delivery.position);
    }

    /// Waits for the end of the stream.
    pub async fn end(&mut self) -> Result<(), Status> {
        while self.hear().await?.is_some() {}
        Ok(())
    }
}

/// Orders with payloads of a size, keys in turn.
pub fn orders(count: usize, keys: usize, payload_bytes: usize) -> Vec<Bytes> {
    let payload = "x".repeat(payload_bytes);
    let order = |number: usize| {
        let event = meridian_event::EventBuilder::new(&number.to_string(), "/shop", "com.acme.order.placed");
        let event = event.partition_key(&format!("k{}", number % keys)).text_data(&payload);
        event.build().unwrap().encoded().clone()
    };
    (0..count).map(order).collect()
}
