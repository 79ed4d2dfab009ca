//! The configuration file: every fault with its place, overrides, and the rules file
//! that it names; and what a gateway refuses to start on.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod harness;

use std::path::Path;

use harness::config;
use meridian_gateway::{Environment, Gateway, GatewayConfig, StartError};
use meridian_runtime::{Metrics, SystemClock};

const GOOD: &str =
    "region: us-east\nbrokers: { main: { embedded: { directory: data } } }\nrules: { file: rules.yaml }\n";
const RULES: &str = "rules: [{ name: all, send: { topic: t } }]\n";

fn write(folder: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn environment() -> Environment {
    Environment::new(SystemClock::shared(), Metrics::new([("region", "us-east")]))
}

#[test]
fn every_fault_is_told_with_file_line_and_path() {
    let folder = tempfile::tempdir().unwrap();
    let text = "region: us-east
listen: { data: nowhere }
brokers:
  main: { embedded: { directory: data } }
  fast: { pulsar: {} }
default_broker: slow
peers: { us-east: { addresses: ['a:1'] }, eu-west: { addresses: ['a'] } }
limits: { max_event_bytes: lots, max_batches: 3 }
shutdown_seconds: 0
";
    let path = write(folder.path(), "gateway.yaml", text);
    let faults = GatewayConfig::load(&path, []).unwrap_err();
    let told = faults.to_string();
    for (place, words) in [
        ("gateway.yaml:2:", "\"nowhere\" is not host:port"),
        ("gateway.yaml:5:", "is no kind of broker"),
        ("gateway.yaml:7:", "the gateway's own region"),
        ("gateway.yaml:7:", "\"a\" is not host:port"),
        ("gateway.yaml:8:", "limits.max_event_bytes"),
        ("gateway.yaml:8:", "limits.max_batches"),
        ("gateway.yaml:9:", "shutdown_seconds"),
    ] {
        let found = told.lines().any(|line| line.contains(place) && line.contains(words));
        assert!(found, "no line has {place} and {words:?}:\n{told}");
    }
}

#[test]
fn the_rules_file_is_checked_with_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "gateway.yaml", GOOD);
    write(folder.path(), "rules.yaml", RULES);
    GatewayConfig::load(&path, []).unwrap();
    write(
        folder.path(),
        "rules.yaml",
        "rules:\n  - name: a\n    send: { topic: t, region: mars }\n  - nam: b\n",
    );
    let told = GatewayConfig::load(&path, []).unwrap_err().to_string();
    for words in ["rules.yaml:3", "rules[0].send.region", "mars", "rules.yaml:4", "nam"] {
        assert!(told.contains(words), "{words:?} is not in:\n{told}");
    }
    write(folder.path(), "rules.yaml", "rules: [\n");
    let told = GatewayConfig::load(&path, []).unwrap_err().to_string();
    assert!(told.contains("rules.yaml:"), "{told}");
}

#[test]
fn variables_override_the_file_and_are_checked_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), "gateway.yaml", GOOD);
    let load = |name: &str, value: &str| GatewayConfig::load(&path, [(name.to_owned(), value.to_owned())]);
    let config = load("MERIDIAN__LISTEN__DATA", "127.0.0.1:17400").unwrap();
    assert_eq!(config.listen.data, "127.0.0.1:17400");
    let told = load("MERIDIAN__LIMITS__MAX_EVENT_BYTES", "7").unwrap_err().to_string();
    assert!(told.contains("MERIDIAN__LIMITS__MAX_EVENT_BYTES"), "{told}");
    let told = load("MERIDIAN__COLOUR", "blue").unwrap_err().to_string();
    assert!(told.to_lowercase().contains("colour"), "{told}");
}

#[tokio::test]
async fn a_gateway_does_not_start_on_faulty_rules_or_a_taken_port() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "rules.yaml",
        "rules: [{ name: all, send: { topic: t, region: mars } }]\n",
    );
    let Err(error) = Gateway::start(config(folder.path(), "us-east", ""), environment()).await else {
        panic!("it started on faulty rules");
    };
    assert!(
        matches!(error, StartError::Rules(_)) && error.to_string().contains("mars"),
        "{error}"
    );

    write(folder.path(), "rules.yaml", RULES);
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config(folder.path(), "us-east", "");
    config.listen.admin = taken.local_addr().unwrap().to_string();
    let Err(error) = Gateway::start(config, environment()).await else {
        panic!("it started on a taken port");
    };
    let port = taken.local_addr().unwrap().port().to_string();
    assert!(
        matches!(error, StartError::Bind(_)) && error.to_string().contains(&port),
        "{error}"
    );
}

#[tokio::test]
async fn a_failed_start_leaves_the_store_free() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "rules.yaml",
        "rules: [{ name: all, send: { topic: t, region: mars } }]\n",
    );
    assert!(
        Gateway::start(config(folder.path(), "us-east", ""), environment())
            .await
            .is_err()
    );
    write(folder.path(), "rules.yaml", RULES);
    let gateway = Gateway::start(config(folder.path(), "us-east", ""), environment())
        .await
        .unwrap();
    assert!(gateway.shutdown().await.is_clean());
}
