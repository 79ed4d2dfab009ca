//! How the headers of a record are spelt in an AMQP message, and back.
//!
//! In memory a record has Kafka's spelling, `ce_*`. On RabbitMQ three spellings are
//! live: `cloudEvents_*` and `cloudEvents:*` (CloudEvents AMQP binding) and `ce-*`
//! (Knative). We write the first, which a reader of AMQP 1.0 sees as the binding
//! wants it, and read all of them. Pure: knows no client library.
//!
//! What holds: a name that [`wire_name`] gives comes back from [`record_name`] as it
//! was; a name that would not, it refuses.

use std::borrow::Cow;

use bytestring::ByteString;

use super::header::{HEADER_PREFIX, known_attribute_header};

/// What the names of attributes begin with when we write them.
pub const WIRE_PREFIX: &str = "cloudEvents_";

/// What names of our own begin with, which no record may use on the wire.
pub const OWN_PREFIX: &str = "meridian_";

/// Every spelling that is read, ours first.
const READ_PREFIXES: [&str; 4] = [WIRE_PREFIX, "cloudEvents:", "ce-", HEADER_PREFIX];

/// The longest name of a header in AMQP, in bytes.
const MAX_NAME_BYTES: usize = 255;

/// The name of a record's header on the wire; `None` when AMQP cannot carry it or
/// it would come back as another.
pub fn wire_name(name: &str) -> Option<Cow<'_, str>> {
    let wire = match name.strip_prefix(HEADER_PREFIX) {
        Some(attribute) => Cow::Owned([WIRE_PREFIX, attribute].concat()),
        // Brokers keep `x-` for themselves, and AMQP 1.0 turns it into annotations.
        None if name.starts_with("x-") || name.starts_with(OWN_PREFIX) => return None,
        None if READ_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) => return None,
        None => Cow::Borrowed(name),
    };
    (!name.is_empty() && wire.len() <= MAX_NAME_BYTES).then_some(wire)
}

/// The name of a header of a message in a record.
pub fn record_name(wire: &str) -> ByteString {
    let attribute = READ_PREFIXES.iter().find_map(|prefix| wire.strip_prefix(prefix));
    match attribute {
        Some(attribute) => match known_attribute_header(attribute) {
            Some(known) => ByteString::from_static(known),
            None => [HEADER_PREFIX, attribute].concat().into(),
        },
        None => wire.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes_are_written_in_one_spelling_and_read_in_every_one() {
        assert_eq!(wire_name("ce_type").unwrap(), "cloudEvents_type");
        for wire in ["cloudEvents_type", "cloudEvents:type", "ce-type", "ce_type"] {
            assert_eq!(record_name(wire), "ce_type");
        }
        assert_eq!(wire_name("trace").unwrap(), "trace");
        assert_eq!(record_name("trace"), "trace");
    }

    #[test]
    fn names_that_would_not_come_back_are_refused() {
        let long = "n".repeat(256);
        for name in [
            "",
            "x-death",
            "ce-type",
            "cloudEvents_type",
            "cloudEvents:type",
            "meridian_record",
            &long,
        ] {
            assert_eq!(wire_name(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_comes_back(name in "(ce_|ce-|x-|cloudEvents.)?\\PC{0,40}") {
            if let Some(wire) = wire_name(&name) {
                prop_assert_eq!(record_name(&wire), name.as_str());
            }
        }
    }
}
