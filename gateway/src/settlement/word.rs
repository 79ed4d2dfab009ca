//! A settlement as it was sent becomes a [`Word`], or a fault that names its field. What a word does is the dispatcher's
//! business.
//!
//! What holds: every delay, lease and text of a word is within the limits.

use std::time::Duration;

use meridian_proto::meridian::{Settlement, SettlementAction};

/// Most bytes of a reason that are kept; the rest is cut off.
pub const MAX_REASON_BYTES: usize = 1_024;

/// What a worker says of a delivery. The words follow Kafka share groups (KIP-932).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Done.
    Accept,
    /// Not done: again, after the delay, or the usual one if none is given.
    Release {
        /// The least time before the next delivery.
        delay: Option<Duration>,
        /// The error of this attempt.
        reason: String,
    },
    /// Never again.
    Reject {
        /// Why.
        reason: String,
    },
    /// Still at work: the lease ends so much after now, or as it was opened.
    Renew {
        /// The new length.
        lease: Option<Duration>,
    },
}

/// What a word may ask for.
#[derive(Clone, Copy, Debug)]
pub struct WordLimits {
    /// The longest delay of a RELEASE.
    pub max_release_delay: Duration,
    /// The longest lease of a RENEW.
    pub max_lease: Duration,
}

/// Why a settlement is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordFault {
    /// The action is missing, or newer than this gateway.
    #[error("action: {0} is none of ACCEPT (1), RELEASE (2), REJECT (3), RENEW (4)")]
    UnknownAction(i32),
    /// The delay is negative or no duration.
    #[error("delay: must be a duration of 0 seconds or more")]
    BadDelay,
    /// The delay is over the limit.
    #[error("delay: {asked:?} is over the limit of {limit:?}; settle with REJECT, or publish the event again later")]
    DelayTooLong {
        /// What was asked.
        asked: Duration,
        /// The limit.
        limit: Duration,
    },
    /// The lease is over the limit.
    #[error("lease_seconds: {asked} is over the limit of {limit}; renew more often instead")]
    LeaseTooLong {
        /// What was asked, in seconds.
        asked: u32,
        /// The limit, in seconds.
        limit: u64,
    },
}

impl Word {
    /// Reads a settlement.
    ///
    /// # Errors
    /// [`WordFault`] names the field and what would be right.
    pub fn read(settlement: Settlement, limits: &WordLimits) -> Result<Self, WordFault> {
        match SettlementAction::try_from(settlement.action) {
            Ok(SettlementAction::Accept) => Ok(Word::Accept),
            Ok(SettlementAction::Release) => Ok(Word::Release {
                delay: settlement.delay.map(|delay| read_delay(delay, limits)).transpose()?,
                reason: cut(settlement.reason),
            }),
            Ok(SettlementAction::Reject) => Ok(Word::Reject {
                reason: cut(settlement.reason),
            }),
            Ok(SettlementAction::Renew) => Ok(Word::Renew {
                lease: read_lease(settlement.lease_seconds, limits)?,
            }),
            Ok(SettlementAction::Unspecified) | Err(_) => Err(WordFault::UnknownAction(settlement.action)),
        }
    }
}

fn read_delay(delay: prost_types::Duration, limits: &WordLimits) -> Result<Duration, WordFault> {
    let asked = Duration::try_from(delay).map_err(|_| WordFault::BadDelay)?;
    let limit = limits.max_release_delay;
    if asked > limit {
        return Err(WordFault::DelayTooLong { asked, limit });
    }
    Ok(asked)
}

fn read_lease(seconds: u32, limits: &WordLimits) -> Result<Option<Duration>, WordFault> {
    let lease = Duration::from_secs(seconds.into());
    if lease > limits.max_lease {
        return Err(WordFault::LeaseTooLong {
            asked: seconds,
            limit: limits.max_lease.as_secs(),
        });
    }
    Ok((seconds > 0).then_some(lease))
}

fn cut(mut reason: String) -> String {
    if reason.len() > MAX_REASON_BYTES {
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        reason.shrink_to_fit();
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: WordLimits = WordLimits {
        max_release_delay: Duration::from_secs(60),
        max_lease: Duration::from_secs(600),
    };

    fn settlement(action: SettlementAction) -> Settlement {
        Settlement {
            delivery_id: 1,
            action: action.into(),
            ..Settlement::default()
        }
    }

    fn read(settlement: Settlement) -> Result<Word, WordFault> {
        Word::read(settlement, &LIMITS)
    }

    #[test]
    fn a_delay_that_is_absent_is_not_a_delay_of_zero() {
        let release = settlement(SettlementAction::Release);
        let delay = |word| match word {
            Ok(Word::Release { delay, .. }) => delay,
            other => panic!("{other:?}"),
        };
        assert_eq!(delay(read(release.clone())), None);
        let zero = prost_types::Duration::default();
        assert_eq!(
            delay(read(Settlement {
                delay: Some(zero),
                ..release
            })),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn malformed_settlements_name_their_field() {
        let release = settlement(SettlementAction::Release);
        let with_delay = |seconds, nanos| Settlement {
            delay: Some(prost_types::Duration { seconds, nanos }),
            ..release.clone()
        };
        let renew = Settlement {
            lease_seconds: 601,
            ..settlement(SettlementAction::Renew)
        };
        let unknown = Settlement {
            action: 9,
            ..Settlement::default()
        };
        for (malformed, field) in [
            (settlement(SettlementAction::Unspecified), "action: 0"),
            (unknown, "action: 9"),
            (with_delay(-1, 0), "delay: must be"),
            (with_delay(61, 0), "delay: 61s is over the limit of 60s"),
            (with_delay(i64::MAX, i32::MAX), "delay:"),
            (renew, "lease_seconds: 601 is over the limit of 600"),
        ] {
            let fault = read(malformed).unwrap_err().to_string();
            assert!(fault.starts_with(field), "{fault}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let reason = "ä".repeat(MAX_REASON_BYTES);
        let Ok(Word::Reject { reason }) = read(Settlement {
            reason: format!("x{reason}"),
            ..settlement(SettlementAction::Reject)
        }) else {
            panic!("a long reason is no fault");
        };
        assert_eq!(reason.len(), MAX_REASON_BYTES - 1);
    }

    #[test]
    fn a_lease_of_zero_means_as_it_was_opened() {
        assert_eq!(
            read(settlement(SettlementAction::Renew)),
            Ok(Word::Renew { lease: None })
        );
        let longer = Settlement {
            lease_seconds: 90,
            ..settlement(SettlementAction::Renew)
        };
        assert_eq!(
            read(longer),
            Ok(Word::Renew {
                lease: Some(Duration::from_secs(90))
            })
        );
    }
}
