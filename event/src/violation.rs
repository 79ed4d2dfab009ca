//! What is wrong with an event, one entry a fault, in words for the publisher.
//!
//! Only the shape: `validate` decides what is a violation. Reason codes are
//! stable; `docs/errors.md` explains them.

use std::fmt;

/// The kind of a violation; its code is stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ViolationReason {
    /// A required attribute is absent or empty.
    MissingAttribute,
    /// An optional attribute is present without a value, or empty where it must not be.
    EmptyAttribute,
    /// A name outside `[a-z0-9]+`, too long, or `data`.
    BadAttributeName,
    /// A name that is a field of its own, or that Meridian alone may set.
    ReservedAttribute,
    /// A value of another kind than the attribute takes.
    BadAttributeType,
    /// A specversion other than `1.0`.
    BadSpecVersion,
    /// Text with a control character or a Unicode noncharacter.
    ControlCharacter,
    /// Text that is no RFC 3986 URI reference.
    BadUriReference,
    /// Text that is no absolute RFC 3986 URI.
    BadUri,
    /// No RFC 3339 moment of the years 1 to 9999.
    BadTimestamp,
    /// A datacontenttype that is no media type.
    BadMediaType,
    /// The type URL of protobuf data is none.
    BadTypeUrl,
    /// A region name outside `[a-z0-9-]{1,63}`.
    BadRegionName,
    /// A hops attribute that is no list of regions.
    BadHops,
    /// The encoded event is larger than allowed.
    EventTooLarge,
    /// One attribute is larger than allowed.
    AttributeTooLarge,
    /// More attributes than allowed.
    TooManyAttributes,
}

impl ViolationReason {
    /// The stable code, in the form of `google.rpc.ErrorInfo.reason`.
    pub const fn code(self) -> &'static str {
        match self {
            Self::MissingAttribute => "MISSING_ATTRIBUTE",
            Self::EmptyAttribute => "EMPTY_ATTRIBUTE",
            Self::BadAttributeName => "BAD_ATTRIBUTE_NAME",
            Self::ReservedAttribute => "RESERVED_ATTRIBUTE",
            Self::BadAttributeType => "BAD_ATTRIBUTE_TYPE",
            Self::BadSpecVersion => "BAD_SPEC_VERSION",
            Self::ControlCharacter => "CONTROL_CHARACTER",
            Self::BadUriReference => "BAD_URI_REFERENCE",
            Self::BadUri => "BAD_URI",
            Self::BadTimestamp => "BAD_TIMESTAMP",
            Self::BadMediaType => "BAD_MEDIA_TYPE",
            Self::BadTypeUrl => "BAD_TYPE_URL",
            Self::BadRegionName => "BAD_REGION_NAME",
            Self::BadHops => "BAD_HOPS",
            Self::EventTooLarge => "EVENT_TOO_LARGE",
            Self::AttributeTooLarge => "ATTRIBUTE_TOO_LARGE",
            Self::TooManyAttributes => "TOO_MANY_ATTRIBUTES",
        }
    }
}

/// One fault of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where, as a dotted path of the protobuf message (`google.rpc.BadRequest`):
    /// `id`, `attributes.subject`; `event` for the whole.
    pub field: String,
    /// The kind.
    pub reason: ViolationReason,
    /// What is wrong, and what to do; names the attribute.
    pub description: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {} ({})", self.field, self.description, self.reason.code())
    }
}

/// All faults of an event: at least one, and a few an attribute at most.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event is no valid CloudEvent: {}", join(.0))]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// `Err` with the violations when there are any.
    pub(crate) fn check(violations: Vec<Violation>) -> Result<(), Self> {
        if violations.is_empty() {
            return Ok(());
        }
        Err(Self(violations))
    }

    /// The faults, in the order of the fields.
    pub fn iter(&self) -> std::slice::Iter<'_, Violation> {
        self.0.iter()
    }

    /// The first fault.
    pub fn first(&self) -> &Violation {
        self.0.first().expect("made with one violation at least")
    }

    /// The faults, owned.
    pub fn into_vec(self) -> Vec<Violation> {
        self.0
    }
}

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Self {
        Self(vec![violation])
    }
}

impl<'a> IntoIterator for &'a Violations {
    type Item = &'a Violation;
    type IntoIter = std::slice::Iter<'a, Violation>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

fn join(violations: &[Violation]) -> String {
    let texts: Vec<String> = violations.iter().map(Violation::to_string).collect();
    texts.join("; ")
}
