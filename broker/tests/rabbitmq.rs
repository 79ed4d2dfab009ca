//! The conformance suite over real RabbitMQ brokers.
//!
//! Cases that leave the broker alone share the running broker `a`; those that disturb
//! it have one of their own, which ends with them.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test that unwraps fails where it should, and may print"
)]

mod rabbitmq_broker;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meridian_broker::adapters::rabbitmq::RabbitMqConfig;
use meridian_broker::conformance::{Fixture, Need, Settings};
use meridian_broker::{Broker, TopicPartition, TopicSpec};
use meridian_fault_proxy::Proxy;
use meridian_runtime::Secret;

use self::rabbitmq_broker::{Server, open, open_with, running};

meridian_broker::conformance_suite!(RabbitMqFixture::start);
meridian_broker::remote_conformance_suite!(RabbitMqFixture::start);
meridian_broker::faulty_conformance_suite!(RabbitMqFixture::start);
meridian_broker::guarded_conformance_suite!(RabbitMqFixture::start);

/// What decides where a proxy cuts and slices.
const SEED: u64 = 7;

struct RabbitMqFixture {
    address: String,
    /// The broker that is this case's own.
    own: Option<(Server, Proxy)>,
}

impl RabbitMqFixture {
    async fn start(need: Need) -> Self {
        match need {
            Need::Shared => Self {
                address: running("MERIDIAN_RABBITMQ_A"),
                own: None,
            },
            Need::Own => {
                let server = Server::start().await;
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

#[async_trait]
impl Fixture for RabbitMqFixture {
    async fn connect(&self, settings: &Settings) -> Arc<dyn Broker> {
        open(&self.address, settings).await
    }

    async fn connect_other(&self) -> Arc<dyn Broker> {
        open(&running("MERIDIAN_RABBITMQ_B"), &Settings::default()).await
    }

    async fn stop_broker(&self) {
        self.own().command("stop", &[]).await;
    }

    async fn kill_broker(&self) {
        self.own().command("kill", &[]).await;
    }

    async fn start_broker(&self) {
        self.own().start_again().await;
    }

    fn handles_outlive_restarts(&self) -> bool {
        true
    }

    fn forgetful(&self, spec: TopicSpec) -> TopicSpec {
        spec
    }

    async fn forget(&self, _broker: &Arc<dyn Broker>, partition: &TopicPartition, _position: u64) {
        panic!("RabbitMQ has no positions to forget, and {partition} was asked to");
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
        let mut config = RabbitMqConfig::new(vec![self.own().address()]);
        config.password = Secret::new(if right { "guest" } else { "another" });
        config.delivery_timeout = Duration::from_secs(3);
        open_with(config).await
    }
}
