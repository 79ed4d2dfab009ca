//! A replicator as a process has it: a file, an admin port, an orderly stop.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

use std::time::{Duration, Instant};

use meridian_proto::meridian::replication_service_client::ReplicationServiceClient;
use meridian_proto::meridian::{LinkState, ListLinksRequest, PauseLinkRequest, ResumeLinkRequest};
use meridian_replicator::{Environment, Replicator, ReplicatorConfig, config};
use meridian_runtime::{Metrics, SystemClock};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

fn write_config(folder: &TempDir, links: &str) -> std::path::PathBuf {
    let store = |name: &str| folder.path().join(name).display().to_string();
    let text = format!(
        "listen: {{ admin: '127.0.0.1:0' }}
regions:
  us-east: {{ brokers: {{ main: {{ embedded: {{ directory: '{}' }} }} }} }}
  eu-west: {{ brokers: {{ main: {{ embedded: {{ directory: '{}' }} }} }} }}
links:
{links}",
        store("us"),
        store("eu")
    );
    let path = folder.path().join("replicator.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

const LINK: &str = "  - name: us-to-eu
    source: { region: us-east, broker: main }
    target: { region: eu-west, broker: main }
    topics: ['orders.*']
";

/// What an HTTP/1 client gets.
async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_port_lists_pauses_resumes_and_tells_of_health() {
    let folder = TempDir::new().unwrap();
    let path = write_config(&folder, LINK);
    config::check(&path, []).unwrap();
    let config = ReplicatorConfig::load(&path, []).unwrap();
    let environment = Environment::new(SystemClock::shared(), Metrics::new([("process", "replicator")]));
    let replicator = Replicator::start(config, environment).await.unwrap();
    let address = replicator.admin_address();
    assert!(replicator.health().is_ready());

    let channel = tonic::transport::Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut links = ReplicationServiceClient::new(channel.clone());
    let listed = links.list_links(ListLinksRequest {}).await.unwrap().into_inner().links;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].name.as_str(), listed[0].target_region.as_str()),
        ("us-to-eu", "eu-west")
    );
    assert!(listed[0].since.is_some());
    let named = |name: &str| name.to_owned();
    let paused = links
        .pause_link(PauseLinkRequest {
            name: named("us-to-eu"),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(paused.link.unwrap().state(), LinkState::Paused);
    let resumed = links
        .resume_link(ResumeLinkRequest {
            name: named("us-to-eu"),
        })
        .await
        .unwrap()
        .into_inner();
    assert_ne!(resumed.link.unwrap().state(), LinkState::Paused);
    let unknown = links
        .pause_link(PauseLinkRequest { name: named("nothing") })
        .await
        .unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    assert!(unknown.message().contains("us-to-eu"), "{unknown}");

    let mut health = HealthClient::new(channel.clone());
    for service in ["", "meridian.v1.ReplicationService"] {
        let asked = HealthCheckRequest {
            service: service.to_owned(),
        };
        assert_eq!(
            health.check(asked).await.unwrap().into_inner().status(),
            ServingStatus::Serving,
            "{service:?}"
        );
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflected = ServerReflectionClient::new(channel)
        .server_reflection_info(futures::stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let answer = reflected.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(services) = answer else {
        panic!("{answer:?}");
    };
    assert!(
        services
            .service
            .iter()
            .any(|service| service.name == "meridian.v1.ReplicationService"),
        "{services:?}"
    );

    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(get(address, "/readyz").await.contains("link us-to-eu"));
    let metrics = get(address, "/metrics").await;
    for expected in [
        "meridian_link_mirrored_records_total{",
        "meridian_link_lag_seconds{",
        "meridian_link_state{",
    ] {
        assert!(metrics.contains(expected), "{expected} is not in\n{metrics}");
    }

    // A watch never ends by itself, and must not hold the process up.
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let began = Instant::now();
    let report = replicator.shutdown().await;
    assert!(report.is_clean(), "{report:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(
        watch.message().await.unwrap().unwrap().status(),
        ServingStatus::NotServing,
        "it said so before it left"
    );
}

#[test]
fn a_faulty_file_is_told_with_every_fault_line_and_path() {
    let folder = TempDir::new().unwrap();
    let path = write_config(
        &folder,
        "  - name: us-to-eu
    source: { region: us-east, broker: main }
    target: { region: eu-west, broker: fast }
    topics: ['orders [a]']
    max_hop: 3
",
    );
    let faults = config::check(
        &path,
        [("MERIDIAN__LINKS__0__BATCH_RECORDS".to_owned(), "0".to_owned())],
    )
    .unwrap_err();
    let told = faults.to_string();
    for expected in [
        ":8:13: links[0].target: `regions` has no broker eu-west/fast",
        ":9:14: links[0].topics[0]: ' ' is in no topic name",
        ":10:5: links[0].max_hop: unknown key; did you mean `max_hops`?",
        "$MERIDIAN__LINKS__0__BATCH_RECORDS: links[0].batch_records: must be between 1 and 100000",
    ] {
        assert!(told.contains(expected), "{expected:?} is not in\n{told}");
    }
}
