//! Who shall have which shard, worked out by every member from the same facts.
//!
//! What holds: a shard is taken only through its owner's key; one that this member
//! shall have and another still owns is asked for again soon; a topic that is another
//! than before, or a Redis that is, ends the reader.

use std::collections::HashMap;
use std::sync::Arc;

use fred::types::Value;
use futures::future::{join_all, try_join_all};

use super::super::error::Fault;
use super::super::frame::{array, text};
use super::super::script::{LIVE, NOTE, STAND};
use super::super::session::{Session, word};
use super::super::topics::{self, Topic};
use super::super::verify::known_identity;
use super::member::{IMPATIENT_TICK, Member};
use super::shard::Standing;
use crate::assignment::{Subscriber, assign};
use crate::error::ReadErrorKind;
use crate::name::{TopicName, TopicPartition};
use crate::read::StartPosition;

/// A member that lives, and what it reads.
type Live = Vec<(String, Vec<TopicName>)>;

impl Member {
    /// One coordination.
    pub(super) async fn coordinate(&mut self, session: &Arc<Session>) -> Result<(), Fault> {
        let live = self.show_life(session, false).await?;
        let mut topics: Vec<TopicName> = live.iter().flat_map(|(_, topics)| topics.iter().cloned()).collect();
        topics.sort();
        topics.dedup();
        let keys = &self.shared.core.keys;
        let found = try_join_all(topics.iter().map(|name| topics::look_up(session, keys, name))).await?;
        let there: HashMap<TopicName, Topic> = found
            .into_iter()
            .flatten()
            .map(|topic| (topic.name.clone(), topic))
            .collect();
        if !self.is_same(session, &there).await? {
            return Ok(());
        }
        self.register(session, &there).await?;
        self.mend_groups(session).await?;
        let mut partitions = Vec::new();
        for name in &topics {
            let Some(topic) = there.get(name) else { continue };
            for partition in 0..topic.shards() {
                let partition = TopicPartition {
                    topic: name.clone(),
                    partition,
                };
                if self.may_be_read(session, topic, &partition).await? {
                    partitions.push(partition);
                }
            }
        }
        self.balance(session, &live, &partitions).await
    }

    /// Tells the group that this member lives, or leaves; returns who does.
    pub(super) async fn show_life(&self, session: &Session, leaves: bool) -> Result<Live, Fault> {
        let (shared, options) = (&self.shared, &self.shared.options);
        let keys = &shared.core.keys;
        let reads: Vec<&str> = options.topics.iter().map(TopicName::as_str).collect();
        let arguments = vec![
            word(&shared.member),
            millis(options.session_timeout),
            word(&reads.join(",")),
            word(if leaves { "1" } else { "0" }),
        ];
        let (members, subscriptions) = (keys.members(&options.group), keys.subscriptions(&options.group));
        let reply = LIVE.run(session, &[&members, &subscriptions], arguments).await?;
        let (pairs, _) = array(&reply).as_chunks::<2>();
        let mut live: Live = Vec::new();
        for [member, reads] in pairs {
            let (Some(member), Some(reads)) = (text(member), text(reads)) else {
                continue;
            };
            let reads = reads.split(',').filter_map(|name| TopicName::new(name).ok());
            live.push((member.to_owned(), reads.collect()));
        }
        live.sort();
        Ok(live)
    }

    /// Whether the Redis and the topics are those that were first seen; ends the
    /// reader if not. A topic that is not there is waited for.
    async fn is_same(&mut self, session: &Session, there: &HashMap<TopicName, Topic>) -> Result<bool, Fault> {
        let known = known_identity(session, &self.shared.core.keys.identity()).await?;
        let group = &self.shared.options.group;
        let before = self.identity.get_or_insert_with(|| known.clone().unwrap_or_default());
        if !before.is_empty() && known.as_ref() != Some(before) {
            let message = format!(
                "this is another Redis than before, or it has lost its data: {}. What was stored after the last \
                 settlement of group {group} is gone: {}. Open the reader again to begin anew",
                known.as_deref().unwrap_or("it has no identity any more"),
                self.unsettled_text(None),
            );
            self.shared.fail(ReadErrorKind::ContinuityBroken, message);
            return Ok(false);
        }
        let mut missing = Vec::new();
        for name in self.shared.options.topics.clone() {
            let Some(topic) = there.get(&name) else {
                missing.push(name);
                continue;
            };
            if let Some((id, _)) = self.seen.get(&name)
                && *id != topic.id
            {
                let message = format!(
                    "topic {name} was deleted and made again ({id}, now {}): {}. Open the reader again to read the \
                     new one",
                    topic.id,
                    self.unsettled_text(Some(&name)),
                );
                self.shared.fail(ReadErrorKind::ContinuityBroken, message);
                return Ok(false);
            }
        }
        match missing.first() {
            None => self.shared.reads(),
            Some(name) => {
                self.shared.stopped_reading(&topics::missing(name));
                let gone: Vec<_> = self
                    .held
                    .keys()
                    .filter(|held| missing.contains(&held.topic))
                    .cloned()
                    .collect();
                self.lose(&gone);
            }
        }
        Ok(true)
    }

    /// Where this member's shards stand, for people.
    fn unsettled_text(&self, topic: Option<&TopicName>) -> String {
        let positions = self.shared.lock().ledger.positions();
        let concerned = positions
            .iter()
            .filter(|position| topic.is_none_or(|topic| position.partition.topic == *topic));
        let parts: Vec<_> = concerned
            .map(|position| {
                let waiting = position.end_position.saturating_sub(position.settled_position);
                let records = waiting.saturating_sub(position.settled_beyond);
                format!(
                    "{} stood at {} with {records} records unsettled",
                    position.partition, position.settled_position
                )
            })
            .collect();
        if parts.is_empty() {
            "this reader had no shard".to_owned()
        } else {
            parts.join(", ")
        }
    }

    /// Makes the group in every shard of its topics, so that it has its place there
    /// before anything more is appended.
    async fn register(&mut self, session: &Session, there: &HashMap<TopicName, Topic>) -> Result<(), Fault> {
        let shared = Arc::clone(&self.shared);
        let (keys, group) = (&shared.core.keys, &shared.options.group);
        for name in &shared.options.topics {
            let Some(topic) = there.get(name) else { continue };
            let known = self.seen.get(name).map_or(0, |(_, shards)| *shards);
            if known >= topic.shards() {
                continue;
            }
            let (groups, of_group) = (keys.groups(), keys.group_topics(group));
            NOTE.run(session, &[&groups], vec![word(group.as_str())]).await?;
            NOTE.run(session, &[&of_group], vec![word(name.as_str())]).await?;
            for shard in known..topic.shards() {
                // What growing added has no records that a group could want to leave out.
                let start = if shard > 0 && topic.growth_of(shard).is_some() {
                    "earliest"
                } else {
                    self.start()
                };
                self.stand(session, name, shard, "look", start).await?;
            }
            self.seen.insert(name.clone(), (topic.id.clone(), topic.shards()));
        }
        Ok(())
    }

    pub(super) fn start(&self) -> &'static str {
        match self.shared.options.start {
            StartPosition::Earliest => "earliest",
            StartPosition::Latest => "latest",
        }
    }

    /// Where the group stands in a shard; takes or renews the ownership.
    pub(super) async fn stand(
        &self,
        session: &Session,
        topic: &TopicName,
        shard: u32,
        mode: &str,
        start: &str,
    ) -> Result<Standing, Fault> {
        let (shared, options) = (&self.shared, &self.shared.options);
        let keys = &shared.core.keys;
        let (stream, owner) = (keys.stream(topic, shard), keys.owner(topic, shard, &options.group));
        let arguments = vec![
            word(options.group.as_str()),
            word(&shared.member),
            millis(options.session_timeout),
            word(mode),
            word(start),
        ];
        Standing::of_reply(&STAND.run(session, &[&stream, &owner], arguments).await?)
    }

    /// Whether a shard that growing added may be read: the group has settled the
    /// shards that its keys came from.
    async fn may_be_read(
        &mut self,
        session: &Session,
        topic: &Topic,
        partition: &TopicPartition,
    ) -> Result<bool, Fault> {
        let Some(growth) = topic.growth_of(partition.partition) else {
            return Ok(true);
        };
        if self.open.contains(partition) {
            return Ok(true);
        }
        let keys = &self.shared.core.keys;
        for old in 0..growth.from {
            let begins = topics::epochs(session, keys, &topic.name, old)
                .await?
                .begin_of(growth.epoch);
            let standing = self.stand(session, &topic.name, old, "look", self.start()).await?;
            if begins.is_some_and(|begins| standing.lowest() < begins) {
                return Ok(false);
            }
        }
        self.open.insert(partition.clone());
        Ok(true)
    }

    async fn balance(
        &mut self,
        session: &Arc<Session>,
        live: &Live,
        partitions: &[TopicPartition],
    ) -> Result<(), Fault> {
        let shared = Arc::clone(&self.shared);
        let (keys, group) = (&shared.core.keys, &shared.options.group);
        let ask = |partition: &TopicPartition| {
            let key = keys.owner(&partition.topic, partition.partition, group);
            async move { session.call("GET", key.hash(), vec![key.value()]).await }
        };
        let replies = try_join_all(partitions.iter().map(ask)).await?;
        let rank = |member: &str| {
            live.iter()
                .position(|(known, _)| known == member)
                .map(|rank| rank as u64)
        };
        let owned = partitions.iter().zip(&replies).filter_map(|(partition, reply)| {
            let owner = rank(text(reply)?)?;
            Some((partition.clone(), owner))
        });
        let owners = owned.collect();
        let subscribers: Vec<_> = live
            .iter()
            .zip(0..)
            .map(|((_, topics), id)| Subscriber { id, topics })
            .collect();
        let assigned = assign(partitions, &subscribers, &owners);
        let me = rank(&shared.member);
        let mine = |partition: &TopicPartition| me.is_some() && assigned.get(partition).copied() == me;

        let given: Vec<_> = self.held.keys().filter(|held| !mine(held)).cloned().collect();
        self.give_up(session, &given).await;
        self.keep(session).await?;
        let wanted: Vec<_> = partitions
            .iter()
            .filter(|partition| mine(partition) && !self.held.contains_key(*partition))
            .cloned()
            .collect();
        for partition in wanted {
            if !self.take_up(session, &partition).await? {
                self.next_tick = self.next_tick.min(self.now() + IMPATIENT_TICK);
            }
            if shared.has_failed() {
                break;
            }
        }
        Ok(())
    }

    /// Renews the ownership of what is held, and sees what became of it.
    async fn keep(&mut self, session: &Session) -> Result<(), Fault> {
        let sent = self.now();
        let held: Vec<_> = self.held.keys().cloned().collect();
        let asked = held
            .iter()
            .map(|partition| self.stand(session, &partition.topic, partition.partition, "keep", "none"));
        let standings = join_all(asked).await;
        for (partition, standing) in held.iter().zip(standings) {
            self.look_at(partition, &standing?, sent);
        }
        Ok(())
    }
}

/// A span as Redis takes it.
pub(super) fn millis(span: std::time::Duration) -> Value {
    Value::Integer(i64::try_from(span.as_millis()).unwrap_or(i64::MAX))
}
