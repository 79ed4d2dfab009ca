//! What a topic is, as the Redis has it, and as it was last seen.
//!
//! What holds: what was seen may be old. It is good enough to refuse with after one
//! more look, and an append under an old epoch is refused by the Redis itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::entry::EntryId;
use super::error::{Fault, FaultKind};
use super::frame::{into_pairs, text};
use super::keys::{Key, Keys};
use super::session::Session;
use crate::name::TopicName;
use crate::shards::ShardRing;
use fred::interfaces::Resp3Frame as Frame;

/// Topics that are remembered at most; beyond that all are looked up again.
const MAX_REMEMBERED: usize = 10_000;

/// What is being done to a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopicState {
    Making,
    Ready,
    /// It gets more shards: those that there are have a new epoch, one by one.
    Growing {
        to: u32,
    },
}

/// A time when shards were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Growth {
    pub(super) epoch: u64,
    pub(super) from: u32,
    pub(super) to: u32,
}

/// A topic as it was at one time.
#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) name: TopicName,
    pub(super) id: String,
    pub(super) epoch: u64,
    pub(super) state: TopicState,
    pub(super) ring: ShardRing,
    pub(super) growths: Vec<Growth>,
    pub(super) retention_ms: Option<u64>,
    pub(super) retention_bytes: Option<u64>,
    pub(super) streams: Vec<Key>,
}

impl Topic {
    pub(super) fn shards(&self) -> u32 {
        self.ring.shards()
    }

    /// The growth that made a shard, if it was not there from the start.
    pub(super) fn growth_of(&self, shard: u32) -> Option<Growth> {
        let made = |growth: &&Growth| (growth.from..growth.to).contains(&shard);
        self.growths.iter().find(made).copied()
    }

    /// Out of the fields of its hash; `None` when there is no such topic.
    pub(super) fn of_fields(name: &TopicName, fields: Frame, keys: &Keys) -> Option<Self> {
        let pairs = into_pairs(fields);
        let field = |wanted: &str| {
            let found = pairs.iter().find(|(name, _)| text(name) == Some(wanted));
            found.and_then(|(_, value)| text(value))
        };
        let number = |wanted: &str| field(wanted).and_then(|text| text.parse::<u64>().ok());
        let shards = u32::try_from(number("shards")?).ok()?;
        let state = match field("state")? {
            "ready" => TopicState::Ready,
            "growing" => TopicState::Growing {
                to: u32::try_from(number("growing_to")?).ok()?,
            },
            _ => TopicState::Making,
        };
        Some(Self {
            name: name.clone(),
            id: field("id")?.to_owned(),
            epoch: number("epoch")?,
            state,
            ring: ShardRing::new(shards),
            growths: field("growths").map(growths_of).unwrap_or_default(),
            retention_ms: number("retention_ms"),
            retention_bytes: number("retention_bytes"),
            streams: (0..shards).map(|shard| keys.stream(name, shard)).collect(),
        })
    }
}

fn growths_of(text: &str) -> Vec<Growth> {
    let growth = |part: &str| {
        let mut numbers = part.split(':');
        Some(Growth {
            epoch: numbers.next()?.parse().ok()?,
            from: numbers.next()?.parse().ok()?,
            to: numbers.next()?.parse().ok()?,
        })
    };
    text.split(',').filter_map(growth).collect()
}

/// As it is stored.
pub(super) fn growths_text(growths: &[Growth]) -> String {
    let parts: Vec<_> = growths
        .iter()
        .map(|growth| format!("{}:{}:{}", growth.epoch, growth.from, growth.to))
        .collect();
    parts.join(",")
}

/// Asks for a topic. One that is being made is not there yet.
pub(super) async fn look_up(session: &Session, keys: &Keys, name: &TopicName) -> Result<Option<Topic>, Fault> {
    let key = keys.topic(name);
    let fields = session.call("HGETALL", key.hash(), vec![key.value()]).await?;
    let topic = Topic::of_fields(name, fields, keys);
    Ok(topic.filter(|topic| topic.state != TopicState::Making))
}

/// At which positions the later epochs of a shard begin, in order.
pub(super) async fn epochs(session: &Session, keys: &Keys, topic: &TopicName, shard: u32) -> Result<Epochs, Fault> {
    let key = keys.epochs(topic, shard);
    let pairs = into_pairs(session.call("HGETALL", key.hash(), vec![key.value()]).await?);
    let begins = |(epoch, position): (Frame, Frame)| {
        let epoch: u64 = text(&epoch)?.parse().ok()?;
        let position: u64 = text(&position)?.parse().ok()?;
        Some((position, epoch))
    };
    let mut begun: Vec<_> = pairs.into_iter().filter_map(begins).collect();
    begun.sort_unstable();
    Ok(Epochs(begun))
}

/// Which epoch a position has: each begins at a position and ends at the next one's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Epochs(Vec<(u64, u64)>);

impl Epochs {
    /// The epoch of a position; `oldest` before all that are known.
    pub(super) fn of(&self, position: u64, oldest: u64) -> u64 {
        let index = self.0.partition_point(|(begin, _)| *begin <= position);
        index.checked_sub(1).map_or(oldest, |index| self.0[index].1)
    }

    /// The position at which an epoch begins.
    pub(super) fn begin_of(&self, epoch: u64) -> Option<u64> {
        let found = self.0.iter().find(|(_, known)| *known == epoch);
        found.map(|(begin, _)| *begin)
    }

    /// Whether an epoch is later than all that were seen.
    pub(super) fn is_later(&self, epoch: u64) -> bool {
        self.0.last().is_some_and(|(_, last)| *last < epoch)
    }

    /// Learns from an entry: positions are seen in order.
    pub(super) fn learn(&mut self, id: EntryId) {
        if self.0.last().is_none_or(|(_, epoch)| *epoch < id.epoch) {
            self.0.push((id.position(), id.epoch));
        }
    }
}

/// The topics that were seen.
#[derive(Debug, Default)]
pub(super) struct Topics {
    known: Mutex<HashMap<TopicName, Arc<Topic>>>,
}

impl Topics {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TopicName, Arc<Topic>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn known(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.lock().get(name).cloned()
    }

    pub(super) fn forget(&self, name: &TopicName) {
        self.lock().remove(name);
    }

    pub(super) fn learn(&self, topic: Topic) -> Arc<Topic> {
        let topic = Arc::new(topic);
        let mut known = self.lock();
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(topic.name.clone(), Arc::clone(&topic));
        topic
    }

    /// Asks for a topic, and remembers the answer.
    pub(super) async fn look_up(
        &self,
        session: &Session,
        keys: &Keys,
        name: &TopicName,
    ) -> Result<Option<Arc<Topic>>, Fault> {
        match look_up(session, keys, name).await {
            Ok(Some(topic)) => Ok(Some(self.learn(topic))),
            Ok(None) => {
                self.forget(name);
                Ok(None)
            }
            Err(fault) => Err(fault),
        }
    }
}

/// What is said of a topic that is not there.
pub(super) fn missing(topic: &TopicName) -> String {
    format!(
        "topic {topic} is not there: make it with `meridian topics create`; if it was there, it was deleted, or the \
         Redis has lost its data"
    )
}

/// The fault of a look that cannot be made for want of a connection.
pub(super) fn not_connected() -> Fault {
    Fault::new(FaultKind::Lost, "there is no connection to Redis")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_found_by_position() {
        let mut epochs = Epochs::default();
        assert_eq!(epochs.of(3, 9), 9);
        for id in [EntryId::at(10, 5), EntryId::at(10, 6), EntryId::at(11, 8)] {
            epochs.learn(id);
        }
        let seen = [4, 5, 7, 8, 100].map(|position| epochs.of(position, 9));
        assert_eq!(seen, [9, 10, 10, 11, 11]);
        assert_eq!((epochs.begin_of(11), epochs.begin_of(12)), (Some(8), None));
    }

    #[test]
    fn growths_come_back() {
        let growths = vec![
            Growth {
                epoch: 7,
                from: 4,
                to: 5,
            },
            Growth {
                epoch: 8,
                from: 5,
                to: 8,
            },
        ];
        assert_eq!(growths_of(&growths_text(&growths)), growths);
        assert_eq!(growths_of(""), vec![]);
    }
}
