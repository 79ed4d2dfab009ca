//! Administering groups, and growing topics: what changes where a group stands, and
//! how old its lag is.
//!
//! What holds: a group is moved only while the coordinator says that it has no
//! members, and the coordinator itself refuses a move that comes too late; a topic
//! that has grown is returned only when every partition has a leader.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::admin::Requests;
use super::error::{Fault, admin_error, fault_of};
use super::native::fetch::{Fetched, TopicNames};
use super::native::request::{self, OffsetOf};
use super::native::{Code, EventQueue, NativeClient, NativeError, PartitionList, Role, group_request};
use super::settings;
use crate::admin::{
    GroupReset, PartitionLag, ResetTarget, TopicDescription, check_position, time_of_millis, unix_millis,
};
use crate::error::{AdminError, AdminErrorKind};
use crate::frontier::Frontier;
use crate::name::{GroupName, TopicName, TopicPartition};

/// How long records are waited for whose times are asked for.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at the queue of what was fetched.
const POLL: Duration = Duration::from_millis(100);

/// A partition, where a group stands in it, and its end.
pub(super) type Place = (TopicPartition, Frontier, u64);

impl Requests {
    pub(super) fn grow_topic(&self, name: &TopicName, partitions: u32) -> Result<TopicDescription, AdminError> {
        let before = self.describe_topic(name)?;
        if partitions == before.partitions {
            return Ok(before);
        }
        if partitions < before.partitions {
            let message = format!(
                "topic {name} has {} partitions, and a topic only ever gets more; ask for {} at least",
                before.partitions, before.partitions
            );
            return Err(AdminError::new(AdminErrorKind::InvalidRequest, message));
        }
        let outcome = self.queue().and_then(|queue| {
            group_request::grow_topic(&queue, name.as_str(), partitions, self.left())?;
            request::topic_outcome(&request::wait(&queue, self.left())?)
        });
        outcome.map_err(|error| admin_error(format!("topic {name} has not grown"), error))?;
        loop {
            let found = self.topic_with_leaders(name)?;
            if found.partitions.len() >= partitions as usize {
                self.cluster.learn(name, &found);
                return self.describe_topic(name);
            }
            self.pause(|| format!("the brokers do not tell of the new partitions of topic {name} yet"))?;
        }
    }

    pub(super) fn reset_group(&self, name: &GroupName, reset: &GroupReset) -> Result<Vec<PartitionLag>, AdminError> {
        if !self.list_groups()?.contains(name) {
            let message = format!("group {name} is not there");
            return Err(AdminError::new(AdminErrorKind::GroupNotFound, message));
        }
        if !reset.dry_run {
            self.check_idle(name)?;
        }
        let places = self.places(reset)?;
        if !reset.dry_run {
            let outcome = || -> Result<(), NativeError> {
                let mut list = PartitionList::new();
                for (partition, frontier, _) in &places {
                    let offset = i64::try_from(frontier.next()).unwrap_or(i64::MAX);
                    list.add(partition.topic.as_str(), partition.partition, offset)?;
                }
                let queue = self.observer(name)?;
                group_request::move_group(&queue, name.as_str(), &list, self.left())?;
                group_request::group_outcome(&request::wait(&queue, self.left())?)
            };
            outcome().map_err(|error| match fault_of(error.code) {
                // Somebody has joined since.
                Fault::MembershipLost | Fault::GroupActive => active(name),
                _ => admin_error(format!("group {name} was not moved"), error),
            })?;
        }
        self.lags(name, places)
    }

    pub(super) fn delete_group(&self, name: &GroupName) -> Result<(), AdminError> {
        let outcome = self.observer(name).and_then(|queue| {
            group_request::delete_group(&queue, name.as_str(), self.left())?;
            group_request::group_outcome(&request::wait(&queue, self.left())?)
        });
        outcome.map_err(|error| match fault_of(error.code) {
            Fault::GroupActive => active(name),
            _ => admin_error(format!("group {name} was not deleted"), error),
        })
    }

    fn check_idle(&self, name: &GroupName) -> Result<(), AdminError> {
        let described = self.observer(name).and_then(|queue| {
            group_request::describe_group(&queue, name.as_str(), self.left())?;
            group_request::has_members(&request::wait(&queue, self.left())?)
        });
        match described {
            Ok(false) => Ok(()),
            Ok(true) => Err(active(name)),
            Err(error) => Err(admin_error(format!("group {name} was not described"), error)),
        }
    }

    /// Where each partition that is concerned goes on, and its end.
    fn places(&self, reset: &GroupReset) -> Result<Vec<Place>, AdminError> {
        let topic = self.describe_topic(&reset.topic)?;
        let partition_of = |partition| TopicPartition {
            topic: topic.name.clone(),
            partition,
        };
        let all: Vec<TopicPartition> = (0..topic.partitions).map(partition_of).collect();
        let first = self.offsets(&all, OffsetOf::First)?;
        let end = self.offsets(&all, OffsetOf::End)?;
        if let ResetTarget::Position { partition, position } = reset.target {
            let wanted = partition_of(partition);
            let extent = first.get(&wanted).copied().zip(end.get(&wanted).copied());
            check_position(&topic.name, topic.partitions, (partition, position), extent)?;
            let end = extent.map_or(position, |(_, end)| end);
            return Ok(vec![(wanted, Frontier::new(position), end)]);
        }
        let found = match reset.target {
            ResetTarget::Time(time) => self.offsets(&all, OffsetOf::Time(unix_millis(time)))?,
            ResetTarget::Earliest => first,
            ResetTarget::Latest | ResetTarget::Position { .. } => BTreeMap::new(),
        };
        let place = |partition: TopicPartition| {
            let Some(end) = end.get(&partition).copied() else {
                let message = format!("partition {partition} does not tell its end; try again");
                return Err(AdminError::new(AdminErrorKind::BrokerUnavailable, message));
            };
            // Where no record is so new, the end.
            let next = found.get(&partition).copied().unwrap_or(end);
            Ok((partition, Frontier::new(next), end))
        };
        all.into_iter().map(place).collect()
    }

    /// The lag at these places.
    pub(super) fn lags(&self, group: &GroupName, places: Vec<Place>) -> Result<Vec<PartitionLag>, AdminError> {
        let times = self
            .times(group, &places)
            .map_err(|error| admin_error("the oldest records were not looked at", error))?;
        let lag = |(partition, frontier, end_position): Place| PartitionLag {
            settled_position: frontier.next(),
            end_position,
            settled_beyond: frontier.settled_beyond(),
            oldest_unsettled: times.get(&partition).copied(),
            partition,
        };
        Ok(places.into_iter().map(lag).collect())
    }

    /// The times of the first records that are not settled, of the partitions that have
    /// one and tell it in time.
    fn times(&self, group: &GroupName, places: &[Place]) -> Result<BTreeMap<TopicPartition, SystemTime>, NativeError> {
        let mut times = BTreeMap::new();
        let behind = places.iter().filter(|(_, frontier, end)| frontier.next() < *end);
        let mut list = PartitionList::new();
        let mut waiting = 0;
        for (partition, frontier, _) in behind {
            let offset = i64::try_from(frontier.next()).unwrap_or(i64::MAX);
            list.add(partition.topic.as_str(), partition.partition, offset)?;
            waiting += 1;
        }
        if waiting == 0 {
            return Ok(times);
        }
        let properties = settings::record_observer(&self.cluster.config, group);
        let client = Arc::new(NativeClient::new(Role::Consumer, &properties, 0)?);
        let queue = EventQueue::consumer(&client).ok_or_else(|| NativeError::of(Code::Fail))?;
        group_request::assign(&client, &list)?;
        let deadline = self.cluster.clock.now() + LOOK_LIMIT.min(self.left());
        let (mut names, mut ended) = (TopicNames::default(), std::collections::BTreeSet::new());
        while times.len() + ended.len() < waiting && self.cluster.clock.now() < deadline {
            let Some(mut event) = queue.poll(POLL) else { continue };
            match event.fetched(&mut names) {
                Some(Fetched::Record { partition, record, .. }) => {
                    ended.remove(&partition);
                    times
                        .entry(partition)
                        .or_insert_with(|| time_of_millis(record.timestamp_ms));
                }
                // Only markers of transactions are left.
                Some(Fetched::End { partition, .. }) if !times.contains_key(&partition) => {
                    ended.insert(partition);
                }
                Some(Fetched::End { .. } | Fetched::Fault { .. }) | None => {}
            }
        }
        Ok(times)
    }
}

fn active(name: &GroupName) -> AdminError {
    let message = format!("group {name} has members; stop its workers or pause it first");
    AdminError::new(AdminErrorKind::GroupActive, message)
}
