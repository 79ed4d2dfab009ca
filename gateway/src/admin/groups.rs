//! Groups as OperationsService tells of them, and what it does to them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meridian_broker::{BrokerName, GroupName, ResetTarget, TopicName};
use meridian_proto::meridian as proto;
use meridian_proto::meridian::reset_group_request::Target;
use meridian_runtime::SharedClock;

use super::moves::{Move, refused};
use super::operations::{Operations, invalid};
use crate::fault::{FaultCode, Refusal};
use crate::subscription::{GroupInfo, GroupState, Pause, SessionInfo};

/// The longest that an answer waits for a group to be left.
const MAX_WAIT_SECONDS: u32 = 60;
/// The most characters of a reason.
const MAX_REASON_CHARACTERS: usize = 256;

impl Operations {
    pub(super) async fn groups(&self, broker: &str) -> Result<proto::ListGroupsResponse, Refusal> {
        let read = self.subscriptions.groups();
        let paused = self.subscriptions.pauses_in_force();
        let mut groups = Vec::new();
        for (name, broker) in self.chosen(broker)? {
            let listed = broker.admin().list_groups().await;
            let mut names = listed.map_err(|error| Refusal::from(&error))?;
            // A group that has committed nothing yet may be known to this gateway alone.
            let here = read.iter().filter(|group| group.broker == *name);
            names.extend(here.map(|group| group.group.clone()));
            names.sort();
            names.dedup();
            let paused: HashSet<&GroupName> = paused
                .iter()
                .filter(|(of, _, _)| of == name)
                .map(|(_, group, _)| group)
                .collect();
            let summaries = names
                .iter()
                .map(|group| summary(name, group, find(&read, name, group), paused.contains(group)));
            groups.extend(summaries);
        }
        Ok(proto::ListGroupsResponse { groups })
    }

    pub(super) async fn group(
        &self,
        request: proto::DescribeGroupRequest,
    ) -> Result<proto::DescribeGroupResponse, Refusal> {
        let (broker_name, broker) = self.one(&request.broker)?;
        let name = group_name(&request.name)?;
        let read = self.subscriptions.groups();
        let here = find(&read, broker_name, &name);
        let pause = self.subscriptions.pause_of(broker_name, &name);
        let partitions = match broker.admin().describe_group(&name).await {
            Ok(group) => group.partitions,
            // Not known to the broker yet, but being read here.
            Err(_) if here.is_some() => Vec::new(),
            Err(error) => return Err(Refusal::from(&error)),
        };
        let (not_reading_since, not_reading_reason) = match (here.map(|group| &group.state), &pause) {
            (Some(GroupState::NotReading { since, reason } | GroupState::Paused { since, reason, .. }), _) => {
                (Some((*since).into()), reason.clone())
            }
            (_, Some(pause)) => (Some(pause.since.into()), pause.words()),
            _ => (None, String::new()),
        };
        let now = wall(&self.clock);
        let partitions: Vec<_> = partitions.iter().map(|lag| partition_of(lag, now)).collect();
        let ages = partitions.iter().filter_map(|partition| partition.lag_seconds);
        let sessions = self.subscriptions.sessions();
        let sessions = sessions
            .iter()
            .filter(|session| session.broker == *broker_name && session.group == name);
        Ok(proto::DescribeGroupResponse {
            group: Some(summary(broker_name, &name, here, pause.is_some())),
            lag_messages: partitions.iter().map(|partition| partition.lag_messages).sum(),
            lag_seconds: ages.reduce(f64::max),
            settled_beyond: partitions.iter().map(|partition| partition.settled_beyond).sum(),
            partitions,
            not_reading_since,
            not_reading_reason,
            sessions: sessions.map(session_of).collect(),
            pause: pause.map(|pause| pause_of(broker_name, &name, pause)),
        })
    }

    pub(super) async fn reset(&self, request: proto::ResetGroupRequest) -> Result<proto::ResetGroupResponse, Refusal> {
        let (broker_name, broker) = self.one(&request.broker)?;
        let topic = match request.topic.as_str() {
            "" => None,
            topic => Some(TopicName::new(topic).map_err(|error| invalid("topic", &error.to_string()))?),
        };
        let target = match request.target {
            Some(Target::Earliest(_)) => ResetTarget::Earliest,
            Some(Target::Latest(_)) => ResetTarget::Latest,
            Some(Target::Time(time)) => ResetTarget::Time(time_of("time", time)?),
            Some(Target::Position(at)) => ResetTarget::Position {
                partition: at.partition,
                position: at.position,
            },
            None => {
                return Err(invalid(
                    "target",
                    "say where to: earliest, latest, time, or position of a partition",
                ));
            }
        };
        let group = group_name(&request.name)?;
        let wanted = Move {
            broker_name: broker_name.clone(),
            broker: Arc::clone(broker),
            group,
            topic,
            target,
            force: request.force,
            dry_run: request.dry_run,
            subscriptions: Arc::clone(&self.subscriptions),
            fleet: self.fleet.clone(),
            clock: self.clock.clone(),
        };
        // A task of its own: once it has paused the group, it must resume it, also when the caller goes away.
        let moved = tokio::spawn(wanted.run()).await;
        moved.unwrap_or_else(|error| {
            let words = format!("the reset ended early: {error}; look at the group before you ask again");
            Err(Refusal::new(FaultCode::BrokerInternal, words))
        })
    }

    pub(super) async fn delete(&self, request: &proto::DeleteGroupRequest) -> Result<(), Refusal> {
        let (broker_name, broker) = self.one(&request.broker)?;
        let name = group_name(&request.name)?;
        let deleted = broker.admin().delete_group(&name).await;
        deleted.map_err(|error| refused(&self.subscriptions, broker_name, &name, &error))?;
        self.subscriptions.forget(broker_name, &name);
        Ok(())
    }

    pub(super) async fn pause(&self, request: proto::PauseGroupRequest) -> Result<proto::PauseGroupResponse, Refusal> {
        let (broker_name, _) = self.one(&request.broker)?;
        let name = group_name(&request.name)?;
        let now = wall(&self.clock);
        let until = match request.until {
            Some(until) => {
                let until = time_of("until", until)?;
                if until <= now {
                    return Err(invalid("until", "the time is over already; name one that is to come"));
                }
                Some(until)
            }
            None => None,
        };
        if request.reason.chars().count() > MAX_REASON_CHARACTERS || request.reason.chars().any(char::is_control) {
            let words = format!("the reason is one line of at most {MAX_REASON_CHARACTERS} characters");
            return Err(invalid("reason", &words));
        }
        if request.wait_seconds > MAX_WAIT_SECONDS {
            let words = format!("an answer waits for {MAX_WAIT_SECONDS} s at most");
            return Err(invalid("wait_seconds", &words));
        }
        let pause = Pause {
            since: now,
            until,
            reason: request.reason.clone(),
        };
        let pause = self.subscriptions.pause(broker_name, &name, pause).await?;
        let limit = Duration::from_secs(request.wait_seconds.into());
        // The others have brokers of the same names, and may have another default.
        let told = proto::PauseGroupRequest {
            broker: broker_name.to_string(),
            ..request.clone()
        };
        let (departure, gateways) = tokio::join!(
            self.subscriptions
                .departure(broker_name, &name, limit, request.take_back),
            async {
                match request.only_here {
                    true => Vec::new(),
                    false => self.fleet.pause(&told).await,
                }
            }
        );
        Ok(proto::PauseGroupResponse {
            pause: Some(pause_of(broker_name, &name, pause)),
            left: departure.left,
            in_flight_messages: u32::try_from(departure.in_flight).unwrap_or(u32::MAX),
            gateways,
        })
    }

    pub(super) async fn resume(
        &self,
        request: &proto::ResumeGroupRequest,
    ) -> Result<proto::ResumeGroupResponse, Refusal> {
        let (broker_name, _) = self.one(&request.broker)?;
        let name = group_name(&request.name)?;
        let was_paused = self.subscriptions.resume(broker_name, &name).await.is_some();
        let gateways = match request.only_here {
            true => Vec::new(),
            false => self.fleet.resume(broker_name, &name).await,
        };
        Ok(proto::ResumeGroupResponse { was_paused, gateways })
    }

    pub(super) fn pauses(&self) -> proto::ListPausesResponse {
        let pauses = self.subscriptions.pauses_in_force();
        let pauses = pauses
            .into_iter()
            .map(|(broker, group, pause)| pause_of(&broker, &group, pause));
        proto::ListPausesResponse {
            pauses: pauses.collect(),
        }
    }
}

/// The time on the wall.
pub(super) fn wall(clock: &SharedClock) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(clock.wall_millis().max(0).unsigned_abs())
}

fn group_name(name: &str) -> Result<GroupName, Refusal> {
    GroupName::new(name).map_err(|error| invalid("name", &error.to_string()))
}

fn time_of(field: &'static str, time: prost_types::Timestamp) -> Result<SystemTime, Refusal> {
    let time = SystemTime::try_from(time).ok().filter(|time| *time >= UNIX_EPOCH);
    time.ok_or_else(|| invalid(field, "name a time from 1970 on"))
}

fn find<'a>(groups: &'a [GroupInfo], broker: &BrokerName, name: &GroupName) -> Option<&'a GroupInfo> {
    groups
        .iter()
        .find(|group| group.broker == *broker && group.group == *name)
}

fn summary(broker: &BrokerName, name: &GroupName, here: Option<&GroupInfo>, paused: bool) -> proto::GroupSummary {
    let sessions = here.map_or(0, |group| group.sessions);
    let topics = here.map(|group| group.topics.iter().map(ToString::to_string).collect());
    let reads = here.filter(|group| !group.positions.is_empty());
    proto::GroupSummary {
        broker: broker.to_string(),
        name: name.to_string(),
        sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
        topics: topics.unwrap_or_default(),
        lag_messages: reads.map(GroupInfo::lag),
        paused,
    }
}

fn partition_of(lag: &meridian_broker::PartitionLag, now: SystemTime) -> proto::PartitionLag {
    let age = |oldest: SystemTime| now.duration_since(oldest).unwrap_or_default().as_secs_f64();
    proto::PartitionLag {
        topic: lag.partition.topic.to_string(),
        partition: lag.partition.partition,
        settled_position: lag.settled_position,
        end_position: lag.end_position,
        lag_messages: lag.lag(),
        settled_beyond: lag.settled_beyond,
        lag_seconds: lag.oldest_unsettled.map(age),
        oldest_unsettled: lag.oldest_unsettled.map(Into::into),
    }
}

pub(super) fn session_of(session: &SessionInfo) -> proto::Session {
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

fn pause_of(broker: &BrokerName, group: &GroupName, pause: Pause) -> proto::GroupPause {
    proto::GroupPause {
        broker: broker.to_string(),
        name: group.to_string(),
        since: Some(pause.since.into()),
        until: pause.until.map(Into::into),
        reason: pause.reason,
    }
}
