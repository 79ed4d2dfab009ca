//! Administers topics; groups are the business of `groups`, more shards of `growth`.
//!
//! What holds: a topic that is there is ready: whoever makes one that another began and
//! did not end, ends it.

use std::sync::Arc;

use async_trait::async_trait;
use fred::types::Value;
use futures::future::try_join_all;

use super::core::Core;
use super::error::Fault;
use super::frame::{array, into_array, number, text};
use super::script::{CHANGE_TOPIC, MAKE_STREAM, MAKE_TOPIC};
use super::session::{Session, word};
use super::topics::{self, Topic, TopicState, missing};
use crate::admin::{Admin, GroupDescription, GroupReset, PartitionLag, TopicDescription, TopicSpec};
use crate::error::{AdminError, AdminErrorKind};
use crate::name::{GroupName, TopicName};

/// Shards of one topic at most.
pub(super) const MAX_SHARDS: u32 = 4_096;

/// Administers one Redis.
pub(super) struct RedisAdmin {
    pub(super) core: Arc<Core>,
}

impl RedisAdmin {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// A topic that is there.
    pub(super) async fn topic(&self, session: &Session, name: &TopicName) -> Result<Arc<Topic>, AdminError> {
        let found = self.core.topics.look_up(session, &self.core.keys, name).await;
        let found = found.map_err(|fault| fault.admin_error(format!("topic {name} could not be looked up")))?;
        found.ok_or_else(|| AdminError::new(AdminErrorKind::TopicNotFound, missing(name)))
    }

    pub(super) async fn describe(&self, session: &Session, topic: &Topic) -> Result<TopicDescription, Fault> {
        let lengths = topic
            .streams
            .iter()
            .map(|stream| session.call("XLEN", stream.hash(), vec![stream.value()]));
        let lengths = try_join_all(lengths).await?;
        let records = lengths
            .iter()
            .filter_map(number)
            .filter_map(|length| u64::try_from(length).ok());
        Ok(TopicDescription {
            name: topic.name.clone(),
            id: topic.id.clone(),
            partitions: topic.shards(),
            records: records.sum(),
        })
    }

    async fn make(&self, session: &Session, spec: &TopicSpec) -> Result<Option<Arc<Topic>>, Fault> {
        let keys = &self.core.keys;
        let (key, now_ms) = (keys.topic(&spec.name), self.core.clock.wall_millis().max(1));
        // Nanoseconds where Redis expects milliseconds: later than any clock, and later than
        // the epoch of any topic of this name that was there before.
        let epoch = now_ms.unsigned_abs().saturating_mul(1_000_000) + u64::from(rand::random::<u16>());
        let mut arguments = vec![
            word(&uuid::Uuid::new_v4().to_string()),
            word(&epoch.to_string()),
            word(&spec.partitions.to_string()),
            word("created_ms"),
            word(&now_ms.to_string()),
        ];
        let retention_ms = spec
            .retention
            .map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        for (name, limit) in [
            ("retention_ms", retention_ms),
            ("retention_bytes", spec.retention_bytes),
        ] {
            if let Some(limit) = limit {
                arguments.extend([word(name), word(&limit.to_string())]);
            }
        }
        let fields = MAKE_TOPIC.run(session, &[&key], arguments).await?;
        let topic = Topic::of_fields(&spec.name, fields, keys).ok_or_else(|| Fault::unexpected("making a topic"))?;
        if topic.shards() != spec.partitions {
            return Ok(None);
        }
        if topic.state == TopicState::Making {
            let epoch = topic.epoch.to_string();
            let made = topic
                .streams
                .iter()
                .map(|stream| async { MAKE_STREAM.run(session, &[stream], vec![word(&epoch)]).await });
            try_join_all(made).await?;
            let arguments = vec![word(&topic.id), word("making"), word("state"), word("ready")];
            CHANGE_TOPIC.run(session, &[&key], arguments).await?;
            let all = keys.topics();
            session
                .call("SADD", all.hash(), vec![all.value(), word(spec.name.as_str())])
                .await?;
        }
        self.core.topics.look_up(session, keys, &spec.name).await
    }

    async fn remove(&self, session: &Session, topic: &Topic) -> Result<(), Fault> {
        let keys = &self.core.keys;
        let (key, all) = (keys.topic(&topic.name), keys.topics());
        session.call("DEL", key.hash(), vec![key.value()]).await?;
        self.core.topics.forget(&topic.name);
        let last = match topic.state {
            TopicState::Growing { to } => to,
            _ => topic.shards(),
        };
        for shard in 0..last {
            let (stream, epochs) = (keys.stream(&topic.name, shard), keys.epochs(&topic.name, shard));
            session
                .call("DEL", stream.hash(), vec![stream.value(), epochs.value()])
                .await?;
        }
        session
            .call("SREM", all.hash(), vec![all.value(), word(topic.name.as_str())])
            .await?;
        Ok(())
    }

    /// The members of a set, in order.
    pub(super) async fn names(session: &Session, key: &super::keys::Key) -> Result<Vec<String>, Fault> {
        let reply = session.call("SMEMBERS", key.hash(), vec![key.value()]).await?;
        let members = match reply {
            fred::interfaces::Resp3Frame::Set { data, .. } => data.into_iter().collect(),
            other => into_array(other),
        };
        let mut names: Vec<_> = members.iter().filter_map(text).map(str::to_owned).collect();
        names.sort();
        Ok(names)
    }

    /// All topics that there are.
    pub(super) async fn all_topics(&self, session: &Session) -> Result<Vec<Topic>, Fault> {
        let names = Self::names(session, &self.core.keys.topics()).await?;
        let mut topics = Vec::with_capacity(names.len());
        for name in names.iter().filter_map(|name| TopicName::new(name).ok()) {
            topics.extend(topics::look_up(session, &self.core.keys, &name).await?);
        }
        Ok(topics)
    }
}

/// The time of the record at a position, or of the first one after it.
pub(super) async fn time_at(session: &Session, stream: &super::keys::Key, from: Value) -> Result<Option<i64>, Fault> {
    let arguments = vec![stream.value(), from, word("+"), word("COUNT"), word("1")];
    let reply = session.call("XRANGE", stream.hash(), arguments).await?;
    let first = array(&reply).first().and_then(|frame| super::entry::entry(frame, -1));
    Ok(first.map(|(_, record)| record.timestamp_ms).filter(|time| *time >= 0))
}

#[async_trait]
impl Admin for RedisAdmin {
    async fn create_topic(&self, spec: &TopicSpec) -> Result<TopicDescription, AdminError> {
        let what = format!("topic {} was not made", spec.name);
        if spec.partitions == 0 || spec.partitions > MAX_SHARDS {
            let message = format!("{what}: it must have 1 to {MAX_SHARDS} shards, not {}", spec.partitions);
            return Err(AdminError::new(AdminErrorKind::InvalidRequest, message));
        }
        let session = self.core.ask_for(&what).await?;
        let made = self
            .make(&session, spec)
            .await
            .map_err(|fault| fault.admin_error(what.clone()))?;
        let Some(topic) = made.filter(|topic| topic.shards() == spec.partitions) else {
            let message = format!(
                "{what}: it is there with another number of shards than {}",
                spec.partitions
            );
            return Err(AdminError::new(AdminErrorKind::AlreadyExists, message));
        };
        let described = self.describe(&session, &topic).await;
        described.map_err(|fault| fault.admin_error(what))
    }

    async fn delete_topic(&self, name: &TopicName) -> Result<(), AdminError> {
        let what = format!("topic {name} was not deleted");
        let session = self.core.ask_for(&what).await?;
        let topic = self.topic(&session, name).await?;
        let removed = self.remove(&session, &topic).await;
        removed.map_err(|fault| fault.admin_error(what))
    }

    async fn list_topics(&self) -> Result<Vec<TopicDescription>, AdminError> {
        let what = "the topics were not listed";
        let session = self.core.ask_for(what).await?;
        let topics = self
            .all_topics(&session)
            .await
            .map_err(|fault| fault.admin_error(what))?;
        let described = topics.iter().map(|topic| self.describe(&session, topic));
        try_join_all(described).await.map_err(|fault| fault.admin_error(what))
    }

    async fn describe_topic(&self, name: &TopicName) -> Result<TopicDescription, AdminError> {
        let what = format!("topic {name} was not described");
        let session = self.core.ask_for(&what).await?;
        let topic = self.topic(&session, name).await?;
        let described = self.describe(&session, &topic).await;
        described.map_err(|fault| fault.admin_error(what))
    }

    async fn list_groups(&self) -> Result<Vec<GroupName>, AdminError> {
        let what = "the groups were not listed";
        let session = self.core.ask_for(what).await?;
        let names = Self::names(&session, &self.core.keys.groups()).await;
        let names = names.map_err(|fault| fault.admin_error(what))?;
        Ok(names.iter().filter_map(|name| GroupName::new(name).ok()).collect())
    }

    async fn describe_group(&self, name: &GroupName) -> Result<GroupDescription, AdminError> {
        self.group(name).await
    }

    async fn grow_topic(&self, name: &TopicName, partitions: u32) -> Result<TopicDescription, AdminError> {
        self.grow(name, partitions).await
    }

    async fn reset_group(&self, name: &GroupName, reset: &GroupReset) -> Result<Vec<PartitionLag>, AdminError> {
        self.reset(name, reset).await
    }

    async fn delete_group(&self, name: &GroupName) -> Result<(), AdminError> {
        self.delete(name).await
    }
}
