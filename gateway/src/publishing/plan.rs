//! What publishing needs of a table beside the table: each rule's receipt, encoded
//! once, and its counter. Made once a revision, so that a batch allocates neither.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;

use super::receipt::ReceiptTemplate;
use crate::delay::Bucket;
use crate::idempotence::Windows;
use crate::metrics::GatewayMetrics;
use crate::routing::{RouteTable, RuleBook};

/// A table and what is derived from it. Counters stand in the order of the table's
/// rules; templates too, and after them those of events that wait, by bucket.
pub struct Plan {
    table: Arc<RouteTable>,
    templates: Arc<[ReceiptTemplate]>,
    routed: Vec<Counter>,
    /// How long events of each rule are remembered; empty where none are.
    windows: Vec<Option<Duration>>,
}

/// The plan of the table in force.
pub struct Plans {
    book: Arc<RuleBook>,
    metrics: GatewayMetrics,
    windows: Option<Arc<Windows>>,
    latest: ArcSwap<Plan>,
}

impl Plan {
    /// The plan of a table.
    pub fn new(table: Arc<RouteTable>, metrics: &GatewayMetrics, windows: Option<&Windows>) -> Self {
        let context = table.context();
        let template = |rule_index: usize, bucket: Option<Bucket>| {
            let rule = &table.rules()[rule_index];
            let broker = &context.brokers[table.broker_index(rule_index)];
            ReceiptTemplate::new(
                context.region.as_str(),
                broker.name.as_str(),
                bucket
                    .map_or_else(|| rule.topic.to_string(), Bucket::topic_name)
                    .as_str(),
                broker.durability,
                &rule.name,
                table.revision(),
            )
        };
        let counter = |name: &str| {
            metrics
                .routed_events
                .get_or_create(&[("rule", name.to_owned())])
                .clone()
        };
        let buckets = std::iter::once(None).chain(Bucket::ALL.map(Some));
        let rules = 0..table.rules().len();
        Self {
            windows: windows.map_or_else(Vec::new, |windows| {
                table
                    .rules()
                    .iter()
                    .map(|rule| windows.window_of(&rule.topic))
                    .collect()
            }),
            templates: buckets
                .flat_map(|bucket| rules.clone().map(move |rule_index| (rule_index, bucket)))
                .map(|(rule_index, bucket)| template(rule_index, bucket))
                .collect(),
            routed: table.rules().iter().map(|rule| counter(&rule.name)).collect(),
            table,
        }
    }

    /// The table.
    pub fn table(&self) -> &RouteTable {
        &self.table
    }

    /// Index of the receipt of a rule's events, at once or by way of a bucket.
    pub fn template(&self, rule_index: usize, bucket: Option<Bucket>) -> u32 {
        let before = bucket.map_or(0, |bucket| bucket.index() + 1);
        // Rules are fewer than fill it.
        u32::try_from(before * self.table.rules().len() + rule_index).unwrap_or(u32::MAX)
    }

    /// The receipts of events that this region stores: see [`Plan::template`].
    pub fn templates(&self) -> &Arc<[ReceiptTemplate]> {
        &self.templates
    }

    /// How long events of a rule are remembered, if they are.
    pub fn window(&self, rule_index: usize) -> Option<Duration> {
        self.windows.get(rule_index).copied().flatten()
    }

    /// Counts events of a rule.
    pub fn count(&self, rule_index: usize, events: u64) {
        self.routed[rule_index].inc_by(events);
    }
}

impl Plans {
    /// Plans of the tables of `book`.
    pub fn new(book: Arc<RuleBook>, metrics: GatewayMetrics, windows: Option<Arc<Windows>>) -> Self {
        let latest = ArcSwap::from_pointee(Plan::new(book.current(), &metrics, windows.as_deref()));
        Self {
            book,
            metrics,
            windows,
            latest,
        }
    }

    /// The plan of the table in force.
    pub fn current(&self) -> Arc<Plan> {
        let latest = self.latest.load();
        let table = self.book.current();
        if Arc::ptr_eq(&latest.table, &table) {
            return Arc::clone(&latest);
        }
        // Several may make it at once after a change, each for its own batch.
        let plan = Arc::new(Plan::new(table, &self.metrics, self.windows.as_deref()));
        self.latest.store(Arc::clone(&plan));
        plan
    }
}
