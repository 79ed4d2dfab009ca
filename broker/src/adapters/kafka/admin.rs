//! Administering a cluster: requests of librdkafka on threads that may block.
//!
//! What holds: a topic that was made is returned only when every partition has a
//! leader; a deleted one only when the cluster does not know it any more.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::cluster::Cluster;
use super::error::{Fault, admin_error, fault_of};
use super::native::metadata::{self, TopicMetadata};
use super::native::request::{self, CommittedOffset, OffsetOf};
use super::native::{Code, EventQueue, NativeClient, NativeError, PartitionList, Role};
use super::settings;
use crate::admin::{Admin, GroupDescription, GroupReset, PartitionLag, TopicDescription, TopicSpec};
use crate::error::{AdminError, AdminErrorKind};
use crate::frontier::Frontier;
use crate::metadata as commit_metadata;
use crate::name::{GroupName, TopicName, TopicPartition};

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Between two looks at whether a change has reached the brokers.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);

/// Topics that one request describes.
const TOPICS_PER_REQUEST: usize = 200;

pub(super) struct KafkaAdmin {
    cluster: Arc<Cluster>,
}

impl KafkaAdmin {
    pub(super) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// Runs what may block.
    async fn run<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Requests) -> Result<T, AdminError> + Send + 'static,
    ) -> Result<T, AdminError> {
        if self.cluster.health.is_closed() {
            return Err(AdminError::new(AdminErrorKind::Closed, "this broker was closed"));
        }
        let requests = Requests {
            deadline: self.cluster.clock.now() + LIMIT,
            cluster: Arc::clone(&self.cluster),
        };
        let joined = tokio::task::spawn_blocking(move || call(&requests)).await;
        joined.unwrap_or_else(|error| {
            Err(AdminError::new(
                AdminErrorKind::Internal,
                format!("the request ended early: {error}"),
            ))
        })
    }
}

#[async_trait]
impl Admin for KafkaAdmin {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<TopicDescription, AdminError> {
        let spec = spec.clone();
        self.run(move |requests| requests.create_topic(&spec)).await
    }

    async fn delete_topic(&self, name: &TopicName) -> Result<(), AdminError> {
        let name = name.clone();
        self.run(move |requests| requests.delete_topic(&name)).await
    }

    async fn list_topics(&self) -> Result<Vec<TopicDescription>, AdminError> {
        self.run(Requests::list_topics).await
    }

    async fn describe_topic(&self, name: &TopicName) -> Result<TopicDescription, AdminError> {
        let name = name.clone();
        self.run(move |requests| requests.describe_topic(&name)).await
    }

    async fn list_groups(&self) -> Result<Vec<GroupName>, AdminError> {
        self.run(Requests::list_groups).await
    }

    async fn describe_group(&self, name: &GroupName) -> Result<GroupDescription, AdminError> {
        let name = name.clone();
        self.run(move |requests| requests.describe_group(&name)).await
    }

    async fn grow_topic(&self, name: &TopicName, partitions: u32) -> Result<TopicDescription, AdminError> {
        let name = name.clone();
        self.run(move |requests| requests.grow_topic(&name, partitions)).await
    }

    async fn reset_group(&self, name: &GroupName, reset: &GroupReset) -> Result<Vec<PartitionLag>, AdminError> {
        let (name, reset) = (name.clone(), reset.clone());
        self.run(move |requests| requests.reset_group(&name, &reset)).await
    }

    async fn delete_group(&self, name: &GroupName) -> Result<(), AdminError> {
        let name = name.clone();
        self.run(move |requests| requests.delete_group(&name)).await
    }
}

/// Requests until a deadline.
pub(super) struct Requests {
    pub(super) cluster: Arc<Cluster>,
    deadline: Instant,
}

impl Requests {
    pub(super) fn left(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(self.cluster.clock.now());
        left.max(Duration::from_millis(1))
    }

    /// Nothing is asked where it is known that nobody would answer: a request that waits has librdkafka look for a
    /// broker without rest.
    fn answerable(&self) -> Result<(), NativeError> {
        match self.cluster.health.is_away() {
            true => Err(NativeError::of(Code::AllBrokersDown)),
            false => Ok(()),
        }
    }

    /// A queue for one request.
    pub(super) fn queue(&self) -> Result<EventQueue, NativeError> {
        self.answerable()?;
        EventQueue::own(&self.cluster.client).ok_or_else(|| NativeError::of(Code::Fail))
    }

    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicDescription, AdminError> {
        let name = &spec.name;
        if spec.partitions == 0 {
            let message = format!("topic {name} must have at least one partition");
            return Err(AdminError::new(AdminErrorKind::InvalidRequest, message));
        }
        let mut settings = Vec::new();
        if let Some(retention) = spec.retention {
            settings.push(("retention.ms", retention.as_millis().to_string()));
        }
        if let Some(bytes) = spec.retention_bytes {
            settings.push(("retention.bytes", bytes.to_string()));
        }
        let outcome = self.queue().and_then(|queue| {
            let (partitions, factor) = (spec.partitions, spec.replication_factor);
            request::create_topic(&queue, name.as_str(), partitions, factor, &settings, self.left())?;
            request::topic_outcome(&request::wait(&queue, self.left())?)
        });
        match outcome {
            Ok(()) => {}
            Err(error) if fault_of(error.code) == Fault::TopicThere => {
                let found = self.topic_with_leaders(name)?;
                if found.partitions.len() != spec.partitions as usize {
                    let message = format!(
                        "topic {name} is there with {} partitions and not {}: choose another name or the same number",
                        found.partitions.len(),
                        spec.partitions
                    );
                    return Err(AdminError::new(AdminErrorKind::AlreadyExists, message));
                }
            }
            Err(error) => return Err(admin_error(format!("topic {name} was not made"), error)),
        }
        let found = self.topic_with_leaders(name)?;
        self.cluster.learn(name, &found);
        self.describe_topic(name)
    }

    /// The topic, when all its partitions have leaders.
    pub(super) fn topic_with_leaders(&self, name: &TopicName) -> Result<TopicMetadata, AdminError> {
        loop {
            let found = metadata::topic(&self.cluster.client, name.as_str(), self.left());
            match found {
                Ok(found)
                    if found.error.is_none()
                        && !found.partitions.is_empty()
                        && found.partitions.iter().all(|partition| partition.has_leader) =>
                {
                    return Ok(found);
                }
                Err(error) if fault_of(error.code) == Fault::NotAuthorized => {
                    return Err(admin_error(format!("topic {name} cannot be looked at"), error));
                }
                _ => self.pause(|| format!("topic {name} has partitions without a leader"))?,
            }
        }
    }

    fn delete_topic(&self, name: &TopicName) -> Result<(), AdminError> {
        let outcome = self.queue().and_then(|queue| {
            request::delete_topic(&queue, name.as_str(), self.left())?;
            request::topic_outcome(&request::wait(&queue, self.left())?)
        });
        outcome.map_err(|error| admin_error(format!("topic {name} was not deleted"), error))?;
        loop {
            let found = metadata::topic(&self.cluster.client, name.as_str(), self.left());
            let error = found.map_or_else(|error| Some(error.code), |found| found.error);
            if error.is_some_and(|code| fault_of(code) == Fault::TopicMissing) {
                self.cluster.forget(name);
                return Ok(());
            }
            self.pause(|| format!("the brokers still tell of topic {name} after its deletion"))?;
        }
    }

    /// Waits a moment for the brokers; an error when the time is up.
    pub(super) fn pause(&self, what: impl FnOnce() -> String) -> Result<(), AdminError> {
        if self.cluster.clock.now() >= self.deadline {
            return Err(AdminError::new(AdminErrorKind::DeadlineExceeded, what()));
        }
        std::thread::park_timeout(LOOK_INTERVAL);
        Ok(())
    }

    fn list_topics(&self) -> Result<Vec<TopicDescription>, AdminError> {
        let topics = metadata::all_topics(&self.cluster.client, self.left())
            .map_err(|error| admin_error("the topics were not listed", error))?;
        let mut names: Vec<TopicName> = topics
            .iter()
            .filter_map(|topic| TopicName::new(&topic.name).ok())
            .collect();
        names.sort();
        let mut described = Vec::with_capacity(names.len());
        for names in names.chunks(TOPICS_PER_REQUEST) {
            described.extend(self.describe(names)?);
        }
        Ok(described)
    }

    pub(super) fn describe_topic(&self, name: &TopicName) -> Result<TopicDescription, AdminError> {
        let described = self.describe(std::slice::from_ref(name))?;
        described
            .into_iter()
            .next()
            .ok_or_else(|| AdminError::new(AdminErrorKind::TopicNotFound, format!("topic {name} is not there")))
    }

    /// Those of the topics that are there.
    fn describe(&self, names: &[TopicName]) -> Result<Vec<TopicDescription>, AdminError> {
        let texts: Vec<&str> = names.iter().map(TopicName::as_str).collect();
        let facts = self.queue().and_then(|queue| {
            request::describe_topics(&queue, &texts, self.left(), 0)?;
            Ok(request::described_topics(&request::wait(&queue, self.left())?))
        });
        let facts = facts.map_err(|error| admin_error("the topics were not described", error))?;
        let mut partitions = Vec::new();
        let mut described = Vec::new();
        for fact in facts {
            let Ok(name) = TopicName::new(&fact.name) else { continue };
            match fact.error {
                Some(code) if fault_of(code) == Fault::TopicMissing => continue,
                Some(code) => {
                    let what = format!("topic {name} was not described");
                    return Err(admin_error(what, NativeError::of(code)));
                }
                None => {}
            }
            let of = |partition| TopicPartition {
                topic: name.clone(),
                partition,
            };
            partitions.extend((0..fact.partitions).map(of));
            described.push(TopicDescription {
                name,
                id: fact.id,
                partitions: fact.partitions,
                records: 0,
            });
        }
        let first = self.offsets(&partitions, OffsetOf::First)?;
        let end = self.offsets(&partitions, OffsetOf::End)?;
        for topic in &mut described {
            topic.records = (0..topic.partitions)
                .map(|partition| TopicPartition {
                    topic: topic.name.clone(),
                    partition,
                })
                .map(|partition| match (first.get(&partition), end.get(&partition)) {
                    (Some(first), Some(end)) => end.saturating_sub(*first),
                    _ => 0,
                })
                .sum();
        }
        Ok(described)
    }

    /// The position of each partition that is asked for, where there is one.
    pub(super) fn offsets(
        &self,
        partitions: &[TopicPartition],
        of: OffsetOf,
    ) -> Result<BTreeMap<TopicPartition, u64>, AdminError> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let asked = || -> Result<_, NativeError> {
            let mut list = PartitionList::new();
            for partition in partitions {
                list.add(partition.topic.as_str(), partition.partition, of.as_offset())?;
            }
            let queue = self.queue()?;
            request::list_offsets(&queue, &list, false, self.left(), 0)?;
            Ok(request::listed_offsets(&request::wait(&queue, self.left())?))
        };
        let listed = asked().map_err(|error| admin_error("the positions were not listed", error))?;
        let mut offsets = BTreeMap::new();
        for listed in listed {
            let Ok(topic) = TopicName::new(&listed.topic) else {
                continue;
            };
            if let Ok(offset) = listed.offset {
                offsets.insert(
                    TopicPartition {
                        topic,
                        partition: listed.partition,
                    },
                    offset,
                );
            }
        }
        Ok(offsets)
    }

    pub(super) fn list_groups(&self) -> Result<Vec<GroupName>, AdminError> {
        let listed = self.queue().and_then(|queue| {
            request::list_groups(&queue, self.left());
            request::listed_groups(&request::wait(&queue, self.left())?)
        });
        let listed = listed.map_err(|error| admin_error("the groups were not listed", error))?;
        let mut groups: Vec<GroupName> = listed.iter().filter_map(|name| GroupName::new(name).ok()).collect();
        groups.sort();
        groups.dedup();
        Ok(groups)
    }

    /// A queue for requests about a group, of a client of its own. librdkafka keeps a request
    /// to a coordinator past its limit, and aborts the process by an assertion when the
    /// coordinator comes up later (2.10.0: `rd_kafka_coord_req_fail` drops the reference
    /// that `rd_kafka_admin_coord_request` dropped already). A client that is gone keeps
    /// no request. It is a consumer of the group, for a producer dies of the answer
    /// NOT_COORDINATOR (2.10.0: `rd_kafka_handle_OffsetFetch` takes its group for granted).
    pub(super) fn observer(&self, group: &GroupName) -> Result<EventQueue, NativeError> {
        self.answerable()?;
        let properties = settings::group_observer(&self.cluster.config, group);
        let client = NativeClient::new(Role::Consumer, &properties, 0)?;
        EventQueue::own(&Arc::new(client)).ok_or_else(|| NativeError::of(Code::Fail))
    }

    /// What a group has committed.
    fn committed(&self, group: &GroupName) -> Result<Vec<CommittedOffset>, NativeError> {
        let queue = self.observer(group)?;
        request::group_offsets(&queue, group.as_str(), self.left())?;
        request::listed_group_offsets(&request::wait(&queue, self.left())?)
    }

    fn describe_group(&self, name: &GroupName) -> Result<GroupDescription, AdminError> {
        let committed = self
            .committed(name)
            .map_err(|error| admin_error(format!("group {name} was not described"), error))?;
        if committed.is_empty() && !self.list_groups()?.contains(name) {
            let message = format!("group {name} is not there");
            return Err(AdminError::new(AdminErrorKind::GroupNotFound, message));
        }
        let mut settled = BTreeMap::new();
        for offset in committed {
            let Ok(topic) = TopicName::new(&offset.topic) else {
                continue;
            };
            let frontier = commit_metadata::decode(offset.offset, &offset.metadata)
                .unwrap_or_else(|_| Frontier::new(offset.offset));
            settled.insert(
                TopicPartition {
                    topic,
                    partition: offset.partition,
                },
                frontier,
            );
        }
        let topics: HashSet<&TopicName> = settled.keys().map(|partition| &partition.topic).collect();
        let partitions = self.partitions_of(topics)?;
        let first = self.offsets(&partitions, OffsetOf::First)?;
        let end = self.offsets(&partitions, OffsetOf::End)?;
        let place = |partition: TopicPartition| {
            let oldest = first.get(&partition).copied().unwrap_or(0);
            let frontier = settled.remove(&partition).unwrap_or_else(|| Frontier::new(oldest));
            let end = end.get(&partition).copied().unwrap_or_else(|| frontier.settled_end());
            (partition, frontier, end)
        };
        let places = partitions.into_iter().map(place).collect();
        Ok(GroupDescription {
            name: name.clone(),
            partitions: self.lags(name, places)?,
        })
    }

    /// All partitions of the topics that are there, in order.
    fn partitions_of(&self, topics: HashSet<&TopicName>) -> Result<Vec<TopicPartition>, AdminError> {
        let mut partitions = Vec::new();
        for topic in topics {
            let found = metadata::topic(&self.cluster.client, topic.as_str(), self.left())
                .map_err(|error| admin_error(format!("topic {topic} was not described"), error))?;
            let of = |partition| TopicPartition {
                topic: topic.clone(),
                partition,
            };
            partitions.extend((0..u32::try_from(found.partitions.len()).unwrap_or(0)).map(of));
        }
        partitions.sort();
        Ok(partitions)
    }
}
