//! What users of the publishing side hold.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use meridian_event::Event;
use meridian_proto::meridian::Receipt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;
use tonic::Code;

use crate::error::PublishError;
use crate::publisher::PublisherBuilder;
use crate::publisher::engine::Engine;
use crate::publisher::options::Options;

/// What an event came to.
pub(crate) type Outcome = Result<Receipt, PublishError>;

/// An event on its way, with its place in the window.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) sequence: u64,
    pub(crate) event: Event,
    pub(crate) attempts: u32,
    pub(crate) deadline: Instant,
    pub(crate) last_error: Option<PublishError>,
    reply: oneshot::Sender<Outcome>,
    _window: Window,
}

/// The entry's share of the window, given back when it is dropped.
#[derive(Debug)]
struct Window {
    _events: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

impl Entry {
    /// Ends the entry; whoever waited no longer is none of our business.
    pub(crate) fn resolve(self: Box<Self>, outcome: Outcome) {
        let _ = self.reply.send(outcome);
    }
}

#[derive(Debug)]
pub(crate) enum Command {
    Publish(Box<Entry>),
    /// Answered when everything sent before has its outcome.
    Flush(oneshot::Sender<()>),
}

/// Publishes events. Cheap to clone; the last clone dropped ends it, after what
/// was sent has its outcome.
#[derive(Clone, Debug)]
pub struct Publisher {
    commands: mpsc::Sender<Command>,
    events: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    options: Arc<Options>,
}

/// How full a publisher's window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublisherLoad {
    /// Events sent and not answered.
    pub in_flight_events: usize,
    /// Their bytes.
    pub in_flight_bytes: usize,
}

/// The outcome of an event that was sent. Dropping it leaves the event on its way.
#[derive(Debug)]
pub struct Pending(oneshot::Receiver<Outcome>);

impl Future for Pending {
    type Output = Result<Receipt, PublishError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(outcome.unwrap_or_else(|_| {
            Err(PublishError::Unknown {
                code: Code::Cancelled,
                message: "the publisher ended before the outcome was known".to_owned(),
            })
        }))
    }
}

impl Publisher {
    /// A builder for these gateway addresses.
    pub fn builder<I, A>(addresses: I) -> PublisherBuilder
    where
        I: IntoIterator<Item = A>,
        A: Into<String>,
    {
        PublisherBuilder::new(addresses)
    }

    pub(crate) fn start(options: Options) -> Self {
        let options = Arc::new(options);
        let (commands, receiver) = mpsc::channel(options.max_in_flight_events.min(16_384));
        let publisher = Self {
            commands,
            events: Arc::new(Semaphore::new(options.max_in_flight_events)),
            bytes: Arc::new(Semaphore::new(options.max_in_flight_bytes)),
            options: options.clone(),
        };
        tokio::spawn(Engine::new(options, receiver).run());
        publisher
    }

    /// Sends an event and waits for its outcome.
    ///
    /// # Errors
    /// [`PublishError`] says whether the event may be stored.
    pub async fn publish(&self, event: Event) -> Result<Receipt, PublishError> {
        self.send(event).await?.await
    }

    /// Takes an event, waiting while the window is full; the outcome comes by
    /// the [`Pending`]. Calls that follow one another fix the order per key.
    ///
    /// # Errors
    /// [`PublishError::Closed`], or a refusal of an event larger than the window.
    pub async fn send(&self, event: Event) -> Result<Pending, PublishError> {
        let size = event.size_bytes().max(1);
        if size > self.options.max_batch_bytes.min(self.options.max_in_flight_bytes) {
            return Err(PublishError::Refused {
                code: Code::InvalidArgument,
                message: format!(
                    "the event has {size} bytes; this publisher sends at most {}",
                    self.options.max_batch_bytes.min(self.options.max_in_flight_bytes)
                ),
            });
        }
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        let closed = |_| PublishError::Closed;
        let events = self.events.clone().acquire_owned().await.map_err(closed)?;
        let bytes = self.bytes.clone().acquire_many_owned(size).await.map_err(closed)?;
        let (reply, outcome) = oneshot::channel();
        let entry = Box::new(Entry {
            sequence: 0,
            event,
            attempts: 0,
            deadline: Instant::now() + self.options.delivery_timeout,
            last_error: None,
            reply,
            _window: Window {
                _events: events,
                _bytes: bytes,
            },
        });
        self.commands
            .send(Command::Publish(entry))
            .await
            .map_err(|_| PublishError::Closed)?;
        Ok(Pending(outcome))
    }

    /// Waits until every event sent before this call has its outcome.
    pub async fn flush(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Flush(reply)).await.is_ok() {
            // An engine that ended has resolved everything on its way out.
            let _ = done.await;
        }
    }

    /// How full the window is.
    pub fn load(&self) -> PublisherLoad {
        PublisherLoad {
            in_flight_events: self.options.max_in_flight_events - self.events.available_permits(),
            in_flight_bytes: self.options.max_in_flight_bytes - self.bytes.available_permits(),
        }
    }
}
