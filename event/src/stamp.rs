//! What Meridian itself writes on an event: where it came in, when, and which
//! regions it has been through.
//!
//! No CloudEvents extension covers origin and hops, so the names are ours (spec
//! 1.0.2, "Extension Context Attributes"); `recordedtime` is the CloudEvents
//! recorded time extension. Clients may set none of them (`validate` refuses
//! that), and hops that came from outside are parsed with a bound, never
//! trusted.

use bytes::Bytes;
use bytestring::ByteString;

use crate::syntax::is_region_name;

/// The region whose gateway first accepted the event; set once, never changed.
pub const ORIGIN_REGION: &str = "originregion";
/// The regions that the event has been through, comma-separated, latest last.
pub const HOPS: &str = "hops";
/// When the gateway accepted the event (CloudEvents recorded time extension).
pub const RECORDED_TIME: &str = "recordedtime";

/// The attributes that Meridian alone may set.
pub const MERIDIAN_ONLY: [&str; 3] = [ORIGIN_REGION, HOPS, RECORDED_TIME];

/// The most hops that a list may have. Far above any sane mirroring; a link's own
/// maximum is lower.
pub const MAX_HOPS: usize = 32;

/// What a gateway writes on each event that it accepts.
#[derive(Clone, Copy, Debug)]
pub struct Stamps<'a> {
    /// Where the event was first accepted: a region name.
    pub origin_region: &'a str,
    /// When, in milliseconds since the Unix epoch.
    pub recorded_time_ms: i64,
    /// Where it has been; an empty list is not written.
    pub hops: &'a Hops,
}

/// A list of regions in the order in which the event passed them, at most
/// [`MAX_HOPS`]. A clone shares the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hops {
    text: ByteString,
    count: usize,
}

/// Why a text is no list of hops, or a list cannot grow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HopsError {
    /// An entry is no region name.
    #[error(
        "entry {entry} of the hops is no region name ([a-z0-9-], 1 to 63 characters); \
         whoever wrote the record set ce_hops wrongly"
    )]
    BadRegion {
        /// Which, from 1.
        entry: usize,
    },
    /// More than [`MAX_HOPS`] entries.
    #[error("the record has been through more than {MAX_HOPS} regions; look for a mirroring loop")]
    TooMany,
    /// The list is not UTF-8.
    #[error("ce_hops is not UTF-8; whoever wrote the record set it wrongly")]
    NotText,
    /// The origin region of a record is no region name.
    #[error(
        "ce_originregion is no region name ([a-z0-9-], 1 to 63 characters); \
         whoever wrote the record set it wrongly"
    )]
    BadOriginRegion,
}

impl Hops {
    /// Reads a comma-separated list, without spaces; the empty text is the empty
    /// list.
    ///
    /// # Errors
    /// [`HopsError::BadRegion`] or [`HopsError::TooMany`].
    pub fn parse(text: &str) -> Result<Self, HopsError> {
        let count = count_regions(text)?;
        Ok(Self {
            text: ByteString::from(text),
            count,
        })
    }

    /// Reads a header's value without copying it.
    ///
    /// # Errors
    /// As [`Hops::parse`], and [`HopsError::NotText`].
    pub fn from_bytes(bytes: Bytes) -> Result<Self, HopsError> {
        let text = ByteString::try_from(bytes).map_err(|_| HopsError::NotText)?;
        let count = count_regions(&text)?;
        Ok(Self { text, count })
    }

    /// Whether the event has been through `region`.
    pub fn contains(&self, region: &str) -> bool {
        self.iter().any(|hop| hop == region)
    }

    /// How many regions.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the event has been nowhere.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The regions, latest last.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        // Splitting the empty text would yield one empty entry.
        self.text.split(',').take(self.count)
    }

    /// The list with one more region at its end.
    ///
    /// # Errors
    /// [`HopsError::BadRegion`] when `region` is no region name, and
    /// [`HopsError::TooMany`] when the list is full.
    pub fn with(&self, region: &str) -> Result<Self, HopsError> {
        let count = self.count + 1;
        if count > MAX_HOPS {
            return Err(HopsError::TooMany);
        }
        if !is_region_name(region) {
            return Err(HopsError::BadRegion { entry: count });
        }
        let mut text = String::with_capacity(self.text.len() + 1 + region.len());
        text.push_str(&self.text);
        if !self.is_empty() {
            text.push(',');
        }
        text.push_str(region);
        Ok(Self {
            text: ByteString::from(text),
            count,
        })
    }

    /// The list as written, to be shared as a header's value.
    pub fn as_bytes(&self) -> &Bytes {
        self.text.as_bytes()
    }

    /// The list as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Display for Hops {
    /// The regions, comma-separated, without spaces.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.text)
    }
}

fn count_regions(text: &str) -> Result<usize, HopsError> {
    if text.is_empty() {
        return Ok(0);
    }
    let mut count = 0;
    for region in text.split(',') {
        count += 1;
        if count > MAX_HOPS {
            return Err(HopsError::TooMany);
        }
        if !is_region_name(region) {
            return Err(HopsError::BadRegion { entry: count });
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_grow_at_their_end_and_print_as_parsed() {
        let hops = Hops::default().with("us-east").unwrap();
        let hops = hops.with("eu-west").unwrap();
        assert_eq!(hops.to_string(), "us-east,eu-west");
        assert_eq!(hops.len(), 2);
        assert!(hops.contains("eu-west") && !hops.contains("eu"));
        assert_eq!(Hops::parse("us-east,eu-west"), Ok(hops));
    }

    #[test]
    fn the_empty_list_holds_nothing() {
        let hops = Hops::parse("").unwrap();
        assert!(hops.is_empty() && !hops.contains(""));
        assert_eq!(hops.iter().count(), 0);
    }

    #[test]
    fn malformed_lists_are_told_apart() {
        for (text, entry) in [(",", 1), ("a,,b", 2), ("a,", 2), ("a, b", 2), ("A", 1), ("é", 1)] {
            assert_eq!(Hops::parse(text), Err(HopsError::BadRegion { entry }), "{text}");
        }
        assert_eq!(Hops::from_bytes(Bytes::from_static(&[0xFF])), Err(HopsError::NotText));
        assert_eq!(Hops::default().with("a,b"), Err(HopsError::BadRegion { entry: 1 }));
    }

    #[test]
    fn a_list_never_outgrows_its_bound() {
        let full = vec!["a"; MAX_HOPS].join(",");
        let hops = Hops::parse(&full).unwrap();
        assert_eq!(hops.len(), MAX_HOPS);
        assert_eq!(hops.with("b"), Err(HopsError::TooMany));
        assert_eq!(Hops::parse(&format!("{full},a")), Err(HopsError::TooMany));
    }
}
