//! An operator at work with the command line: pausing a group under load, moving one,
//! growing a topic, and what is refused.

use std::collections::BTreeSet;
use std::time::Duration;

use meridian_tests::harness::{Brokers, Gateway, GatewayPlan, Scratch, eventually, meridian, shared_kafka};
use meridian_tests::traffic::record::{place, streams};
use meridian_tests::traffic::{Fleet, FleetPlan, Load, LoadPlan, Record, Streams};
use serde_json::Value;

use crate::regions::{Names, ORDER, US};

const SOON: Duration = Duration::from_secs(30);

/// A command of an operator at one gateway, with JSON for an answer.
async fn ask(gateway: &Gateway, arguments: &[&str]) -> Value {
    let admin = gateway.admin();
    let all = [arguments, &["--admin", &admin, "--output", "json"]].concat();
    meridian(&all).await.json()
}

async fn describe(gateway: &Gateway, group: &str) -> Value {
    ask(gateway, &["groups", "describe", group]).await
}

fn rules(names: &Names) -> String {
    format!("rules:\n  - name: orders\n    send: {{ topic: {} }}\n", names.orders)
}

fn orders(names: &Names) -> Streams {
    streams(&[("orders", &[place(US, &names.orders, &names.billing)])])
}

fn fleet(names: &Names, gateways: &[String]) -> FleetPlan {
    FleetPlan::new(US, gateways, &names.billing, std::slice::from_ref(&names.orders))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_paused_under_load_and_goes_on_embedded() {
    let names = Names::new();
    let scratch = Scratch::new("pause-embedded");
    let gateway = GatewayPlan::new(US, Brokers::Embedded, rules(&names))
        .start(&scratch)
        .await;
    gateway.ready().await;
    pause_and_resume(&names, &[gateway]).await;
}

/// Two gateways share the group: the pause goes from one to the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_paused_under_load_and_goes_on_kafka() {
    let names = Names::new();
    let scratch = Scratch::new("pause-kafka");
    let one = GatewayPlan::new(US, Brokers::Kafka(shared_kafka('A')), rules(&names));
    let two = one.another("us-east-2");
    let (one_admin, two_admin) = (one.admin(), two.admin());
    let one = one
        .more(&format!("admin_siblings: ['{two_admin}']\n"))
        .start(&scratch)
        .await;
    let two = two
        .more(&format!("admin_siblings: ['{one_admin}']\n"))
        .start(&scratch)
        .await;
    one.ready().await;
    two.ready().await;
    pause_and_resume(&names, &[one, two]).await;
}

async fn pause_and_resume(names: &Names, gateways: &[Gateway]) {
    let data: Vec<String> = gateways.iter().map(Gateway::data).collect();
    let record = Record::new();
    let load = Load::start(vec![LoadPlan::new(&data, "orders", ORDER, 100)], &record);
    let workers = Fleet::start(vec![fleet(names, &data)], &record);
    record.flows(SOON * 2).await;

    let paused = ask(
        &gateways[0],
        &["groups", "pause", &names.billing, "--until", "10m", "--wait", "20s"],
    )
    .await;
    assert_eq!(paused["left"], true, "{paused}");
    let others = paused["gateways"].as_array().unwrap();
    assert_eq!(others.len(), gateways.len() - 1, "{paused}");
    assert!(others.iter().all(|other| other["error"] == Value::Null), "{paused}");
    let delivered = record.delivered_count();
    let stored = record.stored_count();
    eventually(SOON, "events that wait", || async {
        record.stored_count() > stored + 100
    })
    .await;
    assert_eq!(record.delivered_count(), delivered, "nothing is handed out");
    let mut sessions = 0;
    for gateway in gateways {
        let seen = describe(gateway, &names.billing).await;
        assert_eq!(seen["paused"], true, "{seen}");
        assert!(seen["lag_messages"].as_u64().unwrap() >= 100, "{seen}");
        assert!(seen["lag_seconds"].as_f64().unwrap() > 0.0, "{seen}");
        let reason = seen["not_reading_reason"].as_str().unwrap();
        assert!(reason.starts_with("paused by an operator until 20"), "{reason}");
        sessions += seen["sessions"].as_array().unwrap().len();
        assert_eq!(gateway.readiness().await.unwrap().0, 200, "a pause is no fault");
    }
    assert!(sessions >= 2, "the sessions stay: {sessions}");

    let resumed = ask(&gateways[0], &["groups", "resume", &names.billing]).await;
    assert_eq!(resumed["was_paused"], true, "{resumed}");
    eventually(SOON, "deliveries again", || async {
        record.delivered_count() > delivered + 100
    })
    .await;
    load.stop().await;
    record.must_hold(&orders(names), SOON, 200).await;
    let report = workers.stop().await;
    if gateways.len() == 1 {
        assert_eq!(report.stale, 0, "what was out was settled: {report:?}");
    }
    assert_eq!(record.highest_attempt(), 1, "a pause counts no attempt");
    // Whoever joins second takes partitions over, and what is out there then is stale and comes again. Nothing else does.
    assert!(
        record.accepted_again() <= report.stale,
        "{} settled positions came again: {report:?}",
        record.accepted_again()
    );
    for gateway in gateways {
        let dead = gateway.metric("meridian_subscription_dead_letters_total").await;
        assert_eq!(dead, Some(0.0), "a pause dead-letters nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_moved_around_its_workers_embedded() {
    let names = Names::new();
    let scratch = Scratch::new("reset-embedded");
    let gateway = GatewayPlan::new(US, Brokers::Embedded, rules(&names))
        .start(&scratch)
        .await;
    move_around_workers(&names, &gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_moved_around_its_workers_kafka() {
    let names = Names::new();
    let scratch = Scratch::new("reset-kafka");
    let broker = Brokers::Kafka(shared_kafka('A'));
    let gateway = GatewayPlan::new(US, broker, rules(&names)).start(&scratch).await;
    move_around_workers(&names, &gateway).await;
}

async fn move_around_workers(names: &Names, gateway: &Gateway) {
    gateway.ready().await;
    let (admin, data, group) = (gateway.admin(), [gateway.data()], names.billing.as_str());
    let record = Record::new();
    let load = Load::start(vec![LoadPlan::new(&data, "orders", ORDER, 100)], &record);
    let workers = Fleet::start(vec![fleet(names, &data)], &record);
    eventually(SOON * 2, "a hundred deliveries", || async {
        record.delivered_count() > 100
    })
    .await;
    load.stop().await;
    record.must_hold(&orders(names), SOON, 100).await;
    eventually(SOON, "all to be settled", || async {
        describe(gateway, group).await["lag_messages"] == 0
    })
    .await;
    let stored = record.stored_count();

    let reset = ["groups", "reset", group, "--to", "earliest", "--admin", &admin];
    let asked = meridian(&reset).await;
    assert_eq!(asked.code, Some(2), "not without --yes: {asked:?}");
    assert!(
        asked.out.contains("would be reset") && asked.err.contains("--yes"),
        "{asked:?}"
    );
    let refused = meridian(&[&reset[..], &["--yes"]].concat()).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for word in ["us-east-0", "is being read", "groups pause"] {
        assert!(refused.err.contains(word), "{word}: {refused:?}");
    }
    assert_eq!(describe(gateway, group).await["lag_messages"], 0, "nothing has changed");

    let before = record.delivered_count();
    let forced = ask(
        gateway,
        &["groups", "reset", group, "--to", "earliest", "--yes", "--force"],
    )
    .await;
    let moved = forced["partitions"].as_array().unwrap();
    let sum = |field: &str| moved.iter().map(|each| each[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("again"), sum("skipped")), (stored, 0), "{forced}");
    let topics: BTreeSet<&str> = moved.iter().map(|each| each["topic"].as_str().unwrap()).collect();
    assert_eq!(topics, BTreeSet::from([names.orders.as_str()]));
    // The same workers have everything once more.
    eventually(SOON, "everything again", || async {
        record.delivered_count() >= before + stored
    })
    .await;
    assert_eq!(record.highest_attempt(), 1, "a reset counts no attempt");
    eventually(SOON, "all to be settled again", || async {
        describe(gateway, group).await["lag_messages"] == 0
    })
    .await;
    workers.stop().await;

    // Nobody reads any more: moved without force, by time and by position.
    let mut back = Value::Null;
    eventually(SOON, "the group to be left", || async {
        meridian(&[&reset[..], &["--yes"]].concat()).await.code == Some(0)
    })
    .await;
    for to in ["latest", "-1h"] {
        back = ask(
            gateway,
            &["groups", "reset", group, "--to", to, "--topic", &names.orders, "--yes"],
        )
        .await;
    }
    let one = &back["partitions"][0];
    let (partition, position) = (one["partition"].as_u64().unwrap(), one["to"].as_u64().unwrap());
    let place = format!("{partition}:{position}");
    let dry = ask(gateway, &["groups", "reset", group, "--to", &place, "--dry-run"]).await;
    assert_eq!(
        (&dry["changed"], &dry["partitions"][0]["to"]),
        (&Value::from(false), &Value::from(position))
    );
    assert_eq!(describe(gateway, group).await["lag_messages"], stored);
    let gone = ask(gateway, &["groups", "delete", group, "--yes"]).await;
    assert_eq!(gone["deleted"], true);
    let missing = meridian(&["groups", "describe", group, "--admin", &admin]).await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.err.contains("not there"), "{missing:?}");
}

/// Two gateways read for the group, and only one of them knows of the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_forced_reset_needs_every_member_to_leave_kafka() {
    let names = Names::new();
    let scratch = Scratch::new("reset-fleet");
    let one = GatewayPlan::new(US, Brokers::Kafka(shared_kafka('A')), rules(&names));
    let two = one.another("us-east-2");
    let one = one.more(&format!("admin_siblings: ['{}']\n", two.admin()));
    let (one, two) = (one.start(&scratch).await, two.start(&scratch).await);
    one.ready().await;
    two.ready().await;
    let record = Record::new();
    let load = Load::start(vec![LoadPlan::new(&[one.data()], "orders", ORDER, 100)], &record);
    let fleets = [&one, &two].map(|gateway| fleet(&names, &[gateway.data()]));
    let workers = Fleet::start(fleets.to_vec(), &record);
    eventually(SOON * 2, "deliveries", || async { record.delivered_count() > 100 }).await;
    for gateway in [&one, &two] {
        eventually(SOON, "both gateways to have partitions", || async {
            gateway.metric("meridian_group_lag_messages").await.is_some()
        })
        .await;
    }
    load.stop().await;
    record.must_hold(&orders(&names), SOON, 100).await;
    let group = names.billing.as_str();
    eventually(SOON, "all to be settled", || async {
        describe(&one, group).await["lag_messages"] == 0
    })
    .await;

    let reset = ["groups", "reset", group, "--to", "earliest", "--yes", "--force"];
    let refused = meridian(&[&reset[..], &["--admin", &two.admin()]].concat()).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.err.contains("admin_siblings"), "says who stays: {refused:?}");
    let seen = describe(&two, group).await;
    assert_eq!(
        (&seen["lag_messages"], &seen["paused"]),
        (&Value::from(0), &Value::from(false)),
        "{seen}"
    );

    let (before, stored) = (record.delivered_count(), record.stored_count());
    let forced = ask(&one, &reset).await;
    assert_eq!(forced["gateways"][0]["error"], Value::Null, "{forced}");
    eventually(SOON * 2, "everything again", || async {
        record.delivered_count() >= before + stored
    })
    .await;
    assert_eq!(record.highest_attempt(), 1, "nothing of this counts");
    for gateway in [&one, &two] {
        assert_eq!(describe(gateway, group).await["paused"], false);
    }
    workers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_grow_and_slips_are_caught() {
    let names = Names::new();
    let scratch = Scratch::new("topics-cli");
    let gateway = GatewayPlan::new(US, Brokers::Embedded, rules(&names))
        .start(&scratch)
        .await;
    gateway.ready().await;
    let (admin, topic) = (gateway.admin(), names.orders.as_str());
    let before = ask(&gateway, &["topics", "describe", topic]).await;
    let grown = ask(&gateway, &["topics", "grow", topic, "--partitions", "6"]).await;
    assert_eq!(grown["partitions"], 6, "{grown}");
    let after = ask(&gateway, &["topics", "describe", topic]).await;
    assert_eq!((&after["partitions"], &after["id"]), (&Value::from(6), &before["id"]));
    let made = ask(&gateway, &["topics", "create", "by-hand", "--partitions", "2"]).await;
    assert_eq!(made["partitions"], 2, "{made}");
    assert!(
        ask(&gateway, &["groups", "sessions"])
            .await
            .as_array()
            .unwrap()
            .is_empty()
    );

    let refused: &[(&[&str], i32, &str)] = &[
        (&["topics", "grow", topic, "--partitions", "2"], 1, "has 6 partitions"),
        (
            &["topics", "grow", "nowhere", "--partitions", "2"],
            1,
            "nowhere is not there",
        ),
        (&["topics", "delete", "by-hand"], 2, "--yes"),
        (&["groups", "delete", "nobody"], 2, "--yes"),
        (&["groups", "delete", "nobody", "--yes"], 1, "nobody is not there"),
        (
            &["groups", "reset", "nobody", "--to", "latest", "--dry-run"],
            1,
            "nobody is not there",
        ),
        (
            &["groups", "reset", "nobody", "--to", "yesterday"],
            2,
            "2026-11-24T06:00:00Z",
        ),
        (&["groups", "reset", "nobody", "--to", "3:"], 2, "PARTITION:POSITION"),
        (
            &["groups", "pause", "nobody", "--until", "2020-01-01T00:00:00Z"],
            1,
            "over already",
        ),
        (&["groups", "pause", "nobody", "--until", "soon"], 2, "30m"),
        (&["groups", "pause", "nobody", "--wait", "2m"], 2, "60 s"),
        (&["groups", "pause", "nobody", "--broker", "slow"], 1, "known: main"),
    ];
    for (arguments, code, word) in refused {
        let finished = meridian(&[arguments, &["--admin", &admin][..]].concat()).await;
        assert_eq!(finished.code, Some(*code), "{finished:?}");
        assert!(finished.err.contains(word), "{word}: {finished:?}");
    }
    let gone = ask(&gateway, &["topics", "delete", "by-hand", "--yes"]).await;
    assert_eq!(gone["deleted"], true, "{gone}");
}
