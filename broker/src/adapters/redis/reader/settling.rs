//! Making settlements durable: acknowledged in batches, by the owner alone.
//!
//! What holds: what could not be told waits and is told later, or comes again; a
//! commit that was asked for counts as made only when all settled before is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::super::error::Fault;
use super::super::frame::number;
use super::super::keys::Key;
use super::super::script::ACK;
use super::super::session::{Session, word};
use super::member::Member;
use super::shard::Shard;
use super::shared::Shared;
use crate::ledger::PendingCommit;
use crate::name::TopicPartition;
use fred::types::Value;

/// Entries of one acknowledgement; Lua takes some thousand arguments.
const MAX_ENTRIES: usize = 1_000;

/// Settlements on their way.
#[derive(Default)]
pub(super) struct Settling {
    parts: Vec<Part>,
    pending: Vec<PendingCommit>,
    asked: u64,
}

struct Part {
    partition: TopicPartition,
    positions: Vec<u64>,
    stream: Key,
    owner: Key,
    ids: Vec<Value>,
    told: Option<Result<bool, Fault>>,
}

impl Settling {
    pub(super) async fn run(mut self, shared: &Shared) -> Self {
        if self.parts.is_empty() {
            return self;
        }
        let Some(session) = shared.core.control.session() else {
            return self;
        };
        let telling = self.parts.iter_mut().map(|part| {
            let (session, ids) = (&session, std::mem::take(&mut part.ids));
            async move {
                part.told = Some(acknowledge(session, shared, &part.stream, &part.owner, ids).await);
            }
        });
        futures::future::join_all(telling).await;
        self
    }
}

/// Acknowledges entries; false if the member does not own the shard any more.
async fn acknowledge(
    session: &Session,
    shared: &Shared,
    stream: &Key,
    owner: &Key,
    ids: Vec<Value>,
) -> Result<bool, Fault> {
    let chunks = ids.chunks(MAX_ENTRIES).map(|ids| {
        let mut arguments = vec![word(&shared.member), word(shared.options.group.as_str())];
        arguments.extend_from_slice(ids);
        async move { ACK.run(session, &[stream, owner], arguments).await }
    });
    for reply in futures::future::join_all(chunks).await {
        if number(&reply?) == Some(-1) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tells Redis that entries of a shard are settled.
pub(super) async fn tell(session: &Session, shared: &Shared, shard: &Shard, settled: &[u64]) -> Result<(), Fault> {
    let ids = settled.iter().map(|position| shard.id_of(*position).value()).collect();
    acknowledge(session, shared, &shard.stream, &shard.owner, ids)
        .await
        .map(drop)
}

impl Member {
    /// When what is settled is to be told.
    pub(super) fn commit_at(&self, now: Instant) -> Option<Instant> {
        let inner = self.shared.lock();
        if inner.commits_asked > inner.commits_made {
            return Some(now);
        }
        inner
            .settled_since
            .map(|since| since + self.shared.options.commit_interval)
    }

    pub(super) fn plan_settling(&mut self) -> Settling {
        let now = self.now();
        let has_connection = self.shared.core.control.session().is_some();
        if !has_connection || self.commit_at(now).is_none_or(|at| at > now) {
            return Settling::default();
        }
        let (settled, pending, asked) = {
            let mut inner = self.shared.lock();
            let (settled, pending) = inner.take_settled();
            (settled, pending, inner.commits_asked)
        };
        let parts = settled.into_iter().filter_map(|(partition, positions)| {
            let shard = self.held.get(&partition)?;
            Some(Part {
                ids: positions
                    .iter()
                    .map(|position| shard.id_of(*position).value())
                    .collect(),
                stream: shard.stream.clone(),
                owner: shard.owner.clone(),
                partition,
                positions,
                told: None,
            })
        });
        Settling {
            parts: parts.collect(),
            pending,
            asked,
        }
    }

    pub(super) fn finish_settling(&mut self, settling: Settling) {
        let now = self.now();
        let (mut lost, mut failed) = (Vec::new(), HashMap::new());
        for part in settling.parts {
            match part.told {
                Some(Ok(true)) => {}
                Some(Ok(false)) => lost.push(part.partition),
                Some(Err(fault)) => {
                    tracing::debug!(partition = %part.partition, %fault, "settlements wait");
                    failed.insert(part.partition, part.positions);
                }
                None => {
                    failed.insert(part.partition, part.positions);
                }
            }
        }
        let shared = Arc::clone(&self.shared);
        let mut inner = shared.lock();
        for pending in &settling.pending {
            if !failed.contains_key(&pending.partition) && !lost.contains(&pending.partition) {
                inner.ledger.mark_committed(pending);
            }
        }
        let is_made = failed.is_empty() && settling.asked > inner.commits_made;
        if is_made {
            inner.commits_made = settling.asked;
        }
        let has_failed = !failed.is_empty();
        for (partition, positions) in failed {
            inner.put_settled_back(partition, positions, now);
        }
        drop(inner);
        if is_made {
            shared.finished.notify_waiters();
        }
        if has_failed {
            // Not at once again: the next tick tells whether there is a connection.
            self.next_tick = self.next_tick.min(now);
        }
        self.lose(&lost);
    }
}
