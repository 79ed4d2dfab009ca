//! A record: what a broker stores, whatever its kind.
//!
//! Holds bytes and nothing else; what they mean as an event is the business of
//! the bindings. All parts are reference counted, so a clone copies no payload.

use bytes::Bytes;
use bytestring::ByteString;

/// One header of a record. Names may repeat; order is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The name, UTF-8 as in Kafka.
    pub name: ByteString,
    /// The value; `None` is Kafka's null, which is not the empty value.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a value.
    pub fn new(name: impl Into<ByteString>, value: impl Into<Bytes>) -> Self {
        Self {
            name: name.into(),
            value: Some(value.into()),
        }
    }
}

/// What a broker stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Chooses the partition; `None` is not the empty key.
    pub key: Option<Bytes>,
    /// Headers in order.
    pub headers: Vec<Header>,
    /// The payload; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

impl Record {
    /// The first header of this name, when it is there and has a value.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers
            .iter()
            .find(|header| header.name == name)
            .and_then(|header| header.value.as_ref())
    }

    /// Bytes of key, headers and value: what limits and budgets count.
    pub fn size_bytes(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|header| header.name.len() + header.value.as_ref().map_or(0, Bytes::len))
            .sum();
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + headers
    }
}
