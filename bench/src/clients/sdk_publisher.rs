//! The worker SDK's publisher in a closed loop: as many events in flight as its
//! window has room for, every receipt decoded and handed back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use meridian_worker_sdk::{Pending, Publisher};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::events::EventPool;
use crate::failure::{Failure, While as _};

/// Events in flight.
const WINDOW_EVENTS: usize = 32_768;

/// A publisher at work.
pub(crate) struct SdkLoad {
    receipts: Arc<AtomicU64>,
    stopping: Arc<AtomicBool>,
    sender: JoinHandle<Result<(), Failure>>,
    collector: JoinHandle<Result<(), Failure>>,
}

impl SdkLoad {
    /// Connects and begins to publish.
    pub(crate) fn start(address: &str, pool: &Arc<EventPool>) -> Result<Self, Failure> {
        let publisher = Publisher::builder([address])
            .max_in_flight_events(WINDOW_EVENTS)
            .build();
        let publisher = publisher.during("making a publisher")?;
        let receipts = Arc::new(AtomicU64::new(0));
        let stopping = Arc::new(AtomicBool::new(false));
        let (pending, outcomes) = mpsc::channel(WINDOW_EVENTS);
        let sender = tokio::spawn(send(publisher, pool.clone(), pending, stopping.clone()));
        let collector = tokio::spawn(collect(outcomes, receipts.clone()));
        Ok(Self {
            receipts,
            stopping,
            sender,
            collector,
        })
    }

    /// Events with a receipt so far.
    pub(crate) fn receipts(&self) -> u64 {
        self.receipts.load(Ordering::Relaxed)
    }

    /// Sends nothing more and waits for what is in flight.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        self.stopping.store(true, Ordering::Relaxed);
        self.sender.await.during("publishing with the SDK")??;
        self.collector.await.during("publishing with the SDK")?
    }
}

async fn send(
    publisher: Publisher,
    pool: Arc<EventPool>,
    pending: mpsc::Sender<Pending>,
    stopping: Arc<AtomicBool>,
) -> Result<(), Failure> {
    for event in pool.events().iter().cycle() {
        if stopping.load(Ordering::Relaxed) {
            break;
        }
        let sent = publisher.send(event.clone()).await.during("publishing with the SDK")?;
        pending.send(sent).await.during("publishing with the SDK")?;
    }
    Ok(())
}

async fn collect(mut outcomes: mpsc::Receiver<Pending>, receipts: Arc<AtomicU64>) -> Result<(), Failure> {
    while let Some(pending) = outcomes.recv().await {
        pending.await.during("publishing with the SDK")?;
        receipts.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
