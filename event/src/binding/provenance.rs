//! The stamps of a record, without reading its event: what a replicator needs
//! to decide on a record and to pass it on.
//!
//! Reads headers alone, as every binding of ours writes the stamps there.

use bytestring::ByteString;

use super::header::{HOPS_HEADER, ORIGIN_REGION_HEADER, last_header};
use crate::record::{Header, Record};
use crate::stamp::{Hops, HopsError};
use crate::syntax::is_region_name;

/// Where a record comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The region that first accepted the event; `None` on a record that no
    /// gateway wrote.
    pub origin_region: Option<ByteString>,
    /// The regions that it has been through; empty likewise.
    pub hops: Hops,
}

/// Reads `ce_originregion` and `ce_hops`; when one is written twice, the last
/// counts.
///
/// # Errors
/// [`HopsError`] when a header holds something else than Meridian writes: such a
/// record cannot be told from one in a loop.
pub fn record_provenance(record: &Record) -> Result<Provenance, HopsError> {
    let origin_region = match last_header(record, ORIGIN_REGION_HEADER) {
        None => None,
        Some(value) => {
            let region = ByteString::try_from(value.clone()).ok();
            let region = region.filter(|region| is_region_name(region));
            Some(region.ok_or(HopsError::BadOriginRegion)?)
        }
    };
    let hops = match last_header(record, HOPS_HEADER) {
        None => Hops::default(),
        Some(value) => Hops::from_bytes(value.clone())?,
    };
    Ok(Provenance { origin_region, hops })
}

/// The record with `ce_hops` set to `hops`, where it stood or at the end, and all
/// else untouched, foreign headers included. Empty hops remove the header.
pub fn restamp(record: &Record, hops: &Hops) -> Record {
    let mut headers = Vec::with_capacity(record.headers.len() + 1);
    let mut written = hops.is_empty();
    let stamp = || Header {
        name: ByteString::from_static(HOPS_HEADER),
        value: Some(hops.as_bytes().clone()),
    };
    for header in &record.headers {
        if header.name != HOPS_HEADER {
            headers.push(header.clone());
        } else if !written {
            headers.push(stamp());
            written = true;
        }
    }
    if !written {
        headers.push(stamp());
    }
    Record {
        key: record.key.clone(),
        headers,
        value: record.value.clone(),
        timestamp_ms: record.timestamp_ms,
    }
}
