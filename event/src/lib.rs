//! The event model: CloudEvents over their encoded protobuf bytes, the records
//! that brokers store, and the bindings that turn one into the other.
//!
//! Pure: no I/O, no clock, no broker. Module map, in the way of the data:
//! - [`event`]: one CloudEvent, read in place from its encoded bytes.
//! - [`attribute`]: the values of attributes, and the names that have a meaning.
//! - [`builder`]: makes events, straight into their encoded form.
//! - [`scan`]: finds the parts of an encoded event, as prost would decode them.
//! - `wire`: the protobuf wire format below the scanner and the builder.
//! - [`validate`]: what an event must be to be taken in, as a list of
//!   violations ([`violation`]); `rule` has the rules of single values, `syntax`
//!   the grammars.
//! - `timestamp`: RFC 3339 text to and from seconds and nanoseconds.
//! - [`stamp`]: what Meridian itself writes on an event: origin, hops, time.
//! - [`record`]: what a broker stores: key, headers, value, timestamp.
//! - [`binding`]: events to records and back.

pub mod attribute;
pub mod binding;
pub mod builder;
pub mod event;
pub mod record;
mod rule;
pub mod scan;
pub mod stamp;
mod syntax;
mod timestamp;
pub mod validate;
pub mod violation;
mod wire;

pub use attribute::AttributeValue;
pub use binding::{Binding, EncodedEvent, Provenance, UnbindError, record_provenance, restamp};
pub use builder::EventBuilder;
pub use bytestring::ByteString;
pub use event::{Event, EventData};
pub use record::{Header, Record};
pub use scan::{MAX_ATTRIBUTES, ScanError};
pub use stamp::{Hops, HopsError, Stamps};
pub use syntax::is_region_name;
pub use validate::{EventLimits, ValidationSource};
pub use violation::{Violation, ViolationReason, Violations};
