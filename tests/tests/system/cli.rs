//! The command line as scripts use it: exit codes, JSON, help with examples, every
//! fault of a bad configuration.

use std::time::Duration;

use meridian_tests::harness::command::run;
use meridian_tests::harness::scratch::meridian_binary;
use meridian_tests::harness::{Brokers, GatewayPlan, Scratch, eventually, free_port, meridian};
use serde_json::Value;

use crate::regions::{EU, Names, US};

#[tokio::test(flavor = "multi_thread")]
async fn every_command_has_help_with_examples() {
    let commands: &[&[&str]] = &[
        &[],
        &["gateway"],
        &["replicator"],
        &["dev"],
        &["publish"],
        &["subscribe"],
        &["rules", "get"],
        &["rules", "validate"],
        &["rules", "apply"],
        &["rules", "explain"],
        &["topics", "list"],
        &["topics", "describe"],
        &["topics", "create"],
        &["topics", "grow"],
        &["topics", "delete"],
        &["groups", "list"],
        &["groups", "describe"],
        &["groups", "sessions"],
        &["groups", "pause"],
        &["groups", "resume"],
        &["groups", "reset"],
        &["groups", "delete"],
        &["links", "list"],
        &["links", "pause"],
        &["links", "resume"],
        &["drain"],
    ];
    for command in commands {
        let arguments: Vec<&str> = command.iter().copied().chain(["--help"]).collect();
        let help = meridian(&arguments).await.success();
        let example = format!("  meridian {}", command.join(" "));
        assert!(
            help.contains("Examples:") && help.contains(example.trim_end()),
            "{command:?}: {help}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_tell_usage_from_failure_from_bad_configuration() {
    let scratch = Scratch::new("exit-codes");
    assert_eq!(meridian(&["publish"]).await.code, Some(2), "a flag is missing");
    assert_eq!(meridian(&["nonsense"]).await.code, Some(2));
    let nobody = format!("127.0.0.1:{}", free_port());
    let event = ["--type", "t", "--source", "/s"];
    let publish = [&["publish", "--gateway", &nobody, "--timeout", "500ms"][..], &event].concat();
    let failed = meridian(&publish).await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    let failed = meridian(&["topics", "list", "--admin", &nobody]).await;
    assert_eq!(failed.code, Some(1), "{failed:?}");
    assert!(failed.err.contains(&nobody), "names the address: {failed:?}");
    let json = meridian(&["topics", "list", "--admin", &nobody, "--output", "json"]).await;
    let error: Value = serde_json::from_str(&json.err).unwrap();
    assert!(error["error"].is_string(), "{error}");
    let missing = scratch.path("missing.yaml");
    let missing = meridian(&["gateway", "--config", missing.to_str().unwrap(), "--check"]).await;
    assert_eq!(missing.code, Some(64), "{missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_is_told_with_every_fault_and_its_line() {
    let scratch = Scratch::new("bad-config");
    let gateway = scratch.write(
        "gateway.yaml",
        "region: US East\nlisten:\n  data: 127.0.0.1\n  admni: 127.0.0.1:0\nbrokers:\n  main:\n    kafak: {}\nlimits:\n  max_event_bytes: -1\n",
    );
    let replicator = scratch.write(
        "replicator.yaml",
        "listen:\n  admin: nowhere\nregions: {}\nlinks:\n  - name: x\n    sauce: {}\n",
    );
    for (command, file, wanted) in [
        (
            "gateway",
            &gateway,
            &[
                "US East",
                "listen.data",
                "admni",
                "kafak",
                "max_event_bytes",
                ":4",
                ":9",
            ][..],
        ),
        ("replicator", &replicator, &["listen.admin", "sauce", ":2", ":6"][..]),
    ] {
        for check in [true, false] {
            let mut arguments = vec![command, "--config", file.to_str().unwrap()];
            arguments.extend(check.then_some("--check"));
            let refused = meridian(&arguments).await;
            assert_eq!(refused.code, Some(64), "{refused:?}");
            for words in wanted {
                assert!(
                    refused.err.contains(words),
                    "{command} does not tell {words:?}: {}",
                    refused.err
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_configuration_is_checked_without_starting_anything() {
    let scratch = Scratch::new("good-config");
    let names = Names::new();
    let plan = GatewayPlan::new(US, Brokers::Embedded, names.rules()).peer(EU, "127.0.0.1:9");
    scratch.write("us-east-rules.yaml", &names.rules());
    let config = scratch.write("us-east.yaml", &plan.yaml(&scratch));
    let checked = meridian(&["gateway", "--config", config.to_str().unwrap(), "--check"]).await;
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(!scratch.path("us-east-data").exists(), "a check opens no store");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_and_scripts_get_tables_and_json() {
    let scratch = Scratch::new("cli-json");
    let names = Names::new();
    let gateway = GatewayPlan::new(
        US,
        Brokers::Embedded,
        format!("rules:\n  - name: all\n    send: {{ topic: {} }}\n", names.orders),
    );
    let gateway = gateway.start(&scratch).await;
    gateway.ready().await;
    let (data, admin, topic) = (gateway.data(), gateway.admin(), names.orders.as_str());
    let publish = [
        "publish",
        "--gateway",
        &data,
        "--type",
        "t",
        "--source",
        "/s",
        "--key",
        "k",
        "--output",
        "json",
    ];
    let piped = run(
        &meridian_binary(),
        &[&publish[..], &["--data-file", "-"]].concat(),
        "{\"total\":12}",
    )
    .await
    .json();
    assert_eq!(
        (&piped["topic"], &piped["position"]),
        (&Value::from(topic), &Value::from(0)),
        "{piped}"
    );
    let many = meridian(&[
        "publish",
        "--gateway",
        &data,
        "--type",
        "t",
        "--source",
        "/s",
        "--key",
        "k",
        "--count",
        "10",
    ])
    .await
    .success();
    assert_eq!(many.trim(), "10 stored, 0 refused, 0 unknown");

    let subscribe = [
        "subscribe",
        "--gateway",
        &data,
        "--group",
        &names.billing,
        "--topic",
        topic,
        "--count",
        "11",
        "--output",
        "json",
    ];
    let out = meridian(&subscribe).await.success();
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 11, "{out}");
    assert_eq!(
        (&events[0]["event"]["data"]["total"], &events[0]["attempt"]),
        (&Value::from(12), &Value::from(1)),
        "{out}"
    );

    let topics = meridian(&["topics", "list", "--admin", &admin, "--output", "json"])
        .await
        .json();
    let listed = topics.as_array().unwrap().iter().find(|each| each["topic"] == topic);
    assert_eq!(
        listed.map(|each| (&each["partitions"], &each["records"])),
        Some((&Value::from(4), &Value::from(11))),
        "{topics}"
    );
    let groups = meridian(&["groups", "list", "--admin", &admin, "--output", "json"])
        .await
        .json();
    assert!(
        groups
            .as_array()
            .unwrap()
            .iter()
            .any(|group| group["group"] == names.billing.as_str()),
        "{groups}"
    );
    eventually(Duration::from_secs(10), "what was accepted to be settled", || async {
        let describe = [
            "groups",
            "describe",
            &names.billing,
            "--admin",
            &admin,
            "--output",
            "json",
        ];
        meridian(&describe).await.json()["lag_messages"] == 0
    })
    .await;
    let table = meridian(&["topics", "list", "--admin", &admin]).await.success();
    assert!(table.starts_with("BROKER") && table.contains(topic), "{table}");
    assert!(!table.contains('\u{1b}'), "no colours where there is no terminal");
}
