//! Connections to gateways and replicators, and their errors.

use std::time::Duration;

use meridian_proto::meridian::operations_service_client::OperationsServiceClient;
use meridian_proto::meridian::replication_service_client::ReplicationServiceClient;
use meridian_proto::meridian::routing_service_client::RoutingServiceClient;
use tonic::transport::{Channel, Endpoint};

use crate::failure::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

async fn connect(address: &str, call_timeout: Duration) -> Result<Channel, Failure> {
    let uri = match address.contains("://") {
        true => address.to_owned(),
        false => format!("http://{address}"),
    };
    let endpoint = Endpoint::from_shared(uri)
        .map_err(|error| Failure::Usage(format!("{address:?} is not an address: {error}")))?;
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(call_timeout)
        .connect()
        .await
        .map_err(|_| {
            Failure::failed(format!(
                "nothing answers at {address}; is it running, and is this its admin address?"
            ))
        })
}

pub(crate) async fn operations(address: &str) -> Result<OperationsServiceClient<Channel>, Failure> {
    operations_within(address, Duration::ZERO).await
}

/// The same for calls whose answers may wait so long.
pub(crate) async fn operations_within(
    address: &str,
    wait: Duration,
) -> Result<OperationsServiceClient<Channel>, Failure> {
    let channel = connect(address, CALL_TIMEOUT + wait).await?;
    Ok(OperationsServiceClient::new(channel))
}

pub(crate) async fn routing(address: &str) -> Result<RoutingServiceClient<Channel>, Failure> {
    Ok(RoutingServiceClient::new(connect(address, CALL_TIMEOUT).await?))
}

pub(crate) async fn replication(address: &str) -> Result<ReplicationServiceClient<Channel>, Failure> {
    Ok(ReplicationServiceClient::new(connect(address, CALL_TIMEOUT).await?))
}
