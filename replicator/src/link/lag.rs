//! How far behind a link is: in records, and in seconds; pure.

use meridian_broker::{PartitionLag, PartitionPosition, TopicPartition};

/// Where one partition stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) partition: TopicPartition,
    pub(crate) settled_position: u64,
    pub(crate) end_position: u64,
    pub(crate) lag_records: u64,
}

impl From<PartitionPosition> for Standing {
    fn from(position: PartitionPosition) -> Self {
        let beyond = position.end_position.saturating_sub(position.settled_position);
        Self {
            partition: position.partition,
            settled_position: position.settled_position,
            end_position: position.end_position,
            lag_records: beyond.saturating_sub(position.settled_beyond),
        }
    }
}

impl From<PartitionLag> for Standing {
    fn from(lag: PartitionLag) -> Self {
        Self {
            lag_records: lag.lag(),
            partition: lag.partition,
            settled_position: lag.settled_position,
            end_position: lag.end_position,
        }
    }
}

/// What is known of the time of a partition's oldest record that is not mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// The timestamp of that record, when it has been read.
    pub(crate) front_ms: Option<i64>,
    /// The timestamp of the last record that was mirrored.
    pub(crate) last_ms: Option<i64>,
    /// When nothing was left to mirror, the last time that one looked.
    pub(crate) caught_up_ms: Option<i64>,
}

impl Times {
    /// Takes over what a session's lines say. Lines that have not read yet say
    /// nothing, and what was known before them still bounds.
    pub(crate) fn learn(&mut self, said: Times) {
        if said.front_ms.is_some() || said.last_ms.is_some() {
            self.front_ms = said.front_ms;
            self.last_ms = said.last_ms;
        }
    }

    /// Nothing is left to mirror now.
    pub(crate) fn catch_up(&mut self, now_ms: i64) {
        self.front_ms = None;
        self.caught_up_ms = Some(now_ms);
    }

    /// The age of the oldest record that is not mirrored, given that there is one.
    ///
    /// A record that was not read yet is younger than the last one mirrored, and
    /// came after the partition was last seen to have no more: the younger of the
    /// two is the better bound.
    pub(crate) fn age_ms(self, now_ms: i64) -> i64 {
        let since = self.front_ms.or(self.last_ms.max(self.caught_up_ms));
        since.map_or(0, |since| now_ms.saturating_sub(since).max(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_that_of_the_oldest_record_or_its_best_bound() {
        let times = |front_ms, last_ms, caught_up_ms| Times {
            front_ms,
            last_ms,
            caught_up_ms,
        };
        assert_eq!(
            times(Some(400), Some(100), Some(900)).age_ms(1_000),
            600,
            "read, so known"
        );
        assert_eq!(
            times(None, Some(100), None).age_ms(1_000),
            900,
            "not after the last one"
        );
        assert_eq!(
            times(None, Some(100), Some(950)).age_ms(1_000),
            50,
            "there was nothing a moment ago"
        );
        assert_eq!(times(None, None, None).age_ms(1_000), 0, "nothing is known yet");
        assert_eq!(times(Some(2_000), None, None).age_ms(1_000), 0, "a clock that is ahead");
    }

    #[test]
    fn a_session_that_has_read_nothing_forgets_nothing() {
        let mut times = Times::default();
        times.catch_up(100);
        times.learn(Times::default());
        assert_eq!(times.age_ms(1_000), 900);
        times.learn(Times {
            front_ms: Some(400),
            last_ms: Some(300),
            caught_up_ms: None,
        });
        times.learn(Times::default());
        assert_eq!(times.age_ms(1_000), 600, "it is still the oldest that is not mirrored");
        times.catch_up(950);
        assert_eq!(times.age_ms(1_000), 50, "what was the oldest is mirrored");
    }
}
