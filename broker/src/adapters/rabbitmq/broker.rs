//! A RabbitMQ broker as a broker of the seam: ties the parts together.
//!
//! What holds: connecting waits for nobody; the identity is a name that the broker
//! keeps in its catalog, given by whoever asked first.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meridian_event::Binding;
use meridian_runtime::SharedClock;

use super::admin::RabbitMqAdmin;
use super::appender::RabbitMqAppender;
use super::config::RabbitMqConfig;
use super::core::Core;
use super::fault::Fault;
use super::reader;
use crate::admin::Admin;
use crate::append::Appender;
use crate::connect::{ConnectError, ConnectErrorKind};
use crate::error::{AdminError, ReadError, ReadErrorKind};
use crate::name::{BrokerName, RegionName};
use crate::read::{Reader, ReaderOptions};
use crate::seam::{Broker, BrokerIdentity, BrokerKind, BrokerProfile, BrokerState};

/// How long the broker may take to tell its identity.
const IDENTITY_LIMIT: Duration = Duration::from_secs(10);

/// Connects the broker, which need not be there yet.
///
/// # Errors
/// [`ConnectError`] when an operator is needed.
pub async fn connect(
    region: RegionName,
    name: BrokerName,
    config: RabbitMqConfig,
    clock: SharedClock,
) -> Result<Arc<dyn Broker>, ConnectError> {
    let profile = BrokerProfile {
        region: region.clone(),
        name: name.clone(),
        kind: BrokerKind::RabbitMq,
        capabilities: BrokerKind::RabbitMq.capabilities(),
        binding: Binding::default(),
        durability: config.durability(),
        max_record_bytes: config.max_record_bytes,
    };
    let core = Core::open(config, clock)
        .map_err(|message| ConnectError::new(ConnectErrorKind::InvalidConfig, &region, &name, message))?;
    Ok(Arc::new(RabbitMqBroker {
        profile,
        appender: Arc::new(RabbitMqAppender::new(&core)),
        admin: Arc::new(RabbitMqAdmin::new(&core)),
        core,
    }))
}

struct RabbitMqBroker {
    profile: BrokerProfile,
    core: Arc<Core>,
    appender: Arc<RabbitMqAppender>,
    admin: Arc<RabbitMqAdmin>,
}

impl fmt::Debug for RabbitMqBroker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RabbitMqBroker")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for RabbitMqBroker {
    fn profile(&self) -> &BrokerProfile {
        &self.profile
    }

    fn state(&self) -> BrokerState {
        self.core.state()
    }

    async fn identity(&self) -> Result<BrokerIdentity, AdminError> {
        let doing = "the broker's identity cannot be read";
        if self.core.is_closed() {
            return Err(Fault::Closed.admin(doing));
        }
        let identity = self.core.catalog.identity(IDENTITY_LIMIT).await;
        identity.map(BrokerIdentity).map_err(|fault| fault.admin(doing))
    }

    fn appender(&self) -> Arc<dyn Appender> {
        Arc::clone(&self.appender) as Arc<dyn Appender>
    }

    async fn open_reader(&self, options: ReaderOptions) -> Result<Box<dyn Reader>, ReadError> {
        if self.core.is_closed() {
            return Err(ReadError::new(ReadErrorKind::Closed, "this broker was closed"));
        }
        reader::open(&self.core, options)
    }

    fn admin(&self) -> Arc<dyn Admin> {
        Arc::clone(&self.admin) as Arc<dyn Admin>
    }

    async fn close(&self, limit: Duration) {
        let deadline = self.core.clock.now() + limit;
        self.core.begin_close();
        self.appender.close(deadline).await;
        let left = deadline.saturating_duration_since(self.core.clock.now());
        // Readers leave while their connection is up.
        self.core.until_readers_left(left).await;
        let left = deadline.saturating_duration_since(self.core.clock.now());
        self.core.close_links(left.max(Duration::from_millis(50))).await;
    }
}
