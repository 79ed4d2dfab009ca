//! Growing a topic from N to more shards, with order per key kept.
//!
//! A key that moves has older records in an old shard and newer ones in a new one.
//! The steps, each of which can be made again:
//!
//! 1. The new shards' queues are declared for every group, and the new gate.
//! 2. The catalog says that growth has begun. Appenders that read it hold back.
//! 3. The old gate is unbound: an appender that has not read it gets its records back
//!    as unroutable, surely not stored. From now on no record is placed by the old ring.
//! 4. After a grace for records that were routed and not yet queued, a marker goes
//!    into every old queue of every group, and every old parked queue. All that was
//!    placed by the old ring lies before it.
//! 5. The new gate is bound, and the catalog says that the topic has grown. Appenders
//!    use the new ring.
//! 6. A reader that finds everything before a marker settled says so in the catalog,
//!    and acknowledges the marker after that. The group's readers of a new shard
//!    consume nothing until that was said of every old shard.
//!
//! What holds: whoever grows a topic may die at any step, and growing it again goes
//! on where that one was; until then appends to it are refused. New records of an
//! old shard wait for nothing.

use std::sync::Arc;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::catalog::{CatalogState, Change, Topic};
use super::core::Core;
use super::fault::Fault;
use super::topology::{self, call};
use crate::name::TopicName;

/// The header of a marker.
const MARKER_HEADER: &str = "meridian_grown_to";
/// A record that was routed by the old gate is queued within this time.
const ROUTED_GRACE: Duration = Duration::from_millis(500);

/// The shard count that a marker was written for; `None` for a record.
pub(super) fn marker_of(properties: &BasicProperties) -> Option<u32> {
    match properties.headers().as_ref()?.inner().get(MARKER_HEADER)? {
        AMQPValue::LongLongInt(to) => u32::try_from(*to).ok(),
        _ => None,
    }
}

/// Grows the topic, or finishes a growth that another has begun.
pub(super) async fn grow(
    core: &Arc<Core>,
    name: &TopicName,
    topic: &Topic,
    to: u32,
) -> Result<Arc<CatalogState>, Fault> {
    let (from, to) = (topic.shards, topic.growing_to.unwrap_or(to));
    let channel = core.channel().await?;
    // The gate of the new count and the parked queues, with those that are there.
    topology::declare_topic(&channel, &core.names, name, to, core.config.parked_bytes).await?;
    for group in &topic.groups {
        for shard in from..to {
            let shared = topic.is_shared_by(group);
            topology::declare_group_queue(&channel, &core.names, name, group, shard, shared).await?;
        }
    }
    tokio::time::sleep(topology::NEW_QUEUE_GRACE).await;
    let change = Change::GrowthBegun {
        topic: name.to_string(),
        topic_id: topic.id.clone(),
        from,
        to,
    };
    let mut state = core.catalog.append(change).await?.1;
    let Some(now) = state.topics.get(name).filter(|now| now.id == topic.id).cloned() else {
        return Ok(state);
    };
    let Some(to) = now.growing_to else { return Ok(state) };
    // Groups that came between are in the state now.
    for group in &now.groups {
        for shard in now.shards..to {
            let shared = now.is_shared_by(group);
            topology::declare_group_queue(&channel, &core.names, name, group, shard, shared).await?;
            topology::bind_group_queue(&channel, &core.names, name, group, shard).await?;
        }
    }
    topology::shut_gate(&channel, &core.names, name, now.shards).await?;
    tokio::time::sleep(ROUTED_GRACE).await;
    mark(core, name, &now, to).await?;
    topology::open_gate(&channel, &core.names, name, to).await?;
    let change = Change::Grown {
        topic: name.to_string(),
        topic_id: topic.id.clone(),
        to,
    };
    state = core.catalog.append(change).await?.1;
    Ok(state)
}

/// Puts a marker behind the last record of every old queue.
async fn mark(core: &Arc<Core>, name: &TopicName, topic: &Topic, to: u32) -> Result<(), Fault> {
    let up = core.control.up(topology::CALL_LIMIT).await?;
    if let Some((_, reason)) = up.blocked {
        return Err(Fault::Away(reason));
    }
    let channel = call(up.connection.create_channel()).await?;
    call(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let mut headers = FieldTable::default();
    headers.insert(MARKER_HEADER.into(), AMQPValue::LongLongInt(i64::from(to)));
    let properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    for shard in 0..topic.shards {
        let of_groups = topic
            .groups
            .iter()
            .map(|group| core.names.group_queue(name, group, shard));
        for queue in of_groups.chain([core.names.parked_queue(name, shard)]) {
            let publish = channel.basic_publish("".into(), queue.as_str().into(), mandatory, &[], properties.clone());
            let confirmation = call(async { publish.await?.await }).await?;
            if confirmation != lapin::Confirmation::Ack(None) {
                return Err(Fault::Other(format!(
                    "the queue {queue} did not take the marker of a growth: {confirmation:?}"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_no_marker() {
        assert_eq!(marker_of(&BasicProperties::default()), None);
        let mut headers = FieldTable::default();
        headers.insert(MARKER_HEADER.into(), AMQPValue::LongString("5".into()));
        assert_eq!(
            marker_of(&BasicProperties::default().with_headers(headers.clone())),
            None
        );
        headers.insert(MARKER_HEADER.into(), AMQPValue::LongLongInt(5));
        assert_eq!(marker_of(&BasicProperties::default().with_headers(headers)), Some(5));
    }
}
