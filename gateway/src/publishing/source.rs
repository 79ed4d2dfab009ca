//! Who hands events in: a publisher, or the gateway of another region, which says
//! so in `forwarded_by`.
//!
//! What holds: a request that has been through this region is refused, and so is
//! one that names a region which is no peer; only a peer's events may carry what
//! Meridian alone sets. That the sender is the peer it says it is, the network
//! between the regions must see to until links carry certificates.

use meridian_broker::RegionName;
use meridian_event::ValidationSource;

use crate::fault::{FaultCode, Refusal};
use crate::routing::RuleContext;

/// The most regions that a request may have been through.
pub const MAX_FORWARDS: usize = 4;

/// Where a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A publisher.
    Client,
    /// The gateway of another region.
    Peer {
        /// The regions that the request has been through, nearest last.
        forwarded_by: Vec<RegionName>,
    },
}

impl Source {
    /// Reads and checks `forwarded_by`.
    ///
    /// # Errors
    /// `FORWARD_LOOP` or `FORWARDED_BY_UNKNOWN`; the whole request is refused.
    pub fn read(forwarded_by: &[String], context: &RuleContext) -> Result<Self, Refusal> {
        if forwarded_by.is_empty() {
            return Ok(Self::Client);
        }
        let own = &context.region;
        if forwarded_by.iter().any(|region| region == own.as_str()) || forwarded_by.len() > MAX_FORWARDS {
            let path: Vec<&str> = forwarded_by.iter().take(MAX_FORWARDS + 1).map(String::as_str).collect();
            let message = format!(
                "the request came to {own} through {}: the rules of these regions send events in a circle; correct `send.region`",
                path.join(", ")
            );
            return Err(Refusal::new(FaultCode::ForwardLoop, message));
        }
        let regions = forwarded_by.iter().map(|name| {
            context.peers.get(name.as_str()).cloned().ok_or_else(|| {
                let message =
                    format!("forwarded_by names {name:?}, which is no peer of {own}; publishers leave it empty");
                Refusal::new(FaultCode::ForwardedByUnknown, message.clone()).with_field("forwarded_by", message)
            })
        });
        Ok(Self::Peer {
            forwarded_by: regions.collect::<Result<_, _>>()?,
        })
    }

    /// What events of this source may carry.
    pub fn validation(&self) -> ValidationSource {
        match self {
            Self::Client => ValidationSource::Client,
            Self::Peer { .. } => ValidationSource::Peer,
        }
    }

    /// The region that took the request in first, if not this one.
    pub fn first_region(&self) -> Option<&RegionName> {
        match self {
            Self::Client => None,
            Self::Peer { forwarded_by } => forwarded_by.first(),
        }
    }

    /// The refusal of an event that a rule would send back to a region that it has
    /// been through.
    pub fn refuse_return(&self, region: &RegionName, rule: &str) -> Option<Refusal> {
        let Self::Peer { forwarded_by } = self else {
            return None;
        };
        forwarded_by.contains(region).then(|| {
            let message = format!(
                "rule {rule} sends the event back to region {region}, which has forwarded it; correct `send.region` here or there"
            );
            Refusal::new(FaultCode::ForwardLoop, message)
        })
    }

    /// `forwarded_by` for sending on from `own`.
    pub fn with_own(&self, own: &RegionName) -> Vec<String> {
        let before = match self {
            Self::Client => &[][..],
            Self::Peer { forwarded_by } => forwarded_by,
        };
        before.iter().chain([own]).map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::document::tests::context;

    fn read(regions: &[&str]) -> Result<Source, Refusal> {
        let regions: Vec<String> = regions.iter().map(|region| (*region).to_owned()).collect();
        Source::read(&regions, &context())
    }

    #[test]
    fn only_peers_forward_and_never_in_a_circle() {
        assert_eq!(read(&[]).unwrap(), Source::Client);
        let source = read(&["eu-west"]).unwrap();
        assert_eq!(source.with_own(&context().region), ["eu-west", "us-east"]);
        assert_eq!(source.validation(), ValidationSource::Peer);
        let [here, back] = ["ap-south", "eu-west"].map(|name| RegionName::new(name).unwrap());
        assert!(source.refuse_return(&here, "r").is_none());
        assert_eq!(source.refuse_return(&back, "r").unwrap().code(), FaultCode::ForwardLoop);
        assert_eq!(read(&["mars"]).unwrap_err().code(), FaultCode::ForwardedByUnknown);
        let refusal = read(&["us-east", "eu-west"]).unwrap_err();
        assert_eq!(refusal.code(), FaultCode::ForwardLoop);
        assert!(
            refusal.message().contains("came to us-east through us-east, eu-west"),
            "{refusal}"
        );
        assert_eq!(read(&["eu-west"; 5]).unwrap_err().code(), FaultCode::ForwardLoop);
    }
}
