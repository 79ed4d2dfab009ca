//! The name that a mirror has at the target, and what a name says of where its
//! topic comes from. The names are those of MirrorMaker's policies.

use meridian_broker::{NameError, RegionName, TopicName};

/// How mirrors are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Naming {
    /// `<source region>.<topic>`, as MirrorMaker's default policy: one sees where a topic comes from.
    #[default]
    Prefix,
    /// As at the source, as MirrorMaker's identity policy: one name everywhere, both regions' records in it.
    Same,
}

impl Naming {
    /// As written in configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Same => "same",
        }
    }

    /// The mirror's name.
    ///
    /// # Errors
    /// [`NameError`] when it would be too long.
    pub fn target_topic(self, source_region: &RegionName, topic: &TopicName) -> Result<TopicName, NameError> {
        match self {
            Self::Prefix => TopicName::new(&format!("{source_region}.{topic}")),
            Self::Same => Ok(topic.clone()),
        }
    }
}

/// Whether `topic` is, by its name, a mirror of `region`, at first or at second
/// hand: `eu-west.orders`, or `us-east.eu-west.orders` where `us-east` is one of
/// the regions that are known.
pub(crate) fn is_mirror_of(topic: &str, region: &RegionName, known_regions: &[RegionName]) -> bool {
    let mut rest = topic;
    while let Some((head, tail)) = rest.split_once('.') {
        if head == region.as_str() {
            return true;
        }
        if !known_regions.iter().any(|known| known.as_str() == head) {
            return false;
        }
        rest = tail;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_named_after_their_source_or_as_it() {
        let region = RegionName::new("us-east").unwrap();
        let topic = TopicName::new("orders.v1").unwrap();
        assert_eq!(
            Naming::Prefix.target_topic(&region, &topic).unwrap().as_str(),
            "us-east.orders.v1"
        );
        assert_eq!(Naming::Same.target_topic(&region, &topic).unwrap(), topic);
        let longest = TopicName::new(&"a".repeat(200)).unwrap();
        assert!(Naming::Prefix.target_topic(&region, &longest).is_err());
    }

    #[test]
    fn a_name_tells_of_every_region_before_its_first_other_word() {
        let region = |name: &str| RegionName::new(name).unwrap();
        let known = [region("us-east"), region("eu-west"), region("asia")];
        for (topic, expected) in [
            ("eu-west.orders", true),
            ("us-east.eu-west.orders", true),
            ("asia.us-east.eu-west.orders", true),
            ("us-east.orders", false),
            ("orders.eu-west.late", false),
            ("eu-west", false),
            ("eu-west2.orders", false),
        ] {
            assert_eq!(is_mirror_of(topic, &region("eu-west"), &known), expected, "{topic}");
        }
    }
}
