//! What only a Redis does: loses all, is cut, is full, is weaker than was said, breaks
//! connections under way; and members that were frozen.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    dead_code,
    reason = "a test that unwraps fails where it should, and may print; the servers are shared with other tests"
)]

mod redis_server;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fred::types::Value;
use meridian_broker::adapters::redis::RedisConfig;
use meridian_broker::adapters::redis::config::AppendFsync;
use meridian_broker::conformance::reading::{Reading, numbers, options};
use meridian_broker::conformance::waiting::{PATIENCE, eventually, until_available};
use meridian_broker::conformance::writing::{append, batch_to, new_topic, store, store_one, unique_group};
use meridian_broker::{
    AppendErrorKind, Broker, BrokerState, MissingPositionPolicy, ReadErrorKind, ReaderState, SettleError, Stored,
};
use meridian_runtime::secret::Secret;

use self::redis_server::{Foreign, Server, open_with};

async fn open(server: &Server) -> Arc<dyn Broker> {
    open_with(RedisConfig::new(vec![server.address()])).await
}

/// A Redis that lost all: the reader ends and says how much it had not settled, an append
/// is refused, and nothing is skipped or made anew by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_lost_all_is_told() {
    let server = Server::start(&[]).await;
    let broker = open(&server).await;
    let topic = new_topic(&broker, "flush", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let mut reading = Reading::join(&broker, &unique_group("flush"), &topic).await;
    let records = reading.take(10).await;
    reading.settle(&records[..4]);
    reading.commit().await;
    Foreign::connect(&server.address()).await.run(&["FLUSHALL"]).await;
    let error = reading.ended().await;
    assert_eq!(error.kind, ReadErrorKind::ContinuityBroken, "{error}");
    assert!(error.message.contains("stood at 4 with 6 records unsettled"), "{error}");
    let appended = append(&broker, batch_to(&topic, 0, 10..11)).await;
    let refused = appended.refused.into_iter().map(|refused| refused.error);
    let errors: Vec<_> = refused
        .chain(appended.outcomes.into_iter().filter_map(Result::err))
        .collect();
    assert_eq!(
        (errors[0].kind, errors[0].stored),
        (AppendErrorKind::TopicNotFound, Stored::No)
    );
}

/// Records are cut away that a running reader has not read: a gap is told with their
/// number, and with the policy to fail the next reader finds the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cut_away_under_a_reader_is_told() {
    let server = Server::start(&[]).await;
    let broker = open(&server).await;
    for policy in [MissingPositionPolicy::Earliest, MissingPositionPolicy::Fail] {
        let topic = new_topic(&broker, "cut", 1).await;
        store(&broker, batch_to(&topic, 0, 0..10)).await;
        let mut options = options(&unique_group("cut"), &topic);
        options.max_unsettled_records = 2;
        options.missing_position = policy;
        let mut reading = Reading::open(&broker, options.clone()).await;
        let held = reading.take(2).await;
        let foreign = Foreign::connect(&server.address()).await;
        let stream = Foreign::stream(topic.as_str(), 0);
        let last = foreign.last_id(&stream).await;
        let (epoch, _) = last.split_once('-').unwrap();
        foreign.run(&["XTRIM", &stream, "MINID", &format!("{epoch}-7")]).await;
        reading.settle(&held);
        if policy == MissingPositionPolicy::Earliest {
            assert_eq!(numbers(&reading.take(2).await), [6, 7]);
            let gap = &reading.gaps[0];
            let seen = (gap.expected_position, gap.resumed_position, gap.missing_records);
            assert_eq!(seen, (2, 6, 4));
            continue;
        }
        for _ in 0..2 {
            let error = reading.ended().await;
            assert_eq!(error.kind, ReadErrorKind::PositionMissing, "{error}");
            assert!(error.message.contains("4 records are missing"), "{error}");
            let _ = reading.close_within(Duration::from_secs(5)).await;
            reading = Reading::open(&broker, options.clone()).await;
        }
    }
}

/// The group is removed under a reader: it is made again where it stood, and nothing is
/// skipped, nor comes twice while the reader lives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_was_removed_is_made_again_where_it_stood() {
    let server = Server::start(&[]).await;
    let broker = open(&server).await;
    let topic = new_topic(&broker, "destroy", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let group = unique_group("destroy");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let records = reading.take(10).await;
    reading.settle(&records[..5]);
    reading.commit().await;
    let foreign = Foreign::connect(&server.address()).await;
    let stream = Foreign::stream(topic.as_str(), 0);
    foreign.run(&["XGROUP", "DESTROY", &stream, group.as_str()]).await;
    store(&broker, batch_to(&topic, 0, 10..20)).await;
    assert!(numbers(&reading.take(10).await).into_iter().eq(10..20));
    reading.settle(&records[5..8]);
    reading.close().await;
    let mut reading = Reading::join(&broker, &group, &topic).await;
    assert!(numbers(&reading.take(12).await).into_iter().eq((8..10).chain(10..20)));
}

/// The consumer is removed with all that is pending for it: the owner notices, nothing
/// comes twice while it lives, and the next reader skips nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_pending_for_a_removed_consumer_is_not_skipped() {
    let server = Server::start(&[]).await;
    let broker = open(&server).await;
    let topic = new_topic(&broker, "delconsumer", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let group = unique_group("delconsumer");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    let records = reading.take(10).await;
    reading.settle(&records[..4]);
    reading.settle(&records[6..7]);
    reading.commit().await;
    let foreign = Foreign::connect(&server.address()).await;
    let stream = Foreign::stream(topic.as_str(), 0);
    let owner = format!("meridian:owner:{{{topic}/0}}:{group}");
    let consumer = foreign.run(&["GET", &owner]).await.as_string().unwrap();
    let command = ["XGROUP", "DELCONSUMER", &stream, group.as_str(), &consumer];
    assert_eq!(foreign.run(&command).await.as_u64(), Some(5));
    eventually(PATIENCE, "five records pending again", async || {
        match foreign.run(&["XPENDING", &stream, group.as_str()]).await {
            Value::Array(summary) if summary[0].as_u64() == Some(5) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    store(&broker, batch_to(&topic, 0, 10..12)).await;
    assert_eq!(numbers(&reading.take(2).await), [10, 11], "something came twice");
    drop(reading);
    let mut reading = Reading::join(&broker, &group, &topic).await;
    assert_eq!(numbers(&reading.take(7).await), [4, 5, 7, 8, 9, 10, 11]);
}

/// A Redis without a file loses all when it is killed: the reader ends and says what it
/// had not settled, and the topic is not made anew by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_without_a_file_that_was_killed_is_told() {
    let server = Server::start(&["appendonly=no"]).await;
    let mut config = RedisConfig::new(vec![server.address()]);
    config.append_fsync = AppendFsync::No;
    let broker = open_with(config).await;
    let topic = new_topic(&broker, "nofile", 1).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let mut reading = Reading::join(&broker, &unique_group("nofile"), &topic).await;
    let records = reading.take(10).await;
    reading.settle(&records[..4]);
    reading.commit().await;
    server.command("kill", &[]).await;
    let own_process = std::process::id().to_string();
    server.command("start", &["--until-pid", &own_process]).await;
    let error = reading.ended().await;
    assert_eq!(error.kind, ReadErrorKind::ContinuityBroken, "{error}");
    assert!(error.message.contains("6 records unsettled"), "{error}");
}

/// A full Redis refuses, nothing refused is stored, reading and settling go on, and it
/// mends itself when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_refuses_and_recovers() {
    let server = Server::start(&[]).await;
    let broker = open(&server).await;
    let topic = new_topic(&broker, "full", 1).await;
    let foreign = Foreign::connect(&server.address()).await;
    store_one(&broker, &topic, 0, 0).await;
    foreign.run(&["CONFIG", "SET", "maxmemory", "8mb"]).await;
    let (mut stored, mut next, mut is_full) = (BTreeSet::from([0]), 1, false);
    while !is_full {
        assert!(next < 100_000, "8 MB were never full");
        let mut batch = batch_to(&topic, 0, next..next + 100);
        for append in &mut batch {
            append
                .record
                .headers
                .push(meridian_event::Header::new("filler", vec![b'x'; 1_000]));
        }
        let appended = append(&broker, batch).await;
        for refused in &appended.refused {
            assert_eq!(refused.error.kind, AppendErrorKind::StorageFull, "{}", refused.error);
        }
        let refused: BTreeSet<_> = appended.refused.iter().map(|refused| refused.index).collect();
        let admitted = (0..100).filter(|index| !refused.contains(index));
        for (index, outcome) in admitted.zip(appended.outcomes) {
            match outcome {
                Ok(_) => drop(stored.insert(next + index)),
                Err(error) => {
                    assert_eq!(
                        (error.kind, error.stored),
                        (AppendErrorKind::StorageFull, Stored::No),
                        "{error}"
                    );
                    is_full = true;
                }
            }
        }
        next += 100;
    }
    let mut reading = Reading::join(&broker, &unique_group("full"), &topic).await;
    let records = reading.take(stored.len()).await;
    assert!(
        numbers(&records).into_iter().eq(stored.iter().copied()),
        "what was refused is stored, or lost"
    );
    reading.settle(&records);
    reading.commit().await;
    foreign.run(&["CONFIG", "SET", "maxmemory", "0"]).await;
    eventually(PATIENCE, "taking records again", async || {
        let mut appended = append(&broker, batch_to(&topic, 0, next..next + 1)).await;
        appended
            .outcomes
            .pop()
            .map_or(Err(appended.refused), |outcome| Ok(outcome.unwrap()))
    })
    .await;
    assert_eq!(numbers(&reading.take(1).await), [next]);
}

/// Connections are ended again and again under load: what was under way is unknown, never
/// refused and stored, never stored twice, and the order stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_is_lost_is_unknown_and_nothing_is_doubled() {
    let server = Server::start(&[]).await;
    let broker = open(&server).await;
    let topic = new_topic(&broker, "kills", 1).await;
    let foreign = Foreign::connect(&server.address()).await;
    let (mut next, mut unknown, mut stored, mut refused) = (0, 0, BTreeSet::new(), BTreeSet::new());
    let deadline = Instant::now() + PATIENCE;
    while unknown < 3 || stored.len() < 2_000 {
        assert!(
            Instant::now() < deadline,
            "{unknown} batches were unknown, {} records stored",
            stored.len()
        );
        let (appended, _) = tokio::join!(append(&broker, batch_to(&topic, 0, next..next + 2_000)), async {
            foreign
                .run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
                .await
        });
        refused.extend(appended.refused.iter().map(|refused| next + refused.index));
        let indices: BTreeSet<_> = appended.refused.iter().map(|refused| refused.index).collect();
        let admitted = (0..2_000).filter(|index| !indices.contains(index));
        let mut has_unknown = false;
        for (index, outcome) in admitted.zip(appended.outcomes) {
            match outcome {
                Ok(_) => drop(stored.insert(next + index)),
                Err(error) if error.stored == Stored::No => drop(refused.insert(next + index)),
                Err(_) => has_unknown = true,
            }
        }
        unknown += usize::from(has_unknown);
        next += 2_000;
    }
    until_available(&broker).await;
    let end = eventually(PATIENCE, "taking records again", async || {
        let mut appended = append(&broker, batch_to(&topic, 0, next..next + 1)).await;
        match appended.outcomes.pop() {
            Some(Ok(position)) => Ok(position),
            other => Err((other, appended.refused)),
        }
    })
    .await;
    let mut options = options(&unique_group("kills"), &topic);
    options.max_unsettled_records = 1_000_000;
    let mut reading = Reading::open(&broker, options).await;
    let count = usize::try_from(end.position + 1).unwrap();
    let seen = numbers(&reading.take(count).await);
    assert!(seen.is_sorted_by(|one, two| one < two), "doubled or out of order");
    let seen: BTreeSet<_> = seen.into_iter().collect();
    assert!(stored.is_subset(&seen), "a confirmed record is lost");
    assert!(refused.is_disjoint(&seen), "a refused record is stored");
}

/// A wrong password makes the broker unavailable with the reason, and appends are refused
/// as not authorized.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told() {
    let server = Server::start(&["requirepass=right"]).await;
    let with = |password: &str| {
        let mut config = RedisConfig::new(vec![server.address()]);
        config.password = Some(Secret::new(password));
        open_with(config)
    };
    let right = with("right").await;
    until_available(&right).await;
    let topic = new_topic(&right, "password", 1).await;
    store_one(&right, &topic, 0, 0).await;
    let wrong = with("wrong").await;
    let reason = until_unavailable(&wrong).await;
    assert!(
        reason.contains("refuses the credentials") && !reason.contains("wrong\""),
        "{reason}"
    );
    let appended = append(&wrong, batch_to(&topic, 0, 1..2)).await;
    assert_eq!(appended.refused[0].error.kind, AppendErrorKind::NotAuthorized);
}

/// A server that is less durable than was said is not used, the reason says what to set,
/// and it is used as soon as it is so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_weaker_than_declared_is_not_used() {
    let server = Server::start(&["appendonly=no"]).await;
    let broker = open(&server).await;
    let reason = until_unavailable(&broker).await;
    assert!(reason.contains("set appendonly yes"), "{reason}");
    let mut config = RedisConfig::new(vec![server.address()]);
    config.append_fsync = AppendFsync::No;
    let modest = open_with(config).await;
    until_available(&modest).await;
    let foreign = Foreign::connect(&server.address()).await;
    foreign.run(&["CONFIG", "SET", "appendonly", "yes"]).await;
    until_available(&broker).await;
    let topic = new_topic(&broker, "weaker", 1).await;
    store_one(&broker, &topic, 0, 0).await;
}

/// What another client adds by itself has the next position, and is read in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_client_adds_is_read_in_order() {
    let server = Server::start(&[]).await;
    let broker = open(&server).await;
    let topic = new_topic(&broker, "foreign", 1).await;
    store_one(&broker, &topic, 0, 0).await;
    let foreign = Foreign::connect(&server.address()).await;
    let stream = Foreign::stream(topic.as_str(), 0);
    foreign
        .run(&["XADD", &stream, "*", "data", "1", "metadata", "{}"])
        .await;
    let last = store_one(&broker, &topic, 0, 2).await;
    assert_eq!(last.position, 2);
    let mut reading = Reading::join(&broker, &unique_group("foreign"), &topic).await;
    let records = reading.take(3).await;
    assert_eq!(numbers(&records), [0, 1, 2]);
    let positions: Vec<_> = records.iter().map(|record| record.claim.position).collect();
    assert_eq!(positions, [0, 1, 2]);
    assert!(records[1].record.header("metadata").is_some());
}

/// A member that was frozen for longer than its session has lost its shard: when it thaws
/// its settlements are stale, it hands out nothing that it took, and nothing is lost.
#[test]
fn a_frozen_member_takes_nothing_when_it_thaws() {
    let main = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    // A member in a runtime of one thread, which a blocked task freezes whole, clients and all.
    let (frozen, handle) = (std::sync::mpsc::sync_channel::<()>(0), std::sync::mpsc::sync_channel(1));
    let (give_handle, taken_handle) = handle;
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        give_handle.send(runtime.handle().clone()).unwrap();
        let _ = runtime.block_on(ended);
    });
    let other = taken_handle.recv().unwrap();
    main.block_on(async {
        let server = Server::start(&[]).await;
        let broker = open(&server).await;
        let topic = new_topic(&broker, "frozen", 1).await;
        store(&broker, batch_to(&topic, 0, 0..10)).await;
        let group = unique_group("frozen");
        let mut options = options(&group, &topic);
        options.session_timeout = Duration::from_secs(2);
        let (address, of_first) = (server.address(), options.clone());
        let first = other.spawn(async move {
            let broker = open_with(RedisConfig::new(vec![address])).await;
            Reading::open(&broker, of_first).await
        });
        let mut first = first.await.unwrap();
        let held = first.take(10).await;
        let (thaw, frozen) = frozen;
        other.spawn(async move { frozen.recv() });
        // While it is frozen another has all, and more comes.
        let mut second = Reading::open(&broker, options).await;
        let again = second.take(10).await;
        assert!(numbers(&again).into_iter().eq(0..10));
        store(&broker, batch_to(&topic, 0, 10..20)).await;
        thaw.send(()).unwrap();
        let more = second.take(10).await;
        assert!(numbers(&more).into_iter().eq(10..20));
        second.settle(&again);
        second.settle(&more);
        second.commit().await;
        eventually(PATIENCE, "the end of the frozen member's claims", async || {
            first.watch(Duration::from_millis(20)).await;
            match first.settler.settle(&held[0].claim) {
                Err(SettleError::Stale) => Ok(()),
                other => Err(other),
            }
        })
        .await;
        store(&broker, batch_to(&topic, 0, 20..30)).await;
        assert!(numbers(&second.take(10).await).into_iter().eq(20..30));
        first.watch(Duration::from_millis(500)).await;
        assert!(first.take_waiting().is_empty(), "it handed out what another owns");
    });
    let _ = end.send(());
    thread.join().unwrap();
}

/// The ownership goes to somebody else behind the back of a member: what it takes before
/// it knows is not handed out, and comes when the shard is its own again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_taken_without_the_ownership_is_not_handed_out() {
    let server = Server::start(&[]).await;
    let broker = open(&server).await;
    let topic = new_topic(&broker, "thief", 1).await;
    let group = unique_group("thief");
    let mut reading = Reading::join(&broker, &group, &topic).await;
    reading.until_partitions(1).await;
    let foreign = Foreign::connect(&server.address()).await;
    let owner = format!("meridian:owner:{{{topic}/0}}:{group}");
    foreign.run(&["SET", &owner, "thief", "PX", "3000"]).await;
    store(&broker, batch_to(&topic, 0, 0..10)).await;
    let stolen_at = Instant::now();
    let records = reading.take(10).await;
    assert!(
        stolen_at.elapsed() > Duration::from_secs(2),
        "it read while another owned the shard"
    );
    assert!(numbers(&records).into_iter().eq(0..10));
    assert!(records[0].claim.generation > 1, "the same claims went on");
    assert_eq!(reading.settler.state(), ReaderState::Reading);
}

async fn until_unavailable(broker: &Arc<dyn Broker>) -> String {
    eventually(PATIENCE, "the reason", async || match broker.state() {
        BrokerState::Unavailable { reason, .. } if reason != "connecting" => Ok(reason),
        other => Err(other),
    })
    .await
}
