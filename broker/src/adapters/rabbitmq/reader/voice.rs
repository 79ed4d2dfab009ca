//! How a member, or whoever asks the members, speaks to a group.
//!
//! What holds: speaking is bounded in time and never holds up reading: what cannot
//! be said, as during an alarm, is not said.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel};
use tokio::time::timeout;

use super::gossip::Said;
use crate::adapters::rabbitmq::core::Core;
use crate::adapters::rabbitmq::fault::Fault;
use crate::adapters::rabbitmq::topology::call;
use crate::name::GroupName;

/// How long one question may keep the member from its other work.
pub(super) const SAY_LIMIT: Duration = Duration::from_secs(1);

/// Speaks to the members of a group; what cannot be said is not said.
pub(crate) struct Voice {
    core: Arc<Core>,
    exchange: String,
    channel: Option<(u64, Channel)>,
}

impl Voice {
    pub(crate) fn new(core: &Arc<Core>, group: &GroupName) -> Self {
        Self {
            core: Arc::clone(core),
            exchange: core.names.members_exchange(group),
            channel: None,
        }
    }

    pub(crate) async fn say(&mut self, said: &Said) -> Result<(), Fault> {
        let saying = async {
            let up = self.core.control.up(Duration::ZERO).await?;
            if let Some((_, reason)) = up.blocked {
                return Err(Fault::Away(reason));
            }
            let channel = match &self.channel {
                Some((epoch, channel)) if *epoch == up.epoch && channel.status().connected() => channel.clone(),
                _ => {
                    let channel = call(up.connection.create_channel()).await?;
                    self.channel = Some((up.epoch, channel.clone()));
                    channel
                }
            };
            let text = serde_json::to_vec(said).map_err(|error| Fault::Other(error.to_string()))?;
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            let exchange = self.exchange.as_str().into();
            let confirm = channel.basic_publish(exchange, "".into(), options, &text, properties);
            confirm.await?.await?; // at once: this channel has no confirmations
            Ok(())
        };
        match timeout(SAY_LIMIT, saying).await {
            Ok(said) => said,
            Err(_) => Err(Fault::Late("the connection takes no messages".to_owned())),
        }
    }
}
