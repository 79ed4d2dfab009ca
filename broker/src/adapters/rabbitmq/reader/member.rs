//! Takes part in a group: declares its queues, talks with the other members, and has
//! the shards of its share consumed.
//!
//! What holds: whatever fails, the member tries again for ever, with a pause, and
//! the reader's state says since when and why it does not read; a topic that was
//! made anew, or another broker under the same address, ends it instead.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};

use super::gossip::{Members, SAY_INTERVAL, Said, ShardLag};
use super::join::{Joined, check_order, join, prefetch, shared_prefetch};
use super::shard;
use super::shared::Shared;
use super::voice::{SAY_LIMIT, Voice};
use crate::adapters::rabbitmq::catalog::CatalogState;
use crate::adapters::rabbitmq::core::Core;
use crate::adapters::rabbitmq::fault::Fault;
use crate::adapters::rabbitmq::link::Reach;
use crate::adapters::rabbitmq::topology::CALL_LIMIT;
use crate::error::ReadErrorKind;
use crate::name::{TopicName, TopicPartition};

/// How long a member that joins listens to the others before it takes its share.
const LISTEN: Duration = Duration::from_millis(250);
/// The pause before the group is joined again.
const PAUSE: Duration = Duration::from_millis(200);

/// What the reader's handle tells the member.
pub(super) enum Command {
    /// Have everything settled acknowledged.
    Commit(oneshot::Sender<Result<(), Fault>>),
    /// Leave the group in an orderly way.
    Leave(oneshot::Sender<Result<(), Fault>>),
}

/// One consumed shard.
struct Held {
    commands: mpsc::Sender<shard::Command>,
    /// Tells its end from that of an earlier task for the same shard.
    number: u64,
}

/// How a session ended.
enum End {
    /// The reader was closed or dropped.
    Left(Option<oneshot::Sender<Result<(), Fault>>>),
    /// It is to be joined again.
    Again(Fault),
    /// An operator is needed.
    Failed(ReadErrorKind, String),
}

/// The facts that must stay the same.
#[derive(Default)]
struct Continuity {
    identity: Option<String>,
    topic_ids: HashMap<TopicName, String>,
}

/// Until the reader is closed or dropped.
pub(super) async fn run(core: Arc<Core>, shared: Arc<Shared>, mut commands: mpsc::Receiver<Command>) {
    let micros = u64::try_from(core.clock.wall_millis()).unwrap_or(0) << 12;
    let mut member = Member {
        id: micros | u64::from(rand::random::<u16>() & 0xfff),
        voice: Voice::new(&core, &shared.options.group),
        core,
        shared,
        continuity: Continuity::default(),
        held: HashMap::new(),
        tasks: JoinSet::new(),
        last_number: 0,
    };
    let mut closing = member.core.closing();
    let _counted = member.core.count_reader();
    loop {
        let end = tokio::select! {
            end = member.session(&mut commands) => end,
            _ = closing.wait_for(|closed| *closed) => End::Left(None),
        };
        match end {
            End::Left(reply) => {
                let left = member.leave_all(true).await;
                member.shared.close();
                if let Some(reply) = reply {
                    let lost = member.shared.take_lost_settlements();
                    let left = if lost {
                        Err(Fault::Away("the broker went before it knew what is settled".into()))
                    } else {
                        left
                    };
                    let _ = reply.send(left);
                }
                return;
            }
            End::Failed(kind, message) => {
                let _ = member.leave_all(true).await;
                member.shared.fail(kind, message);
                // What is left is to be closed.
                loop {
                    match commands.recv().await {
                        Some(Command::Commit(reply)) => drop(reply.send(Ok(()))),
                        Some(Command::Leave(reply)) => return drop(reply.send(Ok(()))),
                        None => return,
                    }
                }
            }
            End::Again(fault) => {
                member.shared.does_not_read(member.core.read.now(), &fault);
                let _ = member.leave_all(false).await;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

struct Member {
    core: Arc<Core>,
    shared: Arc<Shared>,
    id: u64,
    voice: Voice,
    continuity: Continuity,
    held: HashMap<TopicPartition, Held>,
    tasks: JoinSet<(TopicPartition, u64, Result<(), Fault>)>,
    last_number: u64,
}

impl Member {
    /// Joins and reads until something ends it.
    async fn session(&mut self, commands: &mut mpsc::Receiver<Command>) -> End {
        let joined = loop {
            let (core, shared) = (Arc::clone(&self.core), Arc::clone(&self.shared));
            tokio::select! {
                biased;
                () = shared.leave.notified() => return End::Left(None),
                command = commands.recv() => match command {
                    None => return End::Left(None),
                    Some(Command::Leave(reply)) => return End::Left(Some(reply)),
                    Some(Command::Commit(reply)) => {
                        let lost = shared.take_lost_settlements();
                        let fault = Fault::Away("the broker went before it knew what is settled".to_owned());
                        let _ = reply.send(if lost { Err(fault) } else { Ok(()) });
                    }
                },
                joined = join(&core, &shared) => break joined,
            }
        };
        let joined = match joined {
            Ok(joined) => joined,
            Err(fault) => return End::Again(fault),
        };
        if let Err((kind, message)) = self.check_continuity(&joined.state) {
            return End::Failed(kind, message);
        }
        if let Err(message) = check_order(&self.shared.options, &joined.state) {
            return End::Failed(ReadErrorKind::InvalidOptions, message);
        }
        self.read(joined, commands).await
    }

    fn check_continuity(&mut self, state: &CatalogState) -> Result<(), (ReadErrorKind, String)> {
        if let Some(before) = &self.continuity.identity
            && state.identity.as_ref().is_some_and(|now| now != before)
        {
            let message = "the broker is another one than before: its catalog has another identity; check its address, \
                           and open the reader anew if this is right";
            return Err((ReadErrorKind::ContinuityBroken, message.to_owned()));
        }
        self.continuity.identity = state.identity.clone().or(self.continuity.identity.take());
        for topic in &self.shared.options.topics {
            let Some(now) = state.topics.get(topic) else { continue };
            let before = self
                .continuity
                .topic_ids
                .entry(topic.clone())
                .or_insert_with(|| now.id.clone());
            if *before != now.id {
                let message =
                    format!("topic {topic} was deleted and made again; open the reader anew to read the new one");
                return Err((ReadErrorKind::ContinuityBroken, message));
            }
        }
        Ok(())
    }

    async fn read(&mut self, mut joined: Joined, commands: &mut mpsc::Receiver<Command>) -> End {
        let topics = self.shared.options.topics.clone();
        let mut members = Members::alone(self.id, &topics, self.core.clock.now());
        let mut reach = self.core.read.watch();
        let mut known = self.core.catalog.watch();
        let mut limited = self.core.limits.watch();
        limited.mark_changed(); // it may be known since before
        let mut regularly = tokio::time::interval(SAY_INTERVAL);
        regularly.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let _ = self.voice.say(&self.present(true)).await;
        let take_share = tokio::time::sleep(LISTEN);
        tokio::pin!(take_share);
        let mut is_listening = true;
        let shared = Arc::clone(&self.shared);
        loop {
            let mut is_changed = false;
            tokio::select! {
                () = shared.leave.notified() => return End::Left(None),
                command = commands.recv() => match command {
                    None => return End::Left(None),
                    Some(Command::Leave(reply)) => return End::Left(Some(reply)),
                    Some(Command::Commit(reply)) => self.commit(reply),
                },
                _ = reach.changed() => {
                    let fault = match &*reach.borrow_and_update() {
                        Reach::Up(up) if up.epoch == joined.up.epoch => continue,
                        Reach::Down { fault, .. } => fault.clone(),
                        Reach::Closed => Fault::Closed,
                        _ => Fault::Away("the connection ended".to_owned()),
                    };
                    return End::Again(fault);
                }
                _ = known.changed() => {
                    let state = Arc::clone(&known.borrow_and_update().state);
                    if let Err((kind, message)) = self.check_continuity(&state) {
                        return End::Failed(kind, message);
                    }
                    if let Some(end) = self.compare(&joined.state, &state) {
                        return end;
                    }
                    joined.state = state;
                }
                _ = limited.changed() => {
                    let text = limited.borrow_and_update().clone();
                    if let Some(text) = text {
                        return End::Again(Fault::Other(text.to_string()));
                    }
                }
                heard = joined.ear.next() => match heard {
                    Some(Ok(delivery)) => match serde_json::from_slice(&delivery.data) {
                        Ok(said) => is_changed = self.hear(said, &mut members).await,
                        Err(error) => tracing::debug!(%error, "a member said what nobody understands"),
                    },
                    Some(Err(error)) => return End::Again(Fault::of(&error)),
                    None => return End::Again(Fault::Away("the channel of the group ended".to_owned())),
                },
                _ = regularly.tick() => {
                    let now = self.core.clock.now();
                    if self.voice.say(&self.present(false)).await.is_err() {
                        members.excuse(now); // nobody can be heard either
                    }
                    is_changed = members.expire(self.id, now);
                }
                () = &mut take_share, if is_listening => {
                    is_listening = false;
                    is_changed = true;
                    shared.reads();
                }
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    let Ok((partition, number, result)) = ended else { continue };
                    if self.held.get(&partition).is_some_and(|held| held.number == number) {
                        self.held.remove(&partition);
                        if let Err(fault) = result {
                            return End::Again(self.explain(&partition, fault));
                        }
                        is_changed = true;
                    }
                }
            }
            if is_changed && !is_listening {
                self.take_share(&members, &joined).await;
            }
        }
    }

    fn explain(&self, partition: &TopicPartition, fault: Fault) -> Fault {
        if let Fault::Missing(text) = &fault {
            // Somebody deleted it: what it held is gone, and only the broker's log tells how much.
            tracing::error!(%partition, group = %self.shared.options.group, reason = text,
                "a group's queue was deleted with what was in it; it is made again");
        }
        fault
    }

    /// Whether the catalog changed in a way that needs other queues.
    fn compare(&self, before: &CatalogState, now: &CatalogState) -> Option<End> {
        for topic in &self.shared.options.topics {
            let shape = |state: &CatalogState| {
                let topic = state.topics.get(topic)?;
                let is_member = topic.groups.contains(&self.shared.options.group);
                let takes_parked = topic.parked_taker.as_ref() == Some(&self.shared.options.group);
                let is_shared = topic.is_shared_by(&self.shared.options.group);
                Some((topic.shards, is_member, takes_parked, is_shared))
            };
            if shape(before) != shape(now) {
                return Some(End::Again(Fault::Away(format!("topic {topic} changes"))));
            }
        }
        None
    }

    fn present(&self, new: bool) -> Said {
        Said::Present {
            member: self.id,
            topics: self.shared.options.topics.iter().map(ToString::to_string).collect(),
            new,
        }
    }

    /// Takes in what a member said; true when the list of members changed.
    async fn hear(&mut self, said: Said, members: &mut Members) -> bool {
        match said {
            Said::Present { member, topics, new } => {
                let topics = topics.iter().filter_map(|topic| TopicName::new(topic).ok()).collect();
                let is_changed = member != self.id && members.heard(member, topics, self.core.clock.now());
                if new && member != self.id {
                    let _ = self.voice.say(&self.present(false)).await;
                }
                is_changed
            }
            Said::Bye { member } => member != self.id && members.gone(member),
            Said::Ask { question } => {
                self.answer(question).await;
                false
            }
            Said::Lag { .. } => false,
        }
    }

    async fn answer(&mut self, question: String) {
        let mut asked = Vec::new();
        for (partition, held) in &self.held {
            let (reply, answer) = oneshot::channel();
            if held.commands.try_send(shard::Command::Count(reply)).is_ok() {
                asked.push((partition.clone(), answer));
            }
        }
        let mut voice = Voice::new(&self.core, &self.shared.options.group);
        tokio::spawn(async move {
            let mut shards = Vec::new();
            for (partition, answer) in asked {
                if let Ok(Ok(counted)) = timeout(SAY_LIMIT * 2, answer).await {
                    let topic = partition.topic.to_string();
                    let shard = partition.partition;
                    shards.push(ShardLag {
                        topic,
                        shard,
                        records: counted.ready + counted.unsettled,
                        unsettled: counted.unsettled,
                    });
                }
            }
            let _ = voice.say(&Said::Lag { question, shards }).await;
        });
    }

    /// Consumes the shards of the share, and gives the others up. A shard that members compete for is in the share of
    /// each.
    async fn take_share(&mut self, members: &Members, joined: &Joined) {
        let options = &self.shared.options;
        let shards: BTreeMap<_, _> = joined
            .state
            .topics
            .iter()
            .map(|(name, topic)| (name.clone(), topic.shards))
            .collect();
        let is_shared = |name: &TopicName| {
            let topic = joined.state.topics.get(name);
            topic.is_some_and(|topic| topic.is_shared_by(&options.group))
        };
        let (competed, divided): (BTreeMap<_, _>, BTreeMap<_, _>) = shards
            .iter()
            .map(|(name, count)| (name.clone(), *count))
            .partition(|(name, _)| is_shared(name));
        let mut share = members.share_of(self.id, &divided);
        share.extend(competed.into_iter().flat_map(|(topic, count)| {
            (0..count).map(move |partition| TopicPartition {
                topic: topic.clone(),
                partition,
            })
        }));
        let surplus: Vec<_> = self.held.keys().filter(|held| !share.contains(held)).cloned().collect();
        let mut leaving = Vec::new();
        for partition in surplus {
            leaving.extend(self.held.remove(&partition).map(leave));
        }
        futures::future::join_all(leaving).await;
        let total: u32 = options.topics.iter().filter_map(|topic| shards.get(topic)).sum();
        for partition in share {
            let Some(topic) = joined.state.topics.get(&partition.topic) else {
                continue;
            };
            if self.held.contains_key(&partition) || !options.topics.contains(&partition.topic) {
                continue;
            }
            let prefetch = match is_shared(&partition.topic) {
                true => shared_prefetch(options.max_unsettled_records, options.max_unsettled_bytes, total),
                false => prefetch(options.max_unsettled_records, options.max_unsettled_bytes, total),
            };
            let (commands, receiver) = mpsc::channel(4);
            let context = shard::Context {
                core: Arc::clone(&self.core),
                shared: Arc::clone(&self.shared),
                up: joined.up.clone(),
                topic_id: topic.id.clone(),
                takes_parked: topic.parked_taker.as_ref() == Some(&options.group),
                partition: partition.clone(),
                prefetch,
            };
            self.last_number += 1;
            let number = self.last_number;
            let held = partition.clone();
            let consuming = async move { (held, number, shard::run(context, receiver).await) };
            self.tasks.spawn(consuming);
            self.held.insert(partition, Held { commands, number });
        }
    }

    /// Has every shard flush; the answer comes when all have.
    fn commit(&mut self, reply: oneshot::Sender<Result<(), Fault>>) {
        let lost = self.shared.take_lost_settlements();
        let shards: Vec<_> = self.held.values().map(|held| held.commands.clone()).collect();
        tokio::spawn(async move {
            let flush = async |commands: mpsc::Sender<shard::Command>| {
                let (reply, answer) = oneshot::channel();
                let gone = || Fault::Away("the channel ended before what was settled was acknowledged".to_owned());
                let sent = commands.send(shard::Command::Flush(reply)).await;
                sent.map_err(|_| gone())?;
                answer.await.map_err(|_| gone())?
            };
            let flushed = futures::future::try_join_all(shards.into_iter().map(flush)).await;
            let lost = if lost {
                Err(Fault::Away("the broker went before it knew what is settled".into()))
            } else {
                Ok(())
            };
            let _ = reply.send(flushed.map(|_| ()).and(lost));
        });
    }

    /// Gives all shards up; `orderly` says so to the others.
    async fn leave_all(&mut self, orderly: bool) -> Result<(), Fault> {
        let mut left = Ok(());
        if orderly {
            let members = std::mem::take(&mut self.held);
            for result in futures::future::join_all(members.into_values().map(leave)).await {
                left = left.and(result);
            }
            let bye = Said::Bye { member: self.id };
            let _ = self.voice.say(&bye).await;
        }
        self.held.clear();
        // Each ends by itself now that nobody commands it.
        let ending = async { while self.tasks.join_next().await.is_some() {} };
        let _ = timeout(Duration::from_secs(3), ending).await;
        left
    }
}

async fn leave(held: Held) -> Result<(), Fault> {
    let (reply, answer) = oneshot::channel();
    let leaving = async {
        if held.commands.send(shard::Command::Leave(reply)).await.is_err() {
            return Ok(()); // it had ended
        }
        answer.await.unwrap_or(Ok(()))
    };
    match timeout(CALL_LIMIT, leaving).await {
        Ok(left) => left,
        Err(_) => Err(Fault::Late("a shard was not given up in time".to_owned())),
    }
}
