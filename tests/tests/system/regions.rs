//! Two regions with peers, topics and groups of their own, and where the events
//! of each stream must arrive.
//!
//! Topics and groups carry a word of their own, for the shared clusters outlive
//! the test.

use meridian_tests::harness::scratch::unique;
use meridian_tests::harness::{Brokers, GatewayPlan, LinkPlan};
use meridian_tests::traffic::record::{place, streams};
use meridian_tests::traffic::{FleetPlan, LoadPlan, Streams};

pub(crate) const US: &str = "us-east";
pub(crate) const EU: &str = "eu-west";
pub(crate) const ORDER: &str = "com.acme.order.placed";
pub(crate) const PAYMENT: &str = "com.acme.payment.captured";

/// Names of one test's topics and groups.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) orders: String,
    pub(crate) payments: String,
    pub(crate) billing: String,
    pub(crate) audit: String,
}

impl Names {
    /// Names that nobody used before.
    pub(crate) fn new() -> Self {
        Self {
            orders: unique("orders"),
            payments: unique("payments"),
            billing: unique("billing"),
            audit: unique("audit"),
        }
    }

    /// The names of `meridian dev`.
    pub(crate) fn of_dev() -> Self {
        Self {
            orders: "orders".to_owned(),
            payments: "payments".to_owned(),
            billing: unique("billing"),
            audit: unique("audit"),
        }
    }

    /// Orders stay in their home region, payments belong to Europe.
    pub(crate) fn rules(&self) -> String {
        format!(
            "rules:\n  - name: payments\n    when: {{ type: com.acme.payment.* }}\n    send: {{ topic: {}, region: {EU} }}\n  - name: orders\n    when: {{ type: com.acme.order.* }}\n    send: {{ topic: {} }}\n",
            self.payments, self.orders
        )
    }

    /// A gateway for each region, each the other's peer.
    pub(crate) fn gateways(&self, us: Brokers, eu: Brokers) -> (GatewayPlan, GatewayPlan) {
        let us = GatewayPlan::new(US, us, self.rules());
        let eu = GatewayPlan::new(EU, eu, self.rules());
        let (us_data, eu_data) = (us.data(), eu.data());
        (us.peer(EU, &eu_data), eu.peer(US, &us_data))
    }

    /// A link each way.
    pub(crate) fn links(&self) -> Vec<LinkPlan> {
        let link = |name: &str, source: &str, target: &str| LinkPlan {
            name: unique(name),
            source: source.to_owned(),
            target: target.to_owned(),
            topics: vec![self.orders.clone(), self.payments.clone()],
        };
        vec![link("us-to-eu", US, EU), link("eu-to-us", EU, US)]
    }

    /// Orders in both regions, and payments from the United States.
    pub(crate) fn loads(&self, us: &[String], eu: &[String], rate: u32) -> Vec<LoadPlan> {
        vec![
            LoadPlan::new(us, "orders-us", ORDER, rate),
            LoadPlan::new(eu, "orders-eu", ORDER, rate),
            LoadPlan::new(us, "orders-away", ORDER, rate / 4).region(EU),
            LoadPlan::new(us, "payments", PAYMENT, rate / 2),
        ]
    }

    /// Who works where the events are stored.
    pub(crate) fn local_fleets(&self, us: &[String], eu: &[String]) -> Vec<FleetPlan> {
        vec![
            FleetPlan::new(US, us, &self.billing, std::slice::from_ref(&self.orders)),
            FleetPlan::new(EU, eu, &self.billing, &[self.orders.clone(), self.payments.clone()]),
        ]
    }

    /// Who works where the events are mirrored.
    pub(crate) fn mirror_fleets(&self, us: &[String], eu: &[String]) -> Vec<FleetPlan> {
        let mirrored = |region: &str, topic: &str| format!("{region}.{topic}");
        let in_us = [mirrored(EU, &self.orders), mirrored(EU, &self.payments)];
        vec![
            FleetPlan::new(US, us, &self.audit, &in_us),
            FleetPlan::new(EU, eu, &self.audit, &[mirrored(US, &self.orders)]),
        ]
    }

    /// Where each stream arrives, without mirrors.
    pub(crate) fn local_streams(&self) -> Streams {
        let billing = |region, topic: &str| place(region, topic, &self.billing);
        let (in_us, in_eu) = (billing(US, &self.orders), billing(EU, &self.orders));
        streams(&[
            ("orders-us", &[in_us]),
            ("orders-eu", std::slice::from_ref(&in_eu)),
            ("orders-away", std::slice::from_ref(&in_eu)),
            ("payments", &[billing(EU, &self.payments)]),
        ])
    }

    /// Where each stream arrives, mirrors included.
    pub(crate) fn mirrored_streams(&self) -> Streams {
        let audit = |region, topic: String| place(region, &topic, &self.audit);
        let mut streams = self.local_streams();
        let mirrors = [
            ("orders-us", audit(EU, format!("{US}.{}", self.orders))),
            ("orders-eu", audit(US, format!("{EU}.{}", self.orders))),
            ("orders-away", audit(US, format!("{EU}.{}", self.orders))),
            ("payments", audit(US, format!("{EU}.{}", self.payments))),
        ];
        for (stream, place) in mirrors {
            streams.entry(stream.to_owned()).or_default().insert(place);
        }
        streams
    }
}
