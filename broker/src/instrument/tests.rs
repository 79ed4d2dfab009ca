//! The decorator counts what passes and changes none of it. A broker of a few lines
//! stands behind it, for what is told must be known to the number.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use meridian_event::{Binding, Record};
use meridian_runtime::clock::ManualClock;
use meridian_runtime::metrics::Metrics;

use super::*;
use crate::append::{Admission, AppendRecord, Commit, CommitSender, Position, RefusedRecord};
use crate::error::{AppendError, AppendErrorKind, SettleError};
use crate::name::{BrokerName, RegionName, TopicPartition};
use crate::read::{Claim, Gap, PartitionPosition, ReadEvent, ReadRecord, ReaderState, Settler};
use crate::seam::{BrokerKind, Durability};

/// Refuses a record without a value, and leaves each commit to the test.
struct FakeBroker {
    profile: BrokerProfile,
    available: AtomicBool,
    parts: Arc<FakeParts>,
}

#[derive(Default)]
struct FakeParts {
    commits: Mutex<Vec<CommitSender>>,
    events: Mutex<Vec<ReadEvent>>,
    /// An administrative call never ends while this is set.
    silent: AtomicBool,
}

fn topic() -> TopicName {
    TopicName::new("orders").unwrap()
}

fn append(value: Option<&'static str>) -> AppendRecord {
    let record = Record {
        value: value.map(Into::into),
        ..Record::default()
    };
    AppendRecord {
        topic: topic(),
        partition: None,
        record,
    }
}

fn claim(position: u64) -> Claim {
    Claim {
        partition: TopicPartition {
            topic: topic(),
            partition: 0,
        },
        generation: 1,
        position,
    }
}

#[async_trait]
impl Appender for FakeParts {
    async fn admit(&self, batch: Vec<AppendRecord>, _deadline: Instant) -> Admission {
        let mut refused = Vec::new();
        let mut admitted = 0;
        for (index, record) in batch.into_iter().enumerate() {
            if record.record.value.is_some() {
                admitted += 1;
            } else {
                let error = AppendError::refused(AppendErrorKind::Overloaded, "full");
                refused.push(RefusedRecord { index, record, error });
            }
        }
        if admitted == 0 {
            return Admission {
                refused,
                commit: Commit::empty(),
            };
        }
        let (sender, commit) = Commit::pair(admitted);
        self.commits.lock().unwrap().push(sender);
        Admission { refused, commit }
    }

    async fn flush(&self, _deadline: Instant) -> bool {
        true
    }
}

#[async_trait]
impl Admin for FakeParts {
    async fn create_topic(&self, _: &TopicSpec) -> Result<TopicDescription, AdminError> {
        Err(AdminError::new(AdminErrorKind::AlreadyExists, "there"))
    }

    async fn delete_topic(&self, _: &TopicName) -> Result<(), AdminError> {
        Ok(())
    }

    async fn list_topics(&self) -> Result<Vec<TopicDescription>, AdminError> {
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(Vec::new())
    }

    async fn describe_topic(&self, _: &TopicName) -> Result<TopicDescription, AdminError> {
        Err(AdminError::new(AdminErrorKind::TopicNotFound, "gone"))
    }

    async fn list_groups(&self) -> Result<Vec<GroupName>, AdminError> {
        Ok(Vec::new())
    }

    async fn describe_group(&self, _: &GroupName) -> Result<GroupDescription, AdminError> {
        Err(AdminError::new(AdminErrorKind::GroupNotFound, "gone"))
    }

    async fn grow_topic(&self, _: &TopicName, _: u32) -> Result<TopicDescription, AdminError> {
        Err(AdminError::new(AdminErrorKind::TopicNotFound, "gone"))
    }

    async fn reset_group(&self, _: &GroupName, _: &GroupReset) -> Result<Vec<PartitionLag>, AdminError> {
        Err(AdminError::new(AdminErrorKind::GroupActive, "busy"))
    }

    async fn delete_group(&self, _: &GroupName) -> Result<(), AdminError> {
        Ok(())
    }
}

struct FakeReader(Arc<FakeParts>);

#[async_trait]
impl Reader for FakeReader {
    async fn next(&mut self) -> Result<ReadEvent, ReadError> {
        let event = self.0.events.lock().unwrap().pop();
        match event {
            Some(event) => Ok(event),
            None => std::future::pending().await,
        }
    }

    fn settler(&self) -> Arc<dyn Settler> {
        Arc::clone(&self.0) as Arc<dyn Settler>
    }

    async fn close(self: Box<Self>, _limit: Duration) -> Result<(), ReadError> {
        Ok(())
    }
}

#[async_trait]
impl Settler for FakeParts {
    fn settle(&self, claim: &Claim) -> Result<(), SettleError> {
        if claim.position == 0 {
            Ok(())
        } else {
            Err(SettleError::Stale)
        }
    }

    fn release(&self, _claim: &Claim) -> Result<(), SettleError> {
        Ok(())
    }

    async fn commit(&self, _limit: Duration) -> Result<(), ReadError> {
        Ok(())
    }

    fn positions(&self) -> Vec<PartitionPosition> {
        Vec::new()
    }

    fn state(&self) -> ReaderState {
        ReaderState::NotReading {
            since: SystemTime::UNIX_EPOCH,
            reason: "away".to_owned(),
        }
    }
}

#[async_trait]
impl Broker for FakeBroker {
    fn profile(&self) -> &BrokerProfile {
        &self.profile
    }

    fn state(&self) -> BrokerState {
        if self.available.load(Ordering::SeqCst) {
            return BrokerState::Available;
        }
        BrokerState::Unavailable {
            since: SystemTime::UNIX_EPOCH,
            reason: "away".to_owned(),
        }
    }

    async fn identity(&self) -> Result<BrokerIdentity, AdminError> {
        Ok(BrokerIdentity("fake".to_owned()))
    }

    fn appender(&self) -> Arc<dyn Appender> {
        Arc::clone(&self.parts) as Arc<dyn Appender>
    }

    async fn open_reader(&self, _: ReaderOptions) -> Result<Box<dyn Reader>, ReadError> {
        Ok(Box::new(FakeReader(Arc::clone(&self.parts))))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        Arc::clone(&self.parts) as Arc<dyn Admin>
    }

    async fn close(&self, _limit: Duration) {}
}

struct Case {
    metrics: Metrics,
    clock: Arc<ManualClock>,
    fake: Arc<FakeBroker>,
    broker: Arc<dyn Broker>,
}

fn case() -> Case {
    let metrics = Metrics::new([("region", "us-east")]);
    let clock = Arc::new(ManualClock::new(0));
    let kind = BrokerKind::Embedded;
    let fake = Arc::new(FakeBroker {
        profile: BrokerProfile {
            region: RegionName::new("us-east").unwrap(),
            name: BrokerName::new("main").unwrap(),
            kind,
            capabilities: kind.capabilities(),
            binding: Binding::default(),
            durability: Durability::Fsynced,
            max_record_bytes: 1024,
        },
        available: AtomicBool::new(true),
        parts: Arc::default(),
    });
    let registered = BrokerMetrics::register(&metrics).unwrap();
    let inner = Arc::clone(&fake) as Arc<dyn Broker>;
    let broker = instrument(inner, &registered, Arc::clone(&clock) as SharedClock);
    Case {
        metrics,
        clock,
        fake,
        broker,
    }
}

impl Case {
    /// The value of a series of this broker, by the end of its name and its own labels.
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.metrics.encode().unwrap();
        let matches = |line: &&str| {
            line.split('{').next() == Some(&format!("meridian_broker_{name}"))
                && line.contains(r#"broker="main""#)
                && labels
                    .iter()
                    .all(|(label, value)| line.contains(&format!(r#"{label}="{value}""#)))
        };
        let found: Vec<_> = text.lines().filter(matches).collect();
        assert_eq!(found.len(), 1, "{name} {labels:?} in:\n{text}");
        found[0].rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn outcome(&self, outcome: &str, kind: &str) -> f64 {
        self.value("append_outcomes_total", &[("outcome", outcome), ("kind", kind)])
    }

    async fn admit(&self, batch: Vec<AppendRecord>) -> Admission {
        self.broker.appender().admit(batch, Instant::now()).await
    }

    fn resolve(&self, outcomes: Vec<crate::AppendOutcome>) {
        self.fake.parts.commits.lock().unwrap().remove(0).resolve(outcomes);
    }
}

fn stored() -> crate::AppendOutcome {
    Ok(Position {
        partition: 0,
        position: 7,
    })
}

#[tokio::test]
async fn every_record_is_counted_once_by_what_became_of_it() {
    let case = case();
    let batch = vec![append(Some("ab")), append(None), append(Some("cde")), append(Some("f"))];
    let admission = case.admit(batch).await;
    assert_eq!(admission.refused.len(), 1);
    assert_eq!(admission.refused[0].index, 1);
    assert_eq!(case.value("admitted_records_total", &[]), 3.0);
    assert_eq!(case.value("admitted_bytes_total", &[]), 6.0);
    assert_eq!(case.value("in_flight_records", &[]), 3.0);
    assert_eq!(case.value("in_flight_bytes", &[]), 6.0);
    assert_eq!(case.outcome("refused", "BROKER_OVERLOADED"), 1.0);

    case.clock.advance(Duration::from_secs(2));
    let unknown = AppendError::unknown(AppendErrorKind::DeadlineExceeded, "late");
    let refused = AppendError::refused(AppendErrorKind::TopicNotFound, "gone");
    case.resolve(vec![stored(), Err(unknown), Err(refused)]);
    let outcomes = admission.commit.await;
    assert_eq!(outcomes.len(), 3);
    assert_eq!(outcomes[0].as_ref().unwrap().position, 7);
    assert_eq!(case.outcome("stored", "NONE"), 1.0);
    assert_eq!(case.outcome("unknown", "APPEND_DEADLINE_EXCEEDED"), 1.0);
    assert_eq!(case.outcome("refused", "TOPIC_NOT_FOUND"), 1.0);
    assert_eq!(case.value("stored_bytes_total", &[]), 2.0);
    assert_eq!(case.value("in_flight_records", &[]), 0.0);
    assert_eq!(case.value("in_flight_bytes", &[]), 0.0);
    assert_eq!(case.value("commit_duration_seconds_sum", &[]), 2.0);
}

#[tokio::test]
async fn a_dropped_commit_leaves_the_gauges() {
    let case = case();
    drop(case.admit(vec![append(Some("ab"))]).await);
    assert_eq!(case.value("in_flight_records", &[]), 1.0);
    case.resolve(vec![stored()]);
    let left = async {
        while case.value("in_flight_records", &[]) != 0.0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), left).await.unwrap();
    assert_eq!(case.outcome("stored", "NONE"), 1.0);
}

#[tokio::test]
async fn what_readers_tell_and_settle_is_counted() {
    let case = case();
    let group = GroupName::new("workers").unwrap();
    let options = ReaderOptions::new(group, vec![topic()]);
    let mut reader = case.broker.open_reader(options).await.unwrap();
    let record = |position, releases| {
        let record = Record {
            value: Some("abc".into()),
            ..Record::default()
        };
        ReadRecord {
            releases,
            ..ReadRecord::new(claim(position), record)
        }
    };
    let gap = Gap {
        partition: claim(0).partition,
        expected_position: 1,
        resumed_position: 5,
        missing_records: 4,
    };
    *case.fake.parts.events.lock().unwrap() = vec![
        ReadEvent::Gap(gap),
        ReadEvent::Records(vec![record(0, 0), record(1, 2), record(2, 0)]),
    ];
    assert!(matches!(reader.next().await.unwrap(), ReadEvent::Records(records) if records.len() == 3));
    assert!(matches!(reader.next().await.unwrap(), ReadEvent::Gap(_)));
    assert_eq!(case.value("read_records_total", &[("delivery", "first")]), 2.0);
    assert_eq!(case.value("read_records_total", &[("delivery", "again")]), 1.0);
    assert_eq!(case.value("read_bytes_total", &[]), 9.0);
    assert_eq!(case.value("missing_records_total", &[]), 4.0);

    let settler = reader.settler();
    settler.settle(&claim(0)).unwrap();
    assert_eq!(settler.settle(&claim(1)), Err(SettleError::Stale));
    settler.release(&claim(1)).unwrap();
    settler.commit(Duration::from_secs(1)).await.unwrap();
    for outcome in ["settled", "released", "stale"] {
        assert_eq!(
            case.value("settlements_total", &[("outcome", outcome)]),
            1.0,
            "{outcome}"
        );
    }
    assert_eq!(case.value("position_commits_total", &[("outcome", "committed")]), 1.0);
    assert_eq!(case.value("readers", &[("state", "not_reading")]), 1.0);
    drop(reader); // the settler lives on, and the reader is counted no more
    assert!(!case.metrics.encode().unwrap().contains("not_reading"));
}

#[tokio::test]
async fn availability_is_asked_for_at_the_scrape() {
    let case = case();
    assert_eq!(case.value("available", &[]), 1.0);
    case.fake.available.store(false, Ordering::SeqCst);
    assert_eq!(case.value("available", &[]), 0.0);
    let Case { metrics, broker, .. } = case;
    drop(broker);
    assert!(!metrics.encode().unwrap().contains("meridian_broker_available{"));
}

#[tokio::test(start_paused = true)]
async fn a_call_of_administration_has_a_deadline() {
    let case = case();
    let admin = case.broker.admin();
    assert_eq!(
        admin.create_topic(&TopicSpec::new(topic(), 1)).await.unwrap_err().kind,
        AdminErrorKind::AlreadyExists
    );
    assert_eq!(
        case.value(
            "admin_calls_total",
            &[("operation", "create_topic"), ("kind", "TOPIC_ALREADY_EXISTS")]
        ),
        1.0
    );
    case.fake.parts.silent.store(true, Ordering::SeqCst);
    let error = admin.list_topics().await.unwrap_err();
    assert_eq!(error.kind, AdminErrorKind::DeadlineExceeded);
    assert!(
        error.to_string().contains("main") && error.to_string().contains("list_topics"),
        "{error}"
    );
    let labels = [("operation", "list_topics"), ("kind", "ADMIN_DEADLINE_EXCEEDED")];
    assert_eq!(case.value("admin_calls_total", &labels), 1.0);
}
