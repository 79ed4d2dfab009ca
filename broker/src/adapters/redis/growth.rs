//! More shards for a topic, with the order of each key kept.
//!
//! 1. The topic is marked as growing, with the next epoch.
//! 2. Each old shard gets that epoch, in one step each; where it began is kept beside it.
//!    From then on the shard refuses what is appended under the old epoch.
//! 3. The new shards are made, with the same epoch.
//! 4. The topic has its new number of shards and its new epoch.
//!
//! An appender that meets a refusal waits for step 4, and sends what was refused again by
//! the new ring before anything that it admitted later. So no record of a key is in a new
//! shard before every record of it in its old shard, and groups read a new shard only when
//! they have settled the old ones up to where the epoch began.
//!
//! What holds: each step can be done again. Whoever finds a topic growing for long ends it.

use std::sync::Arc;

use super::admin::{MAX_SHARDS, RedisAdmin};
use super::error::Fault;
use super::frame::number;
use super::script::{CHANGE_TOPIC, MAKE_STREAM, RAISE_EPOCH};
use super::session::{Session, word};
use super::topics::{Growth, Topic, TopicState, growths_text};
use crate::admin::TopicDescription;
use crate::error::{AdminError, AdminErrorKind};
use crate::name::TopicName;

impl RedisAdmin {
    pub(super) async fn grow(&self, name: &TopicName, shards: u32) -> Result<TopicDescription, AdminError> {
        let what = format!("topic {name} did not grow");
        let session = self.core.ask_for(&what).await?;
        let failed = |fault: Fault| fault.admin_error(what.clone());
        let mut topic = self.topic(&session, name).await?;
        if matches!(topic.state, TopicState::Growing { .. }) {
            self.end_growing(&session, &topic).await.map_err(failed)?;
            topic = self.topic(&session, name).await?;
        }
        if shards < topic.shards() || shards > MAX_SHARDS {
            let message = format!(
                "{what}: it has {} shards, and may get more, up to {MAX_SHARDS}, but not {shards}",
                topic.shards()
            );
            return Err(AdminError::new(AdminErrorKind::InvalidRequest, message));
        }
        if shards > topic.shards() {
            let key = self.core.keys.topic(name);
            let to = shards.to_string();
            let arguments = [&topic.id, "ready", "state", "growing", "growing_to", &to]
                .map(word)
                .to_vec();
            let begun = CHANGE_TOPIC.run(&session, &[&key], arguments).await.map_err(failed)?;
            let growing = self.topic(&session, name).await?;
            if number(&begun) != Some(1) && growing.shards() < shards {
                tracing::info!(topic = %name, "another makes this topic grow already");
            }
            self.end_growing(&session, &growing).await.map_err(failed)?;
            topic = self.topic(&session, name).await?;
        }
        let described = self.describe(&session, &topic).await;
        described.map_err(failed)
    }

    /// Does what is left of growing.
    pub(super) async fn end_growing(&self, session: &Session, topic: &Arc<Topic>) -> Result<(), Fault> {
        let TopicState::Growing { to } = topic.state else {
            return Ok(());
        };
        let keys = &self.core.keys;
        let (from, epoch) = (topic.shards(), topic.epoch + 1);
        for (shard, stream) in (0..).zip(&topic.streams) {
            let epochs = keys.epochs(&topic.name, shard);
            RAISE_EPOCH
                .run(session, &[stream, &epochs], vec![word(&epoch.to_string())])
                .await?;
        }
        for shard in from..to {
            let stream = keys.stream(&topic.name, shard);
            MAKE_STREAM
                .run(session, &[&stream], vec![word(&epoch.to_string())])
                .await?;
        }
        let mut growths = topic.growths.clone();
        growths.push(Growth { epoch, from, to });
        let (shards, epoch_text, growths) = (to.to_string(), epoch.to_string(), growths_text(&growths));
        let key = keys.topic(&topic.name);
        let arguments = [
            &topic.id,
            "growing",
            "state",
            "ready",
            "shards",
            &shards,
            "epoch",
            &epoch_text,
            "growths",
            &growths,
        ];
        CHANGE_TOPIC.run(session, &[&key], arguments.map(word).to_vec()).await?;
        self.core.topics.look_up(session, keys, &topic.name).await?;
        tracing::info!(topic = %topic.name, from, to, "a topic has grown");
        Ok(())
    }
}
