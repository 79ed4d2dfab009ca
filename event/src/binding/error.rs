//! Why a record is no event.
//!
//! Foreign records come from any producer, so every fault says what the record
//! lacks and who can mend it. Texts from the record are shown bounded.

use std::fmt;

use crate::scan::ScanError;

/// The most characters of a record's own text that an error repeats.
const MAX_SHOWN_CHARACTERS: usize = 96;

/// Why a record could not be read as an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnbindError {
    /// Neither structured nor all of the required `ce_` headers.
    #[error(
        "the record is no CloudEvent: it lacks the headers {}; its producer must set them \
         (CloudEvents Kafka binding, binary mode), or a content-type application/cloudevents+…",
        .missing.join(", ")
    )]
    NotAnEvent {
        /// The headers that are absent or empty.
        missing: Vec<&'static str>,
    },
    /// A header that carries an attribute is not UTF-8.
    #[error("the header {header} is not UTF-8; its producer must encode attributes as UTF-8")]
    NotText {
        /// Its name.
        header: String,
    },
    /// A structured record without a value.
    #[error("the record says that it is a structured CloudEvent, but it has no value")]
    NoValue,
    /// A structured record of a format that is not read.
    #[error(
        "the record is a structured CloudEvent of content type {content_type}; \
         only application/cloudevents+json and application/cloudevents+protobuf are read"
    )]
    UnknownFormat {
        /// What the record says, shortened.
        content_type: String,
    },
    /// A JSON record that is no event.
    #[error("the record is no CloudEvent in the JSON format: {0}")]
    Json(#[from] JsonFault),
    /// A protobuf record that is none, or an event with too many attributes.
    #[error("the record holds no readable CloudEvent: {0}")]
    Scan(#[from] ScanError),
}

impl UnbindError {
    /// The stable code of the fault, which `docs/errors.md` explains.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotAnEvent { .. } => "RECORD_NOT_AN_EVENT",
            Self::NotText { .. } => "RECORD_HEADER_NOT_TEXT",
            Self::NoValue => "RECORD_WITHOUT_VALUE",
            Self::UnknownFormat { .. } => "RECORD_FORMAT_UNKNOWN",
            Self::Json(_) => "RECORD_JSON_MALFORMED",
            Self::Scan(_) => "RECORD_EVENT_MALFORMED",
        }
    }
}

/// What is wrong with an event in the JSON format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// No JSON object.
    #[error("no JSON object at line {line}, column {column}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1; 0 is the line's start.
        column: usize,
    },
    /// A required member is absent, null or empty.
    #[error("the member {member} is missing or empty")]
    Missing {
        /// Its name.
        member: &'static str,
    },
    /// A member's value is none that an attribute can have.
    #[error("the member {member} must be a string, a boolean or a 32-bit integer")]
    BadMember {
        /// Its name, shortened.
        member: String,
    },
    /// `data_base64` is no base64 string.
    #[error("the member data_base64 is no base64 string (RFC 4648, section 4)")]
    BadBase64,
    /// Both `data` and `data_base64`.
    #[error("the members data and data_base64 exclude each other")]
    TwoData,
    /// More members than an event can have attributes.
    #[error("it has {members} members, more than an event can have attributes")]
    TooManyMembers {
        /// How many.
        members: usize,
    },
}

/// A record's own text, shortened and escaped, for an error.
pub(crate) fn shown(text: impl fmt::Display) -> String {
    text.to_string()
        .chars()
        .take(MAX_SHOWN_CHARACTERS)
        .flat_map(char::escape_debug)
        .collect()
}
