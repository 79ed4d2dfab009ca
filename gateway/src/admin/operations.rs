//! OperationsService: topics, groups, sessions, and draining.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_broker::{Broker, BrokerName, GroupName, TopicDescription, TopicName, TopicSpec};
use meridian_proto::meridian as proto;
use meridian_proto::meridian::operations_service_server::OperationsService;
use meridian_runtime::{Health, SharedClock};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::dead_letters::{DeadLetters, Words};
use crate::brokers::Brokers;
use crate::fault::{FaultCode, Refusal};
use crate::subscription::{GroupInfo, GroupState, SessionInfo, Subscriptions};

/// How long workers may settle what they hold when the caller does not say.
const DEFAULT_DRAIN: Duration = Duration::from_secs(20);
const MAX_DRAIN: Duration = Duration::from_secs(3600);

/// A broker and its name.
type Named<'a> = (&'a BrokerName, &'a Arc<dyn Broker>);

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

    async fn list_groups(
        &self,
        request: Request<proto::ListGroupsRequest>,
    ) -> Result<Response<proto::ListGroupsResponse>, Status> {
        let read = self.subscriptions.groups();
        let mut groups = Vec::new();
        for (name, broker) in self.chosen(&request.get_ref().broker)? {
            let mut names = broker
                .admin()
                .list_groups()
                .await
                .map_err(|error| Refusal::from(&error))?;
            // A group that has committed nothing yet may be known to this gateway alone.
            names.extend(
                read.iter()
                    .filter(|group| group.broker == *name)
                    .map(|group| group.group.clone()),
            );
            names.sort();
            names.dedup();
            groups.extend(names.iter().map(|group| summary(name, group, find(&read, name, group))));
        }
        Ok(Response::new(proto::ListGroupsResponse { groups }))
    }

    async fn describe_group(
        &self,
        request: Request<proto::DescribeGroupRequest>,
    ) -> Result<Response<proto::DescribeGroupResponse>, Status> {
        let request = request.into_inner();
        let (broker_name, broker) = self.one(&request.broker)?;
        let name = GroupName::new(&request.name).map_err(|error| invalid("name", &error.to_string()))?;
        let read = self.subscriptions.groups();
        let here = find(&read, broker_name, &name);
        let described = broker.admin().describe_group(&name).await;
        let partitions = match described {
            Ok(group) => group.partitions,
            // Not known to the broker yet, but being read here.
            Err(_) if here.is_some() => Vec::new(),
            Err(error) => return Err(Refusal::from(&error).into()),
        };
        let (not_reading_since, not_reading_reason) = match here.map(|group| &group.state) {
            Some(GroupState::NotReading { since, reason }) => (Some((*since).into()), reason.clone()),
            _ => (None, String::new()),
        };
        let sessions = self.subscriptions.sessions();
        let sessions = sessions
            .iter()
            .filter(|session| session.broker == *broker_name && session.group == name);
        Ok(Response::new(proto::DescribeGroupResponse {
            group: Some(summary(broker_name, &name, here)),
            lag_messages: partitions.iter().map(meridian_broker::PartitionLag::lag).sum(),
            partitions: partitions.iter().map(partition_of).collect(),
            not_reading_since,
            not_reading_reason,
            sessions: sessions.map(session_of).collect(),
        }))
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
    fn one(&self, name: &str) -> Result<Named<'_>, Refusal> {
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
    fn chosen(&self, name: &str) -> Result<Vec<Named<'_>>, Refusal> {
        match name.is_empty() {
            true => Ok(self.brokers.iter().collect()),
            false => Ok(vec![self.one(name)?]),
        }
    }
}

fn topic_spec(request: &proto::CreateTopicRequest) -> Result<TopicSpec, Refusal> {
    let name = TopicName::new(&request.name).map_err(|error| invalid("name", &error.to_string()))?;
    if request.partitions == 0 || request.partitions > 10_000 {
        return Err(invalid("partitions", "a topic has 1 to 10,000 partitions"));
    }
    let some = |value: u64| (value > 0).then_some(value);
    Ok(TopicSpec {
        name,
        partitions: request.partitions,
        replication_factor: (request.replication_factor > 0).then_some(request.replication_factor),
        retention: some(request.retention_seconds).map(Duration::from_secs),
        retention_bytes: some(request.retention_bytes),
    })
}

fn invalid(field: &'static str, message: &str) -> Refusal {
    Refusal::new(FaultCode::InvalidRequest, format!("{field}: {message}")).with_field(field, message)
}

fn find<'a>(groups: &'a [GroupInfo], broker: &BrokerName, name: &GroupName) -> Option<&'a GroupInfo> {
    groups
        .iter()
        .find(|group| group.broker == *broker && group.group == *name)
}

fn summary(broker: &BrokerName, name: &GroupName, here: Option<&GroupInfo>) -> proto::GroupSummary {
    let sessions = here.map_or(0, |group| group.sessions);
    proto::GroupSummary {
        broker: broker.to_string(),
        name: name.to_string(),
        sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
    }
}

fn topic_of(broker: &BrokerName, topic: TopicDescription) -> proto::Topic {
    proto::Topic {
        broker: broker.to_string(),
        name: topic.name.to_string(),
        partitions: topic.partitions,
        records: topic.records,
    }
}

fn partition_of(lag: &meridian_broker::PartitionLag) -> proto::PartitionLag {
    proto::PartitionLag {
        topic: lag.partition.topic.to_string(),
        partition: lag.partition.partition,
        settled_position: lag.settled_position,
        end_position: lag.end_position,
        lag_messages: lag.lag(),
        settled_beyond: lag.settled_beyond,
    }
}

fn session_of(session: &SessionInfo) -> proto::Session {
    proto::Session {
        session_id: session.session_id.clone(),
        group: session.group.to_string(),
        worker_id: session.worker_id.clone(),
        in_flight_messages: session.in_flight_messages,
        in_flight_bytes: session.in_flight_bytes,
        credit_messages: session.credit_messages,
        credit_bytes: session.credit_bytes,
        opened_at: Some(session.opened_at.into()),
    }
}
