//! Opens a Redis broker.

use std::sync::Arc;

use meridian_runtime::SharedClock;

use super::config::RedisConfig;
use crate::connect::{ConnectError, ConnectErrorKind};
use crate::name::{BrokerName, RegionName};
use crate::seam::Broker;

/// Connects the broker.
///
/// # Errors
/// [`ConnectError`] when an operator is needed.
pub async fn connect(
    region: RegionName,
    name: BrokerName,
    _config: RedisConfig,
    _clock: SharedClock,
) -> Result<Arc<dyn Broker>, ConnectError> {
    let kind = ConnectErrorKind::InvalidConfig;
    Err(ConnectError::new(kind, &region, &name, "Redis is not served yet"))
}
