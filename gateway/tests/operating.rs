//! Operating groups and topics over the admin port: pauses, resets, lag, growth, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;
mod subscribe_worker;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use harness::{RULES, TestGateway, http_get, until};
use meridian_proto::meridian as proto;
use meridian_proto::meridian::SettlementAction;
use meridian_proto::meridian::operations_service_client::OperationsServiceClient;
use meridian_proto::meridian::reset_group_request::Target;
use meridian_proto::meridian::subscribe_response::Response as Heard;
use subscribe_worker::{Worker, open, orders};
use tonic::Code;
use tonic::transport::Channel;

type Operations = OperationsServiceClient<Channel>;

const ONE_SECOND_HEARTBEAT: &str = "subscriptions: { heartbeat_seconds: 1 }\n";

async fn operations(gateway: &TestGateway) -> Operations {
    OperationsServiceClient::new(gateway.admin().await)
}

fn pause(until: Option<Duration>, wait_seconds: u32) -> proto::PauseGroupRequest {
    proto::PauseGroupRequest {
        name: "billing".to_owned(),
        until: until.map(|span| (SystemTime::now() + span).into()),
        reason: "the database moves".to_owned(),
        wait_seconds,
        ..Default::default()
    }
}

fn resume() -> proto::ResumeGroupRequest {
    proto::ResumeGroupRequest {
        name: "billing".to_owned(),
        ..Default::default()
    }
}

fn reset(target: Target) -> proto::ResetGroupRequest {
    proto::ResetGroupRequest {
        name: "billing".to_owned(),
        target: Some(target),
        ..Default::default()
    }
}

fn earliest() -> Target {
    Target::Earliest(proto::EarliestTarget {})
}

async fn describe(operations: &mut Operations) -> proto::DescribeGroupResponse {
    let request = proto::DescribeGroupRequest {
        name: "billing".to_owned(),
        ..Default::default()
    };
    operations.describe_group(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_group_settles_what_is_out_reads_nothing_and_goes_on_with_nothing_lost() {
    let here = TestGateway::start("us-east", RULES, ONE_SECOND_HEARTBEAT).await;
    here.publish(orders(20, 20, 10)).await;
    let mut operations = operations(&here).await;
    let mut worker = Worker::open(here.channel().await, open("w-1", 5)).await.unwrap();
    let out = worker.next(5).await;
    let paused = operations.pause_group(pause(None, 0)).await.unwrap().into_inner();
    assert_eq!((paused.left, paused.in_flight_messages), (false, 5), "{paused:?}");

    // Workers are told; what is out is settled, and nothing comes in its place.
    let told = worker
        .other(|heard| match heard {
            Heard::Heartbeat(beat) if !beat.not_reading_reason.is_empty() => Some(beat.not_reading_reason.clone()),
            _ => None,
        })
        .await;
    assert_eq!(told, "paused by an operator: the database moves");
    let mut done = BTreeSet::new();
    for delivery in &out[..4] {
        worker.accept(delivery).await;
        done.insert((delivery.partition, delivery.position));
    }
    let outcome = worker.settle(&out[4], SettlementAction::Release).await;
    assert_eq!(outcome, proto::SettlementOutcome::Applied);
    let left = operations.pause_group(pause(None, 10)).await.unwrap().into_inner();
    assert_eq!((left.left, left.in_flight_messages), (true, 0), "{left:?}");
    here.publish(orders(10, 10, 10)).await;
    worker.hear_for(Duration::from_millis(600)).await;
    assert!(worker.deliveries.is_empty(), "{:?}", worker.deliveries);
    until("the metric of the pause", async || {
        here.metric("meridian_group_paused") == 1
    })
    .await;
    let (status, body) = http_get(here.gateway.admin_address(), "/readyz").await;
    assert!(status.contains("200"), "a pause is no fault: {status} {body}");
    assert!(!body.contains("billing"), "{body}");
    assert_eq!(here.metric("meridian_subscription_not_reading"), 0);

    let described = describe(&mut operations).await;
    let group = described.group.unwrap();
    assert!(group.paused && group.sessions == 1, "{group:?}");
    assert_eq!(described.lag_messages, 26);
    assert!(described.pause.is_some() && described.lag_seconds.unwrap() > 0.0);
    let listed = operations
        .list_groups(proto::ListGroupsRequest::default())
        .await
        .unwrap();
    let listed = listed.into_inner().groups;
    assert!(listed[0].paused && listed[0].topics == ["orders"], "{listed:?}");
    assert_eq!(listed[0].lag_messages, None, "it is not read here");

    let resumed = operations.resume_group(resume()).await.unwrap().into_inner();
    assert!(resumed.was_paused && resumed.gateways.is_empty());
    for _ in 0..26 {
        let delivery = worker.one().await;
        let failed_before = (delivery.partition, delivery.position) == (out[4].partition, out[4].position);
        assert_eq!(delivery.attempt, if failed_before { 2 } else { 1 }, "{delivery:?}");
        worker.accept(&delivery).await;
        assert!(done.insert((delivery.partition, delivery.position)), "{delivery:?}");
    }
    assert_eq!(done.len(), 30);
    assert_eq!(here.metric("meridian_subscription_dead_letters_total"), 0);
    assert_eq!(here.metric("meridian_group_paused"), 0);
    assert!(!operations.resume_group(resume()).await.unwrap().into_inner().was_paused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_ends_by_itself_and_holds_for_sessions_that_come_later() {
    let here = TestGateway::start("us-east", RULES, "").await;
    here.publish(orders(3, 3, 10)).await;
    let mut operations = operations(&here).await;
    // Nobody reads for it yet.
    let paused = operations
        .pause_group(pause(Some(Duration::from_secs(2)), 5))
        .await
        .unwrap()
        .into_inner();
    assert!(paused.left, "{paused:?}");
    let before = std::time::Instant::now();
    let mut worker = Worker::open(here.channel().await, open("w-1", 5)).await.unwrap();
    let first = worker.next(3).await;
    assert!(before.elapsed() > Duration::from_secs(1), "it was handed out at once");
    assert!(first.iter().all(|delivery| delivery.attempt == 1));
    let pauses = operations.list_pauses(proto::ListPausesRequest {}).await.unwrap();
    assert!(pauses.into_inner().pauses.is_empty());
    assert!(describe(&mut operations).await.pause.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_before_the_group_is_left_keeps_the_claims() {
    let here = TestGateway::start("us-east", RULES, "").await;
    here.publish(orders(4, 4, 10)).await;
    let mut operations = operations(&here).await;
    let mut worker = Worker::open(here.channel().await, open("w-1", 2)).await.unwrap();
    let out = worker.next(2).await;
    operations.pause_group(pause(None, 0)).await.unwrap();
    worker.accept(&out[0]).await;
    worker.hear_for(Duration::from_millis(300)).await;
    assert!(worker.deliveries.is_empty());
    operations.resume_group(resume()).await.unwrap();
    worker.accept(&out[1]).await;
    for delivery in worker.next(2).await {
        worker.accept(&delivery).await;
    }
    until("all is settled", async || {
        describe(&mut operations).await.lag_messages == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_is_refused_while_workers_read_and_forced_around_them() {
    let here = TestGateway::start("us-east", RULES, "").await;
    here.publish(orders(6, 6, 10)).await;
    let mut operations = operations(&here).await;
    let mut worker = Worker::open(here.channel().await, open("w-1", 4)).await.unwrap();
    for _ in 0..5 {
        let delivery = worker.one().await;
        worker.accept(&delivery).await;
    }
    let held = worker.one().await;
    let refused = operations.reset_group(reset(earliest())).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let details = tonic_types::StatusExt::get_error_details(&refused);
    assert_eq!(details.error_info().unwrap().reason, "GROUP_ACTIVE");
    for word in ["w-1", "1 sessions", "meridian groups pause billing", "force"] {
        assert!(refused.message().contains(word), "{word}: {}", refused.message());
    }
    until("what is settled is durable", async || {
        describe(&mut operations).await.lag_messages == 1
    })
    .await;

    let forced = proto::ResetGroupRequest {
        force: true,
        ..reset(earliest())
    };
    let moved = operations.reset_group(forced).await.unwrap().into_inner();
    assert_eq!(moved.partitions.len(), 4, "{moved:?}");
    let sum = |lag: fn(&proto::PartitionReset) -> u64| moved.partitions.iter().map(lag).sum::<u64>();
    assert_eq!(sum(|each| each.before_lag_messages), 1);
    assert_eq!(sum(|each| each.after_lag_messages), 6);
    // What was out was taken back; the session goes on and has everything again, as first attempts.
    let outcome = worker.settle(&held, SettlementAction::Accept).await;
    assert_eq!(outcome, proto::SettlementOutcome::Stale);
    let mut again = BTreeSet::new();
    while again.len() < 6 {
        let delivery = worker.one().await;
        assert_eq!(delivery.attempt, 1, "{delivery:?}");
        worker.accept(&delivery).await;
        again.insert((delivery.partition, delivery.position));
    }
    assert!(describe(&mut operations).await.pause.is_none());
    assert_eq!(here.metric("meridian_subscription_dead_letters_total"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_group_is_moved_to_a_time_or_a_position_and_deleted() {
    let here = TestGateway::start("us-east", RULES, "subscriptions: { idle_group_seconds: 0 }\n").await;
    here.publish(orders(8, 8, 10)).await;
    let mut operations = operations(&here).await;
    let mut worker = Worker::open(here.channel().await, open("w-1", 8)).await.unwrap();
    for delivery in worker.next(8).await {
        worker.accept(&delivery).await;
    }
    drop(worker);
    until("what is settled is durable", async || {
        describe(&mut operations).await.lag_messages == 0
    })
    .await;
    let dry = |target| proto::ResetGroupRequest {
        dry_run: true,
        ..reset(target)
    };
    let moved = harness_reset(&mut operations, dry(Target::Time(SystemTime::UNIX_EPOCH.into()))).await;
    assert_eq!(moved.iter().map(|each| each.after_lag_messages).sum::<u64>(), 8);
    assert_eq!(describe(&mut operations).await.lag_messages, 0, "a dry run");
    let at = proto::PositionTarget {
        partition: moved[0].partition,
        position: moved[0].after_position,
    };
    let moved = harness_reset(&mut operations, reset(Target::Position(at))).await;
    assert_eq!(moved.len(), 1);
    let described = describe(&mut operations).await;
    assert_eq!(described.lag_messages, moved[0].after_lag_messages);
    assert!(described.lag_seconds.is_some());
    let moved = harness_reset(&mut operations, reset(Target::Latest(proto::LatestTarget {}))).await;
    assert!(moved.iter().all(|each| each.after_lag_messages == 0));

    let delete = || proto::DeleteGroupRequest {
        name: "billing".to_owned(),
        ..Default::default()
    };
    operations.delete_group(delete()).await.unwrap();
    let gone = operations.delete_group(delete()).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound, "{gone}");
}

/// Resets as soon as the gateway has left the group.
async fn harness_reset(operations: &mut Operations, request: proto::ResetGroupRequest) -> Vec<proto::PartitionReset> {
    let mut moved = Vec::new();
    until("the group is idle", async || {
        match operations.reset_group(request.clone()).await {
            Ok(answer) => {
                moved = answer.into_inner().partitions;
                true
            }
            Err(status) => {
                assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
                false
            }
        }
    })
    .await;
    moved
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_reaches_the_fleet_and_outlives_one_of_it() {
    let first = TestGateway::start("us-east", RULES, "").await;
    let address = first.gateway.admin_address();
    let siblings = format!("admin_siblings: ['{address}', '127.0.0.1:1']\n");
    let second = TestGateway::start("us-east", RULES, &siblings).await;
    let (mut of_first, mut of_second) = (operations(&first).await, operations(&second).await);
    let paused = of_second.pause_group(pause(None, 0)).await.unwrap().into_inner();
    let answers: Vec<(&str, bool)> = paused
        .gateways
        .iter()
        .map(|answer| (answer.address.as_str(), answer.error.is_empty()))
        .collect();
    assert_eq!(answers, [(&*address.to_string(), true), ("127.0.0.1:1", false)]);
    assert!(paused.gateways[1].error.contains("admin address"), "{paused:?}");
    let known = of_first
        .list_pauses(proto::ListPausesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(known.pauses.len(), 1, "{known:?}");
    assert_eq!(
        (known.pauses[0].name.as_str(), &*known.pauses[0].reason),
        ("billing", "the database moves")
    );

    let again = second.restart("us-east", &siblings).await;
    let mut of_again = operations(&again).await;
    let learnt = of_again
        .list_pauses(proto::ListPausesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(learnt, known, "learnt from the one that stayed");
    of_again.resume_group(resume()).await.unwrap();
    let known = of_first
        .list_pauses(proto::ListPausesRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(known.pauses.is_empty(), "{known:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_described_grown_and_deleted_with_care() {
    let here = TestGateway::start("us-east", RULES, "").await;
    let mut operations = operations(&here).await;
    let orders_topic = || proto::DescribeTopicRequest {
        name: "orders".to_owned(),
        ..Default::default()
    };
    let before = operations.describe_topic(orders_topic()).await.unwrap().into_inner();
    assert_eq!(before.topic.as_ref().unwrap().partitions, 4);
    let grow = |partitions| proto::GrowTopicRequest {
        name: "orders".to_owned(),
        partitions,
        ..Default::default()
    };
    let fewer = operations.grow_topic(grow(2)).await.unwrap_err();
    assert_eq!(fewer.code(), Code::InvalidArgument, "{fewer}");
    assert!(fewer.message().contains("4 partitions"), "{fewer}");
    let grown = operations.grow_topic(grow(6)).await.unwrap().into_inner();
    assert_eq!(grown.topic.unwrap().partitions, 6);
    let after = operations.describe_topic(orders_topic()).await.unwrap().into_inner();
    assert_eq!((after.topic.unwrap().partitions, after.id), (6, before.id));
    here.publish(orders(40, 40, 10)).await;
    let mut worker = Worker::open(here.channel().await, open("w-1", 40)).await.unwrap();
    let partitions: BTreeSet<u32> = worker.next(40).await.iter().map(|each| each.partition).collect();
    assert!(partitions.contains(&5), "the new ones are used: {partitions:?}");

    let delete = |confirm: &str| proto::DeleteTopicRequest {
        name: "orders".to_owned(),
        confirm_name: confirm.to_owned(),
        ..Default::default()
    };
    let slip = operations.delete_topic(delete("")).await.unwrap_err();
    assert_eq!(slip.code(), Code::InvalidArgument, "{slip}");
    operations.delete_topic(delete("orders")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_with_its_field() {
    let here = TestGateway::start("us-east", RULES, "").await;
    let mut operations = operations(&here).await;
    let past = proto::PauseGroupRequest {
        until: Some(SystemTime::UNIX_EPOCH.into()),
        ..pause(None, 0)
    };
    let long = proto::PauseGroupRequest {
        reason: "x".repeat(257),
        ..pause(None, 0)
    };
    for (request, word) in [(past, "until"), (long, "reason"), (pause(None, 61), "wait_seconds")] {
        let refused = operations.pause_group(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().starts_with(word), "{refused}");
    }
    let nowhere = proto::ResetGroupRequest {
        target: None,
        ..reset(earliest())
    };
    let refused = operations.reset_group(nowhere).await.unwrap_err();
    assert!(refused.message().starts_with("target"), "{refused}");
    let nobody = operations.reset_group(reset(earliest())).await.unwrap_err();
    assert_eq!(nobody.code(), Code::NotFound, "{nobody}");
    let elsewhere = proto::PauseGroupRequest {
        broker: "slow".to_owned(),
        ..pause(None, 0)
    };
    let refused = operations.pause_group(elsewhere).await.unwrap_err();
    assert!(refused.message().contains("known: main"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lag_is_told_by_partition_in_messages_and_seconds_while_read_and_after() {
    let more = "metrics: { idle_lag_seconds: 1 }\nsubscriptions: { idle_group_seconds: 0 }\n";
    let here = TestGateway::start("us-east", RULES, more).await;
    here.publish(orders(5, 1, 10)).await;
    let mut worker = Worker::open(here.channel().await, open("w-1", 1)).await.unwrap();
    let first = worker.one().await;
    until("the lag of the one partition", async || {
        here.metric("meridian_group_lag_messages") == 5 && here.metric("kafka_consumergroup_lag") == 5
    })
    .await;
    until("the lag in seconds", async || {
        here.metric("meridian_group_lag_seconds") >= 1
    })
    .await;
    assert!(here.metric("meridian_group_oldest_unsettled_timestamp_seconds") > 1_700_000_000);
    worker.accept(&first).await;
    drop(worker);
    // Nobody reads, and the lag grows all the same.
    until("the group is left", async || {
        here.metric("meridian_subscription_groups") == 0
    })
    .await;
    here.publish(orders(2, 1, 10)).await;
    until("the lag of the idle group", async || {
        here.metric("meridian_group_lag_messages") == 6 && here.metric("meridian_group_lag_seconds") >= 1
    })
    .await;
    let mut operations = operations(&here).await;
    let delete = proto::DeleteGroupRequest {
        name: "billing".to_owned(),
        ..Default::default()
    };
    operations.delete_group(delete).await.unwrap();
    let text = here.metrics.encode().unwrap();
    assert!(
        !text.contains("billing") || !text.contains("meridian_group_lag_messages{"),
        "{text}"
    );
}
