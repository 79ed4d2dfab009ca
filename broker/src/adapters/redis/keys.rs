//! The names of everything that Meridian keeps in a Redis. Pure.
//!
//! What holds: all keys of one shard, and all of one group, are in one slot of a
//! cluster, for scripts may not reach over slots.

use bytes::Bytes;
use fred::types::ClusterHash;
use fred::types::Value;
use fred::util::redis_keyslot;

use crate::name::{GroupName, TopicName};

/// A key and its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    name: Bytes,
    slot: u16,
}

impl Key {
    fn new(name: String) -> Self {
        let slot = redis_keyslot(name.as_bytes());
        Self {
            name: name.into(),
            slot,
        }
    }

    pub(super) fn value(&self) -> Value {
        Value::Bytes(self.name.clone())
    }

    pub(super) fn hash(&self) -> ClusterHash {
        ClusterHash::Custom(self.slot)
    }
}

/// Makes keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
        }
    }

    /// A uuid, set once: which Redis this is.
    pub(super) fn identity(&self) -> Key {
        Key::new(format!("{}identity", self.prefix))
    }

    /// A set of the names of topics.
    pub(super) fn topics(&self) -> Key {
        Key::new(format!("{}topics", self.prefix))
    }

    /// A hash: what a topic is.
    pub(super) fn topic(&self, topic: &TopicName) -> Key {
        Key::new(format!("{}topic:{topic}", self.prefix))
    }

    /// The stream of a shard.
    pub(super) fn stream(&self, topic: &TopicName, shard: u32) -> Key {
        Key::new(format!("{}stream:{{{topic}/{shard}}}", self.prefix))
    }

    /// A hash: at which position each later epoch of the shard began.
    pub(super) fn epochs(&self, topic: &TopicName, shard: u32) -> Key {
        Key::new(format!("{}epochs:{{{topic}/{shard}}}", self.prefix))
    }

    /// Which member of the group reads the shard; it expires with the member's session.
    pub(super) fn owner(&self, topic: &TopicName, shard: u32, group: &GroupName) -> Key {
        Key::new(format!("{}owner:{{{topic}/{shard}}}:{group}", self.prefix))
    }

    /// A set of the names of groups.
    pub(super) fn groups(&self) -> Key {
        Key::new(format!("{}groups", self.prefix))
    }

    /// A set of the topics that the group has read.
    pub(super) fn group_topics(&self, group: &GroupName) -> Key {
        Key::new(format!("{}group:{{{group}}}:topics", self.prefix))
    }

    /// A sorted set of the group's members, by the time at which their sessions end.
    pub(super) fn members(&self, group: &GroupName) -> Key {
        Key::new(format!("{}group:{{{group}}}:members", self.prefix))
    }

    /// A hash of what each member reads.
    pub(super) fn subscriptions(&self, group: &GroupName) -> Key {
        Key::new(format!("{}group:{{{group}}}:subscriptions", self.prefix))
    }

    /// Who does the housekeeping; it expires soon.
    pub(super) fn housekeeper(&self) -> Key {
        Key::new(format!("{}housekeeper", self.prefix))
    }
}
