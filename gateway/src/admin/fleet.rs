//! The region's other gateways, as an operator's wishes reach them: asked all at once, each with an answer.
//!
//! What holds: nothing is kept connected, for this is asked seldom; who does not answer in time is named with the
//! reason.

use std::time::{Duration, SystemTime};

use futures::future::join_all;
use meridian_broker::{BrokerName, GroupName};
use meridian_proto::meridian as proto;
use meridian_proto::meridian::operations_service_client::OperationsServiceClient;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::subscription::{Pause, Subscriptions};

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How long an answer may take beyond what was asked for.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long a gateway that starts waits for the pauses that others know.
const LEARN_LIMIT: Duration = Duration::from_secs(2);

type Client = OperationsServiceClient<Channel>;

/// The admin addresses of the other gateways.
#[derive(Clone, Debug)]
pub struct Fleet {
    addresses: Vec<String>,
}

impl Fleet {
    /// The gateways at these addresses.
    pub fn new(addresses: &[String]) -> Self {
        Self {
            addresses: addresses.to_vec(),
        }
    }

    /// Has the others pause a group as well.
    pub(super) async fn pause(&self, request: &proto::PauseGroupRequest) -> Vec<proto::GatewayAnswer> {
        let request = proto::PauseGroupRequest {
            only_here: true,
            ..request.clone()
        };
        let limit = Duration::from_secs(request.wait_seconds.into()) + ANSWER_LIMIT;
        self.ask(limit, |mut client| {
            let request = request.clone();
            async move {
                let waits = request.wait_seconds > 0;
                let answer = client.pause_group(request).await?.into_inner();
                match waits && !answer.left {
                    true => Err(Status::deadline_exceeded(format!(
                        "it is paused, and {} deliveries are still out",
                        answer.in_flight_messages
                    ))),
                    false => Ok(()),
                }
            }
        })
        .await
    }

    /// Has the others resume a group as well.
    pub(super) async fn resume(&self, broker: &BrokerName, group: &GroupName) -> Vec<proto::GatewayAnswer> {
        let request = proto::ResumeGroupRequest {
            broker: broker.to_string(),
            name: group.to_string(),
            only_here: true,
        };
        self.ask(ANSWER_LIMIT, |mut client| {
            let request = request.clone();
            async move { client.resume_group(request).await.map(drop) }
        })
        .await
    }

    /// Takes over the pauses that the others know of, before the first session opens. Who does not answer at once is
    /// passed over: as long as one of the fleet lives and can be reached, a pause stays in force.
    pub(crate) async fn learn_pauses(&self, subscriptions: &Subscriptions) {
        let asked = self.addresses.iter().map(|address| async move {
            let asked = async {
                let mut client = connect(address).await?;
                client.list_pauses(proto::ListPausesRequest {}).await
            };
            (address, timeout(LEARN_LIMIT, asked).await)
        });
        for (address, answer) in join_all(asked).await {
            match answer {
                Ok(Ok(answer)) => {
                    for pause in answer.into_inner().pauses {
                        take_over(subscriptions, address, pause).await;
                    }
                }
                Ok(Err(status)) => {
                    tracing::warn!(%address, "its pauses are not known: {}", status.message());
                }
                Err(_) => tracing::warn!(%address, "its pauses are not known: no answer within {LEARN_LIMIT:?}"),
            }
        }
    }

    async fn ask<F>(&self, limit: Duration, call: impl Fn(Client) -> F) -> Vec<proto::GatewayAnswer>
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let asked = self.addresses.iter().cloned().map(|address| {
            let call = &call;
            async move {
                let connected = timeout(limit, connect(&address)).await;
                let asked = match connected {
                    Ok(Ok(client)) => timeout(limit, call(client)).await,
                    Ok(Err(status)) => Ok(Err(status)),
                    Err(over) => Err(over),
                };
                let error = match asked {
                    Ok(Ok(())) => String::new(),
                    Ok(Err(status)) => status.message().to_owned(),
                    Err(_) => format!("no answer within {} s", limit.as_secs()),
                };
                proto::GatewayAnswer { address, error }
            }
        });
        join_all(asked).await
    }
}

async fn connect(address: &str) -> Result<Client, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| Status::invalid_argument(format!("{address} is no address: {error}")))?;
    let channel = endpoint.connect_timeout(CONNECT_LIMIT).connect().await;
    channel.map(OperationsServiceClient::new).map_err(|_| {
        Status::unavailable(format!(
            "nothing answers at {address}; is it running, and is this its admin address?"
        ))
    })
}

async fn take_over(subscriptions: &Subscriptions, address: &str, told: proto::GroupPause) {
    let (Ok(broker), Ok(group)) = (BrokerName::new(&told.broker), GroupName::new(&told.name)) else {
        tracing::warn!(%address, broker = told.broker, group = told.name, "it told of a pause of no group");
        return;
    };
    let time = |timestamp: prost_types::Timestamp| SystemTime::try_from(timestamp).ok();
    let until = match told.until.map(time) {
        Some(None) => return, // a time that no clock here can show is never over
        Some(until) => until,
        None => None,
    };
    let pause = Pause {
        since: told.since.and_then(time).unwrap_or(SystemTime::UNIX_EPOCH),
        until,
        reason: told.reason,
    };
    tracing::info!(%address, %broker, %group, "the group is {}", pause.words());
    if let Err(refusal) = subscriptions.pause(&broker, &group, pause).await {
        tracing::warn!(%address, %broker, %group, "its pause is not taken over: {}", refusal.message());
    }
}
