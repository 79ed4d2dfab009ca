//! Housekeeping: removes records whose time is over or that are too many, and ends the
//! growing of topics that somebody began and did not end.
//!
//! What holds: one gateway at a time does it; no record is removed that any group of the
//! topic has not settled, which the Redis itself looks at in the step that removes.

use std::sync::Arc;
use std::time::Duration;

use fred::types::Value;

use super::admin::RedisAdmin;
use super::core::{Core, pause};
use super::entry::EntryId;
use super::error::Fault;
use super::frame::{number, text};
use super::reader::Standing;
use super::script::{SET_ONCE, STAND, TRIM};
use super::session::{Session, word, words};
use super::topics::{self, Topic, TopicState};

/// Keeps house until the broker is closed.
pub(super) async fn keep_house(core: Arc<Core>) {
    let admin = RedisAdmin::new(Arc::clone(&core));
    // A topic that grows at two looks, one interval apart, was left alone.
    let mut growing: Vec<String> = Vec::new();
    while !core.health.is_closed() {
        pause(&core, core.config.retention_interval).await;
        let Some(session) = core.control.session() else {
            continue;
        };
        if core.health.is_closed() {
            return;
        }
        let kept = async {
            if !is_housekeeper(&core, &session).await? {
                return Ok(());
            }
            let mut still = Vec::new();
            for topic in admin.all_topics(&session).await? {
                if let TopicState::Growing { .. } = topic.state {
                    if growing.contains(&topic.id) {
                        admin.end_growing(&session, &Arc::new(topic)).await?;
                    } else {
                        still.push(topic.id.clone());
                    }
                    continue;
                }
                if topic.retention_ms.is_some() || topic.retention_bytes.is_some() {
                    trim(&core, &admin, &session, &topic).await?;
                }
            }
            growing = still;
            Ok::<_, Fault>(())
        };
        if let Err(fault) = kept.await {
            tracing::debug!(%fault, "housekeeping goes on later");
        }
    }
}

/// Whether it is this gateway's turn.
async fn is_housekeeper(core: &Core, session: &Session) -> Result<bool, Fault> {
    let key = core.keys.housekeeper();
    let turn = core.config.retention_interval.max(Duration::from_millis(20)) / 2;
    // A word of this look, so that what is there is seen to be ours.
    let mine = uuid::Uuid::new_v4().simple().to_string();
    let arguments = words([&mine, &turn.as_millis().to_string()]);
    let taken = SET_ONCE.run(session, &[&key], arguments).await?;
    Ok(text(&taken) == Some(&mine))
}

async fn trim(core: &Core, admin: &RedisAdmin, session: &Session, topic: &Topic) -> Result<(), Fault> {
    for (shard, stream) in (0..).zip(&topic.streams) {
        let standing = stand(core, session, topic, shard).await?;
        if !standing.is_there || standing.first.is_none() {
            continue;
        }
        let mut cut = 0;
        if let Some(keep_ms) = topic.retention_ms {
            let oldest = core
                .clock
                .wall_millis()
                .saturating_sub(i64::try_from(keep_ms).unwrap_or(i64::MAX));
            cut = cut.max(admin.first_at(session, topic, shard, &standing, oldest).await?);
        }
        if let Some(keep_bytes) = topic.retention_bytes {
            cut = cut.max(first_within(session, stream, &standing, keep_bytes).await?);
        }
        if cut <= standing.first_position() {
            continue;
        }
        let epochs = topics::epochs(session, &core.keys, &topic.name, shard).await?;
        let oldest = standing.first.map_or(standing.last.epoch, |first| first.epoch);
        let id = EntryId::at(epochs.of(cut, oldest), cut);
        let removed = TRIM.run(session, &[stream], vec![id.value()]).await?;
        if let Some(removed) = number(&removed).filter(|removed| *removed > 0) {
            tracing::debug!(topic = %topic.name, shard, removed, "records were removed");
        }
    }
    Ok(())
}

async fn stand(core: &Core, session: &Session, topic: &Topic, shard: u32) -> Result<Standing, Fault> {
    let stream = &topic.streams[shard as usize];
    // The extent is asked for in no group's name.
    let owner = core.keys.epochs(&topic.name, shard);
    let arguments = words(["", "", "0", "extent", "none"]);
    Standing::of_reply(&STAND.run(session, &[stream, &owner], arguments).await?)
}

/// The first position with which the shard takes no more bytes than that, by the mean
/// size of its records.
async fn first_within(
    session: &Session,
    stream: &super::keys::Key,
    standing: &Standing,
    keep_bytes: u64,
) -> Result<u64, Fault> {
    let arguments = vec![word("USAGE"), stream.value(), word("SAMPLES"), Value::Integer(0)];
    let bytes = session.call("MEMORY", stream.hash(), arguments).await?;
    let bytes = number(&bytes)
        .and_then(|bytes| u64::try_from(bytes).ok())
        .unwrap_or_default();
    let (first, end) = (standing.first_position(), standing.end());
    let records = (end - first).max(1);
    let keep = keep_bytes.saturating_mul(records) / bytes.max(1);
    // The newest record stays in any case.
    Ok(end.saturating_sub(keep.max(1)).max(first))
}
