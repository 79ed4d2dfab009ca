//! A Kafka cluster as a broker of the seam: ties the parts together.
//!
//! What holds: connecting asks nobody and waits for nobody.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meridian_event::Binding;
use meridian_runtime::clock::SharedClock;

use super::admin::KafkaAdmin;
use super::appender::KafkaAppender;
use super::cluster::Cluster;
use super::config::KafkaConfig;
use super::native::metadata;
use super::reader;
use crate::admin::Admin;
use crate::append::Appender;
use crate::connect::{ConnectError, ConnectErrorKind};
use crate::error::{AdminError, AdminErrorKind, ReadError, ReadErrorKind};
use crate::name::{BrokerName, RegionName};
use crate::read::{Reader, ReaderOptions};
use crate::seam::{Broker, BrokerIdentity, BrokerKind, BrokerProfile, BrokerState, Durability};

/// How long the cluster may take to tell its id.
const IDENTITY_LIMIT: Duration = Duration::from_secs(10);

/// The broker `name` of `region`: a Kafka cluster, which need not be there yet.
///
/// # Errors
/// [`ConnectError`] when librdkafka refuses the settings.
pub async fn connect(
    region: RegionName,
    name: BrokerName,
    config: KafkaConfig,
    clock: SharedClock,
) -> Result<Arc<dyn Broker>, ConnectError> {
    let profile = BrokerProfile {
        region: region.clone(),
        name: name.clone(),
        kind: BrokerKind::Kafka,
        capabilities: BrokerKind::Kafka.capabilities(),
        binding: Binding::default(),
        durability: Durability::InSyncReplicas,
        max_record_bytes: config.max_record_bytes,
    };
    let opened = Cluster::open(config, clock).and_then(|cluster| {
        let appender = Arc::new(KafkaAppender::open(&cluster)?);
        Ok((cluster, appender))
    });
    let (cluster, appender) = opened.map_err(|error| {
        let message = format!("librdkafka refuses its settings: {error}");
        ConnectError::new(ConnectErrorKind::InvalidConfig, &region, &name, message).with_source(error)
    })?;
    let admin = Arc::new(KafkaAdmin::new(Arc::clone(&cluster)));
    Ok(Arc::new(KafkaBroker {
        profile,
        cluster,
        appender,
        admin,
    }))
}

struct KafkaBroker {
    profile: BrokerProfile,
    cluster: Arc<Cluster>,
    appender: Arc<KafkaAppender>,
    admin: Arc<KafkaAdmin>,
}

impl fmt::Debug for KafkaBroker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("KafkaBroker")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for KafkaBroker {
    fn profile(&self) -> &BrokerProfile {
        &self.profile
    }

    fn state(&self) -> BrokerState {
        self.cluster.health.state()
    }

    fn client_rebuilds(&self) -> u64 {
        self.cluster.rebuilds()
    }

    async fn identity(&self) -> Result<BrokerIdentity, AdminError> {
        if self.cluster.health.is_closed() {
            return Err(AdminError::new(AdminErrorKind::Closed, "this broker was closed"));
        }
        let client = Arc::clone(&self.cluster.client);
        let ask = move || metadata::cluster_id(&client, IDENTITY_LIMIT);
        let id = tokio::task::spawn_blocking(ask).await.ok().flatten();
        if id.is_some() {
            self.cluster.health.answered();
        }
        id.map(BrokerIdentity).ok_or_else(|| {
            let servers = self.cluster.config.bootstrap.join(", ");
            let message = format!("no broker of {servers} told the id of its cluster");
            AdminError::new(AdminErrorKind::BrokerUnavailable, message)
        })
    }

    fn appender(&self) -> Arc<dyn Appender> {
        Arc::clone(&self.appender) as Arc<dyn Appender>
    }

    async fn open_reader(&self, options: ReaderOptions) -> Result<Box<dyn Reader>, ReadError> {
        if self.cluster.health.is_closed() {
            return Err(ReadError::new(ReadErrorKind::Closed, "this broker was closed"));
        }
        reader::open(&self.cluster, options)
    }

    fn admin(&self) -> Arc<dyn Admin> {
        Arc::clone(&self.admin) as Arc<dyn Admin>
    }

    async fn close(&self, limit: Duration) {
        let deadline = self.cluster.clock.now() + limit;
        self.cluster.close();
        self.appender.close(deadline).await;
    }
}
