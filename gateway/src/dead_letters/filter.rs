//! Which dead letters are meant.

use meridian_proto::meridian as proto;
use prost_types::Timestamp;

use super::letter::Letter;
use crate::fault::{FaultCode, Refusal};

/// What a dead letter must be like; what is not said matches all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    reason: String,
    group: String,
    type_name: String,
    source_topic: String,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    place: Option<(u32, u64)>,
}

impl Filter {
    /// Reads a filter as it was sent.
    ///
    /// # Errors
    /// A refusal that names the field.
    pub fn read(filter: Option<proto::DeadLetterFilter>) -> Result<Self, Refusal> {
        let filter = filter.unwrap_or_default();
        let (since, until) = (filter.since, filter.until);
        if let (Some(since), Some(until)) = (&since, &until)
            && !is_before(since, until)
        {
            let message = "filter.since must be before filter.until";
            return Err(Refusal::new(FaultCode::InvalidRequest, message).with_field("filter.since", message));
        }
        Ok(Self {
            reason: filter.reason,
            group: filter.group,
            type_name: filter.r#type,
            source_topic: filter.source_topic,
            since,
            until,
            place: filter.place.map(|place| (place.partition, place.position)),
        })
    }

    /// Whether a dead letter is meant.
    pub fn matches(&self, letter: &Letter) -> bool {
        let same = |asked: &str, found: &str| asked.is_empty() || asked == found;
        let source_topic = letter.source_topic.as_ref().map_or("", |topic| topic.as_str());
        let place = (letter.claim.partition.partition, letter.claim.position);
        same(&self.reason, &letter.reason)
            && same(&self.group, &letter.group)
            && same(&self.type_name, letter.type_name())
            && same(&self.source_topic, source_topic)
            && self.place.is_none_or(|asked| asked == place)
            && self.is_in_time(letter.died_at.as_ref())
    }

    /// One that does not say when it died is in no span of time.
    fn is_in_time(&self, died_at: Option<&Timestamp>) -> bool {
        let Some(died_at) = died_at else {
            return self.since.is_none() && self.until.is_none();
        };
        self.since.as_ref().is_none_or(|since| !is_before(died_at, since))
            && self.until.as_ref().is_none_or(|until| is_before(died_at, until))
    }
}

fn is_before(one: &Timestamp, other: &Timestamp) -> bool {
    (one.seconds, one.nanos) < (other.seconds, other.nanos)
}

#[cfg(test)]
mod tests {
    use super::super::letter::tests::letter;
    use super::*;

    #[test]
    fn each_field_narrows() {
        let letter = letter(
            9,
            &[
                ("meridian-dead-letter-reason", "REJECTED"),
                ("meridian-dead-letter-group", "billing"),
                ("meridian-dead-letter-topic", "orders"),
                ("meridian-dead-letter-time", "2024-01-01T00:00:00Z"),
            ],
        );
        let at = |text: &str| Some(text.parse().unwrap());
        let matches = |change: &dyn Fn(&mut proto::DeadLetterFilter)| {
            let mut filter = proto::DeadLetterFilter::default();
            change(&mut filter);
            Filter::read(Some(filter)).unwrap().matches(&letter)
        };
        assert!(matches(&|_| {}));
        assert!(matches(&|filter| filter.reason = "REJECTED".to_owned()));
        assert!(!matches(&|filter| filter.reason = "EXPIRED".to_owned()));
        assert!(!matches(&|filter| filter.group = "audit".to_owned()));
        assert!(!matches(&|filter| filter.r#type = "a.c".to_owned()));
        assert!(matches(&|filter| filter.source_topic = "orders".to_owned()));
        assert!(!matches(&|filter| filter.source_topic = "payments".to_owned()));
        assert!(matches(&|filter| filter.since = at("2024-01-01T00:00:00Z")));
        assert!(!matches(&|filter| filter.until = at("2024-01-01T00:00:00Z")));
        let place = |partition, position| proto::DeadLetterPlace { partition, position };
        assert!(matches(&|filter| filter.place = Some(place(1, 9))));
        assert!(!matches(&|filter| filter.place = Some(place(0, 9))));
    }

    #[test]
    fn a_span_that_ends_before_it_begins_is_refused() {
        let filter = proto::DeadLetterFilter {
            since: Some("2024-01-02T00:00:00Z".parse().unwrap()),
            until: Some("2024-01-01T00:00:00Z".parse().unwrap()),
            ..proto::DeadLetterFilter::default()
        };
        let refusal = Filter::read(Some(filter)).unwrap_err();
        assert!(refusal.message().contains("filter.since"), "{refusal:?}");
    }
}
