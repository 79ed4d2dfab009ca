//! Reading: what is pending for a former owner, then what is new; and what is missing.
//!
//! What holds: what a read took is handed out only if the shard was still owned after
//! it; a hole between two reads is looked into before anything beyond it is handed out;
//! what was read and has no room waits in order, and nothing more is read meanwhile.

use std::sync::Arc;

use fred::interfaces::Resp3Frame as Frame;
use futures::future::join_all;

use super::super::entry::{self, EntryId};
use super::super::error::{Fault, FaultKind};
use super::super::frame::{array, into_array, into_pairs, text};
use super::super::keys::Key;
use super::super::script::PUT_BACK;
use super::super::session::{Session, word};
use super::member::Member;
use super::shard::{Fetched, Mode};
use super::shared::Shared;
use crate::error::ReadErrorKind;
use crate::ledger::Observed;
use crate::name::TopicPartition;
use crate::read::{Gap, MissingPositionPolicy, ReadEvent};

/// Reads to be made.
#[derive(Default)]
pub(super) struct FetchPlan(Vec<Question>);

struct Question {
    partition: TopicPartition,
    stream: Key,
    owner: Key,
    mode: Mode,
    /// Entries of each read, one behind the other.
    counts: Vec<usize>,
}

/// What they gave.
pub(super) struct Answer {
    partition: TopicPartition,
    mode: Mode,
    /// Entries that were asked for, and what came.
    replies: Vec<(usize, Result<Frame, Fault>)>,
    owner: Result<Frame, Fault>,
}

impl FetchPlan {
    pub(super) async fn run(self, shared: &Shared) -> Vec<Answer> {
        if self.0.is_empty() {
            return Vec::new();
        }
        let Some(session) = shared.core.reading.session() else {
            return Vec::new();
        };
        join_all(self.0.into_iter().map(|question| question.ask(&session, shared))).await
    }
}

impl Question {
    async fn ask(self, session: &Session, shared: &Shared) -> Answer {
        let reads = self.counts.iter().map(|count| self.read(session, shared, *count));
        // Behind the reads on the same connection: who owns it then has owned it all along.
        let look = session.call("GET", self.owner.hash(), vec![self.owner.value()]);
        let (replies, owner) = tokio::join!(biased; join_all(reads), look);
        Answer {
            mode: self.mode,
            replies: self.counts.iter().copied().zip(replies).collect(),
            owner,
            partition: self.partition,
        }
    }

    fn read<'a>(
        &self,
        session: &'a Session,
        shared: &Shared,
        count: usize,
    ) -> impl Future<Output = Result<Frame, Fault>> + use<'a> {
        let (group, member) = (shared.options.group.as_str(), shared.member.as_str());
        let count = count.to_string();
        let (command, arguments) = match self.mode {
            Mode::New => {
                let mut arguments: Vec<_> = ["GROUP", group, member, "COUNT", &count, "STREAMS"]
                    .into_iter()
                    .map(word)
                    .collect();
                arguments.extend([self.stream.value(), word(">")]);
                ("XREADGROUP", arguments)
            }
            Mode::Claiming { from, .. } => {
                let mut arguments = vec![self.stream.value()];
                arguments.extend(
                    [group, member, "0", &from.to_string(), "COUNT", &count]
                        .into_iter()
                        .map(word),
                );
                ("XAUTOCLAIM", arguments)
            }
        };
        session.call(command, self.stream.hash(), arguments)
    }
}

impl Member {
    pub(super) fn plan_fetch(&mut self) -> FetchPlan {
        let now = self.now();
        self.pause_reads = self.pause_reads.filter(|until| *until > now);
        if self.has_backlog() || self.pause_reads.is_some() {
            return FetchPlan::default();
        }
        let options = &self.shared.options;
        let (mut records, mut bytes) = {
            let inner = self.shared.lock();
            if !inner
                .ledger
                .has_room(options.max_unsettled_records, options.max_unsettled_bytes)
            {
                return FetchPlan::default();
            }
            (
                options.max_unsettled_records - inner.ledger.unsettled_records(),
                options.max_unsettled_bytes - inner.ledger.unsettled_bytes(),
            )
        };
        let due = self.held.values().filter(|shard| Self::is_due(shard)).count().max(1);
        records = (records / due).max(1);
        bytes = (bytes / due).max(1);
        let due = self.held.iter().filter(|(_, shard)| Self::is_due(shard));
        let questions = due.map(|(partition, shard)| Question {
            partition: partition.clone(),
            stream: shard.stream.clone(),
            owner: shard.owner.clone(),
            mode: shard.mode,
            counts: shard.counts(records, bytes),
        });
        FetchPlan(questions.collect())
    }

    /// Takes in what reads gave; true when there may be more.
    pub(super) async fn take_fetched(&mut self, answers: Vec<Answer>) -> bool {
        let mut has_more = false;
        for answer in answers {
            let partition = answer.partition.clone();
            match self.take_answer(answer).await {
                Ok(more) => has_more |= more,
                Err(fault) if fault.kind == FaultKind::NoGroup => {
                    self.without_group.insert(partition.clone());
                    if let Some(shard) = self.held.get_mut(&partition) {
                        shard.is_ready = false;
                    }
                    self.next_tick = self.now();
                }
                Err(fault) => {
                    tracing::debug!(%partition, %fault, "a read failed");
                    // The reply may be lost: what it took is pending and is claimed.
                    if let Some(shard) = self.held.get_mut(&partition) {
                        shard.check();
                    }
                    let again = self.now() + super::member::IMPATIENT_TICK;
                    self.next_tick = self.next_tick.min(again);
                    self.pause_reads = Some(again);
                }
            }
        }
        if has_more {
            self.waiting.has_read();
        }
        has_more
    }

    async fn take_answer(&mut self, answer: Answer) -> Result<bool, Fault> {
        let owner = answer.owner?;
        if !self.held.contains_key(&answer.partition) {
            return Ok(false);
        }
        if text(&owner) != Some(&self.shared.member) {
            self.lose(std::slice::from_ref(&answer.partition));
            return Ok(false);
        }
        let mut has_more = false;
        for (count, reply) in answer.replies {
            let reply = reply?;
            match answer.mode {
                Mode::New => {
                    if self
                        .held
                        .get(&answer.partition)
                        .is_none_or(|shard| shard.mode != Mode::New)
                    {
                        break; // a hole was seen: what came behind it is pending and is claimed
                    }
                    let entries = into_pairs(reply).into_iter().next();
                    let entries = entries.map(|(_, entries)| into_array(entries)).unwrap_or_default();
                    has_more = self.take_new(&answer.partition, entries, count);
                }
                Mode::Claiming { from, is_checking } => {
                    let parts = into_array(reply);
                    let [next, entries, deleted] = parts.as_slice() else {
                        return Err(Fault::unexpected("XAUTOCLAIM"));
                    };
                    let next = EntryId::of_frame(next).unwrap_or(EntryId::ZERO);
                    let deleted: Vec<_> = array(deleted).iter().filter_map(EntryId::of_frame).collect();
                    self.take_claimed(&answer.partition, from, is_checking, next, array(entries), &deleted)
                        .await?;
                    has_more = true;
                }
            }
        }
        Ok(has_more)
    }

    /// Entries that nobody had before.
    fn take_new(&mut self, partition: &TopicPartition, entries: Vec<Frame>, count: usize) -> bool {
        let read_ms = self.shared.core.clock.wall_millis();
        let Some(shard) = self.held.get_mut(partition) else {
            return false;
        };
        let was_told = std::mem::take(&mut shard.is_told);
        shard.is_ready = entries.len() >= count;
        shard.is_behind = shard.is_ready;
        if entries.is_empty() {
            if was_told {
                // There is something, and the group has had it: another took it who may not.
                shard.check();
            }
            return was_told;
        }
        let (mut records, mut size) = (0, 0);
        for frame in &entries {
            let Some((id, record)) = entry::entry(frame, read_ms) else {
                continue;
            };
            if id.position() > shard.next {
                shard.check();
                break; // all from here on is pending for this member and is claimed
            }
            if id.position() < shard.next && shard.epochs.is_later(id.epoch) {
                let message = format!(
                    "{partition} holds the entry {id}, which is not numbered on from the one before: somebody wrote it \
                     with an id of their own. Remove it with XDEL and XACK"
                );
                self.shared.fail(ReadErrorKind::ContinuityBroken, message);
                return false;
            }
            shard.epochs.learn(id);
            shard.next = shard.next.max(id.next_position());
            records += 1;
            size += record.size_bytes();
            shard.backlog.push_back(Fetched::Record(id.position(), record));
        }
        shard.note_sizes(records, size);
        true
    }

    /// Entries that a former owner had, or that were taken and not seen.
    async fn take_claimed(
        &mut self,
        partition: &TopicPartition,
        from: EntryId,
        is_checking: bool,
        next: EntryId,
        entries: &[Frame],
        deleted: &[EntryId],
    ) -> Result<(), Fault> {
        let read_ms = self.shared.core.clock.wall_millis();
        let settled = self
            .shared
            .lock()
            .ledger
            .frontier(partition)
            .map_or(0, crate::Frontier::next);
        let Some(shard) = self.held.get_mut(partition) else {
            return Ok(());
        };
        let (mut records, mut size) = (0, 0);
        let mut gaps: Vec<Gap> = Vec::new();
        let gap = |expected: u64, resumed: u64| Gap {
            partition: partition.clone(),
            expected_position: expected,
            resumed_position: resumed,
            missing_records: resumed - expected,
        };
        // Positions that are gone though a member had them, and those that are there, in order.
        let mut gone: Vec<u64> = deleted
            .iter()
            .map(|id| id.position())
            .filter(|position| *position >= settled)
            .collect();
        gone.sort_unstable();
        let mut gone = gone.into_iter().peekable();
        let mut fetched = Vec::new();
        for frame in entries {
            let Some((id, record)) = entry::entry(frame, read_ms) else {
                continue;
            };
            let position = id.position();
            if is_checking {
                if position > shard.next {
                    gaps.push(gap(shard.next, position));
                    fetched.push(Fetched::Gap(gap(shard.next, position)));
                }
            } else {
                while let Some(missing) = gone.next_if(|missing| *missing < position) {
                    gaps.push(gap(missing, missing + 1));
                    fetched.push(Fetched::Gap(gap(missing, missing + 1)));
                }
            }
            shard.epochs.learn(id);
            shard.next = shard.next.max(id.next_position());
            records += 1;
            size += record.size_bytes();
            fetched.push(Fetched::Record(position, record));
        }
        if !is_checking {
            for missing in gone {
                gaps.push(gap(missing, missing + 1));
                fetched.push(Fetched::Gap(gap(missing, missing + 1)));
            }
        }
        let policy = self.shared.options.missing_position;
        if let (Some(gap), MissingPositionPolicy::Fail) = (gaps.first(), policy) {
            let taken = fetched.iter().filter_map(|fetched| match fetched {
                Fetched::Record(position, _) if is_checking && *position >= gap.expected_position => Some(*position),
                _ => None,
            });
            let taken: Vec<_> = taken.map(|position| shard.id_of(position)).collect();
            let gap = gap.clone();
            return self
                .refuse_gap(partition, &gap, is_checking.then_some(from), &taken)
                .await;
        }
        shard.backlog.extend(fetched);
        shard.note_sizes(records, size);
        shard.mode = if next == EntryId::ZERO {
            shard.is_ready = true;
            shard.backlog.push_back(Fetched::AdvanceTo(shard.next));
            Mode::New
        } else {
            Mode::Claiming {
                from: next,
                is_checking,
            }
        };
        Ok(())
    }

    /// Records are missing and the policy is to fail: nothing beyond them is handed
    /// out, and what was taken beyond them is put back, so that the next reader finds
    /// the same.
    async fn refuse_gap(
        &mut self,
        partition: &TopicPartition,
        gap: &Gap,
        stood: Option<EntryId>,
        taken: &[EntryId],
    ) -> Result<(), Fault> {
        if let (Some(stood), Some(session), Some(shard)) =
            (stood, self.shared.core.control.session(), self.held.get(partition))
        {
            let id = EntryId {
                epoch: stood.epoch,
                sequence: stood.sequence.saturating_sub(1),
            };
            let group = self.shared.options.group.as_str();
            let mut arguments = vec![word(&self.shared.member), word(group), id.value()];
            arguments.extend(taken.iter().map(|id| id.value()));
            PUT_BACK
                .run(&session, &[&shard.stream, &shard.owner], arguments)
                .await?;
        }
        let message = format!(
            "group {} stands at {} of {partition}, and the next record is {}: {} records are missing. Move the group, \
             or let it go on with another missing_position policy",
            self.shared.options.group, gap.expected_position, gap.resumed_position, gap.missing_records
        );
        self.shared.fail(ReadErrorKind::PositionMissing, message);
        Ok(())
    }

    /// Hands out what was read, as far as there is room; true when anything was.
    pub(super) fn hand_over(&mut self) -> bool {
        let shared = Arc::clone(&self.shared);
        let options = &shared.options;
        let now = self.now();
        let mut has_handed = false;
        let mut inner = shared.lock();
        for (partition, shard) in &mut self.held {
            while let Some(fetched) = shard.backlog.pop_front() {
                match fetched {
                    Fetched::Record(position, record) => {
                        if !inner
                            .ledger
                            .has_room(options.max_unsettled_records, options.max_unsettled_bytes)
                        {
                            shard.backlog.push_front(Fetched::Record(position, record));
                            inner.full = true;
                            break;
                        }
                        match inner.ledger.observe(partition, position, record) {
                            Observed::Claimed(record) => inner.add_record(record),
                            // Done before the shard went and came back: Redis shall know it too.
                            Observed::AlreadySettled => inner.note_settled(partition, position, now),
                            Observed::AlreadyClaimed | Observed::NotAssigned => {}
                        }
                    }
                    Fetched::Gap(gap) => {
                        inner.ledger.advance_to(partition, gap.resumed_position);
                        shared.log_gap(&gap);
                        inner.outbox.push_back(ReadEvent::Gap(gap));
                    }
                    Fetched::AdvanceTo(position) => inner.ledger.advance_to(partition, position),
                }
                has_handed = true;
            }
        }
        drop(inner);
        if has_handed {
            shared.happened.notify_one();
        }
        has_handed
    }
}
