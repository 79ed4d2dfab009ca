//! Regions, rules, streams, fleets, and where each stream belongs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::history::{Place, Stream};

/// The first region of the demo.
pub(crate) const US: &str = "us-east";
/// The second.
pub(crate) const EU: &str = "eu-west";

/// Where one region's gateways answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// The region.
    pub region: String,
    /// Data addresses.
    pub gateways: Vec<String>,
    /// Admin address of one of them.
    pub admin: String,
}

/// Where everything answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sites {
    /// Both regions.
    pub regions: Vec<Site>,
    /// Admin address of the replicator.
    pub replicator: String,
}

impl Sites {
    /// Reads the JSON file that says where everything answers.
    ///
    /// # Errors
    /// [`Failure::Configuration`] when it cannot be read, or is not of this form.
    pub fn load(file: &Path) -> Result<Self, Failure> {
        let fault = |error: String| Failure::configuration(format!("{}: {error}", file.display()));
        let text = std::fs::read_to_string(file).map_err(|error| fault(error.to_string()))?;
        let sites: Sites = serde_json::from_str(&text).map_err(|error| fault(error.to_string()))?;
        for region in [US, EU] {
            if sites.site(region).is_none() {
                return Err(fault(format!(
                    "region {region} is missing: the demo needs {US} and {EU}"
                )));
            }
        }
        Ok(sites)
    }

    pub(crate) fn site(&self, region: &str) -> Option<&Site> {
        self.regions.iter().find(|site| site.region == region)
    }
}

/// A group of workers in one region.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FleetPlan {
    pub(crate) region: &'static str,
    pub(crate) group: &'static str,
    pub(crate) topics: &'static [&'static str],
}

/// Every fleet of the demo.
pub(crate) const FLEETS: &[FleetPlan] = &[
    FleetPlan {
        region: US,
        group: "billing",
        topics: &["orders"],
    },
    FleetPlan {
        region: US,
        group: "metrics",
        topics: &["telemetry"],
    },
    FleetPlan {
        region: US,
        group: "audit",
        topics: &["eu-west.orders", "eu-west.payments"],
    },
    FleetPlan {
        region: EU,
        group: "billing",
        topics: &["orders", "payments"],
    },
    FleetPlan {
        region: EU,
        group: "metrics",
        topics: &["telemetry"],
    },
    FleetPlan {
        region: EU,
        group: "audit",
        topics: &["us-east.orders"],
    },
];

/// Topics that each region's link mirrors from it.
pub const MIRRORED_TOPICS: &[&str] = &["orders", "payments"];

/// A kind of event of the demo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) stream: &'static str,
    pub(crate) type_name: &'static str,
    /// The home region that the event names; none leaves it to the gateway.
    pub(crate) home: Option<&'static str>,
}

/// The kind of the `number`th event of a publisher in a region: of ten, six
/// orders, one of them at home in the other region, two payments, two telemetry.
pub(crate) fn kind(region: &str, number: u64) -> Kind {
    let (here, there) = match region {
        US => ("orders-us", "orders-eu"),
        _ => ("orders-eu", "orders-us"),
    };
    let telemetry = match region {
        US => "telemetry-us",
        _ => "telemetry-eu",
    };
    let away = match region {
        US => EU,
        _ => US,
    };
    match number % 10 {
        0..=4 => Kind {
            stream: here,
            type_name: "com.acme.order.placed",
            home: None,
        },
        5 => Kind {
            stream: there,
            type_name: "com.acme.order.placed",
            home: Some(away),
        },
        6 | 7 => Kind {
            stream: "payments",
            type_name: "com.acme.payment.captured",
            home: None,
        },
        _ => Kind {
            stream: telemetry,
            type_name: "com.acme.telemetry.reading",
            home: None,
        },
    }
}

/// The name of a place: where deliveries of a topic to a group are seen.
pub(crate) fn place(region: &str, topic: &str, group: &str) -> Place {
    format!("{region}/{topic}/{group}")
}

/// At which places the events of each stream must be delivered.
pub(crate) fn belongs() -> BTreeMap<Stream, BTreeSet<Place>> {
    let places = |list: &[(&str, &str, &str)]| {
        list.iter()
            .map(|(region, topic, group)| place(region, topic, group))
            .collect()
    };
    BTreeMap::from([
        (
            "orders-us".to_owned(),
            places(&[(US, "orders", "billing"), (EU, "us-east.orders", "audit")]),
        ),
        (
            "orders-eu".to_owned(),
            places(&[(EU, "orders", "billing"), (US, "eu-west.orders", "audit")]),
        ),
        (
            "payments".to_owned(),
            places(&[(EU, "payments", "billing"), (US, "eu-west.payments", "audit")]),
        ),
        ("telemetry-us".to_owned(), places(&[(US, "telemetry", "metrics")])),
        ("telemetry-eu".to_owned(), places(&[(EU, "telemetry", "metrics")])),
    ])
}

/// The rules of both regions' gateways.
pub fn rules_document() -> &'static str {
    "\
# The rules of the demo: the first that matches says where an event goes.
rules:
  # Payments belong to Europe, wherever they happen: the other region's gateway
  # forwards them.
  - name: payments
    when: { type: com.acme.payment.* }
    send: { topic: payments, region: eu-west }
  # Orders stay at home.
  - name: orders-us
    when: { region: us-*, type: com.acme.order.* }
    send: { topic: orders, region: us-east }
  - name: orders-eu
    when: { region: eu-*, type: com.acme.order.* }
    send: { topic: orders, region: eu-west }
  # Telemetry stays where it is measured, and is not mirrored.
  - name: telemetry
    when: { type: com.acme.telemetry.* }
    send: { topic: telemetry }
  # Whatever else is tried.
  - name: rest
    send: { topic: events }
"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stream_belongs_where_a_fleet_works() {
        let worked: BTreeSet<Place> = FLEETS
            .iter()
            .flat_map(|fleet| fleet.topics.iter().map(|topic| place(fleet.region, topic, fleet.group)))
            .collect();
        let needed: BTreeSet<Place> = belongs().into_values().flatten().collect();
        assert_eq!(worked, needed);
    }

    #[test]
    fn every_kind_is_of_a_known_stream() {
        let streams = belongs();
        for region in [US, EU] {
            for number in 0..10 {
                assert!(streams.contains_key(kind(region, number).stream));
            }
        }
    }
}
