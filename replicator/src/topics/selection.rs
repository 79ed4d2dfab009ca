//! Which topics of the source a link mirrors.
//!
//! What holds: a topic that is a mirror of the target by its name is never
//! mirrored back under the prefix policy; topics that belong to Meridian, to
//! MirrorMaker or to the dead are taken only when a pattern without a star names
//! them.

use meridian_broker::RegionName;

use super::naming::{Naming, is_mirror_of};
use super::pattern::TopicPattern;

/// Left out unless named: dead letters and Meridian's own, MirrorMaker's own.
const LEFT_OUT: &[(&str, &str)] = &[
    ("", ".dead-letters"),
    ("", ".internal"),
    ("", ".replica"),
    ("meridian.", ""),
    ("mm2-", ""),
    ("heartbeats", ""),
    ("__", ""),
];

/// The topics of one link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSelection {
    patterns: Vec<TopicPattern>,
    naming: Naming,
    target_region: RegionName,
    known_regions: Vec<RegionName>,
}

impl TopicSelection {
    /// The topics that some pattern takes and no `!` pattern excludes.
    /// `known_regions` are those whose names may stand before a mirror's.
    pub fn new(
        patterns: Vec<TopicPattern>,
        naming: Naming,
        target_region: RegionName,
        known_regions: Vec<RegionName>,
    ) -> Self {
        Self {
            patterns,
            naming,
            target_region,
            known_regions,
        }
    }

    /// Whether the link mirrors a topic of this name.
    pub fn takes(&self, topic: &str) -> bool {
        let (excluding, taking): (Vec<_>, Vec<_>) = self.patterns.iter().partition(|pattern| pattern.excludes());
        if excluding.iter().any(|pattern| pattern.matches(topic)) {
            return false;
        }
        if self.naming == Naming::Prefix && is_mirror_of(topic, &self.target_region, &self.known_regions) {
            return false;
        }
        let named = taking.iter().any(|pattern| pattern.literal() == Some(topic));
        named || (!is_left_out(topic) && taking.iter().any(|pattern| pattern.matches(topic)))
    }
}

fn is_left_out(topic: &str) -> bool {
    LEFT_OUT.iter().any(|(head, tail)| match (*head, *tail) {
        ("heartbeats", _) => topic == "heartbeats" || topic.ends_with(".heartbeats"),
        (head, tail) => topic.starts_with(head) && topic.ends_with(tail),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(patterns: &[&str], naming: Naming) -> TopicSelection {
        let patterns = patterns.iter().map(|pattern| pattern.parse().unwrap()).collect();
        let region = |name: &str| RegionName::new(name).unwrap();
        let known = vec![region("us-east"), region("eu-west"), region("asia")];
        TopicSelection::new(patterns, naming, region("eu-west"), known)
    }

    #[test]
    fn exclusions_win_wherever_they_stand() {
        let selection = selection(&["!orders.secret*", "orders.*", "payments"], Naming::Prefix);
        for (topic, expected) in [
            ("orders.placed", true),
            ("orders.secrets", false),
            ("payments", true),
            ("payments.eu", false),
        ] {
            assert_eq!(selection.takes(topic), expected, "{topic}");
        }
    }

    #[test]
    fn nothing_is_mirrored_back_to_where_it_came_from() {
        let prefix = selection(&["*"], Naming::Prefix);
        assert!(!prefix.takes("eu-west.orders") && !prefix.takes("asia.eu-west.orders"));
        assert!(prefix.takes("asia.orders") && prefix.takes("orders"));
        assert!(
            !selection(&["eu-west.orders"], Naming::Prefix).takes("eu-west.orders"),
            "also when named"
        );
        assert!(
            selection(&["*"], Naming::Same).takes("eu-west.orders"),
            "hops guard the same-name policy"
        );
    }

    #[test]
    fn the_dead_and_our_own_are_left_out_unless_named() {
        let all = selection(&["*"], Naming::Prefix);
        for topic in [
            "orders.dead-letters",
            "meridian.relay.eu-west",
            "mm2-offset-syncs.a.internal",
            "a.checkpoints.internal",
            "heartbeats",
            "us-east.heartbeats",
        ] {
            assert!(!all.takes(topic), "{topic}");
        }
        assert!(all.takes("internal") && all.takes("meridians") && all.takes("heartbeats2"));
        let named = selection(&["orders.dead-letters", "*.dead-letters"], Naming::Prefix);
        assert!(named.takes("orders.dead-letters") && !named.takes("payments.dead-letters"));
    }
}
