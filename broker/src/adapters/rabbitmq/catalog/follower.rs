//! Reads the catalog's log for ever, and appends to it.
//!
//! What holds: after a connection was lost the log is read from its beginning again,
//! and the state that was known serves until that is done; an append returns when
//! its own entry was read, or says that nobody knows.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation};
use tokio::sync::watch;
use tokio::time::timeout;

use super::state::{CatalogState, Change, Entry};
use crate::adapters::rabbitmq::fault::Fault;
use crate::adapters::rabbitmq::link::{Link, Reach};
use crate::adapters::rabbitmq::names::Names;
use crate::adapters::rabbitmq::topology::{self, CALL_LIMIT, call};

/// Entries that are on their way to us at most.
const PREFETCH: u16 = 500;
/// The pause before the log is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// What is known of the log.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) state: Arc<CatalogState>,
    /// The epoch of the reading link in which the log was read to its end.
    pub(crate) epoch: Option<u64>,
}

/// The catalog of one handle.
pub(crate) struct Catalog {
    read: Arc<Link>,
    control: Arc<Link>,
    names: Names,
    known: watch::Sender<Known>,
}

impl Catalog {
    /// Begins to read.
    pub(crate) fn start(read: &Arc<Link>, control: &Arc<Link>, names: &Names) -> Arc<Self> {
        let known = Known {
            state: Arc::default(),
            epoch: None,
        };
        let catalog = Arc::new(Self {
            read: Arc::clone(read),
            control: Arc::clone(control),
            names: names.clone(),
            known: watch::Sender::new(known),
        });
        tokio::spawn(follow(Arc::downgrade(&catalog), Arc::clone(read)));
        catalog
    }

    /// The state as last read.
    pub(crate) fn state(&self) -> Arc<CatalogState> {
        Arc::clone(&self.known.borrow().state)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Known> {
        self.known.subscribe()
    }

    /// Whether the log was read to its end since the reading link is up.
    pub(crate) fn is_current(&self) -> bool {
        match self.read.reach() {
            Reach::Up(up) => self.known.borrow().epoch == Some(up.epoch),
            _ => false,
        }
    }

    /// The state with every entry in it that was in the log when this was called.
    pub(crate) async fn refresh(&self, limit: Duration) -> Result<Arc<CatalogState>, Fault> {
        let refreshing = async {
            let up = self.read.up(limit).await?;
            // Whoever reads the log has made it, should it not have been there.
            self.until(|known| known.epoch >= Some(up.epoch)).await?;
            let channel = call(up.connection.create_channel()).await?;
            let entries = topology::count(&channel, &self.names.catalog()).await?.ready;
            self.until(|known| known.state.entries >= entries).await
        };
        match timeout(limit, refreshing).await {
            Ok(state) => state,
            Err(_) => Err(match self.read.up(Duration::ZERO).await {
                Err(fault) => fault,
                Ok(_) => Fault::Late("the catalog could not be read in time".to_owned()),
            }),
        }
    }

    async fn until(&self, wanted: impl FnMut(&Known) -> bool) -> Result<Arc<CatalogState>, Fault> {
        let mut watch = self.watch();
        let known = watch.wait_for(wanted).await.map_err(|_| Fault::Closed)?;
        Ok(Arc::clone(&known.state))
    }

    /// Appends an entry; whether it changed anything, and the state after it.
    pub(crate) async fn append(&self, change: Change) -> Result<(bool, Arc<CatalogState>), Fault> {
        let id = uuid::Uuid::new_v4().to_string();
        let entry = Entry { id: id.clone(), change };
        let appending = async {
            self.publish(&entry).await?;
            let state = self.until(|known| known.state.outcome_of(&id).is_some()).await?;
            Ok((state.outcome_of(&id) == Some(true), state))
        };
        match timeout(CALL_LIMIT, appending).await {
            Ok(appended) => appended,
            Err(_) => Err(Fault::Late("the catalog did not confirm an entry in time".to_owned())),
        }
    }

    /// Writes an entry, and has it confirmed.
    async fn publish(&self, entry: &Entry) -> Result<(), Fault> {
        let text = serde_json::to_vec(entry).map_err(|error| Fault::Other(error.to_string()))?;
        let up = self.control.up(CALL_LIMIT).await?;
        if let Some((_, reason)) = up.blocked {
            return Err(Fault::Away(reason));
        }
        let channel = call(up.connection.create_channel()).await?;
        call(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into());
        let publish = channel.basic_publish("".into(), self.names.catalog().into(), options, &text, properties);
        match call(async { publish.await?.await }).await? {
            Confirmation::Ack(None) => Ok(()),
            other => Err(Fault::Other(format!("the catalog did not take an entry: {other:?}"))),
        }
    }

    /// Reads from the beginning, and on, until something fails.
    async fn read_on(&self) -> Result<(), Fault> {
        let up = self.read.up(Duration::from_secs(3600)).await?;
        let channel = call(up.connection.create_channel()).await?;
        topology::declare_catalog(&channel, &self.names).await?;
        // A broker that was killed does not know how long its log is until something is
        // written; an entry of our own marks the end. During an alarm its count must do.
        let end = Entry {
            id: uuid::Uuid::new_v4().to_string(),
            change: Change::Opened,
        };
        let there = match timeout(CALL_LIMIT, self.publish(&end)).await {
            Ok(Ok(())) => None,
            _ => Some(topology::count(&channel, &self.names.catalog()).await?.ready),
        };
        call(channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), AMQPValue::LongString("first".into()));
        let options = BasicConsumeOptions::default();
        let consuming = channel.basic_consume(self.names.catalog().into(), "catalog".into(), options, arguments);
        let mut entries = call(consuming).await?;
        let mut state = CatalogState::default();
        let mut is_complete = false;
        loop {
            let at_end = match there {
                Some(there) => state.entries >= there,
                None => state.outcome_of(&end.id).is_some(),
            };
            if !is_complete && at_end {
                is_complete = true;
                self.known.send_replace(Known {
                    state: Arc::new(state.clone()),
                    epoch: Some(up.epoch),
                });
            }
            let delivery = match entries.next().await {
                Some(delivery) => delivery?,
                None => return Err(Fault::Away("the catalog's reader ended".to_owned())),
            };
            state.apply(serde_json::from_slice(&delivery.data).ok());
            let acked = channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default());
            acked.await?;
            if is_complete {
                self.known.send_modify(|known| known.state = Arc::new(state.clone()));
            }
        }
    }

    /// The broker's own name, given once.
    pub(crate) async fn identity(&self, limit: Duration) -> Result<String, Fault> {
        let state = self.refresh(limit).await?;
        if let Some(identity) = &state.identity {
            return Ok(identity.clone());
        }
        let identity = uuid::Uuid::new_v4().to_string();
        let (_, state) = self.append(Change::Identified { identity }).await?;
        state
            .identity
            .clone()
            .ok_or_else(|| Fault::Other("the catalog has no identity".to_owned()))
    }
}

async fn follow(catalog: std::sync::Weak<Catalog>, read: Arc<Link>) {
    let mut reach = read.watch();
    loop {
        let ended = reach
            .wait_for(|reach| matches!(reach, Reach::Up(_) | Reach::Closed))
            .await;
        if !ended.is_ok_and(|reach| matches!(*reach, Reach::Up(_))) {
            return;
        }
        let Some(catalog) = catalog.upgrade() else { return };
        let result = tokio::select! {
            result = catalog.read_on() => result,
            _ = reach.wait_for(|reach| matches!(reach, Reach::Closed)) => return,
        };
        if let Err(fault) = result {
            tracing::debug!(reason = fault.text(), "the catalog's reader ended; it is opened anew");
        }
        drop(catalog);
        tokio::time::sleep(PAUSE).await;
    }
}
