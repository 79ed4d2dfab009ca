//! Whether one record may pass a link, decided on its stamps alone; pure.
//!
//! What holds: a record passes only if its hops do not hold the target, its hops
//! with the source's region stay within the link's maximum, and its stamps can be
//! read. Each region is written once, when a link leads out of it.
//!
//! The origin is no hop: an event that its first region forwarded was never stored
//! there, and may be mirrored to it. One that was stored there has it among its
//! hops, for the link that led out of it wrote it.

use meridian_broker::RegionName;
use meridian_event::{Hops, HopsError, Record, record_provenance};

/// Why a record is not mirrored, though nothing is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// It has been at the target.
    Visited,
    /// It has been through as many regions as the link allows.
    MaxHops,
}

impl SkipReason {
    /// Every reason, for metrics.
    pub const ALL: [Self; 2] = [Self::Visited, Self::MaxHops];

    /// As the value of a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Visited => "visited",
            Self::MaxHops => "max_hops",
        }
    }
}

/// What a link does with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// Append it with these hops.
    Append(Hops),
    /// Settle it without appending.
    Skip(SkipReason),
    /// Its stamps are no stamps of Meridian: it cannot be told from one in a loop.
    Unreadable(HopsError),
}

/// One direction between two regions.
#[derive(Clone, Debug)]
pub(crate) struct Border {
    pub(crate) source: RegionName,
    pub(crate) target: RegionName,
    pub(crate) max_hops: usize,
}

impl Border {
    pub(crate) fn passage(&self, record: &Record) -> Passage {
        let provenance = match record_provenance(record) {
            Ok(provenance) => provenance,
            Err(HopsError::TooMany) => return Passage::Skip(SkipReason::MaxHops),
            Err(error) => return Passage::Unreadable(error),
        };
        if provenance.hops.contains(self.target.as_str()) {
            return Passage::Skip(SkipReason::Visited);
        }
        let hops = if provenance.hops.contains(self.source.as_str()) {
            Ok(provenance.hops)
        } else {
            provenance.hops.with(self.source.as_str())
        };
        match hops {
            Ok(hops) if hops.len() <= self.max_hops => Passage::Append(hops),
            Ok(_) | Err(HopsError::TooMany) => Passage::Skip(SkipReason::MaxHops),
            Err(error) => Passage::Unreadable(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_event::Header;

    fn passage(origin: Option<&'static str>, hops: Option<&'static str>) -> Passage {
        let region = |name: &str| RegionName::new(name).unwrap();
        let border = Border {
            source: region("us-east"),
            target: region("eu-west"),
            max_hops: 2,
        };
        let headers = [("ce_originregion", origin), ("ce_hops", hops)];
        let headers = headers
            .into_iter()
            .filter_map(|(name, value)| Some(Header::new(name, value?)))
            .collect();
        border.passage(&Record {
            headers,
            ..Record::default()
        })
    }

    #[test]
    fn a_record_takes_the_source_along_as_a_hop() {
        let append = |text: &str| Passage::Append(Hops::parse(text).unwrap());
        assert_eq!(passage(None, None), append("us-east"), "a record that no gateway wrote");
        assert_eq!(passage(Some("us-east"), None), append("us-east"));
        assert_eq!(passage(Some("asia"), Some("asia")), append("asia,us-east"));
        assert_eq!(
            passage(Some("us-east"), Some("us-east")),
            append("us-east"),
            "stamped already"
        );
    }

    #[test]
    fn a_record_never_comes_to_where_it_was() {
        let visited = Passage::Skip(SkipReason::Visited);
        assert_eq!(passage(Some("eu-west"), Some("eu-west")), visited);
        assert_eq!(passage(Some("asia"), Some("eu-west,us-east")), visited);
        assert_eq!(
            passage(Some("asia"), Some("asia,africa")),
            Passage::Skip(SkipReason::MaxHops)
        );
    }

    #[test]
    fn what_the_target_has_forwarded_may_come_back_as_a_mirror() {
        let append = Passage::Append(Hops::parse("us-east").unwrap());
        assert_eq!(passage(Some("eu-west"), None), append);
    }

    #[test]
    fn stamps_that_cannot_be_read_stop_a_record() {
        assert!(matches!(
            passage(None, Some("US East")),
            Passage::Unreadable(HopsError::BadRegion { entry: 1 })
        ));
        assert!(matches!(
            passage(Some("?"), None),
            Passage::Unreadable(HopsError::BadOriginRegion)
        ));
    }
}
