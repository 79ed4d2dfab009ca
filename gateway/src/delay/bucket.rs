//! The buckets, and which one serves a wait.
//!
//! What holds: a wait of a bucket's length or more never ends early by going through it; a wait shorter than the
//! smallest bucket ends in it, at its due time.

use std::time::Duration;

use meridian_broker::TopicName;

/// What the topics begin with. Links leave out topics that begin with `meridian.`.
const TOPIC_PREFIX: &str = "meridian.delay.";

/// A delay of fixed length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bucket {
    /// A second: the last stop of every wait.
    Second,
    /// Ten seconds.
    TenSeconds,
    /// A minute.
    Minute,
    /// Ten minutes.
    TenMinutes,
    /// An hour.
    Hour,
    /// Six hours.
    SixHours,
}

impl Bucket {
    /// Every bucket, the shortest first.
    pub const ALL: [Bucket; 6] = [
        Bucket::Second,
        Bucket::TenSeconds,
        Bucket::Minute,
        Bucket::TenMinutes,
        Bucket::Hour,
        Bucket::SixHours,
    ];

    /// Its place in [`Bucket::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// How long its records wait, in milliseconds.
    pub const fn length_ms(self) -> i64 {
        match self {
            Bucket::Second => 1_000,
            Bucket::TenSeconds => 10_000,
            Bucket::Minute => 60_000,
            Bucket::TenMinutes => 600_000,
            Bucket::Hour => 3_600_000,
            Bucket::SixHours => 21_600_000,
        }
    }

    /// How long its records wait.
    pub fn length(self) -> Duration {
        Duration::from_millis(self.length_ms().unsigned_abs())
    }

    /// The end of its topic's name.
    pub const fn label(self) -> &'static str {
        match self {
            Bucket::Second => "1s",
            Bucket::TenSeconds => "10s",
            Bucket::Minute => "1m",
            Bucket::TenMinutes => "10m",
            Bucket::Hour => "1h",
            Bucket::SixHours => "6h",
        }
    }

    /// Its topic, and the group that reads it.
    pub fn topic_name(self) -> String {
        format!("{TOPIC_PREFIX}{}", self.label())
    }

    /// The same as a name.
    pub fn topic(self) -> TopicName {
        constant(&self.topic_name())
    }

    /// The bucket of a topic.
    pub fn of_topic(topic: &TopicName) -> Option<Self> {
        let label = topic.as_str().strip_prefix(TOPIC_PREFIX)?;
        Self::ALL.into_iter().find(|bucket| bucket.label() == label)
    }

    /// The largest one that is not longer than what is left, or the smallest.
    pub fn for_wait(left_ms: i64) -> Self {
        let fits = |bucket: &&Bucket| bucket.length_ms() <= left_ms;
        Self::ALL.iter().rev().find(fits).copied().unwrap_or(Bucket::Second)
    }
}

/// The topic of records that wait for nothing: others wrote them, or their topic refuses them.
pub(super) fn stray_topic() -> TopicName {
    constant("meridian.delay.dead-letters")
}

/// A name that this file writes; a test holds them all to the grammar.
fn constant(name: &str) -> TopicName {
    TopicName::new(name).expect("the names of buckets are of the grammar")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_bucket_that_fits_is_chosen() {
        for (left_ms, label) in [
            (-5, "1s"),
            (0, "1s"),
            (999, "1s"),
            (9_999, "1s"),
            (10_000, "10s"),
            (59_999, "10s"),
            (3_600_000, "1h"),
            (i64::MAX, "6h"),
        ] {
            assert_eq!(Bucket::for_wait(left_ms).label(), label, "{left_ms}");
        }
    }

    #[test]
    fn names_are_topics_and_lead_back() {
        for (index, bucket) in Bucket::ALL.into_iter().enumerate() {
            let topic = bucket.topic();
            assert_eq!((Bucket::of_topic(&topic), bucket.index()), (Some(bucket), index));
        }
        assert_eq!(Bucket::of_topic(&"meridian.delay.2s".parse().unwrap()), None);
        assert_eq!(Bucket::of_topic(&stray_topic()), None);
        assert!(
            Bucket::ALL
                .windows(2)
                .all(|two| two[0].length_ms() < two[1].length_ms())
        );
    }
}
