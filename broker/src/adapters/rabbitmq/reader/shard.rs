//! Consumes one shard on a channel of its own, and acknowledges what is settled.
//!
//! A group that has what was parked before it was there consumes the parked queue
//! first, and its own when the parked one is empty; it goes on listening to both. A
//! shard that is new hands out nothing before the group has drained the old ones
//! (see `growth`).
//!
//! What holds: acknowledgements follow the ledger's frontier; settlements count as
//! committed when the queue has answered a question that was put after them.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, timeout};

use super::acks::{AckPlan, Marker, Reach};
use super::shared::{Item, Shared};
use crate::adapters::rabbitmq::catalog::Change;
use crate::adapters::rabbitmq::core::Core;
use crate::adapters::rabbitmq::fault::Fault;
use crate::adapters::rabbitmq::growth::marker_of;
use crate::adapters::rabbitmq::link::Up;
use crate::adapters::rabbitmq::topology::{self, call};
use crate::adapters::rabbitmq::wire;
use crate::name::TopicPartition;

/// Deliveries that are taken in at once.
const TAKE_STEP: usize = 256;
/// Routed before the group's queue was bound, a record may reach the parked queue so much later.
const PARKED_GRACE: Duration = Duration::from_millis(200);
/// How often the parked queue is asked whether it is empty.
const PARKED_LOOK: Duration = Duration::from_millis(100);
/// Acknowledgements out of order that are written at once, and the pause after them.
const ACK_LOT: usize = 16;
const ACK_LOT_PAUSE: Duration = Duration::from_millis(5);
/// How long the farewell of a channel may take.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the member's task tells a shard's.
pub(super) enum Command {
    /// Acknowledge what is settled, and have it confirmed.
    Flush(oneshot::Sender<Result<(), Fault>>),
    /// Count what is not settled.
    Count(oneshot::Sender<Counted>),
    /// Acknowledge and give the shard up; answered when the channel is closed.
    Leave(oneshot::Sender<Result<(), Fault>>),
}

/// What is not settled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    /// Waiting in the queues.
    pub(super) ready: u64,
    /// At hand here.
    pub(super) unsettled: u64,
}

/// What a shard's task needs.
pub(super) struct Context {
    pub(super) core: Arc<Core>,
    pub(super) shared: Arc<Shared>,
    pub(super) up: Up,
    pub(super) partition: TopicPartition,
    pub(super) topic_id: String,
    pub(super) prefetch: u16,
    /// Whether the group has what was parked.
    pub(super) takes_parked: bool,
}

/// Until it is told to leave, or the channel ends.
pub(super) async fn run(context: Context, mut commands: mpsc::Receiver<Command>) -> Result<(), Fault> {
    if !until_allowed(&context, &mut commands).await {
        return Ok(());
    }
    let channel = call(context.up.connection.create_channel()).await?;
    call(channel.basic_qos(context.prefetch, BasicQosOptions::default())).await?;
    let names = &context.core.names;
    let TopicPartition { topic, partition } = &context.partition;
    let queue = names.group_queue(topic, &context.shared.options.group, *partition);
    let parked_queue = context.takes_parked.then(|| names.parked_queue(topic, *partition));
    let mut shard = Shard {
        parked: None,
        own: None,
        queue,
        parked_queue,
        channel,
        context,
        unconfirmed: false,
    };
    match shard.parked_queue.clone() {
        Some(parked) => shard.parked = Some(shard.consume(&parked).await?),
        None => shard.own = Some(shard.consume(&shard.queue.clone()).await?),
    }
    let flush = Arc::new(Notify::new());
    let generation = (shard.context.shared).assigned(&shard.context.partition, shard.context.prefetch, &flush);
    let result = shard.serve(&mut commands, &flush).await;
    let is_up = shard.channel.status().connected() && shard.context.up.connection.status().connected();
    let (reply, result) = match result {
        Ok(reply) if is_up => (reply, Ok(())),
        Ok(_) => (None, Err(Fault::Away("the connection ended".to_owned()))),
        Err(fault) => (None, Err(fault)),
    };
    let (shared, partition) = (Arc::clone(&shard.context.shared), shard.context.partition.clone());
    let left = match result {
        Ok(()) => match shared.revoked(&partition, generation) {
            Some(plan) => shard.leave(plan).await,
            None => Ok(()),
        },
        Err(_) => {
            if shard.unconfirmed {
                shared.lost_settlements();
            }
            shared.lost(&partition, generation);
            Ok(())
        }
    };
    // The channel goes before its consumers do, for dropping those would cancel them.
    let closing = shard.channel.close(200, "given up".into());
    let _ = timeout(FAREWELL, closing).await;
    if let Some(reply) = reply {
        let _ = reply.send(left);
    }
    result
}

/// Waits until the old shards of a growth are drained. False when told to leave.
async fn until_allowed(context: &Context, commands: &mut mpsc::Receiver<Command>) -> bool {
    let mut known = context.core.catalog.watch();
    let group = &context.shared.options.group;
    let TopicPartition { topic, partition } = &context.partition;
    loop {
        let allowed = known.wait_for(|known| {
            let topic = known.state.topics.get(topic);
            topic.is_none_or(|topic| !topic.must_wait(group, *partition))
        });
        tokio::select! {
            allowed = allowed => return allowed.is_ok(),
            command = commands.recv() => match command {
                Some(Command::Flush(reply)) => { let _ = reply.send(Ok(())); }
                Some(Command::Count(_)) => {}
                Some(Command::Leave(reply)) => { let _ = reply.send(Ok(())); return false }
                None => return false,
            },
        }
    }
}

struct Shard {
    context: Context,
    channel: Channel,
    queue: String,
    parked_queue: Option<String>,
    parked: Option<Consumer>,
    own: Option<Consumer>,
    /// Acknowledgements were written since the queue answered last.
    unconfirmed: bool,
}

async fn next_of(consumer: &mut Option<Consumer>) -> Option<lapin::Result<Delivery>> {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => std::future::pending().await,
    }
}

type Reply = Option<oneshot::Sender<Result<(), Fault>>>;

impl Shard {
    async fn consume(&self, queue: &str) -> Result<Consumer, Fault> {
        let options = BasicConsumeOptions::default();
        let tag = ""; // the broker makes one that nobody used before
        let consuming = self
            .channel
            .basic_consume(queue.into(), tag.into(), options, FieldTable::default());
        call(consuming).await
    }

    /// Returns when told to leave.
    async fn serve(&mut self, commands: &mut mpsc::Receiver<Command>, flush: &Notify) -> Result<Reply, Fault> {
        // What is settled out of order is written at the second look, and has to be within the interval.
        let interval = (self.context.shared.options.commit_interval / 2).max(Duration::from_millis(1));
        let mut regularly = tokio::time::interval_at(Instant::now() + interval, interval);
        regularly.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = tokio::time::interval_at(Instant::now() + PARKED_GRACE, PARKED_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Flush(reply)) => {
                        let flushed = self.flush(Reach::All).await;
                        let _ = reply.send(flushed.clone());
                        flushed?;
                    }
                    Some(Command::Count(reply)) => {
                        let _ = reply.send(self.count().await?);
                    }
                    Some(Command::Leave(reply)) => return Ok(Some(reply)),
                    None => return Ok(None),
                },
                delivery = next_of(&mut self.parked), if self.parked.is_some() => self.take(delivery, true)?,
                delivery = next_of(&mut self.own), if self.own.is_some() => self.take(delivery, false)?,
                () = flush.notified() => self.flush(Reach::Prefix).await?,
                _ = regularly.tick() => self.flush(Reach::Aged).await?,
                _ = look.tick(), if self.own.is_none() => self.look_at_parked().await?,
            }
        }
    }

    /// Begins with the group's own queue when the parked one is empty.
    async fn look_at_parked(&mut self) -> Result<(), Fault> {
        let Some(parked) = &self.parked_queue else {
            return Ok(());
        };
        let is_empty = topology::count(&self.channel, parked).await?.ready == 0;
        self.take_all()?;
        if is_empty {
            self.own = Some(self.consume(&self.queue.clone()).await?);
        }
        Ok(())
    }

    /// Takes a delivery in, and those that have come with it.
    fn take(&mut self, first: Option<lapin::Result<Delivery>>, parked: bool) -> Result<(), Fault> {
        let first = first.ok_or_else(|| Fault::Missing(format!("the queue {} was deleted", self.queue)))?;
        let mut deliveries = vec![first?];
        let consumer = if parked { &mut self.parked } else { &mut self.own };
        while let Some(consumer) = consumer.as_mut()
            && deliveries.len() < TAKE_STEP
            && let Some(Some(next)) = consumer.next().now_or_never()
        {
            deliveries.push(next?);
        }
        let now_ms = self.context.core.clock.wall_millis();
        let mut items = Vec::with_capacity(deliveries.len());
        let mut markers = Vec::new();
        for delivery in deliveries {
            let tag = delivery.delivery_tag;
            if let Some(to) = marker_of(&delivery.properties) {
                markers.push(Marker { tag, to, parked });
                items.push((tag, Item::Marker));
            } else {
                let record = wire::decode(&delivery.properties, delivery.data, now_ms);
                items.push((tag, Item::Record(record)));
            }
        }
        self.context.shared.delivered(&self.context.partition, items, markers);
        Ok(())
    }

    /// Takes in everything that has come.
    fn take_all(&mut self) -> Result<(), Fault> {
        for parked in [true, false] {
            loop {
                let consumer = if parked { &mut self.parked } else { &mut self.own };
                match consumer.as_mut().and_then(|consumer| consumer.next().now_or_never()) {
                    Some(delivery) => self.take(delivery, parked)?,
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// Acknowledges what is settled. But for the prefix alone the queue is asked then,
    /// so that it surely has what was written.
    async fn flush(&mut self, reach: Reach) -> Result<(), Fault> {
        while let Some(marker) = self.context.shared.due_marker(&self.context.partition) {
            if self.report(&marker).await.is_err() {
                break; // it stays, and is reported later
            }
            self.context.shared.marker_reported(&self.context.partition);
        }
        let plan = self.context.shared.plan_acks(&self.context.partition, reach);
        self.write(plan).await?;
        if reach != Reach::Prefix && self.unconfirmed {
            topology::count(&self.channel, self.confirming_queue()).await?;
            self.unconfirmed = false;
        }
        Ok(())
    }

    fn confirming_queue(&self) -> &str {
        match (&self.own, &self.parked_queue) {
            (None, Some(parked)) => parked,
            _ => &self.queue,
        }
    }

    async fn write(&mut self, plan: AckPlan) -> Result<(), Fault> {
        if plan.is_empty() {
            return Ok(());
        }
        self.unconfirmed = true;
        if let Some(tag) = plan.up_to {
            self.ack(&[tag], true).await?;
        }
        // A channel keeps acknowledgements back while 32 are on their way to a quorum queue,
        // and loses those when it is closed: few at a time, and each lot has time to arrive.
        for tags in plan.singles.chunks(ACK_LOT) {
            self.ack(tags, false).await?;
            topology::count(&self.channel, self.confirming_queue()).await?;
            tokio::time::sleep(ACK_LOT_PAUSE).await;
        }
        Ok(())
    }

    async fn ack(&self, tags: &[u64], multiple: bool) -> Result<(), Fault> {
        let options = BasicAckOptions { multiple };
        let acks = tags.iter().map(|tag| self.channel.basic_ack(*tag, options));
        let written = timeout(topology::CALL_LIMIT, futures::future::try_join_all(acks)).await;
        written.map_err(|_| Fault::Late("the connection takes no acknowledgements".to_owned()))??;
        Ok(())
    }

    /// All that lay before the growth is settled.
    async fn report(&self, marker: &Marker) -> Result<(), Fault> {
        let group = if marker.parked {
            String::new()
        } else {
            self.context.shared.options.group.to_string()
        };
        let change = Change::ShardDrained {
            topic: self.context.partition.topic.to_string(),
            topic_id: self.context.topic_id.clone(),
            group,
            to: marker.to,
            shard: self.context.partition.partition,
        };
        self.context.core.catalog.append(change).await.map(|_| ())
    }

    /// What is not settled: unacknowledged here, and waiting in the queues.
    async fn count(&mut self) -> Result<Counted, Fault> {
        let mut ready = topology::count(&self.channel, &self.queue).await?.ready;
        if let Some(parked) = &self.parked_queue {
            ready += topology::count(&self.channel, parked).await?.ready;
        }
        self.take_all()?;
        let unsettled = self.context.shared.unsettled(&self.context.partition);
        Ok(Counted { ready, unsettled })
    }

    async fn leave(&mut self, plan: AckPlan) -> Result<(), Fault> {
        self.write(plan).await?;
        if self.unconfirmed {
            topology::count(&self.channel, self.confirming_queue()).await?;
            self.unconfirmed = false;
        }
        Ok(())
    }
}
