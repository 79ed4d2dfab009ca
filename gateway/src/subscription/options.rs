//! `subscriptions` of the configuration: bounds, defaults, and how dead letters are named.
//!
//! What holds: every value is within its range, and defaults are within the limits that they belong to.

use std::time::Duration;

use meridian_runtime::{BackoffPolicy, Faults, Mapping, Node};

use crate::settlement::{DeadLetterTopicPattern, WordLimits};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// The keys of the section.
pub(crate) const KEYS: &[&str] = &[
    "max_sessions",
    "max_groups",
    "max_credit_messages",
    "max_credit_bytes",
    "max_delivery_bytes",
    "max_unsettled_records",
    "max_unsettled_bytes",
    "default_lease_seconds",
    "max_lease_seconds",
    "default_max_attempts",
    "max_attempts",
    "release_delay_seconds",
    "max_release_delay_seconds",
    "max_backoff_seconds",
    "backoff_multiplier",
    "park_after_seconds",
    "expired_events",
    "heartbeat_seconds",
    "session_timeout_seconds",
    "idle_group_seconds",
    "too_large_grace_seconds",
    "dead_letter_topic",
    "dead_letter_partitions",
];

/// How sessions and groups are served.
#[derive(Clone, Debug, PartialEq)]
pub struct SubscriptionOptions {
    /// Sessions open at once, over all groups.
    pub max_sessions: usize,
    /// Groups read at once.
    pub max_groups: usize,
    /// Most credit of a session in deliveries.
    pub max_credit_messages: u32,
    /// Most credit of a session in bytes of events.
    pub max_credit_bytes: u64,
    /// No larger event is handed to anybody.
    pub max_delivery_bytes: u64,
    /// Records of a group that are read and not settled.
    pub max_unsettled_records: usize,
    /// The same in bytes.
    pub max_unsettled_bytes: usize,
    /// The lease of a session that asks for none.
    pub default_lease: Duration,
    /// The longest lease.
    pub max_lease: Duration,
    /// Deliveries of one record before it is a dead letter, for a session that does not say.
    pub default_max_attempts: u32,
    /// The most that a session may ask for.
    pub max_attempts: u32,
    /// The ceiling of the first delay between attempts when the worker names none.
    pub release_delay: Duration,
    /// The ceiling of every such delay.
    pub max_backoff: Duration,
    /// What the ceiling grows by from attempt to attempt.
    pub backoff_multiplier: f64,
    /// A longer delay is spent in the due-time topics, for records that hold no lock.
    pub park_after: Duration,
    /// Whether events whose `expirytime` is past are dropped, and not dead letters.
    pub drop_expired: bool,
    /// The longest delay of a RELEASE.
    pub max_release_delay: Duration,
    /// From heartbeat to heartbeat.
    pub heartbeat: Duration,
    /// How long a group is read on after its last session left.
    pub idle_group: Duration,
    /// A gateway that shows the broker no life for so long loses its share of a group to others.
    pub session_timeout: Duration,
    /// How long a record that is too large for every session waits for one that can take it.
    pub too_large_grace: Duration,
    /// How dead-letter topics are called.
    pub dead_letter_topic: DeadLetterTopicPattern,
    /// Partitions of a dead-letter topic that is made.
    pub dead_letter_partitions: u32,
    /// The region's other gateways, `host:port` each, told to workers that are asked to
    /// move. Not of this section: the gateway's own `siblings`.
    pub siblings: Vec<String>,
}

impl Default for SubscriptionOptions {
    fn default() -> Self {
        Self {
            max_sessions: 10_000,
            max_groups: 1_000,
            max_credit_messages: 10_000,
            max_credit_bytes: 256 * MIB,
            max_delivery_bytes: 16 * MIB,
            max_unsettled_records: 10_000,
            max_unsettled_bytes: 64 * MIB as usize,
            default_lease: Duration::from_secs(30),
            max_lease: Duration::from_secs(3_600),
            default_max_attempts: 5,
            max_attempts: 1_000,
            release_delay: Duration::from_secs(1),
            max_release_delay: Duration::from_secs(86_400),
            max_backoff: Duration::from_secs(900),
            backoff_multiplier: 2.0,
            park_after: Duration::from_secs(30),
            drop_expired: false,
            heartbeat: Duration::from_secs(5),
            idle_group: Duration::from_secs(2),
            session_timeout: Duration::from_secs(8),
            too_large_grace: Duration::from_secs(10),
            dead_letter_topic: DeadLetterTopicPattern::default(),
            dead_letter_partitions: 1,
            siblings: Vec::new(),
        }
    }
}

impl SubscriptionOptions {
    /// Reads the section; what is absent or wrong has its default, and what is wrong has a fault.
    pub fn read(node: &Node<'_>, faults: &mut Faults) -> Self {
        let default = Self::default();
        let Some(section) = node.mapping(KEYS, faults) else {
            return default;
        };
        let number = |key, default: u32, most, faults: &mut Faults| {
            u32::try_from(section.u64_or(key, default.into(), 1..=most, faults)).unwrap_or(default)
        };
        let seconds = |key, default, range, faults: &mut Faults| section.seconds_or(key, default, range, faults);
        let size = |key, default, range, faults: &mut Faults| section.usize_or(key, default, range, faults);
        let options = Self {
            max_sessions: size("max_sessions", default.max_sessions, 1..=1_000_000, faults),
            max_groups: size("max_groups", default.max_groups, 1..=100_000, faults),
            max_credit_messages: number("max_credit_messages", default.max_credit_messages, 1_000_000, faults),
            max_credit_bytes: section.u64_or(
                "max_credit_bytes",
                default.max_credit_bytes,
                KIB..=64 * KIB * MIB,
                faults,
            ),
            max_delivery_bytes: section.u64_or(
                "max_delivery_bytes",
                default.max_delivery_bytes,
                KIB..=64 * MIB,
                faults,
            ),
            max_unsettled_records: size(
                "max_unsettled_records",
                default.max_unsettled_records,
                1..=1_000_000,
                faults,
            ),
            max_unsettled_bytes: size(
                "max_unsettled_bytes",
                default.max_unsettled_bytes,
                KIB as usize..=4 * KIB as usize * MIB as usize,
                faults,
            ),
            default_lease: seconds("default_lease_seconds", default.default_lease, 1.0..=86_400.0, faults),
            max_lease: seconds("max_lease_seconds", default.max_lease, 1.0..=86_400.0, faults),
            default_max_attempts: number("default_max_attempts", default.default_max_attempts, 1_000_000, faults),
            max_attempts: number("max_attempts", default.max_attempts, 1_000_000, faults),
            release_delay: seconds("release_delay_seconds", default.release_delay, 0.0..=86_400.0, faults),
            max_release_delay: seconds(
                "max_release_delay_seconds",
                default.max_release_delay,
                0.0..=604_800.0,
                faults,
            ),
            max_backoff: seconds("max_backoff_seconds", default.max_backoff, 0.0..=86_400.0, faults),
            backoff_multiplier: section.f64_or("backoff_multiplier", default.backoff_multiplier, 1.0..=10.0, faults),
            park_after: seconds("park_after_seconds", default.park_after, 0.0..=86_400.0, faults),
            drop_expired: section.choice_or(
                "expired_events",
                default.drop_expired,
                &[("dead_letter", false), ("drop", true)],
                faults,
            ),
            heartbeat: seconds("heartbeat_seconds", default.heartbeat, 1.0..=60.0, faults),
            session_timeout: seconds("session_timeout_seconds", default.session_timeout, 6.0..=300.0, faults),
            idle_group: seconds("idle_group_seconds", default.idle_group, 0.0..=300.0, faults),
            too_large_grace: seconds(
                "too_large_grace_seconds",
                default.too_large_grace,
                0.0..=3_600.0,
                faults,
            ),
            dead_letter_topic: section.parsed_or("dead_letter_topic", default.dead_letter_topic, faults),
            dead_letter_partitions: number("dead_letter_partitions", default.dead_letter_partitions, 10_000, faults),
            siblings: default.siblings,
        };
        options.check(&section, faults);
        options
    }

    fn check(&self, section: &Mapping<'_>, faults: &mut Faults) {
        let mut within = |key, fits: bool, limit: &str| {
            if !fits {
                section.fault_at_key(key, faults, format!("must not be over {limit}"));
            }
        };
        within(
            "default_lease_seconds",
            self.default_lease <= self.max_lease,
            "max_lease_seconds",
        );
        within(
            "default_max_attempts",
            self.default_max_attempts <= self.max_attempts,
            "max_attempts",
        );
        within(
            "release_delay_seconds",
            self.release_delay <= self.max_backoff,
            "max_backoff_seconds",
        );
    }

    /// What a settlement may ask for.
    pub(super) fn word_limits(&self) -> WordLimits {
        WordLimits {
            max_release_delay: self.max_release_delay,
            max_lease: self.max_lease,
        }
    }

    /// The delays between attempts of a session that does not say.
    pub(super) fn retry(&self) -> BackoffPolicy {
        BackoffPolicy {
            initial: self.release_delay,
            maximum: self.max_backoff,
            multiplier: self.backoff_multiplier,
            jitter: 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use meridian_runtime::Document;

    use super::*;

    fn read(text: &str) -> (SubscriptionOptions, String) {
        let document = Document::parse("gateway.yaml", text).unwrap();
        let mut faults = Faults::new();
        let options = SubscriptionOptions::read(&document.root(), &mut faults);
        (options, faults.to_string())
    }

    #[test]
    fn what_is_absent_has_its_default() {
        let (options, faults) = read("heartbeat_seconds: 2\ndead_letter_topic: \"dlq.{topic}\"\n");
        assert_eq!(faults, "");
        let expected = SubscriptionOptions {
            heartbeat: Duration::from_secs(2),
            dead_letter_topic: "dlq.{topic}".parse().unwrap(),
            ..SubscriptionOptions::default()
        };
        assert_eq!(options, expected);
    }

    #[test]
    fn every_fault_is_told_with_its_key() {
        let (_, faults) = read(
            "default_lease_seconds: 90\nmax_lease_seconds: 60\nmax_session: 1\ndead_letter_topic: dlq\nmax_attempts: 0\nexpired_events: burn\n",
        );
        for told in [
            "default_lease_seconds: must not be over max_lease_seconds",
            "max_session: unknown key; did you mean `max_sessions`?",
            "dead_letter_topic: ",
            "max_attempts: ",
            "expired_events: ",
        ] {
            assert!(faults.contains(told), "{told} is not in:\n{faults}");
        }
    }
}
