//! One publish stream to one gateway.
//!
//! The task opens the stream, carries batches out and results back, and ends
//! with the stream; the engine opens another when it needs one. Nothing is
//! handed to the task before the stream is open, so a connection that fails has
//! carried nothing.

use meridian_proto::meridian::publisher_service_client::PublisherServiceClient;
use meridian_proto::meridian::{PublishStreamRequest, PublishStreamResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::endpoint::Gateway;

/// What a lane tells the engine.
#[derive(Debug)]
pub(crate) struct LaneReport {
    pub(crate) gateway: usize,
    /// Which stream to that gateway: reports of one that ended are void.
    pub(crate) epoch: u64,
    pub(crate) event: LaneEvent,
}

#[derive(Debug)]
pub(crate) enum LaneEvent {
    /// The stream takes batches.
    Open,
    /// Results of a batch, or a part of it.
    Results(PublishStreamResponse),
    /// The stream has ended; nothing more comes.
    Closed(Status),
}

/// Opens the lane; returns where to put batches.
pub(crate) fn open(
    gateway: usize,
    epoch: u64,
    address: &Gateway,
    max_batches_in_flight: usize,
    reports: mpsc::Sender<LaneReport>,
) -> mpsc::Sender<PublishStreamRequest> {
    let (batches, receiver) = mpsc::channel(max_batches_in_flight);
    let channel = address.connect();
    tokio::spawn(async move {
        let report = |event| LaneReport { gateway, epoch, event };
        let status = run(channel, receiver, |event| {
            let reports = reports.clone();
            let report = report(event);
            async move { reports.send(report).await.is_ok() }
        })
        .await;
        // The engine being gone means that nobody waits for this.
        let _ = reports.send(report(LaneEvent::Closed(status))).await;
    });
    batches
}

async fn run<F, R>(channel: tonic::transport::Channel, batches: mpsc::Receiver<PublishStreamRequest>, tell: F) -> Status
where
    F: Fn(LaneEvent) -> R,
    R: Future<Output = bool>,
{
    let mut client = PublisherServiceClient::new(channel).max_decoding_message_size(16 * 1024 * 1024);
    let mut results = match client.publish_stream(ReceiverStream::new(batches)).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status,
    };
    if !tell(LaneEvent::Open).await {
        return Status::cancelled("the publisher ended");
    }
    loop {
        match results.message().await {
            Ok(Some(response)) => {
                if !tell(LaneEvent::Results(response)).await {
                    return Status::cancelled("the publisher ended");
                }
            }
            Ok(None) => return Status::unavailable("the gateway ended the stream"),
            Err(status) => return status,
        }
    }
}
