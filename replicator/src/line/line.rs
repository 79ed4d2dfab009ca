//! The records of one partition between reading and settling.

use std::collections::VecDeque;
use std::time::Instant;

use meridian_broker::{AppendError, AppendErrorKind};
use meridian_event::Record;
use meridian_runtime::Backoff;

use super::item::{Item, Refusal, Settled, Way};
use super::verdict::{Verdict, verdict};

/// What a line is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Records go as they come.
    Flowing,
    /// A record failed: nothing more goes until all that is in flight has its outcome.
    Draining,
    /// It tries again at this time.
    Waiting(Instant),
    /// It sends one record alone, and flows again when that is stored. So a target
    /// that fails one record of many is not sent the others over and over.
    Probing,
    /// The record at its front cannot be mirrored; somebody must decide.
    Refused(Refusal),
    /// The target's topic is gone.
    TopicGone(String),
    /// The target serves nothing until an operator has mended it.
    Halted(String),
}

#[derive(Debug)]
enum Progress {
    Queued,
    InFlight,
    Done,
    Failed(Verdict, String, &'static str),
}

#[derive(Debug)]
struct Slot {
    item: Item,
    progress: Progress,
    dead_lettered: bool,
}

/// The line of one partition.
#[derive(Debug)]
pub(crate) struct Line {
    /// From the first record that is not settled, in order.
    slots: VecDeque<Slot>,
    /// The number of the slot at the front; numbers rise by one from record to record.
    first: u64,
    /// How many slots from the front have been sent, or need not be.
    sent: usize,
    in_flight: usize,
    phase: Phase,
    backoff: Backoff,
    failing: Option<(Instant, String)>,
    max_record_bytes: usize,
}

impl Line {
    /// An empty line that retries with this backoff, to a target that takes
    /// records of this size.
    pub(crate) fn new(backoff: Backoff, max_record_bytes: usize) -> Self {
        Self {
            max_record_bytes,
            slots: VecDeque::new(),
            first: 0,
            sent: 0,
            in_flight: 0,
            phase: Phase::Flowing,
            backoff,
            failing: None,
        }
    }

    /// Adds what was read last.
    pub(crate) fn push(&mut self, item: Item) {
        self.slots.push_back(Slot {
            item,
            progress: Progress::Queued,
            dead_lettered: false,
        });
    }

    /// The next record to append, with its number. The caller owes one
    /// [`complete`](Self::complete) for it.
    pub(crate) fn take(&mut self) -> Option<(u64, Record)> {
        match self.phase {
            Phase::Flowing => {}
            Phase::Probing if self.in_flight == 0 => {}
            _ => return None,
        }
        loop {
            let slot = self.slots.get_mut(self.sent)?;
            match &slot.item.way {
                Way::Skip(_) => slot.progress = Progress::Done,
                // It waits until it is the first, and for what is before it to be stored.
                Way::Refused(_) => return None,
                Way::Append(_) => {
                    let record = slot.item.stamped()?;
                    let bytes = record.size_bytes();
                    if bytes > self.max_record_bytes {
                        slot.item.way = Way::Refused(too_large(bytes, self.max_record_bytes));
                        return None;
                    }
                    let number = self.first + self.sent as u64;
                    slot.progress = Progress::InFlight;
                    self.in_flight += 1;
                    self.sent += 1;
                    return Some((number, record));
                }
            }
            self.sent += 1;
        }
    }

    /// What became of a record that was taken.
    pub(crate) fn complete(&mut self, number: u64, outcome: Result<(), &AppendError>, now: Instant) {
        let index = number
            .checked_sub(self.first)
            .and_then(|index| usize::try_from(index).ok());
        let Some(slot) = index.and_then(|index| self.slots.get_mut(index)) else {
            return;
        };
        if !matches!(slot.progress, Progress::InFlight) {
            return;
        }
        self.in_flight -= 1;
        match outcome {
            Ok(()) => {
                slot.progress = Progress::Done;
                if self.phase == Phase::Probing {
                    self.phase = Phase::Flowing;
                    self.failing = None;
                    self.backoff.reset();
                }
            }
            Err(error) => {
                slot.progress = Progress::Failed(verdict(error), error.to_string(), error.kind.code());
                self.phase = Phase::Draining;
                self.failing.get_or_insert_with(|| (now, error.to_string())).1 = error.to_string();
            }
        }
        if self.phase == Phase::Draining && self.in_flight == 0 {
            self.go_back(now);
        }
    }

    /// Everything has its outcome and something failed: back to the first that did.
    fn go_back(&mut self, now: Instant) {
        let failed = self
            .slots
            .iter()
            .position(|slot| matches!(slot.progress, Progress::Failed(..)));
        let Some(failed) = failed else {
            self.phase = Phase::Flowing;
            return;
        };
        let mut phase = Phase::Probing;
        for slot in self.slots.iter_mut().skip(failed) {
            let progress = std::mem::replace(&mut slot.progress, Progress::Queued);
            if phase != Phase::Probing {
                continue;
            }
            if let Progress::Failed(verdict, message, code) = progress {
                phase = match verdict {
                    Verdict::Retry => Phase::Waiting(now + self.backoff.next_delay()),
                    Verdict::Refused => Phase::Refused(Refusal { code, message }),
                    Verdict::TopicGone => Phase::TopicGone(message),
                    Verdict::Halt => Phase::Halted(message),
                };
            }
        }
        self.sent = failed;
        self.phase = phase;
    }

    /// Ends a wait that is over.
    pub(crate) fn tick(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Waiting(until) if until <= now) {
            self.phase = Phase::Probing;
        }
    }

    /// Moves what is done, with all before it, into `settled`. A refused record
    /// that has come to the front makes the phase `Refused`.
    pub(crate) fn settle(&mut self, settled: &mut Vec<Settled>) {
        while let Some(slot) = self.slots.pop_front_if(|slot| matches!(slot.progress, Progress::Done)) {
            self.first += 1;
            self.sent -= 1;
            settled.push(Settled {
                skipped: match slot.item.way {
                    Way::Skip(reason) => Some(reason),
                    _ => None,
                },
                dead_lettered: slot.dead_lettered,
                timestamp_ms: slot.item.record.timestamp_ms,
                bytes: slot.item.record.size_bytes(),
                claim: slot.item.claim,
            });
        }
        if let (Phase::Flowing | Phase::Probing, Some(slot)) = (&self.phase, self.slots.front())
            && let Way::Refused(refusal) = &slot.item.way
        {
            self.phase = Phase::Refused(refusal.clone());
        }
    }

    /// The refused record at the front is kept elsewhere: the line goes on after it.
    pub(crate) fn dead_lettered(&mut self) {
        if !matches!(self.phase, Phase::Refused(_)) {
            return;
        }
        // The refused record is the first that was not sent.
        if let Some(slot) = self.slots.get_mut(self.sent) {
            slot.progress = Progress::Done;
            slot.dead_lettered = true;
            self.sent += 1;
        }
        self.phase = Phase::Flowing;
        self.failing = None;
    }

    /// The first record that is not settled.
    pub(crate) fn front(&self) -> Option<&Item> {
        self.slots.front().map(|slot| &slot.item)
    }

    /// What it is about.
    pub(crate) fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Since when appends fail, and how the last did.
    pub(crate) fn failing(&self) -> Option<&(Instant, String)> {
        self.failing.as_ref()
    }
}

/// Known before the target is asked, so that nothing behind the record overtakes it.
fn too_large(bytes: usize, max_record_bytes: usize) -> Refusal {
    Refusal {
        code: AppendErrorKind::RecordTooLarge.code(),
        message: format!("the record has {bytes} bytes, the target takes {max_record_bytes}"),
    }
}
