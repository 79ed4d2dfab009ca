//! What a line holds of a record, and what it says of it in the end.

use std::fmt;

use meridian_broker::Claim;
use meridian_event::{Hops, Record, restamp};

use crate::passage::SkipReason;

/// A record that the target does not take for a fault of the record's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Stable code: of the append error, or `HOPS_UNREADABLE`.
    pub(crate) code: &'static str,
    /// For people.
    pub(crate) message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

/// One record of the source.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) claim: Claim,
    pub(crate) record: Record,
    pub(crate) way: Way,
}

/// Where a record goes.
#[derive(Clone, Debug)]
pub(crate) enum Way {
    /// To the target, with these hops.
    Append(Hops),
    /// Nowhere.
    Skip(SkipReason),
    /// It is known before it is sent that the target cannot take it.
    Refused(Refusal),
}

impl Item {
    /// A record to append.
    pub(crate) fn append(claim: Claim, record: Record, hops: Hops) -> Self {
        Self {
            claim,
            record,
            way: Way::Append(hops),
        }
    }

    /// A record to pass over. Its parts are not kept.
    pub(crate) fn skip(claim: Claim, record: &Record, reason: SkipReason) -> Self {
        let record = Record {
            timestamp_ms: record.timestamp_ms,
            ..Record::default()
        };
        Self {
            claim,
            record,
            way: Way::Skip(reason),
        }
    }

    /// A record that cannot be appended.
    pub(crate) fn refused(claim: Claim, record: Record, refusal: Refusal) -> Self {
        Self {
            claim,
            record,
            way: Way::Refused(refusal),
        }
    }

    /// The record as the target shall have it.
    pub(crate) fn stamped(&self) -> Option<Record> {
        match &self.way {
            Way::Append(hops) => Some(restamp(&self.record, hops)),
            Way::Skip(_) | Way::Refused(_) => None,
        }
    }
}

/// A record that is done, with all before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settled {
    pub(crate) claim: Claim,
    pub(crate) timestamp_ms: i64,
    pub(crate) bytes: usize,
    /// Why it was not appended, if it was not.
    pub(crate) skipped: Option<SkipReason>,
    /// Whether it went to the dead letters instead.
    pub(crate) dead_lettered: bool,
}
