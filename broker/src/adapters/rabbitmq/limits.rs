//! Whether the broker drops what comes back often: a delivery limit, which a policy can
//! set and AMQP does not show. It is found out by giving one record back again and
//! again, in a queue of our own that a policy for our names covers as well.
//!
//! What holds: each connection is looked at once, beside what goes on; while a limit is
//! known no group is read, for a record that comes back with every gateway that ends
//! would be dropped without a word. A limit above [`MOST_RETURNS`] is not found.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lapin::options::{BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::sync::watch;

use super::core::Core;
use super::fault::Fault;
use super::topology::{self, CALL_LIMIT, call};

/// How often the record is given back. RabbitMQ 4 drops after 20 unless it is told otherwise.
const MOST_RETURNS: u32 = 100;

/// What is known of the broker's limits.
pub(super) struct Limits {
    /// Why no group may be read.
    found: watch::Sender<Option<Arc<str>>>,
    /// The epoch of the connection that was looked at last.
    looked_in: AtomicU64,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self {
            found: watch::Sender::new(None),
            looked_in: AtomicU64::new(0),
        }
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.found.subscribe()
    }

    /// Looks again if a limit is known.
    pub(super) async fn check(&self, core: &Core) -> Result<(), Fault> {
        if self.found.borrow().is_none() {
            return Ok(());
        }
        self.find(core).await?;
        match &*self.found.borrow() {
            Some(text) => Err(Fault::Other(text.to_string())),
            None => Ok(()),
        }
    }

    async fn find(&self, core: &Core) -> Result<(), Fault> {
        let text = returns_until_dropped(core).await?.map(|returns| -> Arc<str> {
            format!(
                "the broker drops a record that came back {returns} times: a policy or a default sets a delivery limit for \
                 queues called {}; set delivery-limit to -1 for them (RabbitMQ 4), or take the policy away",
                core.names.limits("*")
            )
            .into()
        });
        self.found.send_if_modified(|found| {
            let is_news = *found != text;
            if let Some(text) = text.as_ref().filter(|_| is_news) {
                tracing::error!(reason = %text, "no group is read");
            }
            *found = text;
            is_news
        });
        Ok(())
    }
}

/// Finds out beside what goes on, once a connection.
pub(super) fn look(core: &Arc<Core>, epoch: u64) {
    if core.limits.looked_in.swap(epoch, Ordering::Relaxed) == epoch {
        return;
    }
    let core = Arc::downgrade(core);
    tokio::spawn(async move {
        let Some(core) = core.upgrade() else { return };
        if let Err(fault) = core.limits.find(&core).await {
            tracing::debug!(reason = fault.text(), "the broker's limits could not be found out");
            // The next who joins tries again.
            core.limits.looked_in.store(0, Ordering::Relaxed);
        }
    });
}

/// After how many returns a record was dropped; `None` when it never was.
async fn returns_until_dropped(core: &Core) -> Result<Option<u32>, Fault> {
    let up = core.control.up(CALL_LIMIT).await?;
    if let Some((_, reason)) = up.blocked {
        return Err(Fault::Away(reason));
    }
    let channel = call(up.connection.create_channel()).await?;
    let queue = core.names.limits(&uuid::Uuid::new_v4().to_string());
    topology::declare_probe(&channel, &queue).await?;
    let returns = give_back(&channel, &queue).await;
    topology::delete_queue(&channel, &queue).await?;
    let _ = call(channel.close(200, "done".into())).await;
    returns
}

async fn give_back(channel: &Channel, queue: &str) -> Result<Option<u32>, Fault> {
    call(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let publish = channel.basic_publish("".into(), queue.into(), options, &[], properties);
    match call(async { publish.await?.await }).await? {
        Confirmation::Ack(None) => {}
        other => return Err(Fault::Other(format!("the queue {queue} took no record: {other:?}"))),
    }
    for returns in 0..=MOST_RETURNS {
        let got = call(channel.basic_get(queue.into(), BasicGetOptions::default())).await?;
        let Some(got) = got else {
            return Ok(Some(returns));
        };
        let options = BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        };
        call(channel.basic_nack(got.delivery.delivery_tag, options)).await?;
    }
    Ok(None)
}
