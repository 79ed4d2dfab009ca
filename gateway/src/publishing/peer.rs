//! The gateways of other regions: connections, and one request to any of them.
//!
//! What holds: a request is sent to one gateway at most; another one is tried only
//! while it is sure that nothing was sent. As many requests are in flight to one
//! region as the limits allow.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use meridian_broker::RegionName;
use meridian_proto::meridian::publisher_service_client::PublisherServiceClient;
use meridian_proto::meridian::{PublishRequest, PublishResponse};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::config::{Limits, Peer as PeerConfig};
use crate::fault::{ERROR_DOMAIN, FaultCode, Refusal};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

type Client = PublisherServiceClient<Channel>;

/// The gateways of all other regions.
#[derive(Debug)]
pub struct Peers {
    by_region: BTreeMap<RegionName, Peer>,
}

/// The gateways of one region.
#[derive(Debug)]
struct Peer {
    region: RegionName,
    gateways: Vec<Gateway>,
    /// The one that answered last.
    preferred: AtomicUsize,
    in_flight: Semaphore,
    max_message_bytes: usize,
}

#[derive(Debug)]
struct Gateway {
    address: String,
    client: Mutex<Option<Client>>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub enum PeerFault {
    /// Surely nothing was stored.
    NotSent(Refusal),
    /// It may have been stored.
    Unconfirmed(Refusal),
}

impl Peers {
    /// The peers of the configuration; nothing is connected yet.
    pub fn new(configured: &BTreeMap<RegionName, PeerConfig>, limits: &Limits) -> Self {
        let peers = configured.iter().map(|(region, peer)| {
            let gateways = peer.addresses.iter().map(|address| Gateway {
                address: address.clone(),
                client: Mutex::new(None),
            });
            let peer = Peer {
                region: region.clone(),
                gateways: gateways.collect(),
                preferred: AtomicUsize::new(0),
                in_flight: Semaphore::new(limits.max_forwards_in_flight),
                // Its results may be larger than our events.
                max_message_bytes: limits.max_message_bytes().saturating_mul(4),
            };
            (region.clone(), peer)
        });
        Self {
            by_region: peers.collect(),
        }
    }

    /// Sends one request to a gateway of `region`.
    ///
    /// # Errors
    /// [`PeerFault`], which says whether anything may have been stored.
    pub async fn publish(
        &self,
        region: &RegionName,
        request: PublishRequest,
        deadline: Instant,
    ) -> Result<PublishResponse, PeerFault> {
        match self.by_region.get(region) {
            Some(peer) => peer.publish(request, deadline).await,
            // Rules name only regions that are there.
            None => Err(PeerFault::NotSent(Refusal::new(
                FaultCode::UnknownRegion,
                format!("region {region} is no peer"),
            ))),
        }
    }
}

impl Peer {
    async fn publish(&self, request: PublishRequest, deadline: Instant) -> Result<PublishResponse, PeerFault> {
        let waited = timeout_at(deadline, self.in_flight.acquire()).await;
        // The semaphore is never closed, so an error is the deadline.
        let Ok(Ok(_permit)) = waited else {
            return Err(PeerFault::NotSent(self.deadline_passed()));
        };
        let first = self.preferred.load(Ordering::Relaxed);
        let mut last_fault = String::new();
        let mut last_refusal = None;
        for turn in 0..self.gateways.len() {
            let index = (first + turn) % self.gateways.len();
            let gateway = &self.gateways[index];
            match gateway.publish(request.clone(), deadline, self.max_message_bytes).await {
                Ok(response) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(response);
                }
                Err(Attempt::NotSent(reason)) => last_fault = format!("{}: {reason}", gateway.address),
                Err(Attempt::Refused(status)) => {
                    let refusal = self.refused(&status);
                    if !matches!(refusal.code(), FaultCode::Draining | FaultCode::GatewayOverloaded) {
                        return Err(PeerFault::NotSent(refusal));
                    }
                    // Its own state, not the request's fault: another one may take it.
                    last_refusal = Some(refusal);
                }
                Err(Attempt::Unconfirmed(status)) => {
                    return Err(PeerFault::Unconfirmed(self.unconfirmed(&gateway.address, &status)));
                }
            }
        }
        if let Some(refusal) = last_refusal {
            return Err(PeerFault::NotSent(refusal));
        }
        let message = format!(
            "no gateway of region {} answers ({last_fault}); see whether it runs, and `peers.{}.addresses`",
            self.region, self.region
        );
        Err(PeerFault::NotSent(
            Refusal::new(FaultCode::PeerUnavailable, message).with_resource("region", self.region.to_string()),
        ))
    }

    fn deadline_passed(&self) -> Refusal {
        let message = format!(
            "the event was not yet sent to region {} when its time was over",
            self.region
        );
        Refusal::new(FaultCode::PublishDeadlineExceeded, message).with_resource("region", self.region.to_string())
    }

    fn refused(&self, status: &Status) -> Refusal {
        let details = status.get_error_details();
        let code = details.error_info().and_then(|info| FaultCode::from_text(&info.reason));
        let refusal = Refusal::new(
            code.unwrap_or(FaultCode::PeerUnavailable),
            format!("region {} refused it: {}", self.region, status.message()),
        );
        let delay = details.retry_info().and_then(|info| info.retry_delay);
        let refusal = refusal.with_resource("region", self.region.to_string());
        delay.map_or(refusal.clone(), |delay| refusal.with_retry_after(delay))
    }

    fn unconfirmed(&self, address: &str, status: &Status) -> Refusal {
        let message = format!(
            "the gateway {address} of region {} did not confirm it ({:?}: {}); it may be stored there",
            self.region,
            status.code(),
            status.message()
        );
        Refusal::new(FaultCode::PeerUnconfirmed, message).with_resource("region", self.region.to_string())
    }
}

/// Why one gateway gave no answer.
enum Attempt {
    /// Surely not sent: another one may be tried.
    NotSent(String),
    /// It said so itself.
    Refused(Status),
    /// Nobody knows.
    Unconfirmed(Status),
}

impl Gateway {
    async fn publish(
        &self,
        request: PublishRequest,
        deadline: Instant,
        max_message_bytes: usize,
    ) -> Result<PublishResponse, Attempt> {
        let mut client = self
            .client(deadline, max_message_bytes)
            .await
            .map_err(Attempt::NotSent)?;
        let mut request = Request::new(request);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let status = match timeout_at(deadline, client.publish(request)).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded("no answer in time"),
        };
        if said_by_gateway(&status) {
            return Err(Attempt::Refused(status));
        }
        if was_refused_connection(&status) {
            self.forget();
            return Err(Attempt::NotSent(status.message().to_owned()));
        }
        if status.code() != Code::DeadlineExceeded {
            self.forget();
        }
        Err(Attempt::Unconfirmed(status))
    }

    /// The connection, made now when there is none.
    async fn client(&self, deadline: Instant, max_message_bytes: usize) -> Result<Client, String> {
        if let Some(client) = self.slot().clone() {
            return Ok(client);
        }
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).map_err(|error| error.to_string())?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let channel = match timeout_at(deadline, endpoint.connect()).await {
            Ok(connected) => connected.map_err(|error| with_sources(&error))?,
            Err(_) => return Err("no connection in time".to_owned()),
        };
        let client = PublisherServiceClient::new(channel)
            .max_decoding_message_size(max_message_bytes)
            .max_encoding_message_size(max_message_bytes);
        *self.slot() = Some(client.clone());
        Ok(client)
    }

    fn forget(&self) {
        *self.slot() = None;
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Client>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the gateway itself refused the request, before anything was appended.
fn said_by_gateway(status: &Status) -> bool {
    let details = status.get_error_details();
    details.error_info().is_some_and(|info| info.domain == ERROR_DOMAIN)
}

/// Whether the request never left, for no connection could be made.
fn was_refused_connection(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        {
            return true;
        }
        source = error.source();
    }
    false
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
