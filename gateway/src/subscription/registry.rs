//! stand-in
use super::{GroupInfo, SessionInfo, SubscriptionOptions};
use crate::brokers::Brokers;
use meridian_broker::RegionName;
use meridian_runtime::{Health, Metrics, RegisterError, SharedClock};
use std::sync::Arc;
use std::time::Instant;
pub struct Parts {
    pub clock: SharedClock,
    pub metrics: Metrics,
    pub health: Health,
    pub region: RegionName,
}
pub struct CloseReport;
pub struct Subscriptions;
pub struct Stub;
#[tonic::async_trait]
impl meridian_proto::meridian::subscriber_service_server::SubscriberService for Stub {
    type SubscribeStream =
        tokio_stream::wrappers::ReceiverStream<Result<meridian_proto::meridian::SubscribeResponse, tonic::Status>>;
    async fn subscribe(
        &self,
        _: tonic::Request<tonic::Streaming<meridian_proto::meridian::SubscribeRequest>>,
    ) -> Result<tonic::Response<Self::SubscribeStream>, tonic::Status> {
        Err(tonic::Status::unimplemented(""))
    }
}
impl Subscriptions {
    pub fn new(_: SubscriptionOptions, _: Brokers, _: Parts) -> Result<Arc<Self>, RegisterError> {
        Ok(Arc::new(Self))
    }
    pub fn service(
        self: &Arc<Self>,
    ) -> meridian_proto::meridian::subscriber_service_server::SubscriberServiceServer<Stub> {
        meridian_proto::meridian::subscriber_service_server::SubscriberServiceServer::new(Stub)
    }
    pub fn sessions(&self) -> Vec<SessionInfo> {
        vec![]
    }
    pub fn groups(&self) -> Vec<GroupInfo> {
        vec![]
    }
    pub async fn drain(&self, _: &str, _: Instant) {}
    pub async fn close(&self, _: Instant) {}
}
