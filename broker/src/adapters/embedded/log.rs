//! Topics and partitions in memory: where each partition begins and ends, its
//! newest blocks, and who waits for more.
//!
//! The writer alone moves a log; everyone reads it. Critical sections are short
//! and do no I/O.
//!
//! What holds: `end` counts what is durable, so that nobody reads a record that
//! is not; the tail's blocks follow one another and end at `end`; a partition's
//! end never goes back, its start never passes its end.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use bytes::Bytes;
use tokio::sync::Notify;
use uuid::Uuid;

use super::block::{BlockError, BlockReader};
use super::rows::{PartitionRow, TopicRow};
use crate::name::{TopicName, TopicPartition};

/// A lock that a panic elsewhere does not close: each critical section leaves
/// its data whole.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A block of the tail.
#[derive(Clone, Debug)]
pub(super) struct TailBlock {
    pub(super) first_position: u64,
    pub(super) end_position: u64,
    pub(super) bytes: Bytes,
}

#[derive(Debug, Default)]
struct LogState {
    row: PartitionRow,
    /// When the oldest block was appended, once that is known.
    oldest_appended_ms: Option<i64>,
    tail: VecDeque<TailBlock>,
}

/// One partition's log.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) name: TopicPartition,
    pub(super) topic: Uuid,
    /// Tells it from all other partitions of this process.
    pub(super) slot: usize,
    is_deleted: Arc<AtomicBool>,
    state: Mutex<LogState>,
}

/// What there is to read at a position.
#[derive(Debug)]
pub(super) enum Found {
    /// A reader that stands at the position.
    Block(BlockReader),
    /// Older than the tail: to be read from the store, up to this end.
    OnDisk { end_position: u64 },
    /// Nothing yet.
    AtEnd,
    /// Gone: the log starts later.
    Gone,
}

impl Partition {
    pub(super) fn row(&self) -> PartitionRow {
        locked(&self.state).row
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.is_deleted.load(Ordering::Acquire)
    }

    /// What there is at a position.
    pub(super) fn find(&self, position: u64) -> Result<Found, BlockError> {
        let state = locked(&self.state);
        if position < state.row.start {
            return Ok(Found::Gone);
        }
        if position >= state.row.end {
            return Ok(Found::AtEnd);
        }
        let index = state.tail.partition_point(|block| block.end_position <= position);
        let block = state.tail.get(index).filter(|block| block.first_position <= position);
        let Some(block) = block.map(|block| block.bytes.clone()) else {
            return Ok(Found::OnDisk {
                end_position: state.row.end,
            });
        };
        drop(state);
        let mut reader = BlockReader::new(block)?;
        reader.seek(position)?;
        Ok(Found::Block(reader))
    }

    /// Takes in blocks that are durable now.
    pub(super) fn publish(&self, blocks: impl IntoIterator<Item = TailBlock>, appended_ms: i64) {
        let mut state = locked(&self.state);
        if state.row.start == state.row.end {
            state.oldest_appended_ms = Some(appended_ms);
        }
        for block in blocks {
            state.row.end = block.end_position;
            state.row.bytes += block.bytes.len() as u64;
            state.tail.push_back(block);
        }
    }

    /// Drops the oldest block of the tail from memory.
    pub(super) fn shorten_tail(&self) {
        locked(&self.state).tail.pop_front();
    }

    /// The log starts later now.
    pub(super) fn set_start(&self, row: PartitionRow) {
        let mut state = locked(&self.state);
        state.row.start = row.start;
        state.row.bytes = row.bytes;
        state.oldest_appended_ms = None;
    }

    /// What the store says, after a commit of which nobody knew.
    pub(super) fn restore(&self, row: PartitionRow) {
        let mut state = locked(&self.state);
        if state.row.end != row.end {
            state.tail.clear();
        }
        state.row = row;
        state.oldest_appended_ms = None;
    }

    pub(super) fn oldest_appended_ms(&self) -> Option<i64> {
        locked(&self.state).oldest_appended_ms
    }

    pub(super) fn set_oldest_appended_ms(&self, appended_ms: i64) {
        locked(&self.state).oldest_appended_ms = Some(appended_ms);
    }
}

/// One topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: TopicName,
    pub(super) row: TopicRow,
    pub(super) partitions: Vec<Arc<Partition>>,
    is_deleted: Arc<AtomicBool>,
    /// Shared with the topic that this one grew from.
    waiting: Arc<Mutex<Vec<Weak<Notify>>>>,
}

impl Topic {
    /// Has a reader woken whenever records come.
    pub(super) fn subscribe(&self, reader: &Arc<Notify>) {
        let mut waiting = locked(&self.waiting);
        waiting.retain(|known| known.strong_count() > 0 && !std::ptr::eq(known.as_ptr(), Arc::as_ptr(reader)));
        waiting.push(Arc::downgrade(reader));
    }

    /// Wakes the readers.
    pub(super) fn wake(&self) {
        for reader in locked(&self.waiting).iter().filter_map(Weak::upgrade) {
            reader.notify_one();
        }
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.is_deleted.load(Ordering::Acquire)
    }
}

/// All topics.
#[derive(Debug, Default)]
pub(super) struct Topics {
    by_name: RwLock<HashMap<TopicName, Arc<Topic>>>,
    last_slot: AtomicUsize,
}

impl Topics {
    pub(super) fn get(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.by_name
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        let topics = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        let mut topics: Vec<_> = topics.values().cloned().collect();
        topics.sort_by(|left, right| left.name.cmp(&right.name));
        topics
    }

    pub(super) fn insert(&self, name: TopicName, row: TopicRow, rows: Vec<PartitionRow>) -> Arc<Topic> {
        let is_deleted = Arc::<AtomicBool>::default();
        let numbered = (0..row.partitions).zip(rows);
        let partitions = numbered
            .map(|(index, of_partition)| self.partition(&name, row.id, index, of_partition, &is_deleted))
            .collect();
        self.put(Topic {
            name,
            row,
            partitions,
            is_deleted,
            waiting: Arc::default(),
        })
    }

    /// The topic with empty partitions more, up to as many as `row` says. Those that
    /// it had, and who waits for records, stay the same.
    pub(super) fn grow(&self, topic: &Topic, row: TopicRow) -> Arc<Topic> {
        let mut partitions = topic.partitions.clone();
        let first = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
        let empty = PartitionRow::default();
        let more =
            (first..row.partitions).map(|index| self.partition(&topic.name, row.id, index, empty, &topic.is_deleted));
        partitions.extend(more);
        self.put(Topic {
            name: topic.name.clone(),
            row,
            partitions,
            is_deleted: Arc::clone(&topic.is_deleted),
            waiting: Arc::clone(&topic.waiting),
        })
    }

    fn partition(
        &self,
        topic: &TopicName,
        id: Uuid,
        index: u32,
        row: PartitionRow,
        is_deleted: &Arc<AtomicBool>,
    ) -> Arc<Partition> {
        Arc::new(Partition {
            name: TopicPartition {
                topic: topic.clone(),
                partition: index,
            },
            topic: id,
            slot: self.last_slot.fetch_add(1, Ordering::Relaxed),
            is_deleted: Arc::clone(is_deleted),
            state: Mutex::new(LogState {
                row,
                ..LogState::default()
            }),
        })
    }

    fn put(&self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        let mut topics = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        topics.insert(topic.name.clone(), Arc::clone(&topic));
        topic
    }

    pub(super) fn remove(&self, name: &TopicName) -> Option<Arc<Topic>> {
        let mut topics = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let topic = topics.remove(name)?;
        topic.is_deleted.store(true, Ordering::Release);
        Some(topic)
    }
}
