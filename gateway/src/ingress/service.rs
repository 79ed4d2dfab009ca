//! The gRPC service: its two methods and the bounds of their messages.
//!
//! By hand rather than generated, so that answers are written by
//! [`AnswerCodec`]; on the wire it is `meridian.v1.PublisherService`.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use meridian_proto::meridian::publisher_service_server::SERVICE_NAME;
use meridian_proto::meridian::{PublishRequest, PublishStreamRequest};
use meridian_runtime::SharedClock;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tower::Service;

use super::answer::{Answer, AnswerCodec};
use super::gate::Gate;
use super::{stream, unary};
use crate::admission::Admission;
use crate::config::Limits;
use crate::metrics::GatewayMetrics;
use crate::publishing::Publishing;

/// What both methods share.
pub(super) struct Ingress {
    pub(super) publishing: Arc<Publishing>,
    pub(super) admission: Admission,
    pub(super) gate: Gate,
    pub(super) clock: SharedClock,
    pub(super) metrics: GatewayMetrics,
    pub(super) publish_deadline: Duration,
    pub(super) max_stream_batches_in_flight: usize,
    pub(super) max_stream_bytes_in_flight: usize,
}

/// `meridian.v1.PublisherService`; clones share it.
#[derive(Clone)]
pub struct PublisherService {
    ingress: Arc<Ingress>,
    max_message_bytes: usize,
}

impl PublisherService {
    /// A service that hands batches to `publishing`.
    pub fn new(
        publishing: Arc<Publishing>,
        gate: Gate,
        limits: &Limits,
        clock: SharedClock,
        metrics: GatewayMetrics,
    ) -> Self {
        let ingress = Ingress {
            publishing,
            admission: Admission::new(limits, metrics.clone()),
            gate,
            clock,
            metrics,
            publish_deadline: limits.publish_deadline,
            max_stream_batches_in_flight: limits.max_stream_batches_in_flight,
            max_stream_bytes_in_flight: limits.max_stream_bytes_in_flight,
        };
        Self {
            ingress: Arc::new(ingress),
            max_message_bytes: limits.max_message_bytes(),
        }
    }

    fn grpc<T: prost::Message + Default + 'static>(&self) -> Grpc<AnswerCodec<T>> {
        // What an answer may have follows from what a batch may have.
        Grpc::new(AnswerCodec::default()).apply_max_message_size_config(Some(self.max_message_bytes), None)
    }
}

impl NamedService for PublisherService {
    const NAME: &'static str = SERVICE_NAME;
}

impl Service<tonic::codegen::http::Request<Body>> for PublisherService {
    type Response = tonic::codegen::http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: tonic::codegen::http::Request<Body>) -> Self::Future {
        let ingress = Arc::clone(&self.ingress);
        match request.uri().path() {
            "/meridian.v1.PublisherService/Publish" => {
                let mut grpc = self.grpc();
                Box::pin(async move { Ok(grpc.unary(Publish(ingress), request).await) })
            }
            "/meridian.v1.PublisherService/PublishStream" => {
                let mut grpc = self.grpc();
                Box::pin(async move { Ok(grpc.streaming(PublishStream(ingress), request).await) })
            }
            path => {
                let status = Status::unimplemented(format!("{path} is no method of {SERVICE_NAME}"));
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}

struct Publish(Arc<Ingress>);

impl UnaryService<PublishRequest> for Publish {
    type Response = Answer;
    type Future = BoxFuture<'static, Result<Response<Answer>, Status>>;

    fn call(&mut self, request: Request<PublishRequest>) -> Self::Future {
        Box::pin(unary::publish(Arc::clone(&self.0), request))
    }
}

struct PublishStream(Arc<Ingress>);

impl StreamingService<PublishStreamRequest> for PublishStream {
    type Response = Answer;
    type ResponseStream = ReceiverStream<Result<Answer, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<PublishStreamRequest>>) -> Self::Future {
        let ingress = Arc::clone(&self.0);
        Box::pin(async move { stream::open(ingress, request).map(Response::new) })
    }
}
