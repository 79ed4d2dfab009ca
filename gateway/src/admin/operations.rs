//! OperationsService: topics, sessions and draining here; groups in `groups`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_broker::{Broker, BrokerName, TopicDescription, TopicName, TopicSpec};
use meridian_proto::meridian as proto;
use meridian_proto::meridian::operations_service_server::OperationsService;
use meridian_runtime::{Health, SharedClock};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::dead_letters::{DeadLetters, Words};
use super::fleet::Fleet;
use super::groups::session_of;
use crate::brokers::Brokers;
use crate::fault::{FaultCode, Refusal};
use crate::subscription::Subscriptions;

/// How long workers may settle what they hold when the caller does not say.
const DEFAULT_DRAIN: Duration = Duration::from_secs(20);
const MAX_DRAIN: Duration = Duration::from_secs(3600);

/// A broker and its name.
pub(super) type Named<'a> = (&'a BrokerName, &'a Arc<dyn Broker>);

/// Serves OperationsService.
pub struct Operations {
    /// The region's brokers.
    pub brokers: Brokers,
    /// Groups and sessions.
    pub subscriptions: Arc<Subscriptions>,
    /// The process's health.
    pub health: Health,
    /// Closes the gate for publishers.
    pub draining: CancellationToken,
    /// Time.
    pub clock: SharedClock,
    /// The region's other gateways.
    pub fleet: Fleet,
    /// Dead letters.
    pub dead_letters: DeadLetters,
}

#[tonic::async_trait]
impl OperationsService for Operations {
    async fn list_topics(
        &self,
        request: Request<proto::ListTopicsRequest>,
    ) -> Result<Response<proto::ListTopicsResponse>, Status> {
        let mut topics = Vec::new();
        for (name, broker) in self.chosen(&request.get_ref().broker)? {
            let listed = broker
                .admin()
                .list_topics()
                .await
                .map_err(|error| Refusal::from(&error))?;
            topics.extend(listed.into_iter().map(|topic| topic_of(name, topic)));
        }
        Ok(Response::new(proto::ListTopicsResponse { topics }))
    }

    async fn create_topic(
        &self,
        request: Request<proto::CreateTopicRequest>,
    ) -> Result<Response<proto::CreateTopicResponse>, Status> {
        let request = request.into_inner();
        let (name, broker) = self.one(&request.broker)?;
        let spec = topic_spec(&request)?;
        let topic = broker
            .admin()
            .create_topic(&spec)
            .await
            .map_err(|error| Refusal::from(&error))?;
        Ok(Response::new(proto::CreateTopicResponse {
            topic: Some(topic_of(name, topic)),
        }))
    }

    async fn describe_topic(
        &self,
        request: Request<proto::DescribeTopicRequest>,
    ) -> Result<Response<proto::DescribeTopicResponse>, Status> {
        let request = request.into_inner();
        let (name, broker) = self.one(&request.broker)?;
        let described = broker.admin().describe_topic(&topic_name(&request.name)?).await;
        let topic = described.map_err(|error| Refusal::from(&error))?;
        Ok(Response::new(proto::DescribeTopicResponse {
            id: topic.id.clone(),
            topic: Some(topic_of(name, topic)),
        }))
    }

    async fn grow_topic(
        &self,
        request: Request<proto::GrowTopicRequest>,
    ) -> Result<Response<proto::GrowTopicResponse>, Status> {
        let request = request.into_inner();
        let (name, broker) = self.one(&request.broker)?;
        check_partitions(request.partitions)?;
        let grown = broker
            .admin()
            .grow_topic(&topic_name(&request.name)?, request.partitions)
            .await;
        let topic = grown.map_err(|error| Refusal::from(&error))?;
        Ok(Response::new(proto::GrowTopicResponse {
            topic: Some(topic_of(name, topic)),
        }))
    }

    async fn delete_topic(
        &self,
        request: Request<proto::DeleteTopicRequest>,
    ) -> Result<Response<proto::DeleteTopicResponse>, Status> {
        let request = request.into_inner();
        let (_, broker) = self.one(&request.broker)?;
        let name = topic_name(&request.name)?;
        if request.confirm_name != request.name {
            let words = "repeat the topic's name: its records are deleted for good";
            return Err(invalid("confirm_name", words).into());
        }
        let deleted = broker.admin().delete_topic(&name).await;
        deleted.map_err(|error| Refusal::from(&error))?;
        Ok(Response::new(proto::DeleteTopicResponse {}))
    }

    async fn list_groups(
        &self,
        request: Request<proto::ListGroupsRequest>,
    ) -> Result<Response<proto::ListGroupsResponse>, Status> {
        Ok(Response::new(self.groups(&request.get_ref().broker).await?))
    }

    async fn describe_group(
        &self,
        request: Request<proto::DescribeGroupRequest>,
    ) -> Result<Response<proto::DescribeGroupResponse>, Status> {
        Ok(Response::new(self.group(request.into_inner()).await?))
    }

    async fn reset_group(
        &self,
        request: Request<proto::ResetGroupRequest>,
    ) -> Result<Response<proto::ResetGroupResponse>, Status> {
        Ok(Response::new(self.reset(request.into_inner()).await?))
    }

    async fn delete_group(
        &self,
        request: Request<proto::DeleteGroupRequest>,
    ) -> Result<Response<proto::DeleteGroupResponse>, Status> {
        self.delete(request.get_ref()).await?;
        Ok(Response::new(proto::DeleteGroupResponse {}))
    }

    async fn pause_group(
        &self,
        request: Request<proto::PauseGroupRequest>,
    ) -> Result<Response<proto::PauseGroupResponse>, Status> {
        Ok(Response::new(self.pause(request.into_inner()).await?))
    }

    async fn resume_group(
        &self,
        request: Request<proto::ResumeGroupRequest>,
    ) -> Result<Response<proto::ResumeGroupResponse>, Status> {
        Ok(Response::new(self.resume(request.get_ref()).await?))
    }

    async fn list_pauses(
        &self,
        _: Request<proto::ListPausesRequest>,
    ) -> Result<Response<proto::ListPausesResponse>, Status> {
        Ok(Response::new(self.pauses()))
    }

    async fn list_sessions(
        &self,
        _: Request<proto::ListSessionsRequest>,
    ) -> Result<Response<proto::ListSessionsResponse>, Status> {
        let sessions = self.subscriptions.sessions().iter().map(session_of).collect();
        Ok(Response::new(proto::ListSessionsResponse { sessions }))
    }

    async fn drain_gateway(
        &self,
        request: Request<proto::DrainGatewayRequest>,
    ) -> Result<Response<proto::DrainGatewayResponse>, Status> {
        let asked = Duration::from_secs(request.get_ref().deadline_seconds.into());
        let within = if asked.is_zero() {
            DEFAULT_DRAIN
        } else {
            asked.min(MAX_DRAIN)
        };
        self.health.drain();
        self.draining.cancel();
        let sessions = self.subscriptions.sessions().len();
        let deadline: Instant = self.clock.now() + within;
        let subscriptions = Arc::clone(&self.subscriptions);
        tokio::spawn(async move { subscriptions.drain("an operator drains this gateway", deadline).await });
        let sessions_asked = u32::try_from(sessions).unwrap_or(u32::MAX);
        Ok(Response::new(proto::DrainGatewayResponse { sessions_asked }))
    }

    // Dead letters: see `dead_letters`.

    type ListDeadLettersStream = Words<proto::ListDeadLettersResponse>;
    type ReplayDeadLettersStream = Words<proto::ReplayDeadLettersResponse>;
    type PurgeDeadLettersStream = Words<proto::PurgeDeadLettersResponse>;

    async fn list_dead_letters(
        &self,
        request: Request<proto::ListDeadLettersRequest>,
    ) -> Result<Response<Self::ListDeadLettersStream>, Status> {
        let request = request.into_inner();
        let listed = self.dead_letters.list(self.one(&request.broker)?, request)?;
        Ok(Response::new(listed))
    }

    async fn replay_dead_letters(
        &self,
        request: Request<proto::ReplayDeadLettersRequest>,
    ) -> Result<Response<Self::ReplayDeadLettersStream>, Status> {
        let request = request.into_inner();
        let replayed = self.dead_letters.replay(self.one(&request.broker)?, request)?;
        Ok(Response::new(replayed))
    }

    async fn purge_dead_letters(
        &self,
        request: Request<proto::PurgeDeadLettersRequest>,
    ) -> Result<Response<Self::PurgeDeadLettersStream>, Status> {
        let request = request.into_inner();
        let purged = self.dead_letters.purge(self.one(&request.broker)?, request)?;
        Ok(Response::new(purged))
    }
}

impl Operations {
    /// The broker of a name; the default one when it is empty.
    pub(super) fn one(&self, name: &str) -> Result<Named<'_>, Refusal> {
        let name = if name.is_empty() {
            self.brokers.default_name().as_str()
        } else {
            name
        };
        let found = self.brokers.iter().find(|(known, _)| known.as_str() == name);
        found.ok_or_else(|| {
            let known: Vec<&str> = self.brokers.iter().map(|(name, _)| name.as_str()).collect();
            let message = format!(
                "region {} has no broker {name}; known: {}",
                self.brokers.region(),
                known.join(", ")
            );
            Refusal::new(FaultCode::UnknownBroker, message.clone()).with_field("broker", message)
        })
    }

    /// The broker of a name; all of them when it is empty.
    pub(super) fn chosen(&self, name: &str) -> Result<Vec<Named<'_>>, Refusal> {
        match name.is_empty() {
            true => Ok(self.brokers.iter().collect()),
            false => Ok(vec![self.one(name)?]),
        }
    }
}

fn topic_spec(request: &proto::CreateTopicRequest) -> Result<TopicSpec, Refusal> {
    let name = topic_name(&request.name)?;
    check_partitions(request.partitions)?;
    let some = |value: u64| (value > 0).then_some(value);
    Ok(TopicSpec {
        name,
        partitions: request.partitions,
        replication_factor: (request.replication_factor > 0).then_some(request.replication_factor),
        retention: some(request.retention_seconds).map(Duration::from_secs),
        retention_bytes: some(request.retention_bytes),
    })
}

fn topic_name(name: &str) -> Result<TopicName, Refusal> {
    TopicName::new(name).map_err(|error| invalid("name", &error.to_string()))
}

fn check_partitions(partitions: u32) -> Result<(), Refusal> {
    match (1..=10_000).contains(&partitions) {
        true => Ok(()),
        false => Err(invalid("partitions", "a topic has 1 to 10,000 partitions")),
    }
}

pub(super) fn invalid(field: &'static str, message: &str) -> Refusal {
    Refusal::new(FaultCode::InvalidRequest, format!("{field}: {message}")).with_field(field, message)
}

fn topic_of(broker: &BrokerName, topic: TopicDescription) -> proto::Topic {
    proto::Topic {
        broker: broker.to_string(),
        name: topic.name.to_string(),
        partitions: topic.partitions,
        records: topic.records,
    }
}
