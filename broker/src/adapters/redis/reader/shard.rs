//! What a member knows of a shard that it owns, and where a group stands in one. Pure.

use std::collections::VecDeque;
use std::time::Instant;

use fred::interfaces::Resp3Frame as Frame;
use meridian_event::Record;

use super::super::entry::EntryId;
use super::super::error::Fault;
use super::super::frame::{array, number, text};
use super::super::keys::Key;
use super::super::topics::Epochs;
use crate::frontier::Frontier;
use crate::read::{Gap, MissingPositionPolicy};

/// The size that a record is taken to have before any was seen, and the count of the
/// first read, which is small for that reason.
const ASSUMED_BYTES: usize = 1024;
const FIRST_COUNT: usize = 8;

/// Entries of one read at most.
const MAX_COUNT: usize = 1_000;

/// Bytes of one reply, about. The client looks at a reply from its beginning again
/// whenever more of it has come, so a large one costs much more than several small.
const REPLY_BYTES: usize = 48 * 1024;

/// Reads that are under way of one shard at most; so few that all are sent at once.
const MAX_READS: usize = 16;

/// How a shard is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// What was delivered to a former owner, from this id on. What is not pending
    /// between is settled, or, if `is_checking`, missing.
    Claiming { from: EntryId, is_checking: bool },
    /// What was delivered to nobody.
    New,
}

/// What was read, in order, and waits for room.
#[derive(Debug)]
pub(super) enum Fetched {
    Record(u64, Record),
    Gap(Gap),
    /// All before it is settled or gone.
    AdvanceTo(u64),
}

/// A shard that this member owns.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) stream: Key,
    pub(super) owner: Key,
    pub(super) mode: Mode,
    /// The position of the next entry that was not read yet.
    pub(super) next: u64,
    pub(super) epochs: Epochs,
    /// The epoch before all that are known.
    pub(super) oldest_epoch: u64,
    pub(super) backlog: VecDeque<Fetched>,
    /// Until when the ownership surely lasts.
    pub(super) lease_until: Instant,
    average_bytes: usize,
    has_read: bool,
    /// The last read gave all that it asked for: there is probably much more.
    pub(super) is_behind: bool,
    /// Something may be there.
    pub(super) is_ready: bool,
    /// A wait said that something is there.
    pub(super) is_told: bool,
}

impl Shard {
    pub(super) fn new(stream: Key, owner: Key, standing: &Standing, lease_until: Instant) -> Self {
        let lowest = standing.lowest();
        Self {
            stream,
            owner,
            mode: if standing.pending > 0 {
                Mode::Claiming {
                    from: EntryId::ZERO,
                    is_checking: false,
                }
            } else {
                Mode::New
            },
            next: lowest,
            epochs: Epochs::default(),
            oldest_epoch: standing.delivered.epoch,
            backlog: VecDeque::new(),
            lease_until,
            average_bytes: ASSUMED_BYTES,
            has_read: false,
            is_behind: false,
            is_ready: true,
            is_told: false,
        }
    }

    /// Has what may be missing from the next position on looked into.
    pub(super) fn check(&mut self) {
        if self.mode == Mode::New {
            let before = self.id_before_next();
            self.mode = Mode::Claiming {
                from: EntryId::at(before.epoch, self.next),
                is_checking: true,
            };
        }
    }

    /// Records that wait for room.
    pub(super) fn waiting_records(&self) -> u64 {
        let records = self.backlog.iter().filter(|each| matches!(each, Fetched::Record(..)));
        records.count() as u64
    }

    /// Everything from a position on is read once more.
    pub(super) fn read_again_from(&mut self, position: u64) {
        self.next = position;
        self.mode = Mode::New;
        self.backlog.clear();
        self.is_ready = true;
    }

    /// The id after which the next entry comes.
    pub(super) fn id_before_next(&self) -> EntryId {
        let epoch = self.epochs.of(self.next.saturating_sub(1), self.oldest_epoch);
        EntryId::before(epoch, self.next)
    }

    /// The id of a position that was read.
    pub(super) fn id_of(&self, position: u64) -> EntryId {
        EntryId::at(self.epochs.of(position, self.oldest_epoch), position)
    }

    /// How many entries may be read for this much room.
    pub(super) fn count(&self, records: usize, bytes: usize) -> usize {
        let most = if self.has_read { MAX_COUNT } else { FIRST_COUNT };
        records.min(bytes / self.average_bytes.max(1)).clamp(1, most)
    }

    /// The same, as one read after the other of a size that is cheap. A shard that is
    /// not behind is asked once.
    pub(super) fn counts(&self, records: usize, bytes: usize) -> Vec<usize> {
        let mut total = self.count(records, bytes);
        if self.mode != Mode::New {
            return vec![total];
        }
        let one = (REPLY_BYTES / self.average_bytes.max(1)).clamp(1, MAX_COUNT);
        let mut counts = vec![total.min(one)];
        total -= total.min(one);
        while self.is_behind && total > 0 && counts.len() < MAX_READS {
            counts.push(total.min(one));
            total -= total.min(one);
        }
        counts
    }

    pub(super) fn note_sizes(&mut self, records: usize, bytes: usize) {
        if let Some(average) = bytes.checked_div(records) {
            // Up at once, down slowly: to read too much is worse than too little.
            self.average_bytes = if self.has_read {
                average.max((self.average_bytes * 3 + average) / 4)
            } else {
                average
            };
            self.has_read = true;
        }
    }
}

/// Where a group stands in a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Standing {
    pub(in super::super) owner: String,
    pub(in super::super) is_there: bool,
    /// The group was made just now, or is there.
    pub(in super::super) has_group: bool,
    pub(in super::super) last: EntryId,
    pub(in super::super) first: Option<EntryId>,
    pub(in super::super) delivered: EntryId,
    pub(in super::super) pending: u64,
    pub(in super::super) lowest_pending: Option<EntryId>,
}

impl Standing {
    pub(in super::super) fn of_reply(reply: &Frame) -> Result<Self, Fault> {
        let unexpected = || Fault::unexpected("the question where a group stands");
        let [owner, there, _made, last, first, delivered, pending, lowest] = array(reply) else {
            return Err(unexpected());
        };
        let is_there = number(there) == Some(1);
        let last = EntryId::of_frame(last);
        if is_there && last.is_none() {
            return Err(unexpected());
        }
        let delivered = EntryId::of_frame(delivered);
        Ok(Self {
            owner: text(owner).unwrap_or_default().to_owned(),
            is_there,
            has_group: delivered.is_some(),
            last: last.unwrap_or(EntryId::ZERO),
            first: EntryId::of_frame(first),
            delivered: delivered.unwrap_or(EntryId::ZERO),
            pending: number(pending)
                .and_then(|count| u64::try_from(count).ok())
                .unwrap_or_default(),
            lowest_pending: EntryId::of_frame(lowest),
        })
    }

    /// The position that the next record will get.
    pub(in super::super) fn end(&self) -> u64 {
        self.last.next_position()
    }

    /// The oldest position that can be read.
    pub(in super::super) fn first_position(&self) -> u64 {
        self.first.map_or_else(|| self.end(), EntryId::position)
    }

    /// The lowest position that is not settled.
    pub(in super::super) fn lowest(&self) -> u64 {
        self.lowest_pending
            .map_or_else(|| self.delivered.next_position(), EntryId::position)
    }

    /// How many are not settled.
    pub(in super::super) fn unsettled(&self) -> u64 {
        self.pending + self.end().saturating_sub(self.delivered.next_position())
    }

    /// Whether what the group wants next is gone: where to go on then.
    pub(super) fn missing(&self, policy: MissingPositionPolicy) -> Missing {
        let (lowest, first, end) = (self.lowest(), self.first_position(), self.end());
        let count = if lowest > end || self.delivered.next_position() > end {
            self.delivered.next_position() - end.min(self.delivered.next_position())
        } else if lowest < first {
            first - lowest
        } else {
            return Missing::Nothing;
        };
        let resumed = match policy {
            MissingPositionPolicy::Fail => {
                return Missing::Refused {
                    expected: lowest,
                    count,
                };
            }
            MissingPositionPolicy::Earliest => first,
            MissingPositionPolicy::Latest => end,
        };
        Missing::Beyond {
            frontier: Frontier::new(resumed),
            expected: lowest,
            count: if resumed > lowest { resumed - lowest } else { count },
        }
    }
}

/// What is missing when a shard is taken up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Nothing,
    Refused {
        expected: u64,
        count: u64,
    },
    Beyond {
        frontier: Frontier,
        expected: u64,
        count: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(first: Option<u64>, end: u64, delivered: u64, lowest_pending: Option<u64>) -> Standing {
        Standing {
            owner: String::new(),
            is_there: true,
            has_group: true,
            last: EntryId::before(7, end),
            first: first.map(|position| EntryId::at(7, position)),
            delivered: EntryId::before(7, delivered),
            pending: u64::from(lowest_pending.is_some()),
            lowest_pending: lowest_pending.map(|position| EntryId::at(7, position)),
        }
    }

    #[test]
    fn what_is_gone_is_counted_and_nothing_is_skipped_silently() {
        use MissingPositionPolicy as Policy;
        let whole = standing(Some(0), 10, 4, Some(2));
        assert_eq!((whole.lowest(), whole.end(), whole.unsettled()), (2, 10, 7));
        assert_eq!(whole.missing(Policy::Fail), Missing::Nothing);
        let refused = |expected, count| Missing::Refused { expected, count };
        // Delivered and pending, delivered to nobody, and all of it.
        assert_eq!(standing(Some(5), 10, 4, Some(2)).missing(Policy::Fail), refused(2, 3));
        assert_eq!(standing(Some(5), 10, 4, None).missing(Policy::Fail), refused(4, 1));
        assert_eq!(standing(None, 10, 4, None).missing(Policy::Fail), refused(4, 6));
        assert_eq!(standing(None, 10, 10, None).missing(Policy::Fail), Missing::Nothing);
        // The Redis has an older state than the group.
        assert_eq!(standing(Some(0), 3, 5, None).missing(Policy::Fail), refused(5, 2));
        let beyond = |resumed, expected, count| Missing::Beyond {
            frontier: Frontier::new(resumed),
            expected,
            count,
        };
        assert_eq!(
            standing(Some(5), 10, 4, Some(2)).missing(Policy::Earliest),
            beyond(5, 2, 3)
        );
        assert_eq!(
            standing(Some(5), 10, 4, Some(2)).missing(Policy::Latest),
            beyond(10, 2, 8)
        );
    }
}
