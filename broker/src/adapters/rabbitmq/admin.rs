//! Administering topics and groups, through the catalog and declarations.
//!
//! Positions mean nothing here: lag is told as an end position over 0. The records of
//! a topic are those that wait for the group that has most of them waiting.
//!
//! What holds: a shard that a member has is counted by that member, which alone knows
//! what it holds unsettled; when it does not answer, lag is refused, never guessed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use lapin::options::{BasicConsumeOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use tokio::time::{Instant, timeout_at};

use super::catalog::{CatalogState, Change, Topic};
use super::core::Core;
use super::fault::Fault;
use super::growth;
use super::reader::Voice;
use super::reader::gossip::Said;
use super::topology::{self, CALL_LIMIT, QueueCount, call};
use crate::admin::{Admin, GroupDescription, GroupReset, PartitionLag, ResetTarget, TopicDescription, TopicSpec};
use crate::error::{AdminError, AdminErrorKind};
use crate::name::{GroupName, TopicName, TopicPartition};

/// The most shards of a topic: each is a queue for every group.
const MAX_SHARDS: u32 = 1024;
/// How long the members of a group may take to count.
const COUNT_LIMIT: Duration = Duration::from_secs(3);

/// The administration.
pub(super) struct RabbitMqAdmin {
    core: Arc<Core>,
}

impl RabbitMqAdmin {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core) }
    }

    async fn state(&self, doing: &str) -> Result<Arc<CatalogState>, AdminError> {
        if self.core.is_closed() {
            return Err(Fault::Closed.admin(doing));
        }
        let state = self.core.catalog.refresh(CALL_LIMIT).await;
        state.map_err(|fault| fault.admin(doing))
    }

    async fn describe(&self, name: &TopicName, topic: &Topic) -> Result<TopicDescription, Fault> {
        let channel = self.core.channel().await?;
        let mut most = 0;
        let groups = topic.groups.iter().map(Some).chain([None]);
        for group in groups {
            let mut records = 0;
            for shard in 0..topic.shards {
                let queue = match group {
                    Some(group) => self.core.names.group_queue(name, group, shard),
                    None => self.core.names.parked_queue(name, shard),
                };
                records += match topology::count(&channel, &queue).await {
                    Ok(count) => count.ready,
                    Err(Fault::Missing(_)) => return Ok(describe(name, topic, most)),
                    Err(fault) => return Err(fault),
                };
            }
            most = most.max(records);
        }
        Ok(describe(name, topic, most))
    }

    async fn grown(&self, name: &TopicName, topic: &Topic) -> Result<TopicDescription, AdminError> {
        let described = self.describe(name, topic).await;
        described.map_err(|fault| fault.admin(&format!("topic {name} cannot be counted")))
    }

    /// The shards of a group with what waits in its queues.
    async fn queues(
        &self,
        group: &GroupName,
        state: &CatalogState,
    ) -> Result<BTreeMap<TopicPartition, QueueCount>, Fault> {
        let mut queues = BTreeMap::new();
        for (name, topic) in state.topics.iter().filter(|(_, topic)| topic.groups.contains(group)) {
            for shard in 0..topic.shards {
                let queue = self.core.names.group_queue(name, group, shard);
                let mut count = topology::count_or_empty(&self.core.read, &queue).await?;
                if topic.parked_taker.as_ref() == Some(group) {
                    let parked = self.core.names.parked_queue(name, shard);
                    let parked = topology::count_or_empty(&self.core.read, &parked).await?;
                    count.ready += parked.ready;
                    // A member may consume both.
                    count.consumers = count.consumers.max(parked.consumers);
                }
                let partition = TopicPartition {
                    topic: name.clone(),
                    partition: shard,
                };
                queues.insert(partition, count);
            }
        }
        Ok(queues)
    }

    /// What is not settled, by shard: members count their own.
    async fn lag(&self, group: &GroupName, state: &CatalogState) -> Result<BTreeMap<TopicPartition, u64>, Fault> {
        let channel = self.core.channel().await?;
        let ear = topology::declare_ear(&channel, &self.core.names, group).await?;
        let consume = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let mut ear = call(channel.basic_consume(ear.into(), "".into(), consume, FieldTable::default())).await?;
        let mut lag = BTreeMap::new();
        let deadline = Instant::now() + COUNT_LIMIT;
        let mut voice = Voice::new(&self.core, group);
        loop {
            let queues = self.queues(group, state).await?;
            let held: BTreeSet<_> = queues
                .iter()
                .filter(|(_, count)| count.consumers > 0)
                .map(|(partition, _)| partition.clone())
                .collect();
            lag.retain(|partition, _| held.contains(partition));
            let free = queues.iter().filter(|(partition, _)| !held.contains(partition));
            lag.extend(free.map(|(partition, count)| (partition.clone(), count.ready)));
            if lag.len() == queues.len() {
                return Ok(lag);
            }
            let question = uuid::Uuid::new_v4().to_string();
            voice
                .say(&Said::Ask {
                    question: question.clone(),
                })
                .await?;
            // Of shards that members compete for: how many have said what they have at hand, and that.
            let mut competed = BTreeMap::<TopicPartition, (u64, u64)>::new();
            let again = deadline.min(Instant::now() + COUNT_LIMIT / 3);
            while held.iter().any(|partition| !lag.contains_key(partition)) {
                let Ok(heard) = timeout_at(again, ear.next()).await else {
                    break;
                };
                let Some(delivery) = heard else {
                    return Err(Fault::Away("the channel of the group ended".to_owned()));
                };
                if let Ok(Said::Lag {
                    question: asked,
                    shards,
                }) = serde_json::from_slice(&delivery?.data)
                    && asked == question
                {
                    for shard in shards {
                        if let Ok(topic) = TopicName::new(&shard.topic) {
                            let is_shared = |topic: &Topic| topic.is_shared_by(group);
                            let is_competed = state.topics.get(&topic).is_some_and(is_shared);
                            let partition = shard.shard;
                            let partition = TopicPartition { topic, partition };
                            if !is_competed {
                                lag.insert(partition, shard.records);
                                continue;
                            }
                            let Some(queue) = queues.get(&partition) else { continue };
                            let (answers, at_hand) = competed.entry(partition.clone()).or_default();
                            *answers += 1;
                            *at_hand += shard.unsettled;
                            if *answers >= queue.consumers {
                                lag.insert(partition, queue.ready + *at_hand);
                            }
                        }
                    }
                }
            }
            if held.iter().all(|partition| lag.contains_key(partition)) {
                lag.retain(|partition, _| queues.contains_key(partition));
                return Ok(lag);
            }
            if Instant::now() >= deadline {
                let text = "a member of the group did not say how much it holds unsettled; try again";
                return Err(Fault::Late(text.to_owned()));
            }
        }
    }

    /// The group, when no member consumes anywhere.
    async fn idle(&self, group: &GroupName, state: &CatalogState) -> Result<(), AdminError> {
        check_group(group, state)?;
        let queues = self.queues(group, state).await;
        let queues = queues.map_err(|fault| fault.admin(&format!("group {group} cannot be counted")))?;
        if queues.values().any(|count| count.consumers > 0) {
            let message = format!("group {group} has members; stop its workers and try again");
            return Err(AdminError::new(AdminErrorKind::GroupActive, message));
        }
        Ok(())
    }
}

fn describe(name: &TopicName, topic: &Topic, records: u64) -> TopicDescription {
    TopicDescription {
        name: name.clone(),
        id: topic.id.clone(),
        partitions: topic.shards,
        records,
    }
}

fn find<'a>(name: &TopicName, state: &'a CatalogState) -> Result<&'a Topic, AdminError> {
    state.topics.get(name).ok_or_else(|| {
        let message = format!("topic {name} is not there");
        AdminError::new(AdminErrorKind::TopicNotFound, message)
    })
}

fn check_group(group: &GroupName, state: &CatalogState) -> Result<(), AdminError> {
    if state.topics.values().any(|topic| topic.groups.contains(group)) {
        return Ok(());
    }
    let message = format!("group {group} is not there");
    Err(AdminError::new(AdminErrorKind::GroupNotFound, message))
}

fn lag_of(partition: TopicPartition, records: u64) -> PartitionLag {
    PartitionLag {
        partition,
        settled_position: 0,
        end_position: records,
        settled_beyond: 0,
        oldest_unsettled: None,
    }
}

#[async_trait]
impl Admin for RabbitMqAdmin {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<TopicDescription, AdminError> {
        let name = &spec.name;
        let refuse = |message: String| Err(AdminError::new(AdminErrorKind::InvalidRequest, message));
        if spec.partitions == 0 || spec.partitions > MAX_SHARDS {
            return refuse(format!(
                "a topic has 1 to {MAX_SHARDS} partitions, not {}",
                spec.partitions
            ));
        }
        if !self.core.names.fit(name, None) {
            return refuse(format!(
                "topic {name} makes names of queues that are over AMQP's 255 bytes"
            ));
        }
        let doing = format!("topic {name} cannot be made");
        let failed = |fault: Fault| fault.admin(&doing);
        let mut state = self.state(&doing).await?;
        let is_new = !state.topics.contains_key(name);
        if is_new {
            let change = Change::TopicCreated {
                topic: name.to_string(),
                topic_id: uuid::Uuid::new_v4().to_string(),
                shards: spec.partitions,
            };
            state = self.core.catalog.append(change).await.map_err(failed)?.1;
        }
        let topic = find(name, &state)?;
        if topic.shards != spec.partitions {
            let message = format!("topic {name} is there already, with {} partitions", topic.shards);
            return Err(AdminError::new(AdminErrorKind::AlreadyExists, message));
        }
        self.core.ensure_declared(name, topic).await.map_err(failed)?;
        if is_new {
            tokio::time::sleep(topology::NEW_QUEUE_GRACE).await;
        }
        if topic.growing_to.is_none() {
            // Also for a topic that was there, to mend a gate that somebody took away.
            let channel = self.core.channel().await.map_err(failed)?;
            let opened = topology::open_gate(&channel, &self.core.names, name, topic.shards).await;
            opened.map_err(failed)?;
        }
        self.describe(name, topic).await.map_err(failed)
    }

    async fn delete_topic(&self, name: &TopicName) -> Result<(), AdminError> {
        let doing = format!("topic {name} cannot be deleted");
        let failed = |fault: Fault| fault.admin(&doing);
        let state = self.state(&doing).await?;
        let topic = find(name, &state)?.clone();
        let change = Change::TopicDeleted {
            topic: name.to_string(),
            topic_id: topic.id.clone(),
        };
        self.core.catalog.append(change).await.map_err(failed)?;
        let names = &self.core.names;
        let channel = self.core.channel().await.map_err(failed)?;
        let most = topic.growing_to.unwrap_or(topic.shards);
        for shards in [topic.shards, most] {
            let deleted = topology::delete_exchange(&channel, &names.gate(name, shards)).await;
            deleted.map_err(failed)?;
        }
        for exchange in [names.exchange(name), names.parking_exchange(name)] {
            topology::delete_exchange(&channel, &exchange).await.map_err(failed)?;
        }
        for shard in 0..most {
            let of_groups = topic.groups.iter().map(|group| names.group_queue(name, group, shard));
            for queue in of_groups.chain([names.parked_queue(name, shard)]) {
                topology::delete_queue(&channel, &queue).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    async fn list_topics(&self) -> Result<Vec<TopicDescription>, AdminError> {
        let doing = "topics cannot be listed";
        let state = self.state(doing).await?;
        let mut topics = Vec::new();
        for (name, topic) in &state.topics {
            let described = self.describe(name, topic).await;
            topics.push(described.map_err(|fault| fault.admin(doing))?);
        }
        Ok(topics)
    }

    async fn describe_topic(&self, name: &TopicName) -> Result<TopicDescription, AdminError> {
        let state = self.state(&format!("topic {name} cannot be described")).await?;
        self.grown(name, find(name, &state)?).await
    }

    async fn list_groups(&self) -> Result<Vec<GroupName>, AdminError> {
        let state = self.state("groups cannot be listed").await?;
        let groups: BTreeSet<_> = state
            .topics
            .values()
            .flat_map(|topic| topic.groups.iter().cloned())
            .collect();
        Ok(groups.into_iter().collect())
    }

    async fn describe_group(&self, name: &GroupName) -> Result<GroupDescription, AdminError> {
        let doing = format!("group {name} cannot be described");
        let state = self.state(&doing).await?;
        check_group(name, &state)?;
        let lag = self.lag(name, &state).await.map_err(|fault| fault.admin(&doing))?;
        Ok(GroupDescription {
            name: name.clone(),
            partitions: lag
                .into_iter()
                .map(|(partition, records)| lag_of(partition, records))
                .collect(),
        })
    }

    async fn grow_topic(&self, name: &TopicName, partitions: u32) -> Result<TopicDescription, AdminError> {
        let doing = format!("topic {name} cannot grow");
        let mut state = self.state(&doing).await?;
        let topic = find(name, &state)?.clone();
        if partitions < topic.shards || partitions > MAX_SHARDS {
            let message = format!(
                "topic {name} has {} partitions; it can only grow, up to {MAX_SHARDS}",
                topic.shards
            );
            return Err(AdminError::new(AdminErrorKind::InvalidRequest, message));
        }
        if partitions > topic.shards || topic.growing_to.is_some() {
            let grown = growth::grow(&self.core, name, &topic, partitions).await;
            state = grown.map_err(|fault| fault.admin(&doing))?;
        }
        let topic = find(name, &state)?;
        if topic.shards != partitions {
            let message = format!(
                "topic {name} has grown to {} partitions by another's wish",
                topic.shards
            );
            return Err(AdminError::new(AdminErrorKind::InvalidRequest, message));
        }
        self.grown(name, topic).await
    }

    async fn reset_group(&self, name: &GroupName, reset: &GroupReset) -> Result<Vec<PartitionLag>, AdminError> {
        let doing = format!("group {name} cannot be moved");
        let state = self.state(&doing).await?;
        check_group(name, &state)?;
        if reset.target != ResetTarget::Latest {
            let message = format!(
                "{doing}: RabbitMQ keeps no record that was settled, so a group can only be moved to the latest"
            );
            return Err(AdminError::new(AdminErrorKind::Unsupported, message));
        }
        let topic = find(&reset.topic, &state)?;
        if !topic.groups.contains(name) {
            let message = format!("group {name} does not read topic {}", reset.topic);
            return Err(AdminError::new(AdminErrorKind::GroupNotFound, message));
        }
        self.idle(name, &state).await?;
        let channel = self.core.channel().await.map_err(|fault| fault.admin(&doing))?;
        let mut lag = Vec::new();
        for shard in 0..topic.shards {
            if !reset.dry_run {
                let own = self.core.names.group_queue(&reset.topic, name, shard);
                let parked = self.core.names.parked_queue(&reset.topic, shard);
                let takes_parked = topic.parked_taker.as_ref() == Some(name);
                for queue in [Some(own), takes_parked.then_some(parked)].into_iter().flatten() {
                    let purged = call(channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default())).await;
                    purged.map_err(|fault| fault.admin(&doing))?;
                }
            }
            let partition = TopicPartition {
                topic: reset.topic.clone(),
                partition: shard,
            };
            lag.push(lag_of(partition, 0));
        }
        Ok(lag)
    }

    async fn delete_group(&self, name: &GroupName) -> Result<(), AdminError> {
        let doing = format!("group {name} cannot be deleted");
        let failed = |fault: Fault| fault.admin(&doing);
        let state = self.state(&doing).await?;
        self.idle(name, &state).await?;
        let change = Change::GroupDeleted {
            group: name.to_string(),
        };
        self.core.catalog.append(change).await.map_err(failed)?;
        let channel = self.core.channel().await.map_err(failed)?;
        for (topic_name, topic) in state.topics.iter().filter(|(_, topic)| topic.groups.contains(name)) {
            for shard in 0..topic.growing_to.unwrap_or(topic.shards) {
                let queue = self.core.names.group_queue(topic_name, name, shard);
                topology::delete_queue(&channel, &queue).await.map_err(failed)?;
            }
        }
        let exchange = self.core.names.members_exchange(name);
        topology::delete_exchange(&channel, &exchange).await.map_err(failed)
    }
}
