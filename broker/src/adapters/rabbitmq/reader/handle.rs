//! The reader that is handed out, and its settler.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::member::{self, Command};
use super::shared::Shared;
use crate::adapters::rabbitmq::core::Core;
use crate::adapters::rabbitmq::fault::Fault;
use crate::error::{ReadError, ReadErrorKind, SettleError};
use crate::read::{Claim, PartitionPosition, ReadEvent, Reader, ReaderOptions, ReaderState, Settler};

/// Commands that wait for a member's task.
const MAX_COMMANDS: usize = 16;

/// Joins a group; the broker need not be there.
pub(crate) fn open(core: &Arc<Core>, options: ReaderOptions) -> Result<Box<dyn Reader>, ReadError> {
    check(core, &options)?;
    let shared = Shared::new(options, core.read.now());
    let (commands, receiver) = mpsc::channel(MAX_COMMANDS);
    tokio::spawn(member::run(Arc::clone(core), Arc::clone(&shared), receiver));
    let settler = Arc::new(RabbitMqSettler { shared, commands });
    Ok(Box::new(RabbitMqReader { settler }))
}

fn check(core: &Core, options: &ReaderOptions) -> Result<(), ReadError> {
    let refuse = |message: String| Err(ReadError::new(ReadErrorKind::InvalidOptions, message));
    if options.topics.is_empty() {
        return refuse("a reader must name at least one topic".to_owned());
    }
    if options.topics.iter().collect::<BTreeSet<_>>().len() != options.topics.len() {
        return refuse("a topic is named twice".to_owned());
    }
    if options.max_unsettled_records == 0 || options.max_unsettled_bytes == 0 {
        return refuse("a reader must be allowed to hold at least one record and one byte".to_owned());
    }
    for topic in &options.topics {
        if !core.names.fit(topic, Some(&options.group)) {
            let group = &options.group;
            return refuse(format!(
                "topic {topic} and group {group} make names of queues that are over AMQP's 255 bytes"
            ));
        }
    }
    Ok(())
}

/// A reader. Dropping it leaves the group.
struct RabbitMqReader {
    settler: Arc<RabbitMqSettler>,
}

struct RabbitMqSettler {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl RabbitMqSettler {
    async fn ask(
        &self,
        limit: Duration,
        command: impl FnOnce(oneshot::Sender<Result<(), Fault>>) -> Command,
    ) -> Result<(), ReadError> {
        let (reply, answer) = oneshot::channel();
        let asking = async {
            self.commands.send(command(reply)).await.map_err(|_| Fault::Closed)?;
            answer.await.map_err(|_| Fault::Closed)?
        };
        let answered = match timeout(limit, asking).await {
            Ok(answered) => answered,
            Err(_) => Err(Fault::Late(format!("no answer within {limit:?}"))),
        };
        answered.map_err(|fault| {
            let kind = match fault {
                Fault::Closed => ReadErrorKind::Closed,
                _ => ReadErrorKind::Internal,
            };
            ReadError::new(kind, format!("what is settled was not acknowledged: {}", fault.text()))
        })
    }
}

#[async_trait]
impl Reader for RabbitMqReader {
    async fn next(&mut self) -> Result<ReadEvent, ReadError> {
        let shared = &self.settler.shared;
        loop {
            let woken = shared.woken.notified();
            if let Some(step) = shared.step() {
                return step;
            }
            woken.await;
        }
    }

    fn settler(&self) -> Arc<dyn Settler> {
        Arc::clone(&self.settler) as Arc<dyn Settler>
    }

    async fn close(self: Box<Self>, limit: Duration) -> Result<(), ReadError> {
        let closed = self.settler.ask(limit, Command::Leave).await;
        self.settler.shared.close();
        match closed {
            // It had left before: the broker's handle was closed.
            Err(error) if error.kind == ReadErrorKind::Closed => Ok(()),
            other => other,
        }
    }
}

impl Drop for RabbitMqReader {
    fn drop(&mut self) {
        // A settler may live on and hold the way to the member's task.
        self.settler.shared.close();
        self.settler.shared.leave.notify_one();
    }
}

#[async_trait]
impl Settler for RabbitMqSettler {
    fn settle(&self, claim: &Claim) -> Result<(), SettleError> {
        self.shared.settle(claim)
    }

    fn release(&self, claim: &Claim) -> Result<(), SettleError> {
        self.shared.release(claim)
    }

    async fn commit(&self, limit: Duration) -> Result<(), ReadError> {
        self.ask(limit, Command::Commit).await
    }

    fn positions(&self) -> Vec<PartitionPosition> {
        self.shared.positions()
    }

    fn state(&self) -> ReaderState {
        self.shared.state()
    }
}
