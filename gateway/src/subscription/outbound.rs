//! The stream to a worker: a bounded queue, whether it has room, and how it ends.
//!
//! The group writes without waiting; a queue that is full is marked stalled, and the stream wakes the group as soon as
//! the transport has taken a message. What holds: at most [`MAX_QUEUED_MESSAGES`] messages wait; what was queued before
//! the end is sent before the end; when the client is gone, `gone` says so.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use meridian_proto::meridian::SubscribeResponse;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Messages that wait for the transport.
const MAX_QUEUED_MESSAGES: usize = 8;

#[derive(Debug, Default)]
struct Shared {
    ending: Mutex<Option<Status>>,
    stalled: AtomicBool,
    /// Wakes the session's group.
    room: OnceLock<Arc<Notify>>,
    gone: CancellationToken,
}

/// The group's end of the stream to a worker.
#[derive(Clone, Debug)]
pub(super) struct Outbound {
    sender: mpsc::Sender<SubscribeResponse>,
    shared: Arc<Shared>,
}

/// The transport's end.
#[derive(Debug)]
pub struct SessionStream {
    receiver: mpsc::Receiver<SubscribeResponse>,
    shared: Arc<Shared>,
    ended: bool,
    /// Counts the session until the transport lets go of it.
    _slot: OwnedSemaphorePermit,
}

/// A stream that counts as one session.
pub(super) fn channel(slot: OwnedSemaphorePermit) -> (Outbound, SessionStream) {
    let (sender, receiver) = mpsc::channel(MAX_QUEUED_MESSAGES);
    let shared = Arc::new(Shared::default());
    let outbound = Outbound {
        sender,
        shared: Arc::clone(&shared),
    };
    (
        outbound,
        SessionStream {
            receiver,
            shared,
            ended: false,
            _slot: slot,
        },
    )
}

impl Outbound {
    /// From now on `room` is notified when a stalled stream has room again.
    pub(super) fn wake_with(&self, room: Arc<Notify>) {
        // It is set once: a session joins one group.
        let _ = self.shared.room.set(room);
    }

    /// Whether a message can be queued now.
    pub(super) fn has_room(&self) -> bool {
        self.sender.capacity() > 0
    }

    /// Queues a message.
    ///
    /// # Errors
    /// The message when there is no room; what is sent to a client that is gone is lost.
    pub(super) fn send(&self, response: SubscribeResponse) -> Result<(), Box<SubscribeResponse>> {
        match self.sender.try_send(response) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(response)) => Err(Box::new(response)),
        }
    }

    /// Asks to be woken when there is room; false when there is some already.
    pub(super) fn stall(&self) -> bool {
        self.shared.stalled.store(true, Ordering::SeqCst);
        if self.has_room() {
            self.shared.stalled.store(false, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// Ends the stream, after what is queued, once all clones are gone; without a status it ends well.
    pub(super) fn end(self, status: Option<Status>) {
        *self.shared.ending.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// Cancelled when the client is gone or the stream has ended.
    pub(super) fn gone(&self) -> CancellationToken {
        self.shared.gone.clone()
    }
}

impl Stream for SessionStream {
    type Item = Result<SubscribeResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.receiver.poll_recv(context));
        match next {
            Some(response) => {
                if self.shared.stalled.swap(false, Ordering::SeqCst)
                    && let Some(room) = self.shared.room.get()
                {
                    room.notify_one();
                }
                Poll::Ready(Some(Ok(response)))
            }
            None => {
                self.ended = true;
                let status = self.shared.ending.lock().unwrap_or_else(PoisonError::into_inner).take();
                Poll::Ready(status.map(Err))
            }
        }
    }
}

impl Drop for SessionStream {
    fn drop(&mut self) {
        self.shared.gone.cancel();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;
    use tokio_stream::StreamExt as _;

    use super::*;

    async fn stream() -> (Arc<Semaphore>, Outbound, SessionStream) {
        let slots = Arc::new(Semaphore::new(1));
        let slot = Arc::clone(&slots).acquire_owned().await.unwrap();
        let (outbound, stream) = channel(slot);
        (slots, outbound, stream)
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_wakes_the_group_once_there_is_room() {
        let (_slots, outbound, mut stream) = stream().await;
        let room = Arc::new(Notify::new());
        outbound.wake_with(Arc::clone(&room));
        assert!(!outbound.stall(), "an empty queue has room");
        for _ in 0..MAX_QUEUED_MESSAGES {
            outbound.send(SubscribeResponse::default()).unwrap();
        }
        assert!(outbound.send(SubscribeResponse::default()).is_err());
        assert!(outbound.stall());
        stream.next().await.unwrap().unwrap();
        tokio::time::timeout(std::time::Duration::from_secs(5), room.notified())
            .await
            .unwrap();
        assert!(outbound.has_room());
    }

    #[tokio::test]
    async fn the_end_comes_after_what_was_queued_and_frees_the_slot() {
        let (slots, outbound, mut stream) = stream().await;
        let gone = outbound.gone();
        outbound.send(SubscribeResponse::default()).unwrap();
        outbound.end(Some(Status::unavailable("moving")));
        assert!(stream.next().await.unwrap().is_ok());
        assert_eq!(stream.next().await.unwrap().unwrap_err().message(), "moving");
        assert!(stream.next().await.is_none());
        assert!(!gone.is_cancelled());
        drop(stream);
        assert!(gone.is_cancelled());
        assert_eq!(slots.available_permits(), 1);
    }
}
