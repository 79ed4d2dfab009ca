//! Lag by group and partition as gauges, for every kind of broker: of groups that this gateway reads from what it
//! holds, of groups that it has read and does not read now from the broker.
//!
//! What holds: label sets are bounded; a partition that is another gateway's now has no gauges here; what is not known
//! has no gauge rather than a wrong one. Two gateways may both tell of a group that one of them reads no more: the
//! greatest of a series is right.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use meridian_broker::{AdminErrorKind, PartitionLag, PartitionPosition, TopicPartition};
use meridian_runtime::{BoundedFamily, Metrics, OVERFLOW, RegisterError};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Metric;
use tokio_util::sync::CancellationToken;

use super::info::lag;
use super::metrics::gauge;
use super::registry::Subscriptions;
use super::terms::GroupKey;

/// The most partitions, over all groups, that have gauges of their own.
const MAX_PARTITION_LABELS: usize = 10_000;
/// The most groups that are remembered when they are not being read.
const MAX_GROUPS: usize = 1_000;

type Labels = [(&'static str, String); 4];
type Seconds = Gauge<f64, AtomicU64>;

/// What is told of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    partition: TopicPartition,
    lag: u64,
    settled_beyond: u64,
    /// The time of the oldest record that is not settled, if that is known.
    oldest_ms: Option<i64>,
}

/// The gauges of all groups.
#[derive(Debug)]
pub(super) struct LagBoard {
    messages: BoundedFamily<Labels, Gauge>,
    seconds: BoundedFamily<Labels, Seconds>,
    settled_beyond: BoundedFamily<Labels, Gauge>,
    oldest: BoundedFamily<Labels, Seconds>,
    /// As dashboards of Kafka know it.
    kafka: Option<BoundedFamily<Labels, Gauge>>,
    shown: Mutex<BTreeMap<GroupKey, Vec<TopicPartition>>>,
}

impl LagBoard {
    pub(super) fn register(metrics: &Metrics, kafka_alias: bool) -> Result<Self, RegisterError> {
        let group = metrics.sub_registry("meridian_group");
        let kafka = match kafka_alias {
            true => Some(by_partition(
                &metrics.sub_registry("kafka_consumergroup"),
                "lag",
                "Records not settled, under the name that dashboards of Kafka use",
                "consumergroup",
            )?),
            false => None,
        };
        Ok(Self {
            messages: by_partition(&group, "lag_messages", "Records not settled", "group")?,
            seconds: by_partition(
                &group,
                "lag_seconds",
                "Age of the oldest record that is not settled; 0 when there is none",
                "group",
            )?,
            settled_beyond: by_partition(
                &group,
                "settled_beyond",
                "Records settled out of order, beyond the settled position",
                "group",
            )?,
            oldest: by_partition(
                &group,
                "oldest_unsettled_timestamp_seconds",
                "Time of the oldest record that is not settled, since the Unix epoch",
                "group",
            )?,
            kafka,
            shown: Mutex::default(),
        })
    }

    /// What a group's task knows of the partitions that it has.
    pub(super) fn show_held(
        &self,
        key: &GroupKey,
        positions: &[PartitionPosition],
        oldest: &HashMap<TopicPartition, i64>,
        now_ms: i64,
    ) {
        let standing = |position: &PartitionPosition| Standing {
            partition: position.partition.clone(),
            lag: lag(position),
            settled_beyond: position.settled_beyond,
            oldest_ms: oldest.get(&position.partition).copied(),
        };
        self.show(key, positions.iter().map(standing).collect(), now_ms);
    }

    /// What a broker tells of a group.
    fn show_told(&self, key: &GroupKey, partitions: &[PartitionLag], now_ms: i64) {
        let standing = |partition: &PartitionLag| Standing {
            partition: partition.partition.clone(),
            lag: partition.lag(),
            settled_beyond: partition.settled_beyond,
            oldest_ms: partition.oldest_unsettled.map(|time| {
                let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }),
        };
        self.show(key, partitions.iter().map(standing).collect(), now_ms);
    }

    fn show(&self, key: &GroupKey, standings: Vec<Standing>, now_ms: i64) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if !shown.contains_key(key) && shown.len() >= MAX_GROUPS {
            return; // the others keep theirs
        }
        let partitions = standings.iter().map(|standing| standing.partition.clone()).collect();
        let before = shown.insert(key.clone(), partitions).unwrap_or_default();
        for gone in before {
            if !standings.iter().any(|standing| standing.partition == gone) {
                self.forget(key, &gone);
            }
        }
        for standing in standings {
            self.show_one(key, &standing, now_ms);
        }
    }

    fn show_one(&self, key: &GroupKey, standing: &Standing, now_ms: i64) {
        let labels = labels("group", key, &standing.partition);
        self.messages.get_or_create(&labels).set(gauge(standing.lag));
        self.settled_beyond
            .get_or_create(&labels)
            .set(gauge(standing.settled_beyond));
        let seconds = |millis: i64| millis as f64 / 1_000.0;
        match standing.oldest_ms {
            Some(oldest_ms) => {
                self.oldest.get_or_create(&labels).set(seconds(oldest_ms));
                let age_ms = now_ms.saturating_sub(oldest_ms).max(0);
                self.seconds.get_or_create(&labels).set(seconds(age_ms));
            }
            None => {
                self.oldest.remove(&labels);
                match standing.lag {
                    0 => drop(self.seconds.get_or_create(&labels).set(0.0)),
                    _ => self.seconds.remove(&labels),
                }
            }
        }
        if let Some(kafka) = &self.kafka {
            let labels = self::labels("consumergroup", key, &standing.partition);
            kafka.get_or_create(&labels).set(gauge(standing.lag));
        }
    }

    fn forget(&self, key: &GroupKey, partition: &TopicPartition) {
        let labels = labels("group", key, partition);
        self.messages.remove(&labels);
        self.settled_beyond.remove(&labels);
        self.seconds.remove(&labels);
        self.oldest.remove(&labels);
        if let Some(kafka) = &self.kafka {
            kafka.remove(&self::labels("consumergroup", key, partition));
        }
    }

    /// A group is gone from the broker.
    pub(super) fn remove(&self, key: &GroupKey) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in shown.remove(key).unwrap_or_default() {
            self.forget(key, &partition);
        }
    }

    fn groups(&self) -> Vec<GroupKey> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.keys().cloned().collect()
    }
}

fn labels(group: &'static str, key: &GroupKey, partition: &TopicPartition) -> Labels {
    [
        ("broker", key.broker.to_string()),
        (group, key.group.to_string()),
        ("topic", partition.topic.to_string()),
        ("partition", partition.partition.to_string()),
    ]
}

fn by_partition<M>(
    registry: &Metrics,
    name: &str,
    help: &str,
    group: &'static str,
) -> Result<BoundedFamily<Labels, M>, RegisterError>
where
    M: Metric + Clone + Default,
    Family<Labels, M, fn() -> M>: Metric,
{
    let overflow = ["broker", group, "topic", "partition"].map(|label| (label, OVERFLOW.to_owned()));
    registry.register_bounded(name, help, MAX_PARTITION_LABELS, overflow, M::default)
}

/// Keeps the gauges of groups that were read here and are not now, as long as their broker knows them.
pub(crate) async fn watch_idle_groups(subscriptions: Arc<Subscriptions>, every: Duration, stop: CancellationToken) {
    let mut look = tokio::time::interval(every);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = look.tick() => {}
        }
        let board = subscriptions.lag_board();
        for key in board.groups() {
            if stop.is_cancelled() {
                return;
            }
            if subscriptions.is_read_here(&key) {
                continue;
            }
            let Some(broker) = subscriptions.brokers().get(key.broker.as_str()) else {
                continue;
            };
            match broker.admin().describe_group(&key.group).await {
                // Read here again meanwhile, it is the task's to tell.
                Ok(_) if subscriptions.is_read_here(&key) => {}
                Ok(group) => board.show_told(&key, &group.partitions, subscriptions.wall_millis()),
                Err(error) if error.kind == AdminErrorKind::GroupNotFound => board.remove(&key),
                Err(error) => tracing::debug!(group = %key, %error, "the lag of an idle group is not known"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use meridian_broker::{BrokerName, GroupName, TopicName};

    use super::*;

    fn position(partition: u32, settled: u64, beyond: u64, end: u64) -> PartitionPosition {
        PartitionPosition {
            partition: of(partition),
            settled_position: settled,
            settled_beyond: beyond,
            end_position: end,
        }
    }

    fn of(partition: u32) -> TopicPartition {
        TopicPartition {
            topic: TopicName::new("orders").unwrap(),
            partition,
        }
    }

    #[test]
    fn gauges_follow_the_partitions_that_are_held() {
        let metrics = Metrics::new([("region", "r")]);
        let board = LagBoard::register(&metrics, true).unwrap();
        let key = GroupKey {
            broker: BrokerName::new("main").unwrap(),
            group: GroupName::new("billing").unwrap(),
        };
        let oldest = HashMap::from([(of(0), 4_500)]);
        let both = [position(0, 3, 2, 10), position(1, 7, 0, 7)];
        board.show_held(&key, &both, &oldest, 6_000);
        let line = |name: &str, partition: u32, label: &str| {
            let labels =
                format!("region=\"r\",broker=\"main\",{label}=\"billing\",topic=\"orders\",partition=\"{partition}\"");
            let text = metrics.encode().unwrap();
            let start = format!("{name}{{{labels}}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            line.map(|value| value.parse::<f64>().unwrap())
        };
        assert_eq!(line("meridian_group_lag_messages", 0, "group"), Some(5.0));
        assert_eq!(line("kafka_consumergroup_lag", 0, "consumergroup"), Some(5.0));
        assert_eq!(line("meridian_group_settled_beyond", 0, "group"), Some(2.0));
        assert_eq!(line("meridian_group_lag_seconds", 0, "group"), Some(1.5));
        let oldest_name = "meridian_group_oldest_unsettled_timestamp_seconds";
        assert_eq!(line(oldest_name, 0, "group"), Some(4.5));
        assert_eq!(line("meridian_group_lag_messages", 1, "group"), Some(0.0));
        assert_eq!(line("meridian_group_lag_seconds", 1, "group"), Some(0.0));
        assert_eq!(line(oldest_name, 1, "group"), None, "nothing waits");

        // The other one is another gateway's now, and of this one nothing is held yet.
        board.show_held(&key, &both[..1], &HashMap::new(), 7_000);
        assert_eq!(line("meridian_group_lag_messages", 1, "group"), None);
        assert_eq!(line("kafka_consumergroup_lag", 1, "consumergroup"), None);
        assert_eq!(line("meridian_group_lag_messages", 0, "group"), Some(5.0));
        assert_eq!(line("meridian_group_lag_seconds", 0, "group"), None, "not known");
        board.remove(&key);
        assert!(!metrics.encode().unwrap().contains("billing"));
    }

    #[test]
    fn the_alias_can_be_left_out() {
        let metrics = Metrics::new([("region", "r")]);
        LagBoard::register(&metrics, false).unwrap();
        assert!(!metrics.encode().unwrap().contains("kafka_consumergroup"));
    }
}
