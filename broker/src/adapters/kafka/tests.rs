//! Faults that a real cluster cannot be told to have, over librdkafka's mock
//! cluster: it keeps records in memory, so nothing here is about durability.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_event::Record;
use meridian_runtime::SystemClock;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::appender::KafkaAppender;
use super::cluster::Cluster;
use super::config::KafkaConfig;
use super::native::produce::librdkafka_partition;
use crate::append::{Admission, AppendOutcome, AppendRecord, Appender};
use crate::error::{AppendErrorKind, Stored};
use crate::name::TopicName;
use crate::partitioner::partition_for;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) type Mock = MockCluster<'static, DefaultProducerContext>;

pub(super) fn mock(topic: &str) -> (Mock, KafkaConfig) {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic(topic, 3, 1).unwrap();
    let servers = mock.bootstrap_servers().split(',').map(str::to_owned).collect();
    let mut config = KafkaConfig::new(servers);
    config.delivery_timeout = Some(Duration::from_secs(4));
    (mock, config)
}

pub(super) fn open(config: KafkaConfig) -> KafkaAppender {
    KafkaAppender::open(&Cluster::open(config, SystemClock::shared()).unwrap()).unwrap()
}

pub(super) fn record(key: &str) -> AppendRecord {
    let record = Record {
        key: Some(key.to_owned().into()),
        ..Record::default()
    };
    AppendRecord {
        topic: TopicName::new("orders").unwrap(),
        partition: None,
        record,
    }
}

pub(super) async fn admit(appender: &KafkaAppender, records: Vec<AppendRecord>) -> Admission {
    appender.admit(records, Instant::now() + PATIENCE).await
}

pub(super) async fn append(appender: &KafkaAppender, records: Vec<AppendRecord>) -> Vec<AppendOutcome> {
    let admission = admit(appender, records).await;
    assert!(admission.refused.is_empty(), "{:?}", admission.refused);
    tokio::time::timeout(PATIENCE, admission.commit)
        .await
        .expect("a commit did not resolve")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_producer_is_opened_anew() {
    let (_mock, config) = mock("orders");
    let appender = open(config);
    assert!(append(&appender, vec![record("a")]).await[0].is_ok());
    let dead = appender.current_session();
    dead.client().fail_fatally();
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Until the fault is noticed, records are refused; none is stored and said not to be.
        let admission = admit(&appender, vec![record("b")]).await;
        let refused = admission.refused.first().map(|refused| refused.error.stored);
        let outcomes = admission.commit.await;
        if outcomes.iter().any(Result::is_ok) {
            break;
        }
        assert!(Instant::now() < deadline, "refused {refused:?}, outcomes {outcomes:?}");
        tokio::task::yield_now().await;
    }
    assert!(dead.is_dead());
    assert!(!Arc::ptr_eq(&dead, &appender.current_session()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_of_the_broker_is_told_as_what_it_is() {
    let (mock, config) = mock("orders");
    let appender = open(config);
    assert!(append(&appender, vec![record("a")]).await[0].is_ok());
    let produce = RDKafkaApiKey::Produce;
    let passing = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION;
    mock.request_errors(produce, &[passing, passing]);
    assert!(
        append(&appender, vec![record("b")]).await[0].is_ok(),
        "what heals was given up"
    );
    mock.request_errors(produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    for key in ["c", "d"] {
        // The second is refused by librdkafka, which believes the broker for a while.
        let outcomes = append(&appender, vec![record(key)]).await;
        let error = outcomes[0].as_ref().unwrap_err();
        assert_eq!(
            (error.kind, error.stored),
            (AppendErrorKind::NotAuthorized, Stored::No),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_resolves_within_the_delivery_timeout() {
    let (mock, config) = mock("orders");
    let appender = open(config);
    assert!(append(&appender, vec![record("a")]).await[0].is_ok());
    mock.broker_down(1).unwrap();
    let asked = Instant::now();
    let outcomes = append(&appender, vec![record("b"), record("b")]).await;
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind, AppendErrorKind::DeadlineExceeded, "{error}");
        assert!(matches!(error.stored, Stored::No | Stored::Unknown));
    }
}

#[test]
fn keys_go_where_librdkafkas_own_partitioner_sends_them() {
    for number in 0..1000 {
        let key = format!("key-{number}");
        for partitions in [1, 3, 8, 100] {
            let ours = partition_for(key.as_bytes(), partitions);
            assert_eq!(
                librdkafka_partition(key.as_bytes(), partitions as i32),
                ours as i32,
                "{key}"
            );
        }
    }
}
