//! After a failed commit: the store is closed and opened again, which makes it
//! forget whatever was half written, and then says by its sequence whether the
//! commit is there.
//!
//! What holds: a commit is called absent only when the store that goes on being
//! used does not have it, and durable only after it was written out a second
//! time, for a failed fsync leaves the first in doubt. While the store cannot be
//! opened the broker is unavailable, and is tried again with growing pauses.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::store::{Store, StoreError};
use super::writer::{Committed, Writer};

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// A full disk is not asked again sooner.
const FULL_PAUSE: Duration = Duration::from_millis(500);
/// How long a read may keep a store that is to be closed.
const READ_LIMIT: Duration = Duration::from_secs(10);

impl Writer {
    /// What became of a commit, after mending if need be.
    pub(super) fn settle_commit(&mut self, committed: Result<(), StoreError>) -> Committed {
        let Err(error) = committed else {
            return Committed::Durable;
        };
        tracing::error!(%error, directory = %self.core.config.directory.display(), "a commit failed; reopening the store");
        self.core.set_unavailable(&error);
        let sequence = self.sequence;
        let give_up = Instant::now() + self.core.config.delivery_timeout;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.reopen() {
                Ok(last) if last < sequence => {
                    let is_full = matches!(error, StoreError::Full(_));
                    self.reopen_at = Some(Instant::now() + if is_full { FULL_PAUSE } else { Duration::ZERO });
                    return Committed::Absent(error);
                }
                Ok(_) => {
                    self.core.set_available();
                    return Committed::Durable;
                }
                Err(fault) => self.core.set_unavailable(&fault),
            }
            if Instant::now() >= give_up || self.core.queue.rest(pause) {
                self.reopen_at = Some(Instant::now() + pause);
                return Committed::Unknown(error);
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Makes the store usable again, if it can be; else tries again later.
    pub(super) fn try_to_mend(&mut self) {
        self.reopen_at = None;
        let probed = match self.core.store() {
            Some(store) => {
                let batch = store.changes().finish();
                self.commit(&store, batch)
            }
            None => self.reopen().and_then(|_| self.reload()),
        };
        match probed {
            Ok(()) => {
                tracing::info!(directory = %self.core.config.directory.display(), "the store is in use again");
                self.core.set_available();
                for topic in self.core.topics.all() {
                    topic.wake();
                }
            }
            Err(error) => {
                self.core.set_unavailable(&error);
                if self.core.store().is_some()
                    && let Err(error) = self.reopen()
                {
                    self.core.set_unavailable(&error);
                }
                self.reopen_at = Some(Instant::now() + LAST_PAUSE / 5);
            }
        }
    }

    /// Closes the store and opens it again; returns its sequence.
    fn reopen(&mut self) -> Result<u64, StoreError> {
        self.close_store();
        let store = Store::open(&self.directory.store(), &self.core.config)?;
        let last = store.sequence()?;
        if last >= self.sequence {
            let queue = &self.core.queue;
            store.rewrite_journal(|span| !queue.rest(span))?;
        }
        self.sequence = last;
        self.core.put_store(store);
        Ok(last)
    }

    /// After a commit of which nobody knew: what the store has is what there is.
    fn reload(&mut self) -> Result<(), StoreError> {
        let Some(store) = self.core.store() else {
            return Ok(());
        };
        let catalog = store.catalog()?;
        let stored = |id| catalog.topics.iter().any(|(_, row, _)| row.id == id);
        for topic in self.core.topics.all() {
            if !stored(topic.row.id) {
                self.core.topics.remove(&topic.name);
                self.core.groups.topic_deleted(&topic);
            }
        }
        for (name, row, rows) in catalog.topics {
            match self.core.topics.get(&name) {
                Some(topic) => topic
                    .partitions
                    .iter()
                    .zip(rows)
                    .for_each(|(partition, row)| partition.restore(row)),
                None => {
                    let topic = self.core.topics.insert(name, row, rows);
                    self.core.groups.topic_created(&topic, &self.core.queue);
                }
            }
        }
        self.deleted = catalog.deleted;
        Ok(())
    }

    /// Drops the store once the last read of it is done.
    pub(super) fn close_store(&mut self) {
        let Some(mut store) = self.core.take_store() else {
            return;
        };
        let give_up = Instant::now() + READ_LIMIT;
        while Instant::now() < give_up {
            match Arc::try_unwrap(store) {
                Ok(store) => {
                    drop(store);
                    return;
                }
                Err(shared) => store = shared,
            }
            self.core.queue.pause(Duration::from_millis(1));
        }
        tracing::warn!("a read holds the store for longer than {READ_LIMIT:?}");
    }
}
