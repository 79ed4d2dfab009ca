//! A lane: one channel that publishes and confirms, and the records that go by it.
//! A shard always goes by the same lane, which is what keeps its order (duty A3).
//!
//! What holds: records leave in the order in which they were given; a record that
//! was written and not confirmed when its channel dies is unknown, one that was not
//! written is refused; nothing waits longer than the delivery time-out. A channel
//! whose oldest record is late is given up, for what comes after it must not pass it.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use meridian_event::Record;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::core::Core;
use super::fault::Fault;
use super::in_flight::Ticket;
use super::link::Reach;
use super::topology::call;
use super::wire;
use crate::append::Position;
use crate::error::{AppendError, AppendErrorKind};
use crate::name::TopicName;

/// Records that are written between two looks at what else there is to do.
const WRITE_STEP: usize = 128;
/// The pause before a channel is opened again.
const PAUSE: Duration = Duration::from_millis(100);

/// A record that waits to be written.
pub(super) struct Work {
    pub(super) topic: TopicName,
    pub(super) exchange: Arc<str>,
    pub(super) routing_key: String,
    pub(super) record: Record,
    pub(super) position: Position,
    pub(super) ticket: Ticket,
    pub(super) deadline: Instant,
}

/// The records that wait for a lane's channel.
#[derive(Default)]
pub(super) struct Lane {
    waiting: Mutex<Waiting>,
    woken: Notify,
}

#[derive(Default)]
struct Waiting {
    work: VecDeque<Work>,
    closed: bool,
}

impl Lane {
    pub(super) fn start(core: &Arc<Core>) -> Arc<Self> {
        let lane = Arc::new(Self::default());
        tokio::spawn(run(Arc::downgrade(&lane), Arc::downgrade(core)));
        lane
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records in order; bounded by the room that each of them holds.
    pub(super) fn push(&self, work: Vec<Work>) {
        let mut waiting = self.waiting();
        if waiting.closed {
            drop(waiting);
            refuse(work, AppendErrorKind::Closed, "this broker was closed");
            return;
        }
        waiting.work.extend(work);
        drop(waiting);
        self.woken.notify_one();
    }

    fn take(&self, max: usize) -> Vec<Work> {
        let mut waiting = self.waiting();
        let count = waiting.work.len().min(max);
        waiting.work.drain(..count).collect()
    }

    /// Refuses what waits; nothing is taken any more.
    pub(super) fn close(&self) {
        let mut waiting = self.waiting();
        waiting.closed = true;
        let work = std::mem::take(&mut waiting.work);
        drop(waiting);
        refuse(work, AppendErrorKind::Closed, "this broker was closed");
        self.woken.notify_one();
    }
}

fn refuse(work: impl IntoIterator<Item = Work>, kind: AppendErrorKind, message: &str) {
    for work in work {
        work.ticket.settle(Err(AppendError::refused(kind, message)));
    }
}

async fn run(lane: Weak<Lane>, core: Weak<Core>) {
    loop {
        // Held only while there is something to do, so that a dropped broker ends.
        let Some((lane, core)) = lane.upgrade().zip(core.upgrade()) else {
            return;
        };
        if lane.waiting().closed {
            return;
        }
        if lane.waiting().work.is_empty() {
            let idle = Duration::from_millis(500);
            let _ = timeout(idle, lane.woken.notified()).await;
            continue;
        }
        match open(&core).await {
            Ok((channel, epoch)) => publish(&lane, &core, channel, epoch).await,
            Err(fault) => {
                refuse(lane.take(usize::MAX), fault.append_kind(), fault.text());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn open(core: &Core) -> Result<(Channel, u64), Fault> {
    let up = core.publish.up(Duration::ZERO).await?;
    if let Some((_, reason)) = up.blocked {
        return Err(Fault::Away(reason));
    }
    let channel = call(up.connection.create_channel()).await?;
    call(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    Ok((channel, up.epoch))
}

/// A record that was written.
struct Written {
    topic: TopicName,
    routing_key: String,
    message_id: Option<String>,
    position: Position,
    deadline: Instant,
    ticket: Ticket,
}

type Publishing = Pin<Box<dyn Future<Output = (u64, lapin::Result<Confirmation>)> + Send>>;

/// What one channel has written and not heard of.
#[derive(Default)]
struct Outstanding {
    written: BTreeMap<u64, Written>,
    publishing: FuturesUnordered<Publishing>,
    last: u64,
}

/// Publishes by this channel until it is of no more use.
async fn publish(lane: &Arc<Lane>, core: &Arc<Core>, channel: Channel, epoch: u64) {
    let mut reach = core.publish.watch();
    let mut outstanding = Outstanding::default();
    let why = loop {
        let usable = match &*reach.borrow_and_update() {
            Reach::Up(up) if up.epoch == epoch => up.blocked.clone().map_or(Ok(()), |(_, reason)| Err(reason)),
            Reach::Down { fault, .. } => break fault.clone(),
            Reach::Closed => break Fault::Closed,
            _ => break Fault::Away("the connection ended".to_owned()),
        };
        let mut wrote = false;
        match usable {
            Ok(()) => {
                let work = lane.take(WRITE_STEP);
                wrote = !work.is_empty();
                for work in work {
                    outstanding.write(&channel, work);
                }
            }
            Err(reason) => refuse(lane.take(usize::MAX), AppendErrorKind::BrokerUnavailable, &reason),
        }
        let oldest = outstanding
            .written
            .first_key_value()
            .map(|(_, written)| written.deadline);
        if oldest.is_some_and(|oldest| oldest <= core.clock.now()) {
            break Fault::Late("the broker did not confirm in time".to_owned());
        }
        if lane.waiting().closed && outstanding.written.is_empty() {
            return;
        }
        let until = oldest.unwrap_or_else(|| core.clock.now() + Duration::from_secs(1));
        let progress = async {
            tokio::select! {
                biased;
                Some(first) = outstanding.publishing.next(), if !outstanding.publishing.is_empty() => Some(first),
                () = std::future::ready(()), if wrote => None,
                () = lane.woken.notified() => None,
                _ = reach.changed() => None,
            }
        };
        let Ok(first) = tokio::time::timeout_at(until.into(), progress).await else {
            if outstanding.written.is_empty() && !channel.status().connected() {
                return;
            }
            continue;
        };
        if let Some(first) = first
            && let Err(fault) = outstanding.confirm(first, core)
        {
            break fault;
        }
    };
    outstanding.give_up(&why);
    if matches!(why, Fault::Missing(_)) {
        core.forget_declared();
    }
    if channel.status().connected() {
        let closing = channel.close(200, "given up".into());
        let _ = timeout(Duration::from_millis(200), closing).await;
    }
}

impl Outstanding {
    /// Writes a record; in this call its frames are queued, so that order is kept.
    fn write(&mut self, channel: &Channel, work: Work) {
        let properties = wire::encode(&work.record);
        let message_id = properties.message_id().as_ref().map(ToString::to_string);
        self.last += 1;
        let number = self.last;
        let (channel, exchange, key) = (channel.clone(), Arc::clone(&work.exchange), work.routing_key.clone());
        let value = work.record.value.unwrap_or_default();
        let mut publishing: Publishing = Box::pin(async move {
            let result = publish_one(&channel, &exchange, &key, &value, properties).await;
            (number, result)
        });
        // Only ready at once when the channel was of no use already.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match publishing.as_mut().poll(&mut context) {
            Poll::Ready((_, Err(error))) => {
                let fault = Fault::of(&error);
                let error = AppendError::refused(fault.append_kind(), fault.text()).with_source(error);
                work.ticket.settle(Err(error));
            }
            Poll::Ready((_, Ok(_))) => work.ticket.settle(Ok(work.position)),
            Poll::Pending => {
                self.publishing.push(publishing);
                let written = Written {
                    topic: work.topic,
                    routing_key: work.routing_key,
                    message_id,
                    position: work.position,
                    deadline: work.deadline,
                    ticket: work.ticket,
                };
                self.written.insert(number, written);
            }
        }
    }

    /// Takes in what the broker said of one record, and of all others that it has
    /// spoken of by now: a message that came back may be told with another's
    /// confirmation, which is never later than its own.
    fn confirm(&mut self, first: (u64, lapin::Result<Confirmation>), core: &Core) -> Result<(), Fault> {
        let mut said = vec![first];
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        while said.len() < 4 * WRITE_STEP
            && let Poll::Ready(Some(next)) = self.publishing.poll_next_unpin(&mut context)
        {
            said.push(next);
        }
        let mut came_back = Vec::new();
        for (_, result) in &mut said {
            if let Ok(Confirmation::Ack(message) | Confirmation::Nack(message)) = result
                && let Some(message) = message.take()
            {
                came_back.push(message);
            }
        }
        for message in came_back {
            self.returned(&message, core);
        }
        let mut dead = None;
        for (number, result) in said {
            let Some(written) = self.written.remove(&number) else {
                continue;
            };
            match result {
                Ok(Confirmation::Ack(_)) => written.ticket.settle(Ok(written.position)),
                Ok(Confirmation::Nack(_)) => {
                    let error = refused_by_queue(&written.topic, core);
                    written.ticket.settle(Err(error));
                }
                Ok(Confirmation::NotRequested) => {
                    let message = "the channel confirms nothing";
                    let error = AppendError::unknown(AppendErrorKind::Internal, message);
                    written.ticket.settle(Err(error));
                }
                Err(error) => {
                    let fault = Fault::of(&error);
                    let message = format!("the channel ended before the record was confirmed: {}", fault.text());
                    let error = AppendError::unknown(fault.append_kind(), message).with_source(error);
                    written.ticket.settle(Err(error));
                    dead = Some(fault);
                }
            }
        }
        dead.map_or(Ok(()), Err)
    }

    /// A message that no queue was bound for: the oldest record of its kind was not
    /// stored. The library tells it with whatever record was confirmed next.
    fn returned(&mut self, message: &BasicReturnMessage, core: &Core) {
        let id = message.properties.message_id().as_ref().map(ToString::to_string);
        let found = self
            .written
            .iter()
            .find(|(_, written)| written.routing_key == message.routing_key.as_str() && written.message_id == id)
            .map(|(number, _)| *number);
        let Some(written) = found.and_then(|number| self.written.remove(&number)) else {
            tracing::warn!(
                key = message.routing_key.as_str(),
                "a message came back that was not on its way"
            );
            return;
        };
        core.forget_declared();
        let message = format!(
            "topic {} took no record: it is growing, was deleted, or lacks its bindings; try again, and make the topic \
             again if that does not help",
            written.topic
        );
        let error = AppendError::refused(AppendErrorKind::BrokerUnavailable, message);
        written.ticket.settle(Err(error));
    }

    /// The channel is of no more use.
    fn give_up(self, why: &Fault) {
        let kind = match why {
            Fault::Late(_) => AppendErrorKind::DeadlineExceeded,
            other => other.append_kind(),
        };
        for (_, written) in self.written {
            let message = format!("the record was not confirmed: {}", why.text());
            written.ticket.settle(Err(AppendError::unknown(kind, message)));
        }
    }
}

/// A queue refused the record. Without a group that is the parked one, which is full;
/// with groups, others may have taken it.
fn refused_by_queue(topic: &TopicName, core: &Core) -> AppendError {
    let state = core.catalog.state();
    if state.topics.get(topic).is_some_and(|topic| topic.groups.is_empty()) {
        let message = format!(
            "topic {topic} is full: no group has read it yet, and what is kept for the first one (parked_bytes a shard) \
             is used up; start a group or raise parked_bytes"
        );
        return AppendError::refused(AppendErrorKind::StorageFull, message);
    }
    let message = format!("a queue of topic {topic} did not take the record, and another one may have");
    AppendError::unknown(AppendErrorKind::StorageFull, message)
}

async fn publish_one(
    channel: &Channel,
    exchange: &str,
    routing_key: &str,
    value: &[u8],
    properties: BasicProperties,
) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    channel
        .basic_publish(exchange.into(), routing_key.into(), options, value, properties)
        .await?
        .await
}
