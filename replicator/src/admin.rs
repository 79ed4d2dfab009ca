//! The admin port: `ReplicationService`, health, reflection, `/metrics`, `/livez`
//! and `/readyz`, over HTTP/1 and HTTP/2.

use std::net::SocketAddr;
use std::time::Duration;

use meridian_proto::meridian as proto;
use meridian_proto::meridian::replication_service_server::{
    ReplicationService, ReplicationServiceServer, SERVICE_NAME,
};
use meridian_runtime::{BindError, Health, Metrics, admin_routes, bind};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

use crate::links::{ControlError, RunningLinks};
use crate::status::{LinkPartitionStatus, LinkState, LinkStatus};

/// How long calls may take to end once the port closes.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
/// The longest request: the name of a link, and its frame.
const MAX_REQUEST_BYTES: usize = 4096;

const HEALTH: &str = "grpc.health.v1.Health";

/// Why the admin port is not served.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// It cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The descriptors that were compiled in cannot be read.
    #[error("reflection cannot be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves ReplicationService over links.
pub struct ReplicationApi {
    links: RunningLinks,
}

impl ReplicationApi {
    /// A service over the links.
    pub fn new(links: RunningLinks) -> Self {
        Self { links }
    }

    /// As a service of a tonic server, for a process with an admin port of its own.
    pub fn into_server(self) -> ReplicationServiceServer<Self> {
        ReplicationServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES)
    }
}

/// An admin port that is being served.
pub struct RunningAdmin {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

/// Serves the admin port of the links; `address` is `host:port`.
///
/// # Errors
/// [`AdminError`].
pub async fn serve_admin(
    address: &str,
    links: RunningLinks,
    health: Health,
    metrics: Metrics,
) -> Result<RunningAdmin, AdminError> {
    let listener = bind(address).await?;
    let bound = listener.local_addr().map_err(|source| BindError::Other {
        address: address.to_owned(),
        source,
    })?;
    let stop = CancellationToken::new();
    let (reporter, health_service) = health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(meridian_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name(SERVICE_NAME)
            .with_service_name(HEALTH)
    };
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(links.service().into_server())
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    let routes = routes
        .routes()
        .prepare()
        .into_axum_router()
        .merge(admin_routes(health.clone(), metrics));
    tokio::spawn(follow_health(health, reporter, stop.clone()));
    let stopped = stop.clone().cancelled_owned();
    let serving = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).with_graceful_shutdown(stopped).await {
            tracing::error!(%error, "the admin port is not served any more");
        }
    });
    Ok(RunningAdmin {
        address: bound,
        stop,
        serving,
    })
}

impl RunningAdmin {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Finishes what it serves and closes; a stream that does not end, such as a
    /// health watch, is cut.
    pub async fn close(mut self) {
        self.stop.cancel();
        match tokio::time::timeout(CLOSE_WITHIN, &mut self.serving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "serving the admin port failed"),
            Err(_) => self.serving.abort(),
        }
    }
}

async fn follow_health(health: Health, reporter: HealthReporter, stop: CancellationToken) {
    let mut ready = health.watch();
    loop {
        let status = match *ready.borrow_and_update() {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        for service in ["", SERVICE_NAME] {
            reporter.set_service_status(service, status).await;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = ready.changed() => if changed.is_err() { return },
        }
    }
}

#[tonic::async_trait]
impl ReplicationService for ReplicationApi {
    async fn list_links(
        &self,
        _: Request<proto::ListLinksRequest>,
    ) -> Result<Response<proto::ListLinksResponse>, Status> {
        let links = self.links.status().into_iter().map(link).collect();
        Ok(Response::new(proto::ListLinksResponse { links }))
    }

    async fn pause_link(
        &self,
        request: Request<proto::PauseLinkRequest>,
    ) -> Result<Response<proto::PauseLinkResponse>, Status> {
        let status = self.links.pause(&request.get_ref().name).await.map_err(refused)?;
        Ok(Response::new(proto::PauseLinkResponse {
            link: Some(link(status)),
        }))
    }

    async fn resume_link(
        &self,
        request: Request<proto::ResumeLinkRequest>,
    ) -> Result<Response<proto::ResumeLinkResponse>, Status> {
        let status = self.links.resume(&request.get_ref().name).await.map_err(refused)?;
        Ok(Response::new(proto::ResumeLinkResponse {
            link: Some(link(status)),
        }))
    }
}

fn refused(error: ControlError) -> Status {
    match error {
        ControlError::Unknown { .. } => Status::not_found(error.to_string()),
    }
}

fn link(status: LinkStatus) -> proto::Link {
    let state = match status.state {
        LinkState::Starting => proto::LinkState::Starting,
        LinkState::Running => proto::LinkState::Running,
        LinkState::Paused => proto::LinkState::Paused,
        LinkState::Retrying => proto::LinkState::Retrying,
        LinkState::Stopped => proto::LinkState::Stopped,
    };
    proto::Link {
        name: status.name.to_string(),
        source_region: status.source_region.to_string(),
        source_broker: status.source_broker.to_string(),
        target_region: status.target_region.to_string(),
        target_broker: status.target_broker.to_string(),
        state: state.into(),
        reason: status.reason,
        since: Some(timestamp(status.since_ms)),
        partitions: status.partitions.into_iter().map(partition).collect(),
        mirrored_records: status.mirrored_records,
        skipped_loop_records: status.skipped_records,
        lag_messages: status.lag_messages,
        lag_seconds: status.lag_seconds,
    }
}

fn partition(status: LinkPartitionStatus) -> proto::LinkPartition {
    proto::LinkPartition {
        source_topic: status.source_topic.to_string(),
        partition: status.partition,
        target_topic: status.target_topic.map(|topic| topic.to_string()).unwrap_or_default(),
        mirrored_position: status.mirrored_position,
        end_position: status.end_position,
    }
}

fn timestamp(millis: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: millis.div_euclid(1000),
        nanos: i32::try_from(millis.rem_euclid(1000) * 1_000_000).unwrap_or(0),
    }
}
