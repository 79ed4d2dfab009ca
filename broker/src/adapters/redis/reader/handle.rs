//! What the seam hands out of a reader: the reader itself and its settler.
//!
//! What holds: no call here waits for Redis but `commit` and `close`, which have limits;
//! a reader that is dropped tells its task to vanish and waits for nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::super::core::Alive;
use super::member::Member;
use super::shared::{Shared, Wish};
use crate::error::{ReadError, ReadErrorKind, SettleError};
use crate::ledger::Ledger;
use crate::read::{Claim, PartitionPosition, ReadEvent, Reader, ReaderOptions, ReaderState, Settler};

/// After a close was to be over, how long its task may take to say so.
const GRACE: Duration = Duration::from_millis(500);

/// Joins a group; the Redis need not be there.
pub(in super::super) fn open(alive: &Arc<Alive>, options: ReaderOptions) -> Result<Box<dyn Reader>, ReadError> {
    check(&options)?;
    let shared = Arc::new(Shared::new(Arc::clone(&alive.0), options));
    tokio::spawn(Member::new(Arc::clone(&shared)).run());
    Ok(Box::new(RedisReader {
        _alive: Arc::clone(alive),
        settler: Arc::new(RedisSettler { shared }),
    }))
}

fn check(options: &ReaderOptions) -> Result<(), ReadError> {
    let refuse = |message: String| Err(ReadError::new(ReadErrorKind::InvalidOptions, message));
    if options.topics.is_empty() {
        return refuse(format!("group {} must name at least one topic", options.group));
    }
    for (index, topic) in options.topics.iter().enumerate() {
        if options.topics[..index].contains(topic) {
            return refuse(format!("topic {topic} is named twice"));
        }
    }
    if options.max_unsettled_records == 0 || options.max_unsettled_bytes == 0 {
        return refuse("a reader must be allowed at least one unsettled record and byte".to_owned());
    }
    if options.session_timeout < Duration::from_millis(500) {
        return refuse("a session of less than half a second would be lost all the time".to_owned());
    }
    Ok(())
}

struct RedisReader {
    _alive: Arc<Alive>,
    settler: Arc<RedisSettler>,
}

struct RedisSettler {
    shared: Arc<Shared>,
}

#[async_trait]
impl Reader for RedisReader {
    async fn next(&mut self) -> Result<ReadEvent, ReadError> {
        let shared = &self.settler.shared;
        loop {
            let happened = shared.happened.notified();
            if let Some(event) = shared.lock().take() {
                return event;
            }
            happened.await;
        }
    }

    fn settler(&self) -> Arc<dyn Settler> {
        Arc::clone(&self.settler) as Arc<dyn Settler>
    }

    async fn close(self: Box<Self>, limit: Duration) -> Result<(), ReadError> {
        let shared = Arc::clone(&self.settler.shared);
        let deadline = shared.core.clock.now() + limit;
        shared.lock().wish = Wish::Leave(deadline);
        shared.wake.notify_one();
        let over = wait_until(&shared, deadline + GRACE, |shared| shared.lock().left.clone()).await;
        let kind = ReadErrorKind::Internal;
        match over {
            Some(Ok(())) => Ok(()),
            Some(Err(message)) => Err(ReadError::new(kind, message)),
            None => Err(ReadError::new(kind, "the group was not left in time")),
        }
    }
}

impl Drop for RedisReader {
    fn drop(&mut self) {
        let shared = &self.settler.shared;
        let mut inner = shared.lock();
        if inner.left.is_none() {
            if inner.wish == Wish::Read {
                inner.wish = Wish::Vanish;
            }
            // The claims are over, whether or not Redis knows yet.
            inner.ledger = Ledger::new();
            inner.outbox.clear();
        }
        drop(inner);
        shared.wake.notify_one();
    }
}

/// Waits until `look` sees something, or until `deadline`.
async fn wait_until<T>(shared: &Shared, deadline: Instant, look: impl Fn(&Shared) -> Option<T>) -> Option<T> {
    loop {
        let finished = shared.finished.notified();
        tokio::pin!(finished);
        finished.as_mut().enable();
        if let Some(seen) = look(shared) {
            return Some(seen);
        }
        if tokio::time::timeout_at(deadline.into(), finished).await.is_err() {
            return look(shared);
        }
    }
}

#[async_trait]
impl Settler for RedisSettler {
    fn settle(&self, claim: &Claim) -> Result<(), SettleError> {
        let shared = &self.shared;
        let mut inner = shared.lock();
        if inner.is_over() {
            return Err(SettleError::Closed);
        }
        inner.ledger.settle(claim)?;
        inner.note_settled(&claim.partition, claim.position, shared.core.clock.now());
        // A little room is not worth waking up for.
        let options = &shared.options;
        let (records, bytes) = (options.max_unsettled_records, options.max_unsettled_bytes);
        let wake = inner.full && inner.ledger.has_room(records - records / 8, bytes - bytes / 8);
        if wake {
            inner.full = false;
        }
        let wake = wake || inner.is_first_settled();
        drop(inner);
        if wake {
            shared.wake.notify_one();
        }
        Ok(())
    }

    fn release(&self, claim: &Claim) -> Result<(), SettleError> {
        let mut inner = self.shared.lock();
        if inner.is_over() {
            return Err(SettleError::Closed);
        }
        inner.ledger.release(claim)?;
        drop(inner);
        self.shared.happened.notify_one();
        Ok(())
    }

    async fn commit(&self, limit: Duration) -> Result<(), ReadError> {
        let shared = &self.shared;
        let deadline = shared.core.clock.now() + limit;
        let asked = {
            let mut inner = shared.lock();
            if inner.is_over() {
                return Err(ReadError::new(ReadErrorKind::Closed, "the reader is closed"));
            }
            inner.commits_asked += 1;
            inner.commits_asked
        };
        shared.wake.notify_one();
        let made = |shared: &Shared| (shared.lock().commits_made >= asked).then_some(());
        wait_until(shared, deadline, made).await.ok_or_else(|| {
            let message = format!(
                "group {} could not commit in time; it goes on trying",
                shared.options.group
            );
            ReadError::new(ReadErrorKind::Internal, message)
        })
    }

    fn positions(&self) -> Vec<PartitionPosition> {
        self.shared.lock().ledger.positions()
    }

    fn state(&self) -> ReaderState {
        self.shared.state()
    }
}
