//! The rules that single values must follow, each with its words for the
//! publisher.
//!
//! Which attribute follows which rule is left to `validate`. A value that follows
//! its rule costs no allocation.

use crate::attribute::AttributeValue;
use crate::stamp::Hops;
use crate::syntax::{is_media_type, is_plain_text, is_region_name, is_uri, is_uri_reference};
use crate::timestamp;
use crate::violation::ViolationReason;

/// A rule that a value breaks: the kind, and the end of a sentence that begins
/// with the attribute's name.
pub(crate) type Fault = (ViolationReason, String);

/// A rule for attributes that the specification declares as text: not empty, and
/// what `rule` asks.
pub(crate) fn required_kind(value: AttributeValue<'_>, rule: impl FnOnce(&str) -> Option<Fault>) -> Option<Fault> {
    match value.as_text() {
        None => {
            let what = "must be text; use ce_string, or ce_uri for URIs";
            Some((ViolationReason::BadAttributeType, String::from(what)))
        }
        Some("") => {
            let what = "must not be empty; set a value, or leave the attribute out";
            Some((ViolationReason::EmptyAttribute, String::from(what)))
        }
        Some(text) => rule(text),
    }
}

/// What the type system asks of any value of its kind.
pub(crate) fn any_kind(value: AttributeValue<'_>) -> Option<Fault> {
    match value {
        AttributeValue::String(text) => plain_text(text),
        AttributeValue::Uri(text) => uri(text),
        AttributeValue::UriReference(text) => uri_reference(text),
        AttributeValue::Timestamp { .. } => moment(value),
        AttributeValue::Boolean(_) | AttributeValue::Integer(_) | AttributeValue::Binary(_) => None,
    }
}

pub(crate) fn moment(value: AttributeValue<'_>) -> Option<Fault> {
    let valid = match value {
        AttributeValue::Timestamp { seconds, nanos } => timestamp::in_range(seconds, nanos),
        value => value.as_text().is_some_and(|text| timestamp::parse(text).is_some()),
    };
    (!valid).then(|| {
        let what = "must be a ce_timestamp, or RFC 3339 text such as 2024-05-01T12:00:00Z, \
                    of the years 1 to 9999";
        (ViolationReason::BadTimestamp, String::from(what))
    })
}

fn fails(valid: bool, reason: ViolationReason, what: &str) -> Option<Fault> {
    (!valid).then(|| (reason, String::from(what)))
}

pub(crate) fn plain_text(text: &str) -> Option<Fault> {
    fails(
        is_plain_text(text),
        ViolationReason::ControlCharacter,
        "has a control character or a Unicode noncharacter; remove it, or put the text into the data",
    )
}

pub(crate) fn uri_reference(text: &str) -> Option<Fault> {
    fails(
        is_uri_reference(text),
        ViolationReason::BadUriReference,
        "must be a URI reference (RFC 3986); percent-encode spaces and other characters",
    )
}

pub(crate) fn uri(text: &str) -> Option<Fault> {
    fails(
        is_uri(text),
        ViolationReason::BadUri,
        "must be an absolute URI (RFC 3986), with a scheme such as https:",
    )
}

pub(crate) fn media_type(text: &str) -> Option<Fault> {
    fails(
        is_media_type(text) && is_plain_text(text),
        ViolationReason::BadMediaType,
        "must be a media type such as application/json",
    )
}

pub(crate) fn region_name(text: &str) -> Option<Fault> {
    fails(
        is_region_name(text),
        ViolationReason::BadRegionName,
        "must be a region's name: lower-case letters, digits and hyphens, 63 at most",
    )
}

pub(crate) fn hops(text: &str) -> Option<Fault> {
    Hops::parse(text)
        .err()
        .map(|error| (ViolationReason::BadHops, format!("is malformed: {error}")))
}

/// `google.protobuf.Any`: a URL, often without scheme, whose last segment names the
/// message.
pub(crate) fn type_url(text: &str) -> Option<Fault> {
    fails(
        text.contains('/') && is_uri_reference(text),
        ViolationReason::BadTypeUrl,
        "must be a type URL such as type.googleapis.com/shop.Order",
    )
}
