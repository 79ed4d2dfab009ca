//! Where reading a partition begins, and what is done when the position at which
//! the group stands is gone. Pure.
//!
//! What holds: no position is passed over silently; with the policy to fail,
//! nothing is read.

use crate::frontier::Frontier;
use crate::read::{MissingPositionPolicy, StartPosition};

/// What a partition holds: positions from `first`, before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) first: u64,
    pub(super) end: u64,
}

/// Where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// The group has no position: begin here.
    New(Frontier),
    /// Where it stands.
    At(Frontier),
    /// Records are missing and the policy is to go on.
    Beyond {
        frontier: Frontier,
        expected: u64,
        missing: u64,
    },
    /// Records are missing and the policy is to fail.
    Refused { expected: u64, missing: u64 },
}

/// Where to go on with what the group has committed.
pub(super) fn start_of(
    committed: Option<Frontier>,
    extent: Extent,
    start: StartPosition,
    policy: MissingPositionPolicy,
) -> Start {
    let Some(committed) = committed else {
        return Start::New(Frontier::new(match start {
            StartPosition::Earliest => extent.first,
            StartPosition::Latest => extent.end,
        }));
    };
    let expected = committed.next();
    let missing = if expected < extent.first {
        extent.first - expected
    } else if expected > extent.end {
        expected - extent.end // the log was cut, or is another one
    } else {
        return Start::At(committed);
    };
    let resumed = match policy {
        MissingPositionPolicy::Fail => return Start::Refused { expected, missing },
        MissingPositionPolicy::Earliest => extent.first,
        MissingPositionPolicy::Latest => extent.end,
    };
    let frontier = if resumed >= expected {
        // What is settled beyond the gap still is.
        let mut frontier = committed;
        frontier.skip_to(resumed);
        frontier
    } else {
        Frontier::new(resumed)
    };
    let missing = if resumed > expected {
        resumed - expected
    } else {
        missing
    };
    Start::Beyond {
        frontier,
        expected,
        missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXTENT: Extent = Extent { first: 10, end: 20 };

    fn at(committed: u64, policy: MissingPositionPolicy) -> Start {
        start_of(Some(Frontier::new(committed)), EXTENT, StartPosition::Earliest, policy)
    }

    #[test]
    fn a_new_group_begins_where_it_is_told() {
        let policy = MissingPositionPolicy::Fail;
        let new = |start| start_of(None, EXTENT, start, policy);
        assert_eq!(new(StartPosition::Earliest), Start::New(Frontier::new(10)));
        assert_eq!(new(StartPosition::Latest), Start::New(Frontier::new(20)));
    }

    #[test]
    fn a_position_that_is_there_is_kept_with_what_is_settled_beyond() {
        let mut frontier = Frontier::new(12);
        frontier.settle(15);
        let policy = MissingPositionPolicy::Fail;
        let start = start_of(Some(frontier.clone()), EXTENT, StartPosition::Latest, policy);
        assert_eq!(start, Start::At(frontier));
        for edge in [10, 20] {
            assert_eq!(at(edge, policy), Start::At(Frontier::new(edge)));
        }
    }

    #[test]
    fn missing_records_are_counted_whatever_the_policy() {
        use MissingPositionPolicy as Policy;
        assert_eq!(
            at(4, Policy::Fail),
            Start::Refused {
                expected: 4,
                missing: 6
            }
        );
        assert_eq!(
            at(23, Policy::Fail),
            Start::Refused {
                expected: 23,
                missing: 3
            }
        );
        let beyond = |frontier, expected, missing| Start::Beyond {
            frontier: Frontier::new(frontier),
            expected,
            missing,
        };
        assert_eq!(at(4, Policy::Earliest), beyond(10, 4, 6));
        assert_eq!(at(4, Policy::Latest), beyond(20, 4, 16));
        assert_eq!(at(23, Policy::Earliest), beyond(10, 23, 3));
        assert_eq!(at(23, Policy::Latest), beyond(20, 23, 3));
    }
}
