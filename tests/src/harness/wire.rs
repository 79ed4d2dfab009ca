//! Raw gRPC clients: what a publisher or operator without our SDK would do.

use std::time::Duration;

use meridian_proto::cloudevents::CloudEvent;
use meridian_proto::google_rpc;
use meridian_proto::meridian::operations_service_client::OperationsServiceClient;
use meridian_proto::meridian::publish_result::Outcome;
use meridian_proto::meridian::publisher_service_client::PublisherServiceClient;
use meridian_proto::meridian::replication_service_client::ReplicationServiceClient;
use meridian_proto::meridian::routing_service_client::RoutingServiceClient;
use meridian_proto::meridian::subscriber_service_client::SubscriberServiceClient;
use meridian_proto::meridian::{
    DescribeGroupRequest, DescribeGroupResponse, Link, ListLinksRequest, PublishRequest, PublishResult, Receipt,
};
use prost::Message as _;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tonic_types::{ErrorDetails, StatusExt as _};

const CALL: Duration = Duration::from_secs(30);

/// A connection, made at the first call.
pub fn channel(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address of the harness is one");
    endpoint.connect_timeout(CALL).connect_lazy()
}

/// A publisher's client.
pub fn publisher(address: &str) -> PublisherServiceClient<Channel> {
    PublisherServiceClient::new(channel(address))
}

/// A worker's client.
pub fn subscriber(address: &str) -> SubscriberServiceClient<Channel> {
    SubscriberServiceClient::new(channel(address))
}

/// An operator's client for rules.
pub fn routing(address: &str) -> RoutingServiceClient<Channel> {
    RoutingServiceClient::new(channel(address))
}

/// An operator's client for topics, groups and sessions.
pub fn operations(address: &str) -> OperationsServiceClient<Channel> {
    OperationsServiceClient::new(channel(address))
}

/// What a gateway says of a group.
///
/// # Errors
/// As the gateway answered.
pub async fn describe_group(admin: &str, name: &str) -> Result<DescribeGroupResponse, Status> {
    let request = DescribeGroupRequest {
        broker: String::new(),
        name: name.to_owned(),
    };
    Ok(operations(admin).describe_group(request).await?.into_inner())
}

/// What a replicator says of its links.
///
/// # Errors
/// As the replicator answered.
pub async fn links(admin: &str) -> Result<Vec<Link>, Status> {
    let mut client = ReplicationServiceClient::new(channel(admin));
    Ok(client.list_links(ListLinksRequest {}).await?.into_inner().links)
}

/// A plain event in prost's form, which checks nothing.
pub fn event(id: &str, type_name: &str) -> CloudEvent {
    CloudEvent {
        id: id.to_owned(),
        source: "/meridian/tests".to_owned(),
        spec_version: "1.0".to_owned(),
        r#type: type_name.to_owned(),
        ..CloudEvent::default()
    }
}

/// Publishes a batch by one unary call.
///
/// # Errors
/// As the gateway refused the call as a whole.
pub async fn publish(address: &str, events: &[CloudEvent]) -> Result<Vec<PublishResult>, Status> {
    let events = events.iter().map(|event| event.encode_to_vec().into()).collect();
    let request = PublishRequest {
        events,
        forwarded_by: Vec::new(),
    };
    let mut client = publisher(address).max_encoding_message_size(usize::MAX);
    let mut request = tonic::Request::new(request);
    request.set_timeout(CALL);
    Ok(client.publish(request).await?.into_inner().results)
}

/// The receipt of a result.
///
/// # Panics
/// When it is something else.
pub fn receipt(result: &PublishResult) -> &Receipt {
    match &result.outcome {
        Some(Outcome::Receipt(receipt)) => receipt,
        other => panic!("no receipt but {other:?}"),
    }
}

/// The refusal of a result with its details.
///
/// # Panics
/// When it is something else.
pub fn refusal(result: &PublishResult) -> (&google_rpc::Status, ErrorDetails) {
    match &result.outcome {
        Some(Outcome::Refusal(status)) => (status, details(status)),
        other => panic!("no refusal but {other:?}"),
    }
}

/// The `google.rpc` details of an event's status.
pub fn details(status: &google_rpc::Status) -> ErrorDetails {
    let code = tonic::Code::from_i32(status.code);
    Status::with_details(code, status.message.clone(), status.encode_to_vec().into()).get_error_details()
}
