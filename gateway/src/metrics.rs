//! Every metric of the publishing side of the gateway, with its help and unit.
//! Those of subscriptions stand with their module; those of brokers are the
//! broker crate's.
//!
//! What holds: labels come from closed sets (outcomes, codes, ports, limits) or
//! from configuration (peers, rules, bounded), never from events.

use meridian_runtime::{BoundedFamily, Metrics, OVERFLOW, RegisterError, latency_histogram};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// The most rules that have a counter of their own.
const MAX_RULE_LABELS: usize = 1_000;

/// One label, such as `outcome="stored"`.
pub type Label = [(&'static str, String); 1];
/// One label of a closed set.
pub type FixedLabel = [(&'static str, &'static str); 1];

/// The metrics of one gateway; clones share them.
#[derive(Clone, Debug)]
pub struct GatewayMetrics {
    /// Events by outcome.
    pub stored_events: Counter,
    /// Events surely not stored.
    pub refused_events: Counter,
    /// Events that may be stored.
    pub unknown_events: Counter,
    /// Events without a receipt, by fault code.
    pub faults: Family<FixedLabel, Counter>,
    /// Bytes of the events that were taken in.
    pub received_bytes: Counter,
    /// From a batch's arrival to the outcome of its last event.
    pub publish_seconds: Histogram,
    /// Publish streams open.
    pub publish_streams: Gauge,
    /// Unary publishes and stream batches in flight.
    pub requests_in_flight: Gauge,
    /// Bytes of events in flight.
    pub bytes_in_flight: Gauge,
    /// How often a limit was hit.
    pub limits_hit: Family<FixedLabel, Counter>,
    /// Events by the rule that routed them.
    pub routed_events: BoundedFamily<Label, Counter>,
    /// The revision of the rules in force.
    pub rules_revision: Gauge,
    /// Rules in force.
    pub rules: Gauge,
    /// Rule documents that were refused.
    pub rules_refused: Counter,
    /// Events sent to the gateways of other regions, by region.
    pub forwarded_events: BoundedFamily<Label, Counter>,
    /// Connections open, by port.
    pub connections: Family<FixedLabel, Gauge>,
    /// Connections that ended at once: garbage, too many, too slow.
    pub connections_refused: Family<FixedLabel, Counter>,
    /// Times that the kernel gave no connection, such as for want of files.
    pub accept_failures: Counter,
    /// Topics of the rules that could not be made yet.
    pub topics_missing: Gauge,
}

impl GatewayMetrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// [`RegisterError`] when a name is taken, as by a second gateway on the same
    /// registry.
    pub fn register(metrics: &Metrics) -> Result<Self, RegisterError> {
        let registry = metrics.sub_registry("meridian_gateway");
        let events: Family<FixedLabel, Counter> = Family::default();
        registry.register(
            "published_events",
            "Events by outcome: stored, refused, unknown",
            events.clone(),
        )?;
        let outcome = |name| events.get_or_create_owned(&[("outcome", name)]);
        let routed_events = registry.register_bounded(
            "routed_events",
            "Events by the rule that routed them",
            MAX_RULE_LABELS,
            [("rule", OVERFLOW.to_owned())],
            Counter::default,
        )?;
        let forwarded_events = registry.register_bounded(
            "forwarded_events",
            "Events sent to the gateways of other regions",
            MAX_RULE_LABELS,
            [("peer", OVERFLOW.to_owned())],
            Counter::default,
        )?;
        let publish_seconds = latency_histogram();
        registry.register(
            "publish_seconds",
            "From a batch's arrival to the outcome of its last event",
            publish_seconds.clone(),
        )?;
        Ok(Self {
            stored_events: outcome("stored"),
            refused_events: outcome("refused"),
            unknown_events: outcome("unknown"),
            faults: take(&registry, "publish_faults", "Events without a receipt, by fault code")?,
            received_bytes: take(&registry, "received_bytes", "Bytes of the events that were taken in")?,
            publish_seconds,
            publish_streams: take(&registry, "publish_streams", "Publish streams open")?,
            requests_in_flight: take(
                &registry,
                "publish_requests_in_flight",
                "Unary publishes and stream batches in flight",
            )?,
            bytes_in_flight: take(&registry, "publish_in_flight_bytes", "Bytes of events in flight")?,
            limits_hit: take(
                &registry,
                "limits_hit",
                "How often a limit refused or held up a publisher, by limit",
            )?,
            routed_events,
            rules_revision: take(&registry, "rules_revision", "The revision of the rules in force")?,
            rules: take(&registry, "rules", "Rules in force")?,
            rules_refused: take(&registry, "rules_refused", "Rule documents that were refused")?,
            forwarded_events,
            connections: take(&registry, "connections", "Connections open, by port")?,
            connections_refused: take(&registry, "connections_refused", "Connections ended at once, by reason")?,
            accept_failures: take(&registry, "accept_failures", "Times that the kernel gave no connection")?,
            topics_missing: take(
                &registry,
                "topics_missing",
                "Topics of the rules that could not be made yet",
            )?,
        })
    }
}

/// Registers a metric that begins at its default.
pub(crate) fn take<M>(registry: &Metrics, name: &str, help: &str) -> Result<M, RegisterError>
where
    M: prometheus_client::registry::Metric + Clone + Default,
{
    let metric = M::default();
    registry.register(name, help, metric.clone())?;
    Ok(metric)
}
