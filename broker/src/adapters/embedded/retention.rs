//! What the writer does besides appending: makes, grows and deletes topics,
//! forgets groups, lets old blocks go.
//!
//! What holds: only whole blocks go, oldest first; a size limit never takes the
//! newest block; a deleted topic's blocks go in small steps, also after a
//! restart.

use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::log::{Partition, Topic};
use super::rows::{PartitionRow, TopicRow, block_key};
use super::store::{CommittableBatch, Store, StoreError};
use super::writer::{Committed, Writer};
use crate::admin::{TopicDescription, TopicSpec};
use crate::error::{AdminError, AdminErrorKind};
use crate::name::{GroupName, TopicName};

/// How many blocks one step looks at or removes.
const BLOCKS_PER_STEP: usize = 64;
/// How many steps a partition has before the writer turns to appends again, and
/// how many the deleted topics have together.
const STEPS_PER_ROUND: usize = 8;

impl Writer {
    pub(super) fn create_topic(&mut self, spec: &TopicSpec) -> Result<TopicDescription, AdminError> {
        if let Some(topic) = self.core.topics.get(&spec.name) {
            if topic.row.partitions == spec.partitions {
                return Ok(describe(&topic));
            }
            let message = format!(
                "topic {} is there with {} partitions, not {}; delete it first, or ask for as many",
                spec.name, topic.row.partitions, spec.partitions
            );
            return Err(AdminError::new(AdminErrorKind::AlreadyExists, message));
        }
        let store = self.writable()?;
        let millis = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let row = TopicRow {
            id: Uuid::new_v4(),
            partitions: spec.partitions,
            retention_ms: spec.retention.map(millis),
            retention_bytes: spec.retention_bytes,
        };
        let rows = vec![PartitionRow::default(); spec.partitions as usize];
        let mut changes = store.changes();
        changes.put_topic(&spec.name, &row);
        for (partition, partition_row) in (0..).zip(&rows) {
            changes.put_partition(row.id, partition, partition_row);
        }
        let batch = changes.finish();
        let committed = self.commit(&store, batch);
        drop(store);
        self.durable(committed)?;
        let topic = self.core.topics.insert(spec.name.clone(), row, rows);
        self.core.groups.topic_created(&topic, &self.core.queue);
        Ok(describe(&topic))
    }

    pub(super) fn delete_topic(&mut self, name: &TopicName) -> Result<(), AdminError> {
        let Some(topic) = self.core.topics.get(name) else {
            let message = format!("topic {name} is not there; nothing was deleted");
            return Err(AdminError::new(AdminErrorKind::TopicNotFound, message));
        };
        let store = self.writable()?;
        let mut changes = store.changes();
        changes.remove_topic(name, topic.row.id, topic.row.partitions);
        for (group, partition) in self.core.groups.positions_in(topic.row.id) {
            changes.remove_position(&group, topic.row.id, partition);
        }
        let batch = changes.finish();
        let committed = self.commit(&store, batch);
        drop(store);
        self.durable(committed)?;
        self.core.topics.remove(name);
        self.core.groups.topic_deleted(&topic);
        self.deleted.push(topic.row.id);
        topic.wake();
        Ok(())
    }

    pub(super) fn grow_topic(&mut self, name: &TopicName, partitions: u32) -> Result<TopicDescription, AdminError> {
        let Some(topic) = self.core.topics.get(name) else {
            let message = format!("topic {name} is not there; make it first");
            return Err(AdminError::new(AdminErrorKind::TopicNotFound, message));
        };
        let before = topic.row.partitions;
        if partitions == before {
            return Ok(describe(&topic));
        }
        if partitions < before {
            let message = format!(
                "topic {name} has {before} partitions, and a topic only ever gets more; ask for {before} at least"
            );
            return Err(AdminError::new(AdminErrorKind::InvalidRequest, message));
        }
        let store = self.writable()?;
        let row = TopicRow {
            partitions,
            ..topic.row.clone()
        };
        let mut changes = store.changes();
        changes.put_topic(name, &row);
        for partition in before..partitions {
            changes.put_partition(row.id, partition, &PartitionRow::default());
        }
        let batch = changes.finish();
        let committed = self.commit(&store, batch);
        drop(store);
        self.durable(committed)?;
        let grown = self.core.topics.grow(&topic, row);
        // Told as a new topic is: groups share out what is new.
        self.core.groups.topic_created(&grown, &self.core.queue);
        Ok(describe(&grown))
    }

    pub(super) fn delete_group(&mut self, name: &GroupName) -> Result<(), AdminError> {
        let store = self.writable()?;
        let positions = self.core.groups.forget(name)?;
        let mut changes = store.changes();
        for (topic, partition) in positions.keys() {
            changes.remove_position(name, *topic, *partition);
        }
        let batch = changes.finish();
        let committed = self.commit(&store, batch);
        drop(store);
        let outcome = self.durable(committed);
        if outcome.is_err() {
            self.core.groups.restore(name, positions);
        }
        outcome
    }

    fn writable(&self) -> Result<Arc<Store>, AdminError> {
        let store = self.core.store().filter(|_| self.reopen_at.is_none());
        store.ok_or_else(|| {
            AdminError::new(
                AdminErrorKind::BrokerUnavailable,
                super::writer::unavailable(&self.core).message,
            )
        })
    }

    fn durable(&mut self, committed: Result<(), StoreError>) -> Result<(), AdminError> {
        match self.settle_commit(committed) {
            Committed::Durable => Ok(()),
            Committed::Absent(error) | Committed::Unknown(error) => {
                let message = format!("the change could not be written: {error}; try again");
                Err(AdminError::new(AdminErrorKind::BrokerUnavailable, message).with_source(error))
            }
        }
    }

    /// One round of letting old blocks go. True when more may go at once: else
    /// what is written faster than one round an interval removes would pile up.
    pub(super) fn retain(&mut self) -> bool {
        if self.reopen_at.is_some() {
            return false;
        }
        let mut is_more = false;
        for topic in self.core.topics.all() {
            for partition in &topic.partitions {
                let removed = several_steps(|| self.retain_partition(&topic, partition));
                is_more |= removed.unwrap_or_else(|error| {
                    tracing::error!(%error, partition = %partition.name, "old records could not be removed");
                    false
                });
            }
        }
        let removed = several_steps(|| self.purge());
        is_more
            | removed.unwrap_or_else(|error| {
                tracing::error!(%error, "a deleted topic's records could not be removed");
                false
            })
    }

    /// True when there may be more to remove.
    fn retain_partition(&mut self, topic: &Topic, partition: &Partition) -> Result<bool, StoreError> {
        let config = &self.core.config;
        let retention_ms = topic
            .row
            .retention_ms
            .or(config.retention.map(|span| span.as_millis() as u64));
        let max_bytes = topic.row.retention_bytes.or(config.retention_bytes).unwrap_or(u64::MAX);
        let now = self.core.clock.wall_millis();
        let oldest_kept = retention_ms.map_or(i64::MIN, |span| now.saturating_sub_unsigned(span));
        let row = partition.row();
        let is_young = partition
            .oldest_appended_ms()
            .is_some_and(|appended| appended >= oldest_kept);
        if row.start == row.end || (is_young && row.bytes <= max_bytes) {
            return Ok(false);
        }
        let Some(store) = self.core.store() else {
            return Ok(false);
        };
        let blocks = store.oldest_blocks(topic.row.id, partition.name.partition, BLOCKS_PER_STEP)?;
        let mut left = row;
        let mut changes = store.changes();
        let mut oldest = None;
        for (header, bytes) in blocks {
            let is_over = left.bytes > max_bytes && header.end_position() < row.end;
            if header.appended_ms >= oldest_kept && !is_over {
                oldest = Some(header.appended_ms);
                break;
            }
            left.start = header.end_position();
            left.bytes = left.bytes.saturating_sub(bytes as u64);
            changes.remove_block(&block_key(
                topic.row.id,
                partition.name.partition,
                header.first_position,
            ));
        }
        if left.start > row.start {
            changes.put_partition(topic.row.id, partition.name.partition, &left);
            let batch = changes.finish();
            self.remove(store, batch)?;
            partition.set_start(left);
        }
        if let Some(appended_ms) = oldest {
            partition.set_oldest_appended_ms(appended_ms);
        }
        Ok(oldest.is_none() && left.start > row.start)
    }

    /// Removes some blocks of the topic that was deleted first; its last step
    /// forgets the topic. True when there may be more to remove.
    fn purge(&mut self) -> Result<bool, StoreError> {
        let (Some(id), Some(store)) = (self.deleted.first().copied(), self.core.store()) else {
            return Ok(false);
        };
        let keys = store.block_keys(id, BLOCKS_PER_STEP)?;
        let mut changes = store.changes();
        for key in &keys {
            changes.remove_block(key);
        }
        if keys.is_empty() {
            changes.remove_deleted(id);
        }
        let batch = changes.finish();
        self.remove(store, batch)?;
        if keys.is_empty() {
            self.deleted.retain(|deleted| *deleted != id);
        }
        Ok(!self.deleted.is_empty())
    }

    /// Commits a removal. Should a crash undo it, it is done again.
    fn remove(&mut self, store: Arc<Store>, batch: CommittableBatch) -> Result<(), StoreError> {
        let removed = store.commit_lazily(batch, |span| self.core.queue.pause(span));
        drop(store);
        if let Err(error) = &removed {
            self.core.set_unavailable(error);
            self.reopen_at = Some(Instant::now());
        }
        removed
    }
}

/// Steps until one says that nothing is left, fails, or the round is over: true
/// then.
fn several_steps(mut step: impl FnMut() -> Result<bool, StoreError>) -> Result<bool, StoreError> {
    for _ in 0..STEPS_PER_ROUND {
        if !step()? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A topic as people see it.
pub(super) fn describe(topic: &Topic) -> TopicDescription {
    let records = topic.partitions.iter().map(|partition| partition.row());
    TopicDescription {
        name: topic.name.clone(),
        id: topic.row.id.to_string(),
        partitions: topic.row.partitions,
        records: records.map(|row| row.end - row.start).sum(),
    }
}
