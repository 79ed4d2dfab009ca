//! Administers groups: where they stand, moving them, forgetting them.
//!
//! What holds: nothing is changed for a group that has a member anywhere, nor in a shard
//! that somebody owns; lag is what Redis knows to be settled, and so never too little.

use super::admin::{RedisAdmin, time_at};
use super::entry::EntryId;
use super::error::Fault;
use super::frame::{array, number};
use super::health::system_time;
use super::reader::Standing;
use super::script::{DELETE_GROUP, LIVE, RESET_GROUP, STAND};
use super::session::{Session, word};
use super::topics::{self, Topic};
use crate::admin::{GroupDescription, GroupReset, PartitionLag, ResetTarget};
use crate::error::{AdminError, AdminErrorKind};
use crate::name::{GroupName, TopicName, TopicPartition};

impl RedisAdmin {
    pub(super) async fn group(&self, name: &GroupName) -> Result<GroupDescription, AdminError> {
        let what = format!("group {name} was not described");
        let session = self.core.ask_for(&what).await?;
        let lags = self
            .lags(&session, name)
            .await
            .map_err(|fault| fault.admin_error(what))?;
        if lags.is_empty() {
            return Err(not_found(name));
        }
        Ok(GroupDescription {
            name: name.clone(),
            partitions: lags,
        })
    }

    /// The topics that the group has read and that are there.
    async fn topics_of(&self, session: &Session, group: &GroupName) -> Result<Vec<Topic>, Fault> {
        let names = Self::names(session, &self.core.keys.group_topics(group)).await?;
        let mut found = Vec::with_capacity(names.len());
        for name in names.iter().filter_map(|name| TopicName::new(name).ok()) {
            found.extend(topics::look_up(session, &self.core.keys, &name).await?);
        }
        Ok(found)
    }

    async fn lags(&self, session: &Session, group: &GroupName) -> Result<Vec<PartitionLag>, Fault> {
        let mut lags = Vec::new();
        for topic in self.topics_of(session, group).await? {
            for shard in 0..topic.shards() {
                let standing = self.standing(session, &topic, shard, group).await?;
                if standing.is_there && standing.has_group {
                    lags.push(self.lag(session, &topic, shard, &standing).await?);
                }
            }
        }
        Ok(lags)
    }

    async fn standing(
        &self,
        session: &Session,
        topic: &Topic,
        shard: u32,
        group: &GroupName,
    ) -> Result<Standing, Fault> {
        let keys = &self.core.keys;
        let (stream, owner) = (keys.stream(&topic.name, shard), keys.owner(&topic.name, shard, group));
        let arguments = [group.as_str(), "", "0", "look", "none"].map(word).to_vec();
        Standing::of_reply(&STAND.run(session, &[&stream, &owner], arguments).await?)
    }

    async fn lag(
        &self,
        session: &Session,
        topic: &Topic,
        shard: u32,
        standing: &Standing,
    ) -> Result<PartitionLag, Fault> {
        let (settled, end) = (standing.lowest(), standing.end());
        let from = standing.lowest_pending.unwrap_or(EntryId {
            sequence: standing.delivered.sequence + 1,
            ..standing.delivered
        });
        let oldest = if standing.unsettled() == 0 {
            None
        } else {
            time_at(session, &topic.streams[shard as usize], from.value()).await?
        };
        Ok(PartitionLag {
            partition: TopicPartition {
                topic: topic.name.clone(),
                partition: shard,
            },
            settled_position: settled,
            end_position: end,
            settled_beyond: end.saturating_sub(settled).saturating_sub(standing.unsettled()),
            oldest_unsettled: oldest.map(system_time),
        })
    }

    /// Refuses to change a group that somebody is a member of.
    async fn check_idle(&self, session: &Session, group: &GroupName) -> Result<(), AdminError> {
        let keys = &self.core.keys;
        let (members, subscriptions) = (keys.members(group), keys.subscriptions(group));
        let arguments = ["", "0", "", "0"].map(word).to_vec();
        let live = LIVE.run(session, &[&members, &subscriptions], arguments).await;
        let live = live.map_err(|fault| fault.admin_error(format!("the members of group {group} are not known")))?;
        match array(&live).len() / 2 {
            0 => Ok(()),
            count => Err(active(group, &format!("it has {count} members"))),
        }
    }

    pub(super) async fn reset(&self, group: &GroupName, reset: &GroupReset) -> Result<Vec<PartitionLag>, AdminError> {
        let what = format!("group {group} was not moved");
        let session = self.core.ask_for(&what).await?;
        let topic = self.topic(&session, &reset.topic).await?;
        self.check_idle(&session, group).await?;
        let failed = |fault: Fault| fault.admin_error(what.clone());
        let concerned = match reset.target {
            ResetTarget::Position { partition, .. } if partition >= topic.shards() => {
                let message = format!("topic {} has no shard {partition}", topic.name);
                return Err(AdminError::new(AdminErrorKind::InvalidRequest, message));
            }
            ResetTarget::Position { partition, .. } => partition..partition + 1,
            _ => 0..topic.shards(),
        };
        let mut moves = Vec::new();
        for shard in concerned {
            let standing = self.standing(&session, &topic, shard, group).await.map_err(failed)?;
            if !standing.owner.is_empty() {
                return Err(active(group, &format!("a member owns {}/{shard}", topic.name)));
            }
            if standing.has_group {
                let position = self.target(&session, &topic, shard, &standing, reset.target).await?;
                moves.push((shard, position));
            }
        }
        if moves.is_empty() {
            return Err(not_found(group));
        }
        let mut lags = Vec::new();
        for (shard, position) in moves {
            let keys = &self.core.keys;
            let epochs = topics::epochs(&session, keys, &topic.name, shard)
                .await
                .map_err(failed)?;
            let standing = self.standing(&session, &topic, shard, group).await.map_err(failed)?;
            let oldest = standing.first.map_or(standing.last.epoch, |first| first.epoch);
            let id = EntryId::before(epochs.of(position.saturating_sub(1), oldest), position);
            let (stream, owner) = (&topic.streams[shard as usize], keys.owner(&topic.name, shard, group));
            let change = if reset.dry_run { "0" } else { "1" };
            let arguments = vec![word(group.as_str()), id.value(), word(change)];
            let moved = RESET_GROUP
                .run(&session, &[stream, &owner], arguments)
                .await
                .map_err(failed)?;
            if number(&moved) == Some(-1) {
                return Err(active(group, &format!("a member owns {}/{shard}", topic.name)));
            }
            let then = Standing {
                delivered: id,
                pending: 0,
                lowest_pending: None,
                ..standing
            };
            lags.push(self.lag(&session, &topic, shard, &then).await.map_err(failed)?);
        }
        Ok(lags)
    }

    async fn target(
        &self,
        session: &Session,
        topic: &Topic,
        shard: u32,
        standing: &Standing,
        target: ResetTarget,
    ) -> Result<u64, AdminError> {
        let (first, end) = (standing.first_position(), standing.end());
        match target {
            ResetTarget::Earliest => Ok(first),
            ResetTarget::Latest => Ok(end),
            ResetTarget::Position { position, .. } if (first..=end).contains(&position) => Ok(position),
            ResetTarget::Position { position, .. } => {
                let message = format!(
                    "position {position} of {}/{shard} is not there: it holds {first} to {end}",
                    topic.name
                );
                Err(AdminError::new(AdminErrorKind::InvalidRequest, message))
            }
            ResetTarget::Time(time) => {
                let millis = time
                    .duration_since(std::time::UNIX_EPOCH)
                    .map_or(0, |since| since.as_millis());
                let millis = i64::try_from(millis).unwrap_or(i64::MAX);
                let found = self.first_at(session, topic, shard, standing, millis).await;
                found.map_err(|fault| fault.admin_error("records could not be looked for by their time"))
            }
        }
    }

    /// The first position whose record is not older. Times are those of the records,
    /// taken to rise: a binary search.
    pub(super) async fn first_at(
        &self,
        session: &Session,
        topic: &Topic,
        shard: u32,
        standing: &Standing,
        time_ms: i64,
    ) -> Result<u64, Fault> {
        let stream = &topic.streams[shard as usize];
        let epochs = topics::epochs(session, &self.core.keys, &topic.name, shard).await?;
        let oldest = standing.first.map_or(standing.last.epoch, |first| first.epoch);
        let (mut low, mut high) = (standing.first_position(), standing.end());
        while low < high {
            let middle = low + (high - low) / 2;
            let id = EntryId::at(epochs.of(middle, oldest), middle);
            match time_at(session, stream, id.value()).await? {
                Some(time) if time < time_ms => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    pub(super) async fn delete(&self, group: &GroupName) -> Result<(), AdminError> {
        let what = format!("group {group} was not deleted");
        let session = self.core.ask_for(&what).await?;
        let keys = &self.core.keys;
        let failed = |fault: Fault| fault.admin_error(what.clone());
        let groups = Self::names(&session, &keys.groups()).await.map_err(failed)?;
        if !groups.iter().any(|known| known == group.as_str()) {
            return Err(not_found(group));
        }
        self.check_idle(&session, group).await?;
        for topic in self.topics_of(&session, group).await.map_err(failed)? {
            for (shard, stream) in (0..).zip(&topic.streams) {
                let owner = keys.owner(&topic.name, shard, group);
                let removed = DELETE_GROUP
                    .run(&session, &[stream, &owner], vec![word(group.as_str())])
                    .await;
                if number(&removed.map_err(failed)?) == Some(-1) {
                    return Err(active(group, &format!("a member owns {}/{shard}", topic.name)));
                }
            }
        }
        let (all, of_group) = (keys.groups(), keys.group_topics(group));
        let forgotten = async {
            session.call("DEL", of_group.hash(), vec![of_group.value()]).await?;
            session
                .call("SREM", all.hash(), vec![all.value(), word(group.as_str())])
                .await
        };
        forgotten.await.map(drop).map_err(failed)
    }
}

fn not_found(group: &GroupName) -> AdminError {
    let message = format!("group {group} is not there: it has read no topic that there is");
    AdminError::new(AdminErrorKind::GroupNotFound, message)
}

fn active(group: &GroupName, why: &str) -> AdminError {
    let message = format!("group {group} is in use: {why}; stop its workers, or wait until their session is over");
    AdminError::new(AdminErrorKind::GroupActive, message)
}
