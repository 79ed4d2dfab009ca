//! Waiting for entries without asking all the time.
//!
//! A connection of the reader's own waits with `XREAD BLOCK`, which takes nothing and
//! belongs to no group; what it says is only that there is something. Over several
//! nodes, and while there is no such connection, the shards are looked at from time to
//! time instead.
//!
//! What holds: nothing else ever uses the connection that waits.

use std::collections::{BTreeMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;

use super::super::config::RedisMode;
use super::super::core::Core;
use super::super::frame::{bytes, into_pairs};
use super::super::session::{Session, word};
use super::super::settings::Role;
use super::super::verify::ANYWHERE;
use super::shard::{Mode, Shard};
use crate::name::TopicPartition;

/// How long one wait takes at most; a shard that comes in between waits for it.
const BLOCK_MILLISECONDS: &str = "500";

/// Between looks where nothing can be waited for.
const LOOK_INTERVALS: [Duration; 5] = [
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
];

/// What a wait found: the streams that have something, and the connection for the next.
type Found = (Option<Arc<Session>>, HashSet<Bytes>);

type UnderWay = Pin<Box<dyn Future<Output = Found> + Send>>;

pub(super) struct Waiting {
    can_block: bool,
    session: Option<Arc<Session>>,
    /// Kept when something else happens meanwhile.
    under_way: Mutex<Option<UnderWay>>,
    looks: usize,
}

impl Waiting {
    pub(super) fn new(core: &Core) -> Self {
        Self {
            can_block: core.config.mode != RedisMode::Cluster,
            session: None,
            under_way: Mutex::default(),
            looks: 0,
        }
    }

    /// Something was read: look soon again.
    pub(super) fn has_read(&mut self) {
        self.looks = 0;
    }

    /// Waits until a shard may have something, and marks it. Cancel safe.
    pub(super) async fn wait(&mut self, core: &Arc<Core>, held: &mut BTreeMap<TopicPartition, Shard>) {
        if !self.can_block {
            return self.look(held).await;
        }
        let under_way = self.under_way.get_mut().unwrap_or_else(PoisonError::into_inner);
        if under_way.is_none() {
            let idle: Vec<_> = held.values().filter(|shard| shard.mode == Mode::New).collect();
            if idle.is_empty() {
                return std::future::pending().await;
            }
            let mut arguments = vec![
                word("COUNT"),
                word("1"),
                word("BLOCK"),
                word(BLOCK_MILLISECONDS),
                word("STREAMS"),
            ];
            arguments.extend(idle.iter().map(|shard| shard.stream.value()));
            arguments.extend(idle.iter().map(|shard| shard.id_before_next().value()));
            let session = self.session.take().filter(|session| !session.is_closed());
            *under_way = Some(Box::pin(block(Arc::clone(core), session, arguments)));
        }
        let Some(waiting) = under_way else { return };
        let (session, found) = waiting.await;
        *under_way = None;
        let is_broken = session.is_none();
        self.session = session;
        for shard in held.values_mut() {
            let Value::Bytes(name) = shard.stream.value() else {
                continue;
            };
            if found.contains(&name) {
                shard.is_ready = true;
                shard.is_told = true;
            }
        }
        if is_broken {
            self.look(held).await;
        }
    }

    async fn look(&mut self, held: &mut BTreeMap<TopicPartition, Shard>) {
        tokio::time::sleep(LOOK_INTERVALS[self.looks.min(LOOK_INTERVALS.len() - 1)]).await;
        self.looks += 1;
        for shard in held.values_mut() {
            shard.is_ready = true;
        }
    }
}

async fn block(core: Arc<Core>, session: Option<Arc<Session>>, arguments: Vec<Value>) -> Found {
    let nothing = HashSet::new();
    let session = match session {
        Some(session) => session,
        None => match Session::open(&core.settings, Role::Wait).await {
            Ok(session) => Arc::new(session),
            Err(_) => return (None, nothing),
        },
    };
    match session.call_blocking("XREAD", ANYWHERE, arguments).await {
        Ok(reply) => {
            let names = into_pairs(reply)
                .into_iter()
                .filter_map(|(name, _)| bytes(&name).cloned());
            (Some(session), names.collect())
        }
        Err(fault) if fault.is_connection() => (None, nothing),
        Err(fault) => {
            tracing::debug!(%fault, "waiting for entries is refused");
            (None, nothing)
        }
    }
}
