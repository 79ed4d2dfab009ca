//! Administers topics and groups. Changes go through the writer; what is asked
//! is answered from memory.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::core::Core;
use super::log::{Partition, Topic};
use super::queue::Work;
use super::retention::describe;
use super::scan;
use crate::admin::{
    Admin, GroupDescription, GroupReset, PartitionLag, ResetTarget, TopicDescription, TopicSpec, unix_millis,
};
use crate::error::{AdminError, AdminErrorKind};
use crate::frontier::Frontier;
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

    fn topic(&self, name: &TopicName) -> Result<Arc<Topic>, AdminError> {
        self.core.topics.get(name).ok_or_else(|| {
            let message = format!("topic {name} is not there; make it first");
            AdminError::new(AdminErrorKind::TopicNotFound, message)
        })
    }

    /// Runs what reads the store on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Core) -> Result<T, AdminError> + Send + 'static,
    ) -> Result<T, AdminError> {
        let core = Arc::clone(&self.core);
        let joined = tokio::task::spawn_blocking(move || call(&core)).await;
        joined.unwrap_or_else(|error| {
            let message = format!("the request ended early: {error}");
            Err(AdminError::new(AdminErrorKind::Internal, message))
        })
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
        Ok(describe(&*self.topic(name)?))
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
                let frontier = positions.get(&key).cloned();
                let frontier = frontier.unwrap_or_else(|| Frontier::new(partition.row().start));
                partitions.push((Arc::clone(partition), frontier));
            }
        }
        let partitions = self.blocking(move |core| standings(core, partitions)).await?;
        Ok(GroupDescription {
            name: name.clone(),
            partitions,
        })
    }

    async fn grow_topic(&self, name: &TopicName, partitions: u32) -> Result<TopicDescription, AdminError> {
        self.check_open()?;
        if partitions > MAX_PARTITIONS {
            let message = format!("topic {name} cannot have {partitions} partitions; ask for {MAX_PARTITIONS} at most");
            return Err(AdminError::new(AdminErrorKind::InvalidRequest, message));
        }
        let name = name.clone();
        self.ask(|reply| Work::GrowTopic(name, partitions, reply)).await
    }

    async fn reset_group(&self, name: &GroupName, reset: &GroupReset) -> Result<Vec<PartitionLag>, AdminError> {
        self.check_open()?;
        self.core.groups.check_movable(name, reset.dry_run)?;
        let topic = self.topic(&reset.topic)?;
        let target = reset.target;
        let places = self.blocking(move |core| places(core, &topic, target)).await?;
        if !reset.dry_run {
            let by_id: Vec<_> = places
                .iter()
                .map(|(partition, next)| (partition.topic, partition.name.partition, *next))
                .collect();
            let mut moved = self.core.groups.move_to(name, &by_id, &self.core.queue)?;
            if (&mut moved.durable).await != Ok(true) {
                self.core.groups.move_back(name, moved);
                let message = format!("the new positions of group {name} could not be written; try again");
                return Err(AdminError::new(AdminErrorKind::BrokerUnavailable, message));
            }
        }
        let at = |(partition, next)| (partition, Frontier::new(next));
        let places = places.into_iter().map(at).collect();
        self.blocking(move |core| standings(core, places)).await
    }

    async fn delete_group(&self, name: &GroupName) -> Result<(), AdminError> {
        self.check_open()?;
        let name = name.clone();
        self.ask(|reply| Work::DeleteGroup(name, reply)).await
    }
}

/// Where a group stands that is settled so far.
fn standings(core: &Core, partitions: Vec<(Arc<Partition>, Frontier)>) -> Result<Vec<PartitionLag>, AdminError> {
    let standing = |(partition, frontier): (Arc<Partition>, Frontier)| {
        let end_position = partition.row().end;
        let oldest = match frontier.next() < end_position {
            true => scan::time_at(core, &partition, frontier.next())?,
            false => None,
        };
        Ok(PartitionLag {
            partition: partition.name.clone(),
            settled_position: frontier.next(),
            end_position,
            settled_beyond: frontier.settled_beyond(),
            oldest_unsettled: oldest.map(crate::admin::time_of_millis),
        })
    };
    partitions.into_iter().map(standing).collect()
}

/// Where each partition that is concerned goes on.
fn places(core: &Core, topic: &Topic, target: ResetTarget) -> Result<Vec<(Arc<Partition>, u64)>, AdminError> {
    let all = topic.partitions.iter();
    match target {
        ResetTarget::Earliest => Ok(all.map(|each| (Arc::clone(each), each.row().start)).collect()),
        ResetTarget::Latest => Ok(all.map(|each| (Arc::clone(each), each.row().end)).collect()),
        ResetTarget::Time(time) => {
            let since_ms = unix_millis(time);
            all.map(|each| {
                let end = each.row().end;
                let found = scan::position_of_time(core, each, since_ms)?;
                Ok((Arc::clone(each), found.unwrap_or(end)))
            })
            .collect()
        }
        ResetTarget::Position { partition, position } => {
            let found = topic.partitions.get(partition as usize);
            let row = found.map(|found| found.row());
            let extent = row.map(|row| (row.start, row.end));
            crate::admin::check_position(&topic.name, topic.row.partitions, (partition, position), extent)?;
            Ok(found.map(|found| (Arc::clone(found), position)).into_iter().collect())
        }
    }
}
