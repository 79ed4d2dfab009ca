//! Groups: who takes part, who has which partition, where each group stands.
//!
//! All members of a group are in this process, so that a change needs no talk:
//! under one lock the partitions that move are revoked from their old owners,
//! whose settled positions are taken over, and then assigned to the new ones.
//!
//! What holds: a partition has at most one owner in a group; generations rise
//! over all groups, and over restarts because the store's epoch is in them;
//! positions are handed to the writer in the order in which they arise, so that
//! an older one never follows a newer one. Groups never touch one another.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use uuid::Uuid;

use super::log::{Partition, Topic, Topics, locked};
use super::member::{Assigned, Fault, Member, MemberState, missing_position};
use super::queue::{PositionChange, Queue, Work};
use super::rows::PositionRow;
use crate::assignment::{Subscriber, assign};
use crate::error::ReadErrorKind;
use crate::frontier::Frontier;
use crate::ledger::PendingCommit;
use crate::metadata;
use crate::name::{GroupName, TopicPartition};
use crate::read::{Assignment, ReadEvent, ReaderOptions, StartPosition};

/// The longest text that is stored with a position.
pub(super) const MAX_METADATA_CHARACTERS: usize = 60_000;
/// How full that text may be while a reader takes more records.
const MAX_METADATA_FILL: f64 = 0.75;

/// All groups.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) groups: BTreeMap<GroupName, Group>,
    topics: HashMap<crate::name::TopicName, Arc<Topic>>,
    last_generation: u64,
    last_member: u64,
    is_closed: bool,
}

/// Where a group stands in a partition, by topic.
pub(super) type Positions = HashMap<(Uuid, u32), Frontier>;

#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) positions: Positions,
    pub(super) members: BTreeMap<u64, Arc<Member>>,
    owners: HashMap<TopicPartition, u64>,
}

impl Groups {
    /// The groups that the store knows. `epoch` differs from opening to opening.
    pub(super) fn new(epoch: u64, positions: Vec<(GroupName, Uuid, u32, PositionRow)>) -> Self {
        let mut state = State {
            last_generation: epoch << 32,
            ..State::default()
        };
        for (group, topic, partition, row) in positions {
            let frontier = metadata::decode(row.next, &row.metadata).unwrap_or_else(|error| {
                tracing::warn!(%error, %group, "settlements beyond a position are not known; records come again");
                Frontier::new(row.next)
            });
            state
                .groups
                .entry(group)
                .or_default()
                .positions
                .insert((topic, partition), frontier);
        }
        Self {
            state: Mutex::new(state),
        }
    }

    /// Takes part in a group. The answer resolves when where the group begins is
    /// durable.
    pub(super) fn join(
        &self,
        options: ReaderOptions,
        topics: &Topics,
        opened: std::time::SystemTime,
        queue: &Queue,
    ) -> Result<(Arc<Member>, oneshot::Receiver<bool>), Fault> {
        let mut state = locked(&self.state);
        if state.is_closed {
            return Err(Fault::closed());
        }
        state.last_member += 1;
        let member = Arc::new(Member {
            id: state.last_member,
            opened_at: options
                .topics
                .iter()
                .filter_map(|name| topics.get(name))
                .map(|topic| ends(&topic))
                .collect(),
            opened,
            wake: Arc::default(),
            state: Mutex::default(),
            options,
        });
        let group = member.options.group.clone();
        for topic in member.options.topics.iter().filter_map(|name| state.topics.get(name)) {
            topic.subscribe(&member.wake);
        }
        state
            .groups
            .entry(group.clone())
            .or_default()
            .members
            .insert(member.id, Arc::clone(&member));
        let mut changes = state.rebalance(&group);
        // Where a new group begins is stored at once, or it would begin elsewhere after a restart.
        changes.extend(state.gather(&member).0);
        Ok((member, post(changes, queue)))
    }

    /// Leaves the group; resolves when what was settled is durable. Leaving twice
    /// does nothing.
    pub(super) fn leave(&self, member: &Member, queue: &Queue) -> oneshot::Receiver<bool> {
        let mut state = locked(&self.state);
        let name = &member.options.group;
        let mut changes = Vec::new();
        if let Some(group) = state.groups.get_mut(name)
            && group.members.remove(&member.id).is_some()
        {
            group.owners.retain(|_, owner| *owner != member.id);
            changes = group.revoke_all(member);
            changes.extend(state.rebalance(name));
        }
        post(changes, queue)
    }

    /// Hands what a member has settled to the writer. Resolves when it is durable;
    /// then the ledger is to be told.
    pub(super) fn commit(&self, member: &Member, queue: &Queue) -> (Vec<PendingCommit>, oneshot::Receiver<bool>) {
        let mut state = locked(&self.state);
        let (changes, pending) = state.gather(member);
        (pending, post(changes, queue))
    }

    /// A topic is there now, or has more partitions.
    pub(super) fn topic_created(&self, topic: &Arc<Topic>, queue: &Queue) {
        let mut state = locked(&self.state);
        state.topics.insert(topic.name.clone(), Arc::clone(topic));
        let reads = |member: &Arc<Member>| member.options.topics.contains(&topic.name);
        let concerned: Vec<_> = state
            .groups
            .iter()
            .filter(|(_, group)| group.members.values().any(reads))
            .map(|(name, _)| name.clone())
            .collect();
        for name in concerned {
            for member in state.groups[&name].members.values().filter(|member| reads(member)) {
                topic.subscribe(&member.wake);
            }
            let changes = state.rebalance(&name);
            drop(post(changes, queue));
        }
    }

    /// A topic is gone: those who read it are told, positions in it are forgotten.
    pub(super) fn topic_deleted(&self, topic: &Topic) {
        let mut state = locked(&self.state);
        state.topics.remove(&topic.name);
        for group in state.groups.values_mut() {
            group.positions.retain(|(id, _), _| *id != topic.row.id);
            group.owners.retain(|partition, _| partition.topic != topic.name);
            for member in group
                .members
                .values()
                .filter(|member| member.options.topics.contains(&topic.name))
            {
                let mut state = locked(&member.state);
                for partition in &topic.partitions {
                    state.assigned.remove(&partition.name);
                    if state.ledger.revoke(&partition.name).is_some() {
                        state.tell(ReadEvent::Revoked(vec![partition.name.clone()]));
                    }
                    state.ledger.forget(&partition.name);
                }
                let message = format!(
                    "topic {} was deleted while group {} read it; make it again and open a new reader, which begins \
                     as a new group does",
                    topic.name, member.options.group
                );
                state.fault = Some(Fault {
                    kind: ReadErrorKind::ContinuityBroken,
                    message,
                });
                member.wake.notify_one();
            }
        }
    }

    /// Nobody takes part any more; what was settled is handed to the writer.
    pub(super) fn close(&self, queue: &Queue) {
        let mut state = locked(&self.state);
        state.is_closed = true;
        for group in state.groups.values_mut() {
            group.owners.clear();
            for member in std::mem::take(&mut group.members).into_values() {
                let changes = group.revoke_all(&member);
                drop(post(changes, queue));
            }
        }
    }

    /// All groups that stand somewhere or have members.
    pub(super) fn names(&self) -> Vec<GroupName> {
        let state = locked(&self.state);
        state
            .groups
            .iter()
            .filter(|(_, group)| group.is_there())
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Where a group stands, in each partition that it has read.
    pub(super) fn positions(&self, name: &GroupName) -> Option<Positions> {
        locked(&self.state)
            .groups
            .get(name)
            .map(|group| group.positions.clone())
    }

    /// The groups that stand somewhere in a topic.
    pub(super) fn positions_in(&self, topic: Uuid) -> Vec<(GroupName, u32)> {
        let state = locked(&self.state);
        let of = |(name, group): (&GroupName, &Group)| {
            let partitions = group.positions.keys().filter(|(id, _)| *id == topic);
            partitions
                .map(|(_, partition)| (name.clone(), *partition))
                .collect::<Vec<_>>()
        };
        state.groups.iter().flat_map(of).collect()
    }
}

fn ends(topic: &Arc<Topic>) -> (Uuid, Vec<u64>) {
    (
        topic.row.id,
        topic.partitions.iter().map(|partition| partition.row().end).collect(),
    )
}

/// Hands positions to the writer, in the order of the lock that the caller holds.
pub(super) fn post(changes: Vec<PositionChange>, queue: &Queue) -> oneshot::Receiver<bool> {
    let (reply, durable) = oneshot::channel();
    if changes.is_empty() {
        // The receiver is in our hand, so it takes it.
        let _ = reply.send(true);
    } else {
        // After the end nothing is written, and the dropped reply says so.
        drop(queue.put(Work::Positions(changes, reply)));
    }
    durable
}

impl State {
    /// What a member has settled since it was last durable.
    fn gather(&mut self, member: &Member) -> (Vec<PositionChange>, Vec<PendingCommit>) {
        let Some(group) = self.groups.get_mut(&member.options.group) else {
            return (Vec::new(), Vec::new());
        };
        let mut state = locked(&member.state);
        let pending = state.ledger.dirty();
        let mut changes = Vec::with_capacity(pending.len());
        for commit in &pending {
            if let Some(assigned) = state.assigned.get_mut(&commit.partition) {
                let (change, fill) = group.record(member, &assigned.partition, &commit.frontier);
                let was_full = std::mem::replace(&mut assigned.is_metadata_full, fill > MAX_METADATA_FILL);
                if was_full && !assigned.is_metadata_full {
                    member.wake.notify_one();
                }
                changes.push(change);
            }
        }
        (changes, pending)
    }

    /// Gives every partition to whom it belongs now.
    fn rebalance(&mut self, name: &GroupName) -> Vec<PositionChange> {
        let Some(group) = self.groups.get_mut(name) else {
            return Vec::new();
        };
        let subscribers: Vec<_> = group
            .members
            .values()
            .map(|member| Subscriber {
                id: member.id,
                topics: &member.options.topics,
            })
            .collect();
        let mut partitions: BTreeMap<TopicPartition, Arc<Partition>> = BTreeMap::new();
        for topic in subscribers.iter().flat_map(|subscriber| subscriber.topics) {
            for partition in self.topics.get(topic).into_iter().flat_map(|topic| &topic.partitions) {
                partitions.insert(partition.name.clone(), Arc::clone(partition));
            }
        }
        let names: Vec<_> = partitions.keys().cloned().collect();
        let owners = assign(&names, &subscribers, &group.owners);
        let before = std::mem::replace(&mut group.owners, owners);
        let mut changes = Vec::new();
        for (partition, owner) in &before {
            if group.owners.get(partition) != Some(owner)
                && let Some(member) = group.members.get(owner).cloned()
            {
                changes.extend(group.revoke(&member, partition));
            }
        }
        for (name, partition) in &partitions {
            let owner = group.owners.get(name);
            if let Some(owner) = owner.filter(|owner| before.get(name) != Some(owner))
                && let Some(member) = group.members.get(owner)
            {
                let frontier = group.positions.get(&(partition.topic, name.partition));
                // A partition that came later began empty, and none of it may be skipped.
                let is_grown = frontier.is_none() && group.positions.keys().any(|(id, _)| *id == partition.topic);
                self.last_generation = give(member, partition, frontier, is_grown, self.last_generation);
            }
        }
        changes
    }
}

impl Group {
    /// It stands somewhere or has members.
    pub(super) fn is_there(&self) -> bool {
        !self.positions.is_empty() || !self.members.is_empty()
    }

    /// Takes note of where the group stands; the change is to be made durable.
    fn record(&mut self, member: &Member, partition: &Partition, frontier: &Frontier) -> (PositionChange, f64) {
        let encoded = metadata::encode(frontier, MAX_METADATA_CHARACTERS);
        let key = (partition.topic, partition.name.partition);
        self.positions.insert(key, frontier.clone());
        let change = PositionChange {
            group: member.options.group.clone(),
            topic: partition.topic,
            partition: partition.name.partition,
            row: PositionRow {
                next: frontier.next(),
                metadata: encoded.text,
            },
        };
        (change, encoded.fill_ratio)
    }

    fn revoke(&mut self, member: &Member, name: &TopicPartition) -> Option<PositionChange> {
        let mut state = locked(&member.state);
        let assigned = state.assigned.remove(name)?;
        let pending = state.ledger.revoke(name)?;
        state.tell(ReadEvent::Revoked(vec![name.clone()]));
        member.wake.notify_one();
        drop(state);
        pending
            .changed
            .then(|| self.record(member, &assigned.partition, &pending.frontier).0)
    }

    fn revoke_all(&mut self, member: &Member) -> Vec<PositionChange> {
        let mut state = locked(&member.state);
        state.has_left = true;
        let names: Vec<_> = state.assigned.keys().cloned().collect();
        drop(state);
        let changes = names.iter().filter_map(|name| self.revoke(member, name)).collect();
        member.wake.notify_one();
        changes
    }
}

/// Gives a partition to a member; returns the generation.
fn give(
    member: &Member,
    partition: &Arc<Partition>,
    known: Option<&Frontier>,
    is_grown: bool,
    last_generation: u64,
) -> u64 {
    let mut state = locked(&member.state);
    let (frontier, gap, is_new) = match begin(member, partition, known, is_grown) {
        Ok(begin) => begin,
        Err(fault) => {
            state.fault = Some(fault);
            member.wake.notify_one();
            return last_generation;
        }
    };
    state.ledger.raise_generation(last_generation);
    let generation = state.ledger.assign(partition.name.clone(), frontier);
    if is_new {
        state.ledger.require_commit(&partition.name);
    }
    let position = state.ledger.read_position(&partition.name).unwrap_or_default();
    state
        .assigned
        .insert(partition.name.clone(), Assigned::new(Arc::clone(partition), generation));
    state.tell(ReadEvent::Assigned(vec![Assignment {
        partition: partition.name.clone(),
        generation,
        position,
    }]));
    if let Some(gap) = gap {
        state.events.push_back(ReadEvent::Gap(gap));
    }
    member.wake.notify_one();
    generation
}

type Begin = (Frontier, Option<crate::read::Gap>, bool);

/// Where a group goes on in a partition, and whether that is to be stored.
fn begin(member: &Member, partition: &Partition, known: Option<&Frontier>, is_grown: bool) -> Result<Begin, Fault> {
    let row = partition.row();
    let Some(known) = known else {
        let opened = member.opened_at.iter().find(|(topic, _)| *topic == partition.topic);
        let end = opened
            .and_then(|(_, ends)| ends.get(partition.name.partition as usize))
            .copied();
        let next = match member.options.start {
            StartPosition::Earliest => row.start,
            StartPosition::Latest if is_grown => row.start,
            // A topic made later had no records when the reader was opened.
            StartPosition::Latest => end.unwrap_or_default().max(row.start),
        };
        return Ok((Frontier::new(next), None, true));
    };
    if known.next() > row.end {
        let message = format!(
            "group {} stands at position {} of {}, which ends at {}: the store is older than the group; restore the \
             whole folder from one backup",
            member.options.group,
            known.next(),
            partition.name,
            row.end
        );
        return Err(Fault {
            kind: ReadErrorKind::ContinuityBroken,
            message,
        });
    }
    if known.next() >= row.start {
        return Ok((known.clone(), None, false));
    }
    let gap = missing_position(&member.options, partition, known.next(), known.ranges())?;
    let mut frontier = known.clone();
    frontier.skip_to(gap.resumed_position);
    Ok((frontier, Some(gap), true))
}

impl MemberState {
    /// Settlements of these commits are durable.
    pub(super) fn mark_committed(&mut self, commits: &[PendingCommit]) {
        for commit in commits {
            self.ledger.mark_committed(commit);
        }
    }
}
