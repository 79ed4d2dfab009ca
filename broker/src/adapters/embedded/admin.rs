//! Administers topics and groups. Changes go through the writer; what is asked
//! is answered from memory.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::core::Core;
use super::queue::Work;
use super::retention::describe;
use crate::admin::{Admin, GroupDescription, GroupReset, PartitionLag, TopicDescription, TopicSpec};
use crate::error::{AdminError, AdminErrorKind};
use crate::name::{GroupName, TopicName};

/// The most partitions of a topic: each has its place in memory.
const MAX_PARTITIONS: u32 = 10_000;

/// The administrator.
pub(super) struct EmbeddedAdmin {
    core: Arc<Core>,
}

impl EmbeddedAdmin {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    fn check_open(&self) -> Result<(), AdminError> {
        if self.core.is_closed() { Err(closed()) } else { Ok(()) }
    }

    async fn ask<T>(&self, work: impl FnOnce(oneshot::Sender<Result<T, AdminError>>) -> Work) -> Result<T, AdminError> {
        let (reply, answer) = oneshot::channel();
        self.core.queue.put(work(reply)).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

fn closed() -> AdminError {
    AdminError::new(AdminErrorKind::Closed, "the broker is closed; open it again")
}

#[async_trait]
impl Admin for EmbeddedAdmin {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<TopicDescription, AdminError> {
        self.check_open()?;
        if !(1..=MAX_PARTITIONS).contains(&spec.partitions) {
            let message = format!(
                "topic {} cannot have {} partitions; ask for 1 to {MAX_PARTITIONS}",
                spec.name, spec.partitions
            );
            return Err(AdminError::new(AdminErrorKind::InvalidRequest, message));
        }
        let spec = spec.clone();
        self.ask(|reply| Work::CreateTopic(spec, reply)).await
    }

    async fn delete_topic(&self, name: &TopicName) -> Result<(), AdminError> {
        self.check_open()?;
        let name = name.clone();
        self.ask(|reply| Work::DeleteTopic(name, reply)).await
    }

    async fn list_topics(&self) -> Result<Vec<TopicDescription>, AdminError> {
        self.check_open()?;
        Ok(self.core.topics.all().iter().map(|topic| describe(topic)).collect())
    }

    async fn describe_topic(&self, name: &TopicName) -> Result<TopicDescription, AdminError> {
        self.check_open()?;
        let topic = self.core.topics.get(name);
        let topic = topic.ok_or_else(|| {
            AdminError::new(
                AdminErrorKind::TopicNotFound,
                format!("topic {name} is not there; make it first"),
            )
        })?;
        Ok(describe(&topic))
    }

    async fn list_groups(&self) -> Result<Vec<GroupName>, AdminError> {
        self.check_open()?;
        Ok(self.core.groups.names())
    }

    async fn describe_group(&self, name: &GroupName) -> Result<GroupDescription, AdminError> {
        self.check_open()?;
        let positions = self.core.groups.positions(name).ok_or_else(|| {
            let message = format!("group {name} is not there; it is made when its first reader opens");
            AdminError::new(AdminErrorKind::GroupNotFound, message)
        })?;
        let mut partitions = Vec::new();
        for topic in self.core.topics.all() {
            let ids = (0..).map(|partition| (topic.row.id, partition));
            if !ids
                .clone()
                .take(topic.partitions.len())
                .any(|key| positions.contains_key(&key))
            {
                continue;
            }
            for (key, partition) in ids.zip(&topic.partitions) {
                let row = partition.row();
                let frontier = positions.get(&key);
                partitions.push(PartitionLag {
                    partition: partition.name.clone(),
                    settled_position: frontier.map_or(row.start, |frontier| frontier.next()),
                    end_position: row.end,
                    settled_beyond: frontier.map_or(0, |frontier| frontier.settled_beyond()),
                    oldest_unsettled: None,
                });
            }
        }
        Ok(GroupDescription {
            name: name.clone(),
            partitions,
        })
    }

    async fn grow_topic(&self, name: &TopicName, _partitions: u32) -> Result<TopicDescription, AdminError> {
        let message = format!("topic {name} cannot be grown here yet");
        Err(AdminError::new(AdminErrorKind::Unsupported, message))
    }

    async fn reset_group(&self, name: &GroupName, _reset: &GroupReset) -> Result<Vec<PartitionLag>, AdminError> {
        let message = format!("group {name} cannot be reset here yet");
        Err(AdminError::new(AdminErrorKind::Unsupported, message))
    }

    async fn delete_group(&self, name: &GroupName) -> Result<(), AdminError> {
        let message = format!("group {name} cannot be deleted here yet");
        Err(AdminError::new(AdminErrorKind::Unsupported, message))
    }
}
