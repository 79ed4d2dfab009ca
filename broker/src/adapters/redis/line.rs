//! The line: one task and one connection that append everything of this broker, in
//! order of admission, as pipelines of `XADD`.
//!
//! A record's shard is chosen here, when it is sent, from the line's own view of its
//! topic. The view changes only while nothing is under way. So when a topic grows
//! (its old shards refuse the old epoch), all that was refused for it is sent again
//! under the new view before anything that was admitted later.
//!
//! What holds: what was under way when the connection broke, or when its time was
//! over, is unknown and never sent again; what still waited is sent in the next
//! session, or refused when its time is over. Before a new session appends anything it
//! has the server end the old connection, so that nothing overtakes.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fred::interfaces::ClientLike;
use fred::types::{CustomCommand, Value};
use futures::FutureExt;
use meridian_runtime::backoff::Backoff;

use super::core::{Core, RECONNECT, pause};
use super::entry::{EntryId, encode};
use super::error::{Fault, FaultKind};
use super::health::CLOSED;
use super::queue::{Place, Queue, Work};
use super::replicas;
use super::session::{Name, Session};
use super::settings::Role;
use super::topics::{Topic, TopicState, missing};
use crate::append::{AppendOutcome, Position};
use crate::error::{AppendError, AppendErrorKind};
use crate::name::TopicName;
use crate::room::Room;

/// Pipelines under way at most.
const MAX_PIPELINES: usize = 4;

/// Records and bytes of one pipeline, about.
const PIPELINE_RECORDS: usize = 512;
const PIPELINE_BYTES: usize = 1024 * 1024;

/// After Redis said that its memory is full, how long nothing is admitted.
const FULL_PAUSE: Duration = Duration::from_millis(250);

/// Before a topic that grows is looked at again.
const GROWING_PAUSE: Duration = Duration::from_millis(20);

/// How often works that wait are looked over for those whose time is over.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(100);

/// Topics that the line has a view of, at most.
const MAX_VIEWS: usize = 10_000;

type Replies = Pin<Box<dyn Future<Output = Vec<Result<Value, fred::error::Error>>> + Send>>;

/// A pipeline under way.
struct Sent {
    works: Vec<Work>,
    /// Of each command: which work, which item, which shard.
    places: Vec<(usize, usize, u32)>,
    /// Commands behind the appends that wait for replicas.
    waits: usize,
    replies: Replies,
    expires: Instant,
}

/// A topic as the line sees it.
struct View {
    topic: Arc<Topic>,
    /// `<epoch>-*`.
    id: Bytes,
}

/// The line.
pub(super) struct Line {
    core: Arc<Core>,
    room: Arc<Room>,
    queue: Arc<Queue>,
    views: HashMap<TopicName, View>,
    in_flight: VecDeque<Sent>,
    /// Works whose records were refused under an old epoch, in order.
    again: VecDeque<Work>,
    /// Topics to be looked at before anything more is sent.
    outdated: Vec<TopicName>,
}

impl Line {
    pub(super) fn new(core: Arc<Core>, room: Arc<Room>, queue: Arc<Queue>) -> Self {
        Self {
            core,
            room,
            queue,
            views: HashMap::new(),
            in_flight: VecDeque::new(),
            again: VecDeque::new(),
            outdated: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(RECONNECT, rand::random());
        let mut former: Option<Name> = None;
        while !self.queue.lock().has_ended {
            let core = Arc::clone(&self.core);
            let opening = async {
                let session = Session::open(&core.settings, Role::Append).await?;
                if let Some(former) = &former
                    && let Err(fault) = session.end_other(former).await
                    && fault.is_connection()
                {
                    return Err(fault);
                }
                let name = session.name().await;
                Ok::<_, Fault>((session, name))
            };
            let opened = tokio::select! {
                opened = opening => opened,
                () = self.expire_waiting() => continue, // it has ended
            };
            match opened {
                Ok((session, name)) => {
                    backoff.reset();
                    former = name;
                    self.serve(&session).await;
                    drop(session);
                }
                Err(fault) => {
                    tracing::debug!(%fault, "no connection for appends");
                    tokio::select! {
                        () = pause(&core, backoff.next_delay()) => {}
                        () = self.expire_waiting() => {}
                    }
                }
            }
        }
        let waiting: Vec<_> = {
            let mut queue = self.queue.lock();
            self.again.drain(..).chain(queue.works.drain(..)).collect()
        };
        for work in waiting {
            self.refuse_rest(work, AppendErrorKind::Closed, CLOSED);
        }
    }

    /// Refuses what waits for too long; returns when the line is to end.
    async fn expire_waiting(&mut self) {
        let mut looks = tokio::time::interval(EXPIRY_INTERVAL);
        loop {
            looks.tick().await;
            if self.queue.lock().has_ended {
                return;
            }
            let now = self.core.clock.now();
            loop {
                let work = {
                    let mut queue = self.queue.lock();
                    let works = if self.again.is_empty() {
                        &mut queue.works
                    } else {
                        &mut self.again
                    };
                    let is_late = works.front().is_some_and(|work| work.expires <= now);
                    if is_late { works.pop_front() } else { None }
                };
                let Some(work) = work else { break };
                let message = "there was no connection to Redis in time; it was not sent";
                self.refuse_rest(work, AppendErrorKind::BrokerUnavailable, message);
            }
        }
    }

    /// Appends over this session until it is over.
    async fn serve(&mut self, session: &Session) {
        loop {
            while self.in_flight.len() < MAX_PIPELINES && self.outdated.is_empty() {
                let Some(sent) = self.send(session).await else { break };
                self.in_flight.push_back(sent);
            }
            if self.in_flight.is_empty() && !self.outdated.is_empty() {
                self.look_again(session).await;
                if session.is_closed() {
                    return;
                }
                continue;
            }
            if self.in_flight.is_empty() && self.queue.lock().has_ended {
                return;
            }
            let can_send = self.in_flight.len() < MAX_PIPELINES && self.outdated.is_empty();
            let Some(front) = self.in_flight.front_mut() else {
                tokio::select! {
                    () = self.queue.wake.notified() => continue,
                    () = session.closed() => return,
                }
            };
            let limit = tokio::time::sleep_until(front.expires.into());
            tokio::select! {
                biased;
                replies = &mut front.replies => {
                    if let Some(sent) = self.in_flight.pop_front() {
                        self.take_replies(sent, replies);
                    }
                }
                () = self.queue.wake.notified(), if can_send => {}
                () = limit => {
                    self.give_up(&Fault::new(FaultKind::TimedOut, "no reply within the delivery time-out"));
                    return;
                }
                () = session.closed() => {
                    self.give_up(&Fault::lost("the connection broke"));
                    return;
                }
            }
        }
    }

    /// The next work, but for those whose time is over.
    fn next_work(&mut self) -> Option<Work> {
        loop {
            let work = match self.again.pop_front() {
                Some(work) => work,
                None => self.queue.lock().works.pop_front()?,
            };
            if work.expires > self.core.clock.now() {
                return Some(work);
            }
            let message = "it waited for too long to be sent";
            self.refuse_rest(work, AppendErrorKind::BrokerUnavailable, message);
        }
    }

    /// Sends the next pipeline; none if there is nothing to send, or not now.
    async fn send(&mut self, session: &Session) -> Option<Sent> {
        let pipeline = session.client().pipeline();
        let (mut works, mut places): (Vec<Work>, Vec<(usize, usize, u32)>) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        let mut last: Option<Bytes> = None;
        let mut waits = Vec::new();
        while places.len() < PIPELINE_RECORDS && bytes < PIPELINE_BYTES {
            let Some(mut work) = self.next_work() else { break };
            if !self.sees_all(&work) {
                self.again.push_front(work);
                break;
            }
            for (index, item) in work.items.iter().enumerate() {
                if work.outcomes[index].is_some() {
                    continue;
                }
                let Some(view) = self.views.get(&item.topic) else {
                    let error = AppendError::refused(AppendErrorKind::TopicNotFound, missing(&item.topic));
                    work.outcomes[index] = Some(Err(error));
                    continue;
                };
                let shard = match (item.place, &item.record.key) {
                    (Place::Shard(shard), _) => shard,
                    (Place::Key, key) => view.topic.ring.shard_for(key.as_deref().unwrap_or_default()),
                };
                let Some(stream) = view.topic.streams.get(shard as usize) else {
                    let message = format!("topic {} has no shard {shard} any more", item.topic);
                    work.outcomes[index] = Some(Err(AppendError::refused(AppendErrorKind::TopicNotFound, message)));
                    continue;
                };
                let mut arguments = Vec::with_capacity(9 + 2 * item.record.headers.len());
                arguments.push(stream.value());
                arguments.push(Value::Bytes(Bytes::from_static(b"NOMKSTREAM")));
                arguments.push(Value::Bytes(view.id.clone()));
                encode(&item.record, &mut arguments);
                let command = CustomCommand::new_static("XADD", stream.hash(), false);
                if let Err(error) = pipeline.custom::<(), _>(command, arguments).await {
                    let fault = Fault::new(FaultKind::Refused, error.to_string());
                    work.outcomes[index] = Some(Err(fault.append_error()));
                    continue;
                }
                if self.core.config.wait_replicas > 0 && !waits.contains(&stream.hash()) {
                    waits.push(stream.hash());
                }
                bytes += item.record.size_bytes();
                places.push((works.len(), index, shard));
            }
            last = last.or(Some(Bytes::new()));
            works.push(work);
        }
        last?;
        if places.is_empty() {
            // All were refused without being sent.
            works.into_iter().for_each(|work| self.resolve(work));
            return None;
        }
        let waits = replicas::add_waits(&self.core, &pipeline, waits).await;
        let expires = works.iter().map(|work| work.expires).min()?;
        let mut replies: Replies = Box::pin(async move { pipeline.try_all::<Value>().await });
        // The first poll hands it to the connection: what is sent later comes later.
        let replies: Replies = match (&mut replies).now_or_never() {
            Some(done) => Box::pin(std::future::ready(done)),
            None => replies,
        };
        Some(Sent {
            works,
            places,
            waits,
            replies,
            expires,
        })
    }

    /// Whether the view of each topic is what is known of it; brings it up to that
    /// when nothing is under way.
    fn sees_all(&mut self, work: &Work) -> bool {
        let mut seen: Option<&TopicName> = None;
        for item in &work.items {
            if seen == Some(&item.topic) {
                continue;
            }
            seen = Some(&item.topic);
            let Some(known) = self.core.topics.known(&item.topic) else {
                continue;
            };
            let is_same = self.views.get(&item.topic).map(|view| {
                Arc::ptr_eq(&view.topic, &known) || (view.topic.epoch, &view.topic.id) == (known.epoch, &known.id)
            });
            match is_same {
                Some(true) => {}
                Some(false) if !self.in_flight.is_empty() => return false,
                _ => self.see(known),
            }
        }
        true
    }

    fn see(&mut self, topic: Arc<Topic>) {
        if self.views.len() >= MAX_VIEWS && self.in_flight.is_empty() {
            self.views.clear();
        }
        let id = format!("{}-*", topic.epoch).into();
        self.views.insert(topic.name.clone(), View { topic, id });
    }

    /// What became of a pipeline.
    fn take_replies(&mut self, mut sent: Sent, mut replies: Vec<Result<Value, fred::error::Error>>) {
        let expected = sent.places.len() + sent.waits;
        if replies.len() != expected {
            // fred tells one error for the whole pipeline.
            let fault = match replies.pop() {
                Some(Err(error)) => Fault::lost(error.to_string()),
                _ => Fault::lost("a pipeline has another number of replies"),
            };
            return self.lose(sent, &fault);
        }
        let waited = replies.split_off(sent.places.len());
        let replicated = replicas::confirmed(&self.core, waited);
        for (reply, (work, index, shard)) in replies.into_iter().zip(&sent.places) {
            let work = &mut sent.works[*work];
            let topic = &work.items[*index].topic;
            let outcome = match reply {
                Ok(Value::Null) => {
                    self.core.topics.forget(topic);
                    Err(AppendError::refused(AppendErrorKind::TopicNotFound, missing(topic)))
                }
                Ok(id) => position(&id, *shard).and_then(|position| match &replicated {
                    Ok(()) => Ok(position),
                    Err(fault) => Err(fault.append_error()),
                }),
                Err(error) => {
                    let fault = Fault::from(error);
                    if fault.kind == FaultKind::Fenced {
                        if !self.outdated.contains(topic) {
                            self.outdated.push(topic.clone());
                        }
                        continue; // surely not stored: it is sent again under the new epoch
                    }
                    if fault.kind == FaultKind::Full {
                        self.queue.lock().full = Some((self.core.clock.now() + FULL_PAUSE, full_message(&fault)));
                    }
                    Err(fault.append_error())
                }
            };
            work.outcomes[*index] = Some(outcome);
        }
        for work in sent.works {
            if work.outcomes.iter().all(Option::is_some) {
                self.resolve(work);
            } else {
                self.again.push_back(work);
            }
        }
    }

    /// Looks at the topics that turned out to be other than thought.
    async fn look_again(&mut self, session: &Session) {
        for name in std::mem::take(&mut self.outdated) {
            loop {
                let found = tokio::select! {
                    found = self.core.topics.look_up(session, &self.core.keys, &name) => found,
                    () = tokio::time::sleep(super::settings::COMMAND_LIMIT) => Err(Fault::lost("no answer")),
                };
                let is_late = self
                    .again
                    .front()
                    .is_none_or(|work| work.expires <= self.core.clock.now());
                match found {
                    Ok(Some(topic)) if topic.state == TopicState::Ready => {
                        let is_news = self.views.get(&name).is_none_or(|view| view.topic.epoch != topic.epoch);
                        self.see(topic);
                        if is_news || is_late {
                            break;
                        }
                    }
                    Ok(None) => {
                        self.views.remove(&name);
                        break;
                    }
                    Ok(Some(_)) => {}
                    Err(fault) => tracing::debug!(topic = %name, %fault, "a topic could not be looked at"),
                }
                if is_late || session.is_closed() {
                    break; // what waits is refused when it is its turn
                }
                tokio::time::sleep(GROWING_PAUSE).await;
            }
        }
    }

    /// The session is over: nobody knows what became of what was under way.
    fn give_up(&mut self, fault: &Fault) {
        while let Some(mut sent) = self.in_flight.pop_front() {
            // What was answered before is known.
            match (&mut sent.replies).now_or_never() {
                Some(replies) => self.take_replies(sent, replies),
                None => self.lose(sent, fault),
            }
        }
    }

    fn lose(&mut self, mut sent: Sent, fault: &Fault) {
        for (work, index, _) in &sent.places {
            sent.works[*work].outcomes[*index] = Some(Err(fault.append_error()));
        }
        sent.works.into_iter().for_each(|work| self.resolve(work));
    }

    /// What has no outcome yet was not stored.
    fn refuse_rest(&self, mut work: Work, kind: AppendErrorKind, message: &str) {
        for outcome in work.outcomes.iter_mut().filter(|outcome| outcome.is_none()) {
            *outcome = Some(Err(AppendError::refused(kind, message)));
        }
        self.resolve(work);
    }

    fn resolve(&self, work: Work) {
        let lost = || AppendError::unknown(AppendErrorKind::Internal, "the outcome was not noted");
        let outcomes: Vec<_> = work
            .outcomes
            .into_iter()
            .map(|outcome| outcome.unwrap_or_else(|| Err(lost())))
            .collect();
        self.room.give_back(outcomes.len(), work.cost_bytes);
        work.sender.resolve(outcomes);
    }
}

fn full_message(fault: &Fault) -> String {
    format!("Redis is full: {fault}; slow down, let groups settle what waits, or raise maxmemory")
}

fn position(id: &Value, shard: u32) -> AppendOutcome {
    let parsed = id.as_bytes().and_then(EntryId::parse);
    let parsed = parsed.ok_or_else(|| Fault::lost("XADD gave no id").append_error())?;
    Ok(Position {
        partition: shard,
        position: parsed.position(),
    })
}
