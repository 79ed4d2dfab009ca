//! What the members of a group tell one another, and which shards each has. Pure.
//!
//! What holds: members that know the same members come to the same shares; a member
//! that joins takes only its fair part from the others.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::assignment::{Subscriber, assign};
use crate::name::{TopicName, TopicPartition};

/// A member that was not heard of for so long is gone. Only shares depend on it.
pub(crate) const SILENCE_LIMIT: Duration = Duration::from_secs(5);
/// How often a member says that it is there.
pub(crate) const SAY_INTERVAL: Duration = Duration::from_secs(1);

/// The unsettled and waiting records of a shard, as one of its members counts them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardLag {
    pub(crate) topic: String,
    pub(crate) shard: u32,
    pub(crate) records: u64,
    /// Of these, what the member itself has at hand.
    #[serde(default)]
    pub(crate) unsettled: u64,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "say")]
pub(crate) enum Said {
    /// I am there and read these; who is `new` wants to hear from all.
    Present {
        member: u64,
        topics: Vec<String>,
        new: bool,
    },
    /// I leave.
    Bye { member: u64 },
    /// How much is not settled?
    Ask { question: String },
    /// So much, in the shards that I have.
    Lag { question: String, shards: Vec<ShardLag> },
}

struct Known {
    topics: Vec<TopicName>,
    heard_at: Instant,
}

/// Who is there. Ids rise with the time of joining.
pub(crate) struct Members(BTreeMap<u64, Known>);

impl Members {
    /// Only this member, which is never silent.
    pub(crate) fn alone(member: u64, topics: &[TopicName], now: Instant) -> Self {
        let mut members = Self(BTreeMap::new());
        members.heard(member, topics.to_vec(), now);
        members
    }

    /// True when that changes the list.
    pub(crate) fn heard(&mut self, member: u64, topics: Vec<TopicName>, now: Instant) -> bool {
        let news = self.0.get(&member).is_none_or(|known| known.topics != topics);
        self.0.insert(member, Known { topics, heard_at: now });
        news
    }

    /// True when it was there.
    pub(crate) fn gone(&mut self, member: u64) -> bool {
        self.0.remove(&member).is_some()
    }

    /// Forgets who was silent, but never `member`. True when somebody was.
    pub(crate) fn expire(&mut self, member: u64, now: Instant) -> bool {
        let before = self.0.len();
        let heard = |known: &Known| now.saturating_duration_since(known.heard_at) < SILENCE_LIMIT;
        self.0.retain(|id, known| *id == member || heard(known));
        self.0.len() != before
    }

    /// Everybody counts as heard of: nobody could be.
    pub(crate) fn excuse(&mut self, now: Instant) {
        for known in self.0.values_mut() {
            known.heard_at = now;
        }
    }

    /// The shards of `member`, among those of the topics that anybody reads. Members
    /// are taken in one after the other, so that each joins at the cost of few moves.
    pub(crate) fn share_of(&self, member: u64, shards: &BTreeMap<TopicName, u32>) -> Vec<TopicPartition> {
        let partitions: Vec<_> = shards
            .iter()
            .flat_map(|(topic, count)| {
                (0..*count).map(|partition| TopicPartition {
                    topic: topic.clone(),
                    partition,
                })
            })
            .collect();
        let all: Vec<_> = self
            .0
            .iter()
            .map(|(id, known)| Subscriber {
                id: *id,
                topics: &known.topics,
            })
            .collect();
        let mut owners = HashMap::new();
        for count in 1..=all.len() {
            owners = assign(&partitions, &all[..count], &owners);
        }
        let mut share: Vec<_> = owners
            .into_iter()
            .filter(|(_, owner)| *owner == member)
            .map(|(partition, _)| partition)
            .collect();
        share.sort();
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_to_the_same_shares_and_a_joining_one_takes_its_part() {
        let topic = TopicName::new("t").unwrap();
        let (topics, now) = (vec![topic.clone()], Instant::now());
        let shards = BTreeMap::from([(topic, 4)]);
        let mut members = Members::alone(10, &topics, now);
        let before = members.share_of(10, &shards);
        assert_eq!(before.len(), 4);
        assert!(members.heard(20, topics.clone(), now));
        assert!(!members.heard(20, topics.clone(), now));
        let (old, new) = (members.share_of(10, &shards), members.share_of(20, &shards));
        assert_eq!((old.len(), new.len()), (2, 2));
        assert!(old.iter().all(|partition| !new.contains(partition)));
        let mut other = Members::alone(20, &topics, now);
        other.heard(10, topics, now);
        assert_eq!(other.share_of(20, &shards), new);
    }

    #[test]
    fn who_is_silent_is_gone_but_never_oneself() {
        let topic = TopicName::new("t").unwrap();
        let now = Instant::now();
        let mut members = Members::alone(1, std::slice::from_ref(&topic), now);
        members.heard(2, vec![topic], now);
        assert!(!members.expire(1, now + Duration::from_secs(1)));
        members.excuse(now + Duration::from_secs(4));
        assert!(!members.expire(1, now + Duration::from_secs(8)));
        assert!(members.expire(1, now + Duration::from_secs(30)));
        assert_eq!(members.0.len(), 1);
        assert!(!members.gone(2));
    }

    #[test]
    fn what_is_said_is_json_that_stays() {
        let said = Said::Present {
            member: 7,
            topics: vec!["t".into()],
            new: true,
        };
        let text = serde_json::to_string(&said).unwrap();
        assert_eq!(text, r#"{"say":"present","member":7,"topics":["t"],"new":true}"#);
        assert_eq!(serde_json::from_str::<Said>(&text).unwrap(), said);
    }
}
