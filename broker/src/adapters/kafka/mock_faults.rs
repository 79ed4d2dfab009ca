//! Leaders that are lost and requests that fail in the middle, over librdkafka's
//! mock cluster: it keeps records in memory, so nothing here is about durability.
//!
//! A real cluster cannot be told to lose the leader of one partition, nor to fail
//! one request in twenty.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_runtime::SystemClock;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::appender::KafkaAppender;
use super::cluster::Cluster;
use super::config::KafkaConfig;
use super::tests::{Mock, PATIENCE, admit, append, mock, open, record};
use crate::append::{Admission, AppendOutcome};
use crate::error::Stored;
use crate::partitioner::partition_for;

const PARTITIONS: u32 = 3;
/// Within it a client that lost a leader must take records for it again.
const RECOVERED: Duration = Duration::from_secs(15);

fn key_of(partition: u32) -> String {
    let mut keys = (0..).map(|number| format!("key-{number}"));
    keys.find(|key| partition_for(key.as_bytes(), PARTITIONS) == partition)
        .unwrap()
}

async fn append_one(appender: &KafkaAppender, partition: u32) -> bool {
    let outcomes = append(appender, vec![record(&key_of(partition))]).await;
    outcomes[0].is_ok()
}

/// Appends to the good partition until the other one takes a record; how long that took.
async fn until_taken(appender: &KafkaAppender, good: u32, bad: u32) -> Duration {
    let began = Instant::now();
    while !append_one(appender, bad).await {
        assert!(began.elapsed() < RECOVERED, "partition {bad} takes nothing");
        assert!(append_one(appender, good).await, "the others do not flow");
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_leader_comes_back_takes_records_again_and_the_others_never_stop() {
    let (mock, mut config) = mock("orders");
    // The mock answers the newer requests with who leads instead, and falls over when nobody does.
    mock.apiversion(RDKafkaApiKey::Produce, Some(0), Some(9)).unwrap();
    config.delivery_timeout = Some(Duration::from_secs(1));
    let appender = open(config);
    for partition in 0..PARTITIONS {
        assert!(append_one(&appender, partition).await);
    }
    mock.partition_leader("orders", 1, None).unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        assert!(append_one(&appender, 0).await, "the others flow");
        assert!(!append_one(&appender, 1).await, "nobody leads it");
    }
    mock.partition_leader("orders", 1, Some(1)).unwrap();
    until_taken(&appender, 2, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_one_partition_stands_still_for_is_opened_anew() {
    let mock: Mock = MockCluster::new(2).unwrap();
    mock.create_topic("orders", PARTITIONS as i32, 1).unwrap();
    for (partition, leader) in [(0, 1), (1, 2), (2, 1)] {
        mock.partition_leader("orders", partition, Some(leader)).unwrap();
    }
    let servers = mock.bootstrap_servers();
    let first = servers.split(',').next().unwrap().to_owned();
    let mut config = KafkaConfig::new(vec![first]);
    config.delivery_timeout = Some(Duration::from_secs(4));
    let cluster = Cluster::open(config, SystemClock::shared()).unwrap();
    let appender = KafkaAppender::open(&cluster).unwrap();
    for partition in 0..PARTITIONS {
        assert!(append_one(&appender, partition).await);
    }
    let before = appender.current_session();
    // The cluster names a leader, and librdkafka gets nothing there.
    mock.broker_down(2).unwrap();
    let began = Instant::now();
    let mut refused = 0;
    while cluster.rebuilds() == 0 {
        assert!(began.elapsed() < RECOVERED, "nobody noticed");
        let others = append_one(&appender, 0);
        let (flows, taken) = tokio::join!(others, append_one(&appender, 1));
        assert!(flows || cluster.rebuilds() > 0, "the others flow");
        refused += u32::from(!taken);
    }
    assert!(refused > 0 && before.is_dead());
    mock.partition_leader("orders", 1, Some(1)).unwrap();
    until_taken(&appender, 2, 1).await;
    assert!(!Arc::ptr_eq(&before, &appender.current_session()));
    assert_eq!(cluster.rebuilds(), 1, "once is enough");
}

/// librdkafka 2.12 forgets all brokers when a metadata response names none, and never
/// asks its first addresses again. No test can make a broker say so; an upgrade must look at it.
#[test]
fn librdkafka_is_older_than_the_one_that_forgets_its_brokers() {
    // SAFETY: reads a constant.
    let version = unsafe { rdkafka_sys::rd_kafka_version() };
    assert!(version < 0x020c_0000, "{version:08x}");
}

/// Two keys a partition, in one line each.
async fn publish_in_order(appender: &KafkaAppender, mock: &Mock, records: usize, seed: u64) -> Vec<Admission> {
    const PASSING: [RDKafkaRespErr; 3] = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
    ];
    const NONE: RDKafkaRespErr = RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
    let mut random = StdRng::seed_from_u64(seed);
    let faults: Vec<RDKafkaRespErr> = (0..records / 10)
        .map(|_| match random.random_range(0..20) {
            0 => PASSING[random.random_range(0..PASSING.len())],
            _ => NONE,
        })
        .collect();
    assert!(faults.iter().any(|fault| *fault != NONE), "seed {seed} makes no fault");
    mock.request_errors(RDKafkaApiKey::Produce, &faults);
    let mut admissions = Vec::new();
    for number in 0..records / 10 {
        let batch = (0..10).map(|at| record(&key_of((number + at) as u32 % PARTITIONS)));
        admissions.push(admit(appender, batch.collect()).await);
    }
    admissions
}

#[tokio::test(flavor = "multi_thread")]
async fn produce_errors_in_the_middle_neither_double_nor_reorder() {
    let (mock, mut config) = mock("orders");
    config.delivery_timeout = Some(PATIENCE);
    // So few that records wait for room all the time.
    config.max_in_flight_records = 100;
    let appender = open(config);
    assert!(append_one(&appender, 0).await);
    let admissions = publish_in_order(&appender, &mock, 3_000, 19).await;
    let mut next = HashMap::from([(0_u32, 1_u64)]); // the record before
    let (mut stored, mut unknown) = (1, 0);
    for admission in admissions {
        assert!(admission.refused.is_empty(), "{:?}", admission.refused);
        let outcomes: Vec<AppendOutcome> = tokio::time::timeout(PATIENCE, admission.commit).await.unwrap();
        for outcome in outcomes {
            let at = match outcome {
                Ok(at) => at,
                Err(error) => {
                    // A retry that the broker has seen before, and does not say where.
                    assert_eq!(error.stored, Stored::Unknown, "every fault of these passes: {error}");
                    unknown += 1;
                    continue;
                }
            };
            let expected = next.entry(at.partition).or_default();
            assert!(
                at.position >= *expected,
                "partition {} doubled or reordered",
                at.partition
            );
            *expected = at.position + 1;
            stored += 1;
        }
    }
    let kept = next.values().sum::<u64>();
    assert!(
        kept <= stored + unknown,
        "{kept} are kept of {stored} stored and {unknown} unknown"
    );
    assert!(stored > 2_900, "{stored} stored, {unknown} unknown");
}
