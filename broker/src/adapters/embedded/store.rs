//! The store on disk: fjall, opened, written in whole commits and read. Nothing
//! else names fjall.
//!
//! Everything here blocks: commits are for the writer's thread, reads for the
//! runtime's blocking threads.
//!
//! What holds: a commit is there whole or not at all after a crash, and is
//! fsynced when [`Store::commit`] returns `Ok`; its sequence tells later whether
//! it is there. Blocks are checked when they are read.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use fjall::config::CompressionPolicy;
use fjall::{
    AbstractTree, CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, OwnedWriteBatch,
    PersistMode,
};
use uuid::Uuid;

use super::block::{self, BlockError};
use super::config::EmbeddedConfig;
use super::rows::{self, PartitionRow, PositionRow, RowError, TopicRow};
use crate::name::{GroupName, TopicName};

/// How long, and in which steps, the store's own threads are waited for.
const REWRITE_LIMIT: Duration = Duration::from_secs(5);
const BACKGROUND_LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(2);
/// One commit seals one memtable at most, and fjall halts at 4.
const MAX_SEALED: usize = 3;
/// fjall halts at 30.
const MAX_UNSORTED_RUNS: usize = 28;

/// Why the store could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    #[error("the disk is full")]
    Full(#[source] fjall::Error),
    #[error("the store is damaged: {fault}")]
    Damaged {
        fault: String,
        #[source]
        source: Option<fjall::Error>,
    },
    #[error("the store could not be read or written: {0}")]
    Failed(#[source] fjall::Error),
    #[error("the store's own threads failed to write, as they do when the disk is full")]
    Halted,
}

impl StoreError {
    fn damaged(fault: impl Into<String>) -> Self {
        StoreError::Damaged {
            fault: fault.into(),
            source: None,
        }
    }

    pub(super) fn is_damage(&self) -> bool {
        matches!(self, StoreError::Damaged { .. })
    }
}

impl From<fjall::Error> for StoreError {
    fn from(error: fjall::Error) -> Self {
        use std::io::ErrorKind;
        let io = match &error {
            fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => Some(io.kind()),
            _ => None,
        };
        match (&error, io) {
            (_, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded)) => StoreError::Full(error),
            // A file that ends too early or is not what its name says was changed behind our back.
            (_, Some(ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::NotFound)) => StoreError::Damaged {
                fault: error.to_string(),
                source: Some(error),
            },
            (fjall::Error::Poisoned, _) => StoreError::Halted,
            (fjall::Error::Locked | fjall::Error::KeyspaceDeleted, _) | (_, Some(_)) => StoreError::Failed(error),
            _ => StoreError::Damaged {
                fault: error.to_string(),
                source: Some(error),
            },
        }
    }
}

impl From<RowError> for StoreError {
    fn from(error: RowError) -> Self {
        StoreError::damaged(error.to_string())
    }
}

/// The open store.
pub(super) struct Store {
    database: Database,
    blocks: Keyspace,
    meta: Keyspace,
}

/// All that the store says of topics and groups, as read when it is opened.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) sequence: u64,
    pub(super) epoch: u64,
    pub(super) topics: Vec<(TopicName, TopicRow, Vec<PartitionRow>)>,
    pub(super) positions: Vec<(GroupName, Uuid, u32, PositionRow)>,
    pub(super) deleted: Vec<Uuid>,
}

/// Changes that are made durable together.
pub(super) struct Changes<'a> {
    store: &'a Store,
    batch: OwnedWriteBatch,
}

impl Store {
    /// Opens the store in a folder, or makes it.
    pub(super) fn open(directory: &Path, config: &EmbeddedConfig) -> Result<Self, StoreError> {
        let database = Database::builder(directory)
            .cache_size(config.block_cache_bytes as u64)
            .journal_compression(CompressionType::None)
            .manual_journal_persist(true)
            .worker_threads(2)
            .open()?;
        // Blocks are large and never change: kept apart from the keys they are written once, not once a level.
        let blocks = database.keyspace("blocks", || {
            let separation = KvSeparationOptions::default().compression(CompressionType::None);
            KeyspaceCreateOptions::default()
                .max_memtable_size(config.segment_bytes as u64)
                .data_block_compression_policy(CompressionPolicy::disabled())
                .with_kv_separation(Some(separation))
        })?;
        let meta = database.keyspace("meta", || {
            KeyspaceCreateOptions::default().max_memtable_size(8 * 1024 * 1024)
        })?;
        Ok(Self { database, blocks, meta })
    }

    /// Changes to be gathered and committed.
    pub(super) fn changes(&self) -> Changes<'_> {
        Changes {
            store: self,
            batch: self.database.batch(),
        }
    }

    /// Writes the changes under a sequence and fsyncs them. `pause` lets time pass
    /// while the store's own threads are behind.
    pub(super) fn commit(
        &self,
        mut batch: CommittableBatch,
        sequence: u64,
        pause: impl Fn(Duration),
    ) -> Result<(), StoreError> {
        self.wait_for_background_work(pause)?;
        batch.0.insert(&self.meta, rows::SEQUENCE_KEY, sequence.to_be_bytes());
        batch.0.durability(Some(PersistMode::SyncData)).commit()?;
        Ok(())
    }

    /// Writes changes that may be lost in a crash, for they would be made again:
    /// without an fsync and without a sequence of their own.
    pub(super) fn commit_lazily(&self, batch: CommittableBatch, pause: impl Fn(Duration)) -> Result<(), StoreError> {
        self.wait_for_background_work(pause)?;
        batch.0.commit()?;
        Ok(())
    }

    /// fjall halts a commit for as long as its own threads are far behind, which is
    /// for ever once they have failed. Waiting is left to us, who see that.
    fn wait_for_background_work(&self, pause: impl Fn(Duration)) -> Result<(), StoreError> {
        let is_behind = |keyspace: &Keyspace| {
            keyspace.sealed_memtable_count() >= MAX_SEALED || keyspace.tree.l0_run_count() >= MAX_UNSORTED_RUNS
        };
        let mut waited = Duration::ZERO;
        while is_behind(&self.blocks) || is_behind(&self.meta) {
            // Fails when a thread of the store has failed.
            self.database.persist(PersistMode::Buffer)?;
            if waited >= BACKGROUND_LIMIT {
                return Err(StoreError::Halted);
            }
            pause(PAUSE);
            waited += PAUSE;
        }
        Ok(())
    }

    /// Rewrites what only the journal holds into files of their own, which are
    /// fsynced: what a failed fsync left in doubt is then surely on disk. `rest`
    /// waits for a span and says whether to go on.
    pub(super) fn rewrite_journal(&self, rest: impl Fn(Duration) -> bool) -> Result<(), StoreError> {
        for keyspace in [&self.blocks, &self.meta] {
            keyspace.rotate_memtable()?;
            let mut waited = Duration::ZERO;
            while keyspace.sealed_memtable_count() > 0 {
                // The flush is the store's own thread's; should it fail, the count stays.
                if waited >= REWRITE_LIMIT || !rest(PAUSE) {
                    return Err(StoreError::Halted);
                }
                waited += PAUSE;
            }
        }
        self.database.persist(PersistMode::SyncAll)?;
        Ok(())
    }

    /// The sequence of the last commit; 0 before the first.
    pub(super) fn sequence(&self) -> Result<u64, StoreError> {
        self.number(rows::SEQUENCE_KEY, "sequence")
    }

    fn number(&self, key: &[u8], what: &'static str) -> Result<u64, StoreError> {
        match self.meta.get(key)? {
            Some(bytes) => Ok(rows::decode_number(&bytes, what)?),
            None => Ok(0),
        }
    }

    /// Reads all rows, and checks that each partition ends where its row says.
    pub(super) fn catalog(&self) -> Result<Catalog, StoreError> {
        let mut catalog = Catalog {
            sequence: self.sequence()?,
            epoch: self.number(rows::EPOCH_KEY, "epoch")?,
            ..Catalog::default()
        };
        for item in self.meta.prefix([rows::TOPIC_PREFIX]) {
            let (key, value) = item.into_inner()?;
            let (name, row) = (rows::topic_name(&key)?, TopicRow::decode(&value)?);
            let partitions = (0..row.partitions).map(|partition| self.partition(&name, row.id, partition));
            let partitions = partitions.collect::<Result<_, _>>()?;
            catalog.topics.push((name, row, partitions));
        }
        for item in self.meta.prefix([rows::POSITION_PREFIX]) {
            let (key, value) = item.into_inner()?;
            let (group, topic, partition) = rows::position_of(&key)?;
            catalog
                .positions
                .push((group, topic, partition, PositionRow::decode(&value)?));
        }
        for item in self.meta.prefix([rows::DELETED_PREFIX]) {
            catalog.deleted.push(rows::deleted_topic(&item.key()?)?);
        }
        Ok(catalog)
    }

    fn partition(&self, name: &TopicName, topic: Uuid, partition: u32) -> Result<PartitionRow, StoreError> {
        let value = self.meta.get(rows::partition_key(topic, partition))?;
        let value = value.ok_or_else(|| StoreError::damaged(format!("partition {name}/{partition} has no row")))?;
        let row = PartitionRow::decode(&value)?;
        let range = rows::block_key(topic, partition, 0)..=rows::block_key(topic, partition, u64::MAX);
        let end = match self.blocks.range(range).next_back() {
            Some(item) => {
                let (key, value) = item.into_inner()?;
                checked(&key, &value)?.end_position()
            }
            None => row.start,
        };
        if end == row.end {
            Ok(row)
        } else {
            let fault = format!(
                "partition {name}/{partition} should end at {} and ends at {end}",
                row.end
            );
            Err(StoreError::damaged(fault))
        }
    }

    /// Blocks from the one that holds `position` on, until they have `max_bytes`
    /// or reach `end`. At least one, unless there is none before `end`.
    pub(super) fn read(
        &self,
        topic: Uuid,
        partition: u32,
        position: u64,
        end: u64,
        max_bytes: usize,
    ) -> Result<Vec<Bytes>, StoreError> {
        let before = rows::block_key(topic, partition, 0)..=rows::block_key(topic, partition, position);
        let first = match self.blocks.range(before).next_back() {
            Some(item) => rows::block_position(&item.key()?)?,
            None => return Ok(Vec::new()),
        };
        let range = rows::block_key(topic, partition, first)..rows::block_key(topic, partition, end);
        let (mut blocks, mut bytes, mut expected) = (Vec::new(), 0, None);
        for item in self.blocks.range(range) {
            let (key, value) = item.into_inner()?;
            let header = checked(&key, &value)?;
            if expected.is_some_and(|expected| expected != header.first_position) {
                let fault = format!("the block at position {} is missing", expected.unwrap_or_default());
                return Err(StoreError::damaged(fault));
            }
            expected = Some(header.end_position());
            bytes += value.len();
            if header.end_position() > position {
                blocks.push(Bytes::from(value));
            }
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(blocks)
    }

    /// The oldest blocks of a partition: first position, header and size of each.
    pub(super) fn oldest_blocks(
        &self,
        topic: Uuid,
        partition: u32,
        max: usize,
    ) -> Result<Vec<(block::BlockHeader, usize)>, StoreError> {
        let range = rows::block_key(topic, partition, 0)..=rows::block_key(topic, partition, u64::MAX);
        let mut blocks = Vec::new();
        for item in self.blocks.range(range).take(max) {
            let (key, value) = item.into_inner()?;
            blocks.push((checked(&key, &value)?, value.len()));
        }
        Ok(blocks)
    }

    /// Keys of blocks of a topic, at most `max`.
    pub(super) fn block_keys(&self, topic: Uuid, max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let keys = self.blocks.prefix(topic.as_bytes()).take(max);
        keys.map(|item| Ok(item.key()?.to_vec())).collect()
    }
}

fn checked(key: &[u8], value: &[u8]) -> Result<block::BlockHeader, StoreError> {
    let position = rows::block_position(key)?;
    let damaged = |error: BlockError| StoreError::damaged(format!("the block at position {position}: {error}"));
    block::verify(value, position).map_err(damaged)
}

/// Changes that borrow the store no more.
pub(super) struct CommittableBatch(OwnedWriteBatch);

impl Changes<'_> {
    pub(super) fn put_block(&mut self, topic: Uuid, partition: u32, first_position: u64, block: Bytes) {
        self.batch.insert(
            &self.store.blocks,
            rows::block_key(topic, partition, first_position),
            block,
        );
    }

    pub(super) fn remove_block(&mut self, key: &[u8]) {
        self.batch.remove(&self.store.blocks, key);
    }

    pub(super) fn put_partition(&mut self, topic: Uuid, partition: u32, row: &PartitionRow) {
        self.batch
            .insert(&self.store.meta, rows::partition_key(topic, partition), row.encode());
    }

    pub(super) fn put_topic(&mut self, name: &TopicName, row: &TopicRow) {
        self.batch.insert(&self.store.meta, rows::topic_key(name), row.encode());
    }

    /// Forgets a topic and marks its blocks as waste.
    pub(super) fn remove_topic(&mut self, name: &TopicName, topic: Uuid, partitions: u32) {
        self.batch.remove(&self.store.meta, rows::topic_key(name));
        for partition in 0..partitions {
            self.batch
                .remove(&self.store.meta, rows::partition_key(topic, partition));
        }
        self.batch.insert(&self.store.meta, rows::deleted_key(topic), []);
    }

    pub(super) fn remove_deleted(&mut self, topic: Uuid) {
        self.batch.remove(&self.store.meta, rows::deleted_key(topic));
    }

    pub(super) fn put_position(&mut self, group: &GroupName, topic: Uuid, partition: u32, row: &PositionRow) {
        self.batch.insert(
            &self.store.meta,
            rows::position_key(group, topic, partition),
            row.encode(),
        );
    }

    pub(super) fn remove_position(&mut self, group: &GroupName, topic: Uuid, partition: u32) {
        self.batch
            .remove(&self.store.meta, rows::position_key(group, topic, partition));
    }

    pub(super) fn put_epoch(&mut self, epoch: u64) {
        self.batch
            .insert(&self.store.meta, rows::EPOCH_KEY, epoch.to_be_bytes());
    }

    pub(super) fn finish(self) -> CommittableBatch {
        CommittableBatch(self.batch)
    }
}
