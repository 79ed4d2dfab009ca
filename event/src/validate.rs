//! What an event must be to be taken in: the rules of CloudEvents 1.0.2, and
//! Meridian's limits.
//!
//! Every violation is found, not the first alone, and a valid event costs no
//! allocation. That the bytes are well-formed is the scanner's business; who may
//! publish what, and how much, is the gateway's.

use crate::attribute::{
    AttributeValue, DATA_CONTENT_TYPE, DATA_REF, DATA_SCHEMA, DELIVER_AT, EXPIRY_TIME, ID, PARTITION_KEY, REGION,
    REQUIRED, SOURCE, SPEC_VERSION_1_0, SUBJECT, TIME, TRACE_PARENT, TRACE_STATE, TYPE,
};
use crate::event::{Event, EventData};
use crate::rule::{
    Fault, any_kind, hops, media_type, moment, plain_text, region_name, required_kind, type_url, uri, uri_reference,
};
use crate::scan::MAX_ATTRIBUTES;
use crate::stamp::{HOPS, MERIDIAN_ONLY, ORIGIN_REGION, RECORDED_TIME};
use crate::syntax::{MAX_ATTRIBUTE_NAME_BYTES, is_attribute_name};
use crate::violation::{Violation, ViolationReason, Violations};

/// The most bytes of a name that a description repeats.
const MAX_SHOWN_NAME_CHARACTERS: usize = 64;

/// How large an event may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLimits {
    /// Bytes of the encoded event. Default 1 MiB; intermediaries must take 64 KiB
    /// (spec 1.0.2, "Size Limits").
    pub max_event_bytes: usize,
    /// Optional and extension attributes that a client may set. Default 56: the
    /// scanner takes [`MAX_ATTRIBUTES`], and what Meridian adds must fit as well.
    pub max_attributes: usize,
    /// Bytes of one attribute's value. Default 8 KiB, the usual limit on one
    /// header of HTTP, where attributes travel too.
    pub max_attribute_bytes: usize,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self {
            max_event_bytes: 1024 * 1024,
            max_attributes: MAX_ATTRIBUTES - 8,
            max_attribute_bytes: 8 * 1024,
        }
    }
}

/// Who hands the event in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValidationSource {
    /// A publisher: attributes that Meridian alone sets are refused.
    Client,
    /// A gateway or replicator of another region: they are allowed, and checked.
    Peer,
}

impl Event {
    /// Checks the event against CloudEvents 1.0.2 and `limits`.
    ///
    /// # Errors
    /// Every violation, with its field, a stable code and what to do.
    pub fn validate(&self, limits: &EventLimits, source: ValidationSource) -> Result<(), Violations> {
        let mut check = Check {
            event: self,
            limits,
            source,
            found: Vec::new(),
        };
        check.whole();
        check.required();
        for (name, value) in self.entries() {
            check.entry(name, value);
        }
        check.type_url();
        Violations::check(check.found)
    }
}

struct Check<'a> {
    event: &'a Event,
    limits: &'a EventLimits,
    source: ValidationSource,
    found: Vec<Violation>,
}

impl Check<'_> {
    fn whole(&mut self) {
        let size_bytes = self.event.size_bytes();
        let max_event_bytes = self.limits.max_event_bytes;
        if size_bytes > max_event_bytes {
            self.found.push(Violation {
                field: String::from("event"),
                reason: ViolationReason::EventTooLarge,
                description: format!(
                    "the event has {size_bytes} bytes, {max_event_bytes} are allowed; \
                     store the data elsewhere and point to it with the attribute dataref"
                ),
            });
        }
        let stamps = match self.source {
            ValidationSource::Client => 0,
            ValidationSource::Peer => MERIDIAN_ONLY.len(),
        };
        let count = self.event.attribute_count();
        let max_attributes = self.limits.max_attributes;
        if count > max_attributes + stamps {
            self.found.push(Violation {
                field: String::from("attributes"),
                reason: ViolationReason::TooManyAttributes,
                description: format!(
                    "the event has {count} attributes, {max_attributes} are allowed; \
                     put the rest into the data"
                ),
            });
        }
    }

    /// Spec 1.0.2, "REQUIRED Attributes".
    fn required(&mut self) {
        let event = self.event;
        self.required_text("id", ID, event.id(), plain_text);
        self.required_text("source", SOURCE, event.source(), uri_reference);
        self.required_text(
            "spec_version",
            crate::attribute::SPEC_VERSION,
            event.spec_version(),
            |text| {
                (text != SPEC_VERSION_1_0).then(|| {
                    let what = "must be \"1.0\", the only version that is supported";
                    (ViolationReason::BadSpecVersion, String::from(what))
                })
            },
        );
        self.required_text("type", TYPE, event.type_name(), plain_text);
    }

    fn required_text(&mut self, field: &str, name: &str, text: &str, rule: impl FnOnce(&str) -> Option<Fault>) {
        let fault = if text.is_empty() {
            let what = "is required and must not be empty; set it on the event";
            Some((ViolationReason::MissingAttribute, String::from(what)))
        } else {
            self.size(text.len()).or_else(|| rule(text))
        };
        if let Some((reason, what)) = fault {
            self.found.push(Violation {
                field: String::from(field),
                reason,
                description: format!("{name} {what}"),
            });
        }
    }

    fn entry(&mut self, name: &str, value: Option<AttributeValue<'_>>) {
        let fault = self.name(name).or_else(|| match value {
            Some(value) => self.value(name, value),
            None => {
                let what = "has no value; set one, or leave the attribute out";
                Some((ViolationReason::EmptyAttribute, String::from(what)))
            }
        });
        if let Some((reason, what)) = fault {
            let shown: String = name.escape_debug().take(MAX_SHOWN_NAME_CHARACTERS).collect();
            self.found.push(Violation {
                field: format!("attributes.{shown}"),
                reason,
                description: format!("{shown} {what}"),
            });
        }
    }

    /// Spec 1.0.2, "Naming Conventions".
    fn name(&self, name: &str) -> Option<Fault> {
        if !is_attribute_name(name) {
            return Some((
                ViolationReason::BadAttributeName,
                format!(
                    "is no attribute name; use lower-case letters and digits, \
                     1 to {MAX_ATTRIBUTE_NAME_BYTES} of them"
                ),
            ));
        }
        if name == "data" {
            let what = "is no attribute name; use one of the data fields of the event";
            return Some((ViolationReason::BadAttributeName, String::from(what)));
        }
        if REQUIRED.contains(&name) {
            let what = "is a field of its own; set that field, not an entry of attributes";
            return Some((ViolationReason::ReservedAttribute, String::from(what)));
        }
        if self.source == ValidationSource::Client && MERIDIAN_ONLY.contains(&name) {
            let what = "is set by Meridian alone; leave it out";
            return Some((ViolationReason::ReservedAttribute, String::from(what)));
        }
        None
    }

    fn value(&self, name: &str, value: AttributeValue<'_>) -> Option<Fault> {
        let length = match value {
            AttributeValue::Binary(bytes) => bytes.len(),
            value => value.as_text().map_or(0, str::len),
        };
        if let Some(fault) = self.size(length) {
            return Some(fault);
        }
        match name {
            TIME | EXPIRY_TIME | DELIVER_AT | RECORDED_TIME => moment(value),
            SUBJECT | PARTITION_KEY | TRACE_PARENT | TRACE_STATE => required_kind(value, plain_text),
            DATA_CONTENT_TYPE => required_kind(value, media_type),
            DATA_SCHEMA => required_kind(value, |text| self.data_schema(text)),
            DATA_REF => required_kind(value, uri_reference),
            REGION | ORIGIN_REGION => required_kind(value, region_name),
            HOPS => required_kind(value, hops),
            _ => any_kind(value),
        }
    }

    /// An absolute URI (spec 1.0.2, "dataschema"), or the type URL of protobuf
    /// data, which has no scheme (protobuf format, section 2.3: SHOULD be equal). From
    /// a peer, the data may have lost its kind in a binding and kept that schema.
    fn data_schema(&self, text: &str) -> Option<Fault> {
        match self.event.data() {
            EventData::Protobuf { type_url, .. } if type_url == text => None,
            _ if self.source == ValidationSource::Peer => uri_reference(text),
            _ => uri(text),
        }
    }

    /// Bindings carry the type URL as an attribute, so it is bounded like one.
    fn type_url(&mut self) {
        let EventData::Protobuf { type_url: text, .. } = self.event.data() else {
            return;
        };
        if let Some((reason, what)) = self.size(text.len()).or_else(|| type_url(text)) {
            self.found.push(Violation {
                field: String::from("proto_data.type_url"),
                reason,
                description: format!("type_url {what}"),
            });
        }
    }

    fn size(&self, length_bytes: usize) -> Option<Fault> {
        let max_attribute_bytes = self.limits.max_attribute_bytes;
        (length_bytes > max_attribute_bytes).then(|| {
            (
                ViolationReason::AttributeTooLarge,
                format!(
                    "has {length_bytes} bytes, {max_attribute_bytes} are allowed; \
                     put it into the data"
                ),
            )
        })
    }
}
