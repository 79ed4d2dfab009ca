//! The meaning of the catalog's log. Pure: entries in, state out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::name::{GroupName, TopicName};

/// How many of the last entries are known by their ids.
const RECENT_ENTRIES: usize = 512;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Made by whoever wrote it, to know it again.
    pub(crate) id: String,
    pub(crate) change: Change,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub(crate) enum Change {
    /// A handle reads the log from here on; it changes nothing.
    Opened,
    /// Who this broker is.
    Identified {
        identity: String,
    },
    TopicCreated {
        topic: String,
        topic_id: String,
        shards: u32,
    },
    TopicDeleted {
        topic: String,
        topic_id: String,
    },
    /// Nothing is admitted from here on until the topic has grown.
    GrowthBegun {
        topic: String,
        topic_id: String,
        from: u32,
        to: u32,
    },
    /// The old shards are fenced and marked; records go by the new ring.
    Grown {
        topic: String,
        topic_id: String,
        to: u32,
    },
    /// All that lay in an old shard before the growth is settled by the group; an
    /// empty group stands for the parked records.
    ShardDrained {
        topic: String,
        topic_id: String,
        group: String,
        to: u32,
        shard: u32,
    },
    GroupCreated {
        topic: String,
        topic_id: String,
        group: String,
        earliest: bool,
        /// The group's queues let members compete.
        #[serde(default)]
        shared: bool,
    },
    GroupDeleted {
        group: String,
    },
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) id: String,
    pub(crate) shards: u32,
    /// The shard count that it is growing to.
    pub(crate) growing_to: Option<u32>,
    /// The group that has what was parked before there was any.
    pub(crate) parked_taker: Option<GroupName>,
    pub(crate) groups: BTreeSet<GroupName>,
    /// Those whose queues let members compete, which was settled when they were made.
    pub(crate) shared_groups: BTreeSet<GroupName>,
    pub(crate) growths: Vec<Growth>,
}

/// A growth whose old shards are not drained by all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Growth {
    pub(crate) from: u32,
    pub(crate) to: u32,
    /// The old shards that each group (empty: the parked records) has to drain.
    pub(crate) waiting: BTreeMap<String, BTreeSet<u32>>,
}

impl Topic {
    /// Whether members of the group compete for the records of a shard.
    pub(crate) fn is_shared_by(&self, group: &GroupName) -> bool {
        self.shared_groups.contains(group)
    }

    /// Whether the group must wait before it hands out records of a shard.
    pub(crate) fn must_wait(&self, group: &GroupName, shard: u32) -> bool {
        let drains_parked = self.parked_taker.as_ref() == Some(group);
        self.growths.iter().any(|growth| {
            let waits = |name: &str| growth.waiting.get(name).is_some_and(|shards| !shards.is_empty());
            (growth.from..growth.to).contains(&shard) && (waits(group.as_str()) || drains_parked && waits(""))
        })
    }
}

/// What the log says, up to some entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CatalogState {
    /// Entries that were read.
    pub(crate) entries: u64,
    pub(crate) identity: Option<String>,
    pub(crate) topics: BTreeMap<TopicName, Topic>,
    recent: VecDeque<(String, bool)>,
}

impl CatalogState {
    /// Takes in the next entry; `None` is one that nobody understands.
    pub(crate) fn apply(&mut self, entry: Option<Entry>) {
        self.entries += 1;
        let Some(entry) = entry else { return };
        let took = self.change(&entry.change).unwrap_or(false);
        if self.recent.len() >= RECENT_ENTRIES {
            self.recent.pop_front();
        }
        self.recent.push_back((entry.id, took));
    }

    /// Whether the entry of this id changed anything; `None` before it was read.
    pub(crate) fn outcome_of(&self, id: &str) -> Option<bool> {
        let found = self.recent.iter().rev().find(|(known, _)| known == id);
        found.map(|(_, took)| *took)
    }

    fn current(&mut self, topic: &str, id: &str) -> Option<&mut Topic> {
        let topic = self.topics.get_mut(&TopicName::new(topic).ok()?)?;
        (topic.id == id).then_some(topic)
    }

    /// True when it changed something.
    fn change(&mut self, change: &Change) -> Option<bool> {
        match change {
            Change::Opened => Some(false),
            Change::Identified { identity } => {
                let first = self.identity.is_none();
                self.identity.get_or_insert_with(|| identity.clone());
                Some(first)
            }
            Change::TopicCreated {
                topic,
                topic_id,
                shards,
            } => {
                let name = TopicName::new(topic).ok()?;
                if self.topics.contains_key(&name) || *shards == 0 {
                    return Some(false);
                }
                let topic = Topic {
                    id: topic_id.clone(),
                    shards: *shards,
                    growing_to: None,
                    parked_taker: None,
                    groups: BTreeSet::new(),
                    shared_groups: BTreeSet::new(),
                    growths: Vec::new(),
                };
                self.topics.insert(name, topic);
                Some(true)
            }
            Change::TopicDeleted { topic, topic_id } => {
                self.current(topic, topic_id)?;
                self.topics.remove(&TopicName::new(topic).ok()?);
                Some(true)
            }
            Change::GrowthBegun {
                topic,
                topic_id,
                from,
                to,
            } => {
                let topic = self.current(topic, topic_id)?;
                if topic.growing_to.is_some() || topic.shards != *from || to <= from {
                    return Some(false);
                }
                topic.growing_to = Some(*to);
                let mut waiting: BTreeMap<String, BTreeSet<u32>> = (topic.groups.iter())
                    .map(|group| (group.to_string(), (0..*from).collect()))
                    .collect();
                waiting.insert(String::new(), (0..*from).collect());
                topic.growths.push(Growth {
                    from: *from,
                    to: *to,
                    waiting,
                });
                Some(true)
            }
            Change::Grown { topic, topic_id, to } => {
                let topic = self.current(topic, topic_id)?;
                if topic.growing_to != Some(*to) {
                    return Some(false);
                }
                topic.growing_to = None;
                topic.shards = *to;
                Some(true)
            }
            Change::ShardDrained {
                topic,
                topic_id,
                group,
                to,
                shard,
            } => {
                let topic = self.current(topic, topic_id)?;
                let growth = topic.growths.iter_mut().find(|growth| growth.to == *to)?;
                let drained = growth.waiting.get_mut(group)?.remove(shard);
                growth.waiting.retain(|_, shards| !shards.is_empty());
                topic.growths.retain(|growth| !growth.waiting.is_empty());
                Some(drained)
            }
            Change::GroupCreated {
                topic,
                topic_id,
                group,
                earliest,
                shared,
            } => {
                let group = GroupName::new(group).ok()?;
                let topic = self.current(topic, topic_id)?;
                if !topic.groups.insert(group.clone()) {
                    return Some(false);
                }
                if *shared {
                    topic.shared_groups.insert(group.clone());
                }
                if *earliest && topic.parked_taker.is_none() {
                    topic.parked_taker = Some(group);
                }
                Some(true)
            }
            Change::GroupDeleted { group } => {
                let group = GroupName::new(group).ok()?;
                let mut was_there = false;
                for topic in self.topics.values_mut() {
                    was_there |= topic.groups.remove(&group);
                    topic.shared_groups.remove(&group);
                    for growth in &mut topic.growths {
                        growth.waiting.remove(group.as_str());
                    }
                    // What is parked still, and what will be, is for the next group then.
                    topic.parked_taker.take_if(|taker| *taker == group);
                }
                Some(was_there)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(state: &mut CatalogState, changes: Vec<Change>) -> Vec<Option<bool>> {
        let mut outcomes = Vec::new();
        for change in changes {
            let id = state.entries.to_string();
            state.apply(Some(Entry { id: id.clone(), change }));
            outcomes.push(state.outcome_of(&id));
        }
        outcomes
    }

    fn created(topic_id: &str, shards: u32) -> Change {
        let (topic, topic_id) = ("t".to_owned(), topic_id.to_owned());
        Change::TopicCreated {
            topic,
            topic_id,
            shards,
        }
    }

    fn joined(group: &str, earliest: bool) -> Change {
        Change::GroupCreated {
            topic: "t".to_owned(),
            topic_id: "1".to_owned(),
            group: group.to_owned(),
            earliest,
            shared: false,
        }
    }

    fn drained(group: &str, shard: u32) -> Change {
        Change::ShardDrained {
            topic: "t".to_owned(),
            topic_id: "1".to_owned(),
            group: group.to_owned(),
            to: 3,
            shard,
        }
    }

    fn topic(state: &CatalogState) -> &Topic {
        &state.topics[&TopicName::new("t").unwrap()]
    }

    #[test]
    fn what_a_group_was_made_for_stays_until_it_is_deleted() {
        let mut state = CatalogState::default();
        let Change::GroupCreated {
            topic, topic_id, group, ..
        } = joined("g", false)
        else {
            unreachable!("it joins")
        };
        let shared = Change::GroupCreated {
            topic,
            topic_id,
            group,
            earliest: false,
            shared: true,
        };
        let deleted = Change::GroupDeleted { group: "g".to_owned() };
        let is_shared = |state: &CatalogState| {
            let topics = state.topics.values();
            topics
                .map(|topic| topic.is_shared_by(&GroupName::new("g").unwrap()))
                .collect::<Vec<_>>()
        };
        apply(&mut state, vec![created("1", 2), shared, joined("g", false)]);
        assert_eq!(is_shared(&state), [true]);
        apply(&mut state, vec![deleted, joined("g", false)]);
        assert_eq!(is_shared(&state), [false]);
    }

    #[test]
    fn a_group_of_an_older_entry_is_not_shared() {
        let entry = r#"{"kind":"group_created","topic":"t","topic_id":"1","group":"g","earliest":true}"#;
        assert_eq!(serde_json::from_str::<Change>(entry).unwrap(), joined("g", true));
    }

    #[test]
    fn of_two_entries_that_contradict_one_another_the_first_counts() {
        let mut state = CatalogState::default();
        let identified = |identity: &str| Change::Identified {
            identity: identity.to_owned(),
        };
        let changes = vec![identified("a"), identified("b"), created("1", 2), created("2", 3)];
        let outcomes = apply(&mut state, changes);
        assert_eq!(outcomes, [Some(true), Some(false), Some(true), Some(false)]);
        assert_eq!((state.identity.as_deref(), topic(&state).shards), (Some("a"), 2));
        let stale = Change::TopicDeleted {
            topic: "t".to_owned(),
            topic_id: "2".to_owned(),
        };
        assert_eq!(apply(&mut state, vec![stale]), [Some(false)], "it is another topic");
        state.apply(None);
        assert_eq!(state.entries, 6);
    }

    #[test]
    fn the_first_group_from_the_earliest_has_what_was_parked() {
        let mut state = CatalogState::default();
        let changes = vec![
            created("1", 2),
            joined("late", false),
            joined("early", true),
            joined("next", true),
        ];
        apply(&mut state, changes);
        assert_eq!(topic(&state).parked_taker, Some(GroupName::new("early").unwrap()));
        let gone = Change::GroupDeleted {
            group: "early".to_owned(),
        };
        apply(&mut state, vec![gone, joined("again", true)]);
        assert_eq!(topic(&state).parked_taker, Some(GroupName::new("again").unwrap()));
    }

    #[test]
    fn a_new_shard_waits_until_the_group_has_drained_the_old_ones() {
        let mut state = CatalogState::default();
        let begun = |from, to| Change::GrowthBegun {
            topic: "t".to_owned(),
            topic_id: "1".to_owned(),
            from,
            to,
        };
        let grown = Change::Grown {
            topic: "t".to_owned(),
            topic_id: "1".to_owned(),
            to: 3,
        };
        apply(&mut state, vec![created("1", 2), joined("g", true), joined("h", true)]);
        let outcomes = apply(
            &mut state,
            vec![begun(1, 3), begun(2, 3), begun(2, 4), grown.clone(), grown],
        );
        assert_eq!(
            outcomes,
            [Some(false), Some(true), Some(false), Some(true), Some(false)]
        );
        let (g, h) = (GroupName::new("g").unwrap(), GroupName::new("h").unwrap());
        assert_eq!(topic(&state).shards, 3);
        assert!(topic(&state).must_wait(&g, 2) && topic(&state).must_wait(&h, 2));
        assert!(!topic(&state).must_wait(&g, 1), "old shards go on");
        apply(
            &mut state,
            vec![drained("h", 0), drained("h", 1), drained("g", 0), drained("g", 1)],
        );
        assert!(!topic(&state).must_wait(&h, 2));
        assert!(
            topic(&state).must_wait(&g, 2),
            "it has the parked records to drain as well"
        );
        apply(&mut state, vec![drained("", 0), drained("", 1)]);
        assert!(!topic(&state).must_wait(&g, 2));
        assert!(topic(&state).growths.is_empty());
    }
}
