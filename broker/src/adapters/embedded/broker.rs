//! Opens an embedded broker and is one.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use meridian_event::Binding;
use meridian_runtime::SharedClock;
use tokio::sync::{oneshot, watch};

use super::admin::EmbeddedAdmin;
use super::appender::EmbeddedAppender;
use super::config::EmbeddedConfig;
use super::core::Core;
use super::directory::{Directory, DirectoryError};
use super::groups::Groups;
use super::log::locked;
use super::reader::EmbeddedReader;
use super::store::{Catalog, Store, StoreError};
use super::writer::Writer;
use crate::admin::Admin;
use crate::append::Appender;
use crate::connect::{ConnectError, ConnectErrorKind};
use crate::error::{AdminError, ReadError};
use crate::name::{BrokerName, RegionName};
use crate::read::{Reader, ReaderOptions};
use crate::seam::{Broker, BrokerIdentity, BrokerKind, BrokerProfile, BrokerState, Durability};

/// How long an opener waits for a broker of this same process to let go of the
/// folder: it may be closing.
const SAME_PROCESS_LOCK_LIMIT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Opens the broker in its folder, or makes it.
///
/// # Errors
/// [`ConnectError`] when the folder is in use, cannot be used, or is damaged.
pub async fn connect(
    region: RegionName,
    name: BrokerName,
    config: EmbeddedConfig,
    clock: SharedClock,
) -> Result<Arc<dyn Broker>, ConnectError> {
    let give_up = tokio::time::Instant::now() + SAME_PROCESS_LOCK_LIMIT;
    let profile = profile(region, name, &config);
    loop {
        let (profile, config, clock) = (profile.clone(), config.clone(), Arc::clone(&clock));
        let (region, name) = (profile.region.clone(), profile.name.clone());
        let opened = tokio::task::spawn_blocking(move || open(profile, config, clock)).await;
        match opened {
            Ok(Ok(broker)) => return Ok(Arc::new(broker)),
            Ok(Err(OpenError::Directory(DirectoryError::Locked { holder, .. })))
                if holder == std::process::id().to_string() && tokio::time::Instant::now() < give_up =>
            {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Ok(Err(error)) => return Err(error.told_of(&region, &name)),
            Err(error) => {
                let kind = ConnectErrorKind::Internal;
                let fault = "opening the store did not come to an end; look for a panic in the log";
                return Err(ConnectError::new(kind, &region, &name, fault).with_source(error));
            }
        }
    }
}

fn profile(region: RegionName, name: BrokerName, config: &EmbeddedConfig) -> BrokerProfile {
    BrokerProfile {
        region,
        name,
        kind: BrokerKind::Embedded,
        capabilities: BrokerKind::Embedded.capabilities(),
        // Only Meridian reads the log: the event stays as it came.
        binding: Binding::Protobuf,
        durability: Durability::Fsynced,
        max_record_bytes: config.max_record_bytes,
    }
}

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("{0}")]
    Directory(#[from] DirectoryError),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the writer's thread could not be started: {0}")]
    Thread(#[source] std::io::Error),
}

impl OpenError {
    fn told_of(self, region: &RegionName, name: &BrokerName) -> ConnectError {
        let (kind, advice) = match &self {
            OpenError::Directory(DirectoryError::Io { .. }) => (ConnectErrorKind::StorageUnavailable, ""),
            OpenError::Directory(DirectoryError::Locked { .. }) => (ConnectErrorKind::StorageLocked, ""),
            OpenError::Directory(DirectoryError::Damaged { .. }) => (ConnectErrorKind::StorageDamaged, ""),
            OpenError::Store(StoreError::Damaged { .. }) => (
                ConnectErrorKind::StorageDamaged,
                "; restore the whole folder from a backup, or move it away",
            ),
            OpenError::Store(_) => (
                ConnectErrorKind::StorageUnavailable,
                "; free disk space or mend the disk",
            ),
            OpenError::Thread(_) => (ConnectErrorKind::Internal, "; raise the limit of threads"),
        };
        ConnectError::new(kind, region, name, format!("{self}{advice}")).with_source(self)
    }
}

/// Opens everything and starts the writer. Blocks.
fn open(profile: BrokerProfile, config: EmbeddedConfig, clock: SharedClock) -> Result<EmbeddedBroker, OpenError> {
    let directory = Directory::open(&config.directory)?;
    let store = Store::open(&directory.store(), &config)?;
    directory.check(store.sequence()?)?;
    let Catalog {
        sequence,
        epoch,
        topics,
        positions,
        deleted,
    } = store.catalog()?;
    let (sequence, epoch) = (sequence + 1, epoch + 1);
    let mut changes = store.changes();
    changes.put_epoch(epoch);
    let batch = changes.finish();
    store.commit(batch, sequence, |_| ())?;
    let io = |source| DirectoryError::Io {
        path: config.directory.join("watermark"),
        source,
    };
    directory.set_watermark(sequence).map_err(io)?;
    let identity = BrokerIdentity(directory.identity().to_string());
    let groups = Groups::new(epoch, positions);
    let core = Arc::new(Core::new(profile, identity, config, clock, store, groups));
    for (name, row, rows) in topics {
        let topic = core.topics.insert(name, row, rows);
        core.groups.topic_created(&topic, &core.queue);
    }
    let writer = Writer::new(Arc::clone(&core), directory, sequence, deleted);
    let (has_ended, writer_ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("embedded-writer".to_owned());
    thread.spawn(move || writer.run(has_ended)).map_err(OpenError::Thread)?;
    let appender = Arc::new(EmbeddedAppender::new(Arc::clone(&core)));
    Ok(EmbeddedBroker {
        core,
        appender,
        writer_ended: Mutex::new(Some(writer_ended)),
        ended: watch::channel(false).0,
    })
}

/// The broker. Dropping it closes it; what was admitted is still written.
struct EmbeddedBroker {
    core: Arc<Core>,
    appender: Arc<EmbeddedAppender>,
    writer_ended: Mutex<Option<oneshot::Receiver<()>>>,
    ended: watch::Sender<bool>,
}

#[async_trait]
impl Broker for EmbeddedBroker {
    fn profile(&self) -> &BrokerProfile {
        &self.core.profile
    }

    fn state(&self) -> BrokerState {
        self.core.state()
    }

    async fn identity(&self) -> Result<BrokerIdentity, AdminError> {
        Ok(self.core.identity.clone())
    }

    fn appender(&self) -> Arc<dyn Appender> {
        Arc::clone(&self.appender) as Arc<dyn Appender>
    }

    async fn open_reader(&self, options: ReaderOptions) -> Result<Box<dyn Reader>, ReadError> {
        Ok(Box::new(EmbeddedReader::open(Arc::clone(&self.core), options).await?))
    }

    fn admin(&self) -> Arc<dyn Admin> {
        Arc::new(EmbeddedAdmin::new(Arc::clone(&self.core)))
    }

    async fn close(&self, limit: Duration) {
        self.core.begin_close();
        let deadline = Instant::now() + limit;
        let writer_ended = locked(&self.writer_ended).take();
        let mut ended = self.ended.subscribe();
        let wait = async {
            match writer_ended {
                Some(writer_ended) => {
                    // A writer that panicked has ended as well.
                    let _ = writer_ended.await;
                    self.ended.send_replace(true);
                }
                None => {
                    // The sender is ours, so this ends with the other call of close.
                    let _ = ended.wait_for(|ended| *ended).await;
                }
            }
        };
        if tokio::time::timeout_at(deadline.into(), wait).await.is_err() {
            tracing::warn!(?limit, "the embedded broker is still writing what was admitted");
        }
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        self.core.begin_close();
    }
}
