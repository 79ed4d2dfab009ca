//! Reading events in the CloudEvents JSON format (1.0.2).
//!
//! Reads what others write; Meridian writes protobuf. JSON data is kept as its
//! very text, so that no number loses digits and no key its place. Nesting is
//! bounded by the parser and is never recursed into here.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::error::{JsonFault, UnbindError, shown};
use crate::attribute::{AttributeValue, DATA_CONTENT_TYPE, ID, REQUIRED, SOURCE, SPEC_VERSION, TYPE};
use crate::builder::EventBuilder;
use crate::event::Event;
use crate::scan::MAX_ATTRIBUTES;
use crate::syntax::is_json_media_type;

pub(super) const MEDIA_TYPE: &str = "application/cloudevents+json";

const DATA: &str = "data";
const DATA_BASE64: &str = "data_base64";
const JSON_MEDIA_TYPE: &str = "application/json";

/// Besides attributes, an event has four required members and its data.
const MAX_MEMBERS: usize = MAX_ATTRIBUTES + 5;

type Members<'a> = BTreeMap<String, &'a RawValue>;

/// A member's value, as far as an attribute can have it.
enum Member {
    Null,
    Boolean(bool),
    Integer(i32),
    Text(String),
}

pub(super) fn read(encoded: &[u8]) -> Result<Event, UnbindError> {
    let members: Members<'_> = serde_json::from_slice(encoded).map_err(|error| JsonFault::Syntax {
        line: error.line(),
        column: error.column(),
    })?;
    if members.len() > MAX_MEMBERS {
        return Err(JsonFault::TooManyMembers { members: members.len() }.into());
    }
    let mut builder = EventBuilder::with_spec_version(
        &required(&members, ID)?,
        &required(&members, SOURCE)?,
        &required(&members, SPEC_VERSION)?,
        &required(&members, TYPE)?,
        encoded.len(),
    );
    let mut media_type = None;
    for (name, raw) in &members {
        let name = name.as_str();
        if REQUIRED.contains(&name) || name == DATA || name == DATA_BASE64 {
            continue;
        }
        builder = match member(name, raw)? {
            // A null member is an absent one (JSON format, section 2.2).
            Member::Null => continue,
            Member::Boolean(value) => builder.extension(name, value),
            Member::Integer(value) => builder.extension(name, value),
            Member::Text(text) => {
                let value = AttributeValue::from_canonical(name, &text);
                let builder = builder.extension(name, value);
                if name == DATA_CONTENT_TYPE {
                    media_type = Some(text);
                }
                builder
            }
        };
    }
    Ok(put_data(builder, &members, media_type.as_deref())?.build_unvalidated()?)
}

fn required(members: &Members<'_>, name: &'static str) -> Result<String, JsonFault> {
    match members.get(name) {
        Some(raw) => match member(name, raw)? {
            Member::Text(text) if !text.is_empty() => Ok(text),
            Member::Null | Member::Text(_) => Err(JsonFault::Missing { member: name }),
            _ => Err(bad_member(name)),
        },
        None => Err(JsonFault::Missing { member: name }),
    }
}

/// JSON format, section 2.2: strings, booleans and 32-bit integers.
fn member(name: &str, raw: &RawValue) -> Result<Member, JsonFault> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text)
            .map(Member::Text)
            .map_err(|_| bad_member(name)),
        Some(b'n') => Ok(Member::Null),
        Some(b't') => Ok(Member::Boolean(true)),
        Some(b'f') => Ok(Member::Boolean(false)),
        _ => text.parse().map(Member::Integer).map_err(|_| bad_member(name)),
    }
}

fn bad_member(name: &str) -> JsonFault {
    JsonFault::BadMember { member: shown(name) }
}

/// JSON format, section 3.1.
fn put_data(builder: EventBuilder, members: &Members<'_>, media_type: Option<&str>) -> Result<EventBuilder, JsonFault> {
    // Null is absent here too: it is what many producers write for no data.
    let present = |name| members.get(name).filter(|raw| raw.get() != "null");
    match (present(DATA), present(DATA_BASE64)) {
        (Some(_), Some(_)) => Err(JsonFault::TwoData),
        (None, None) => Ok(builder),
        (None, Some(raw)) => {
            let text: String = serde_json::from_str(raw.get()).map_err(|_| JsonFault::BadBase64)?;
            let data = STANDARD.decode(text).map_err(|_| JsonFault::BadBase64)?;
            Ok(builder.binary_data(data))
        }
        (Some(raw), None) => match media_type {
            // Without a media type, data is JSON; other bindings must be told so.
            None => Ok(builder.data_content_type(JSON_MEDIA_TYPE).text_data(raw.get())),
            Some(media_type) if is_json_media_type(media_type) => Ok(builder.text_data(raw.get())),
            Some(_) => Ok(match serde_json::from_str::<String>(raw.get()) {
                Ok(text) => builder.text_data(text),
                Err(_) => builder.text_data(raw.get()),
            }),
        },
    }
}
