//! A Redis as a broker of the seam: ties the parts together.
//!
//! What holds: connecting asks nobody and waits for nobody; a broker that is dropped
//! without a close ends its tasks.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meridian_event::Binding;
use meridian_runtime::SharedClock;

use super::admin::RedisAdmin;
use super::appender::RedisAppender;
use super::config::RedisConfig;
use super::core::{Alive, Core};
use super::health::CLOSED;
use super::settings::Settings;
use super::{reader, retention, verify};
use crate::admin::Admin;
use crate::append::Appender;
use crate::connect::{ConnectError, ConnectErrorKind};
use crate::error::{AdminError, ReadError, ReadErrorKind};
use crate::name::{BrokerName, RegionName};
use crate::read::{Reader, ReaderOptions};
use crate::seam::{Broker, BrokerIdentity, BrokerKind, BrokerProfile, BrokerState};

/// The broker `name` of `region`: a Redis, which need not be there yet.
///
/// # Errors
/// [`ConnectError`] when an address or a file of TLS is of no use.
pub async fn connect(
    region: RegionName,
    name: BrokerName,
    config: RedisConfig,
    clock: SharedClock,
) -> Result<Arc<dyn Broker>, ConnectError> {
    let settings = Settings::new(&config).map_err(|error| {
        let kind = ConnectErrorKind::InvalidConfig;
        ConnectError::new(kind, &region, &name, error.to_string()).with_source(error)
    })?;
    let profile = BrokerProfile {
        region,
        name,
        kind: BrokerKind::Redis,
        capabilities: BrokerKind::Redis.capabilities(),
        binding: Binding::default(),
        durability: config.durability(),
        max_record_bytes: config.max_record_bytes,
    };
    let core = Core::new(config, settings, clock);
    tokio::spawn(retention::keep_house(Arc::clone(&core)));
    let alive = Arc::new(Alive(Arc::clone(&core)));
    Ok(Arc::new(RedisBroker {
        profile,
        appender: Arc::new(RedisAppender::start(&alive)),
        admin: Arc::new(RedisAdmin::new(Arc::clone(&core))),
        alive,
        core,
    }))
}

struct RedisBroker {
    profile: BrokerProfile,
    core: Arc<Core>,
    alive: Arc<Alive>,
    appender: Arc<RedisAppender>,
    admin: Arc<RedisAdmin>,
}

impl fmt::Debug for RedisBroker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RedisBroker")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for RedisBroker {
    fn profile(&self) -> &BrokerProfile {
        &self.profile
    }

    fn state(&self) -> BrokerState {
        self.core.health.state()
    }

    async fn identity(&self) -> Result<BrokerIdentity, AdminError> {
        let what = "the identity of this Redis is not known";
        let session = self.core.ask_for(what).await?;
        let known = verify::identity(&session, &self.core.keys.identity()).await;
        known.map(BrokerIdentity).map_err(|fault| fault.admin_error(what))
    }

    fn appender(&self) -> Arc<dyn Appender> {
        Arc::clone(&self.appender) as Arc<dyn Appender>
    }

    async fn open_reader(&self, options: ReaderOptions) -> Result<Box<dyn Reader>, ReadError> {
        if self.core.health.is_closed() {
            return Err(ReadError::new(ReadErrorKind::Closed, CLOSED));
        }
        reader::open(&self.alive, options)
    }

    fn admin(&self) -> Arc<dyn Admin> {
        Arc::clone(&self.admin) as Arc<dyn Admin>
    }

    async fn close(&self, limit: Duration) {
        let deadline = self.core.clock.now() + limit;
        self.core.close();
        self.appender.close(deadline).await;
    }
}
