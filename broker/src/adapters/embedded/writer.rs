//! The one thread that writes: takes all that waits, writes it in one commit
//! with one fsync, then tells everyone.
//!
//! What holds: an outcome is `Ok` only after the fsync; records become readable
//! then and not before, in the order of the queue; readers are woken once a
//! commit. What happens after a failed commit is the business of
//! [`mending`](super::mending), retention that of [`retention`](super::retention).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::block::BlockBuilder;
use super::core::Core;
use super::directory::Directory;
use super::log::{Partition, TailBlock};
use super::queue::{AppendWork, PositionChange, Taken, Work};
use super::rows::PartitionRow;
use super::store::{Changes, CommittableBatch, Store, StoreError};
use crate::append::{AppendOutcome, Position};
use crate::error::{AppendError, AppendErrorKind, Stored};

/// How often the watermark itself is made durable.
const WATERMARK_INTERVAL: Duration = Duration::from_secs(1);

/// Up to so many appends of a commit are told by the writer itself.
const FEW_APPENDS: usize = 4;

/// What became of a commit.
#[derive(Debug)]
pub(super) enum Committed {
    /// It is durable.
    Durable,
    /// It is surely not there.
    Absent(StoreError),
    /// Nobody can say.
    Unknown(StoreError),
}

/// The writer's own state.
pub(super) struct Writer {
    pub(super) core: Arc<Core>,
    pub(super) directory: Directory,
    /// The sequence of the last commit.
    pub(super) sequence: u64,
    pub(super) deleted: Vec<Uuid>,
    pub(super) reopen_at: Option<Instant>,
    /// Where those who wait for outcomes live; absent outside of a runtime.
    runtime: Option<Handle>,
    builders: Vec<BlockBuilder>,
    tail: VecDeque<(Arc<Partition>, usize)>,
    tail_bytes: usize,
    next_retention: Instant,
    next_watermark: Instant,
}

impl Writer {
    pub(super) fn new(core: Arc<Core>, directory: Directory, sequence: u64, deleted: Vec<Uuid>) -> Self {
        let now = Instant::now();
        Self {
            next_retention: now + core.config.retention_interval,
            next_watermark: now + WATERMARK_INTERVAL,
            core,
            directory,
            sequence,
            deleted,
            reopen_at: None,
            runtime: Handle::try_current().ok(),
            builders: Vec::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
        }
    }

    /// Writes until the queue ends, then gives the store and the folder up.
    pub(super) fn run(mut self, ended: oneshot::Sender<()>) {
        let _end = End(Arc::clone(&self.core));
        loop {
            let deadline = self.next_retention.min(self.next_watermark);
            let deadline = self.reopen_at.map_or(deadline, |at| at.min(deadline));
            match self.core.queue.take(deadline) {
                Taken::Work(work) => self.work(work),
                Taken::Nothing => {}
                Taken::Ended => break,
            }
            self.look_after_the_store();
        }
        if let Err(error) = self.directory.sync_watermark() {
            tracing::warn!(%error, "the watermark could not be made durable");
        }
        self.close_store();
        drop(self.directory);
        // Nobody may wait for the end; that is fine.
        let _ = ended.send(());
    }

    fn look_after_the_store(&mut self) {
        let now = Instant::now();
        if self.reopen_at.is_some_and(|at| at <= now) {
            self.try_to_mend();
        }
        if now >= self.next_retention {
            let is_more = self.retain();
            // What piles up goes soon, but appends get as much of the time.
            let interval = self.core.config.retention_interval;
            let pause = if is_more { now.elapsed().min(interval) } else { interval };
            self.next_retention = Instant::now() + pause;
        }
        if now >= self.next_watermark {
            self.next_watermark = now + WATERMARK_INTERVAL;
            if let Err(error) = self.directory.sync_watermark() {
                tracing::warn!(%error, "the watermark could not be made durable");
            }
        }
    }

    /// Changes of topics and the end of groups stand alone; all between two of them is one commit.
    fn work(&mut self, work: Vec<Work>) {
        let mut round = Round::default();
        for work in work {
            match work {
                Work::Append(append) => round.appends.push(append),
                Work::Positions(changes, reply) => round.positions.push((changes, reply)),
                Work::CreateTopic(spec, reply) => {
                    self.commit_round(std::mem::take(&mut round));
                    // The caller may have gone; the topic is made all the same.
                    let _ = reply.send(self.create_topic(&spec));
                }
                Work::DeleteTopic(name, reply) => {
                    self.commit_round(std::mem::take(&mut round));
                    let _ = reply.send(self.delete_topic(&name));
                }
                Work::GrowTopic(name, partitions, reply) => {
                    self.commit_round(std::mem::take(&mut round));
                    let _ = reply.send(self.grow_topic(&name, partitions));
                }
                Work::DeleteGroup(name, reply) => {
                    self.commit_round(std::mem::take(&mut round));
                    let _ = reply.send(self.delete_group(&name));
                }
            }
        }
        self.commit_round(round);
    }

    fn commit_round(&mut self, mut round: Round) {
        if round.appends.is_empty() && round.positions.is_empty() {
            return;
        }
        let store = self.core.store().filter(|_| self.reopen_at.is_none());
        let Some(store) = store else {
            round.refuse(&self.core);
            return;
        };
        let appended_ms = self.core.clock.wall_millis();
        let mut changes = store.changes();
        let mut encoder = Encoder::new(&mut self.builders, self.core.config.block_bytes, appended_ms);
        for append in &round.appends {
            round.outcomes.push(encoder.append(append, &mut changes));
        }
        let touched = encoder.finish(&mut changes);
        for (positions, _) in &round.positions {
            for change in positions {
                changes.put_position(&change.group, change.topic, change.partition, &change.row);
            }
        }
        let batch = changes.finish();
        let committed = self.commit(&store, batch);
        // Mending waits until nobody holds the store.
        drop(store);
        match self.settle_commit(committed) {
            Committed::Durable => {
                self.publish(touched, appended_ms);
                self.tell(round);
            }
            Committed::Absent(error) => round.fail(&error, Stored::No),
            Committed::Unknown(error) => round.fail(&error, Stored::Unknown),
        }
    }

    /// Tells those who wait. Waking many tasks from a thread that is none of the
    /// runtime's is dear, and the next commit would wait for it.
    fn tell(&self, round: Round) {
        match &self.runtime {
            Some(runtime) if round.appends.len() > FEW_APPENDS => {
                runtime.spawn(async move { round.resolve() });
            }
            _ => round.resolve(),
        }
    }

    /// One commit under the next sequence.
    pub(super) fn commit(&mut self, store: &Store, batch: CommittableBatch) -> Result<(), StoreError> {
        self.sequence += 1;
        store.commit(batch, self.sequence, |span| self.core.queue.pause(span))?;
        if let Err(error) = self.directory.set_watermark(self.sequence) {
            // Behind is safe: it only tells less of what might be lost later.
            tracing::warn!(%error, "the watermark could not be written");
        }
        Ok(())
    }

    /// Lets readers have what is durable now.
    fn publish(&mut self, touched: Vec<Touched>, appended_ms: i64) {
        let mut woken = Vec::new();
        for Touched { partition, blocks, .. } in touched {
            for block in &blocks {
                self.tail_bytes += block.bytes.len();
                self.tail.push_back((Arc::clone(&partition), block.bytes.len()));
            }
            if !woken.contains(&partition.name.topic) {
                woken.push(partition.name.topic.clone());
            }
            partition.publish(blocks, appended_ms);
        }
        while self.tail_bytes > self.core.config.tail_cache_bytes
            && let Some((partition, bytes)) = self.tail.pop_front()
        {
            partition.shorten_tail();
            self.tail_bytes -= bytes;
        }
        for topic in woken {
            if let Some(topic) = self.core.topics.get(&topic) {
                topic.wake();
            }
        }
    }
}

/// However the writer ends, nobody waits for it any more.
struct End(Arc<Core>);

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("the embedded broker's writer panicked; the broker is closed");
        }
        self.0.begin_close();
        self.0.queue.abandon();
    }
}

/// What one commit writes, and who waits for it.
#[derive(Default)]
struct Round {
    appends: Vec<AppendWork>,
    outcomes: Vec<Vec<AppendOutcome>>,
    positions: Vec<(Vec<PositionChange>, oneshot::Sender<bool>)>,
}

impl Round {
    // Whoever dropped a commit or a reply does not wait; the sends below may fail.
    fn resolve(self) {
        for (append, outcomes) in self.appends.into_iter().zip(self.outcomes) {
            drop(append.permits);
            append.sender.resolve(outcomes);
        }
        for (_, reply) in self.positions {
            let _ = reply.send(true);
        }
    }

    fn fail(self, error: &StoreError, stored: Stored) {
        let kind = match error {
            StoreError::Full(_) => AppendErrorKind::StorageFull,
            StoreError::Damaged { .. } => AppendErrorKind::StorageDamaged,
            StoreError::Failed(_) | StoreError::Halted => AppendErrorKind::Internal,
        };
        let message = format!("the record could not be written: {error}; {stored}");
        for (append, outcomes) in self.appends.into_iter().zip(self.outcomes) {
            drop(append.permits);
            let outcome = |outcome: AppendOutcome| {
                outcome.and_then(|_| {
                    let message = message.clone();
                    Err(AppendError {
                        kind,
                        stored,
                        message,
                        source: None,
                    })
                })
            };
            append.sender.resolve(outcomes.into_iter().map(outcome).collect());
        }
        for (_, reply) in self.positions {
            let _ = reply.send(false);
        }
    }

    /// The store is not there: nothing was written.
    fn refuse(self, core: &Core) {
        for append in self.appends {
            drop(append.permits);
            let outcomes = append.records.iter().map(|_| Err(unavailable(core))).collect();
            append.sender.resolve(outcomes);
        }
        for (_, reply) in self.positions {
            let _ = reply.send(false);
        }
    }
}

/// The refusal while the store is being mended.
pub(super) fn unavailable(core: &Core) -> AppendError {
    use crate::seam::BrokerState;
    let kind = if core.is_full() {
        AppendErrorKind::StorageFull
    } else {
        AppendErrorKind::BrokerUnavailable
    };
    match core.state() {
        BrokerState::Unavailable { reason, .. } => AppendError::refused(kind, reason),
        BrokerState::Available => AppendError::refused(kind, "the store is about to be opened again; try again"),
    }
}

/// A partition that a commit appends to.
struct Touched {
    partition: Arc<Partition>,
    /// Which builder has its open block.
    builder: usize,
    blocks: Vec<TailBlock>,
}

/// Puts records into blocks, one open block for each partition.
struct Encoder<'a> {
    builders: &'a mut Vec<BlockBuilder>,
    block_bytes: usize,
    appended_ms: i64,
    touched: Vec<Touched>,
    by_slot: HashMap<usize, usize>,
    last: Option<(usize, usize)>,
}

impl<'a> Encoder<'a> {
    fn new(builders: &'a mut Vec<BlockBuilder>, block_bytes: usize, appended_ms: i64) -> Self {
        Self {
            builders,
            block_bytes,
            appended_ms,
            touched: Vec::new(),
            by_slot: HashMap::new(),
            last: None,
        }
    }

    fn append(&mut self, append: &AppendWork, changes: &mut Changes<'_>) -> Vec<AppendOutcome> {
        let place = |(partition, record): &(Arc<Partition>, _)| {
            if partition.is_deleted() {
                let message = format!("topic {} was deleted; make it again", partition.name.topic);
                return Err(AppendError::refused(AppendErrorKind::TopicNotFound, message));
            }
            let index = self.index(partition);
            let builder = &mut self.builders[self.touched[index].builder];
            let position = builder.next_position();
            builder.push(record);
            if builder.size_bytes() >= self.block_bytes {
                self.cut(index, changes);
            }
            Ok(Position {
                partition: partition.name.partition,
                position,
            })
        };
        append.records.iter().map(place).collect()
    }

    fn index(&mut self, partition: &Arc<Partition>) -> usize {
        if let Some((slot, index)) = self.last
            && slot == partition.slot
        {
            return index;
        }
        let index = *self.by_slot.entry(partition.slot).or_insert(self.touched.len());
        if index == self.touched.len() {
            if self.builders.len() == index {
                self.builders.push(BlockBuilder::default());
            }
            self.builders[index].start(partition.row().end);
            self.touched.push(Touched {
                partition: Arc::clone(partition),
                builder: index,
                blocks: Vec::new(),
            });
        }
        self.last = Some((partition.slot, index));
        index
    }

    /// Closes the open block of a partition and opens the next.
    fn cut(&mut self, index: usize, changes: &mut Changes<'_>) {
        let touched = &mut self.touched[index];
        let builder = &mut self.builders[touched.builder];
        let (first_position, end_position) = (builder.first_position(), builder.next_position());
        let bytes: Bytes = builder.finish(self.appended_ms);
        let name = &touched.partition.name;
        changes.put_block(touched.partition.topic, name.partition, first_position, bytes.clone());
        touched.blocks.push(TailBlock {
            first_position,
            end_position,
            bytes,
        });
        builder.start(end_position);
    }

    fn finish(mut self, changes: &mut Changes<'_>) -> Vec<Touched> {
        for index in 0..self.touched.len() {
            if self.builders[self.touched[index].builder].count() > 0 {
                self.cut(index, changes);
            }
            let Touched { partition, blocks, .. } = &self.touched[index];
            let row = partition.row();
            let end = blocks.last().map_or(row.end, |block| block.end_position);
            let bytes = row.bytes + blocks.iter().map(|block| block.bytes.len() as u64).sum::<u64>();
            let row = PartitionRow {
                start: row.start,
                end,
                bytes,
            };
            changes.put_partition(partition.topic, partition.name.partition, &row);
        }
        self.touched
    }
}
