//! The conformance suite over real Redis servers.
//!
//! Cases that leave the broker alone share the running server `a`; those that disturb it
//! start a server of their own, which ends with this process at the latest.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    dead_code,
    reason = "a test that unwraps fails where it should, and may print; the servers are shared with other tests"
)]

mod redis_server;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meridian_broker::adapters::redis::RedisConfig;
use meridian_broker::conformance::{Fixture, Need, Settings};
use meridian_broker::{Broker, TopicPartition, TopicSpec};
use meridian_fault_proxy::Proxy;
use meridian_runtime::Secret;

use self::redis_server::{Foreign, Server, open_with, running};

meridian_broker::conformance_suite!(RedisFixture::start);
meridian_broker::log_conformance_suite!(RedisFixture::start);
meridian_broker::remote_conformance_suite!(RedisFixture::start);
meridian_broker::faulty_conformance_suite!(RedisFixture::start);
meridian_broker::guarded_conformance_suite!(RedisFixture::start);

/// What decides where a proxy cuts and slices.
const SEED: u64 = 7;
const PASSWORD: &str = "correct-horse";

struct RedisFixture {
    address: String,
    /// The server that is this case's own.
    own: Option<(Server, Proxy)>,
}

impl RedisFixture {
    async fn start(need: Need) -> Self {
        match need {
            Need::Shared => Self {
                address: running("MERIDIAN_REDIS_A"),
                own: None,
            },
            Need::Own => {
                // What is confirmed must survive a kill: with `everysec` Redis puts a write off while a sync is under
                // way, and a kill then loses what it had confirmed.
                let server = Server::start(&["appendfsync=always"]).await;
                let proxy = Proxy::start(&server.address(), SEED).await.unwrap();
                Self {
                    address: server.address(),
                    own: Some((server, proxy)),
                }
            }
        }
    }

    fn own(&self) -> &Server {
        let own = self.own.as_ref();
        &own.expect("a case that disturbs its broker must say that it needs its own")
            .0
    }
}

async fn open(address: &str, settings: &Settings) -> Arc<dyn Broker> {
    let mut config = RedisConfig::new(vec![address.to_owned()]);
    config.max_in_flight_records = settings.max_in_flight_records;
    config.max_in_flight_bytes = settings.max_in_flight_bytes;
    config.max_record_bytes = settings.max_record_bytes;
    config.delivery_timeout = settings.delivery_timeout;
    open_with(config).await
}

#[async_trait]
impl Fixture for RedisFixture {
    async fn connect(&self, settings: &Settings) -> Arc<dyn Broker> {
        open(&self.address, settings).await
    }

    async fn connect_other(&self) -> Arc<dyn Broker> {
        open(&running("MERIDIAN_REDIS_B"), &Settings::default()).await
    }

    async fn stop_broker(&self) {
        self.own().command("stop", &[]).await;
    }

    async fn kill_broker(&self) {
        self.own().command("kill", &[]).await;
    }

    async fn start_broker(&self) {
        self.own()
            .command("start", &["--until-pid", &std::process::id().to_string()])
            .await;
    }

    fn handles_outlive_restarts(&self) -> bool {
        true
    }

    fn forgetful(&self, spec: TopicSpec) -> TopicSpec {
        spec
    }

    async fn forget(&self, _broker: &Arc<dyn Broker>, partition: &TopicPartition, position: u64) {
        // Retention of ours would keep what is not settled: another client does it.
        let foreign = Foreign::connect(&self.address).await;
        let stream = Foreign::stream(partition.topic.as_str(), partition.partition);
        let last = foreign.last_id(&stream).await;
        let (epoch, _) = last.split_once('-').unwrap();
        let first = format!("{epoch}-{}", position + 1);
        foreign.run(&["XTRIM", &stream, "MINID", &first]).await;
    }

    fn proxy(&self) -> &Proxy {
        &self
            .own
            .as_ref()
            .expect("a case with a proxy must say that it needs its own broker")
            .1
    }

    async fn connect_through(&self, settings: &Settings) -> Arc<dyn Broker> {
        open(&self.proxy().address(), settings).await
    }

    fn freeze_broker(&self) {
        self.own().signal("STOP");
    }

    fn thaw_broker(&self) {
        self.own().signal("CONT");
    }

    async fn connect_with_password(&self, right: bool) -> Arc<dyn Broker> {
        if right {
            // Asked for first. Connections that are there keep what they had.
            let foreign = Foreign::connect(&self.address).await;
            foreign.run(&["CONFIG", "SET", "requirepass", PASSWORD]).await;
        }
        let mut config = RedisConfig::new(vec![self.address.clone()]);
        config.password = Some(Secret::new(if right { PASSWORD } else { "another" }));
        config.delivery_timeout = Duration::from_secs(3);
        open_with(config).await
    }
}
