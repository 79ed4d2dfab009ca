//! PublishStream: numbered batches in, results out as they become known.
//!
//! Two tasks a stream: one reads and begins batches in order, waiting for room;
//! the other waits for outcomes and answers. What holds: a stream has at most its
//! window of batches and bytes in flight, and reads no further meanwhile, which
//! HTTP/2 flow control carries back to the publisher; a batch leaves the window
//! when its last result was taken by the connection, and the gateway's own limits
//! when its last outcome is known; a stream that ends has answered for every batch
//! that it has read, unless the publisher is gone.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use meridian_proto::meridian::PublishStreamRequest;
use meridian_runtime::{ByteBudget, BytePermit};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::answer::Answer;
use super::gate::Gate;
use super::service::Ingress;
use crate::admission::AdmissionPermit;
use crate::fault::{FaultCode, Refusal};
use crate::publishing::receipt::ReceiptTemplate;
use crate::publishing::{EventResult, InFlight, Lane, Outcome, Results, Source};

/// Answers that wait for the connection to take them.
const MAX_ANSWERS_WAITING: usize = 16;

type Answers = mpsc::Sender<Result<Answer, Status>>;

/// Opens a stream; its answers end after the publisher has closed its side, or
/// when the gateway drains.
pub(super) fn open(
    ingress: Arc<Ingress>,
    request: Request<Streaming<PublishStreamRequest>>,
) -> Result<ReceiverStream<Result<Answer, Status>>, Status> {
    if ingress.gate.draining().is_cancelled() {
        return Err(Gate::drained().into());
    }
    let (answers, answered) = mpsc::channel(MAX_ANSWERS_WAITING);
    let (begun, batches) = mpsc::channel(ingress.max_stream_batches_in_flight);
    let reader = StreamReader {
        window: Arc::new(Semaphore::new(ingress.max_stream_batches_in_flight)),
        window_bytes: ByteBudget::new(ingress.max_stream_bytes_in_flight as u64),
        ingress,
        lane: Lane::default(),
        next_number: 1,
    };
    tokio::spawn(reader.run(request.into_inner(), begun));
    tokio::spawn(answer(batches, answers));
    Ok(ReceiverStream::new(answered))
}

/// A batch that was read, or how the reading ended.
enum Begun {
    Batch {
        number: u64,
        in_flight: InFlight,
        admission: Option<AdmissionPermit>,
        window: WindowShare,
    },
    Ended(Status),
}

/// A batch's share of the stream's window: one batch, and its bytes.
type WindowShare = (OwnedSemaphorePermit, BytePermit);

struct StreamReader {
    ingress: Arc<Ingress>,
    window: Arc<Semaphore>,
    window_bytes: ByteBudget,
    lane: Lane,
    next_number: u64,
}

impl StreamReader {
    async fn run(mut self, mut requests: Streaming<PublishStreamRequest>, begun: mpsc::Sender<Begun>) {
        self.ingress.metrics.publish_streams.inc();
        let draining = self.ingress.gate.draining().clone();
        loop {
            let request = tokio::select! {
                biased;
                () = draining.cancelled() => Err(self.drained()),
                // Nobody waits for answers any more.
                () = begun.closed() => break,
                request = requests.message() => request,
            };
            let next = match request {
                Ok(Some(request)) => self.begin(request).await,
                Ok(None) => break,
                Err(status) => Begun::Ended(status),
            };
            let ends = matches!(next, Begun::Ended(_));
            if begun.send(next).await.is_err() || ends {
                break;
            }
        }
        self.ingress.metrics.publish_streams.dec();
    }

    /// Names the last batch that was read: later ones are surely not stored.
    fn drained(&self) -> Status {
        let last_batch = self.next_number - 1;
        Gate::drained()
            .with_metadata("lastBatch", last_batch.to_string())
            .into()
    }

    async fn begin(&mut self, request: PublishStreamRequest) -> Begun {
        let PublishStreamRequest {
            batch_number: number,
            events,
        } = request;
        if number != self.next_number {
            let message = format!(
                "batch_number is {number}, {} comes next; number the batches of a stream 1, 2, 3 …",
                self.next_number
            );
            return Begun::Ended(
                Refusal::new(FaultCode::BatchOutOfOrder, message.clone())
                    .with_field("batch_number", message)
                    .into(),
            );
        }
        self.next_number += 1;
        let size_bytes = match self.ingress.gate.pass(&events) {
            Ok(size_bytes) => size_bytes,
            Err(refusal) => return self.refused(number, &events, &refusal).await,
        };
        let Some(window) = self.window(size_bytes).await else {
            return Begun::Ended(Status::internal("the window of the stream was closed"));
        };
        let deadline = self.ingress.clock.now() + self.ingress.publish_deadline;
        match self.ingress.admission.admit(size_bytes, deadline).await {
            Ok(admission) => {
                let publishing = &self.ingress.publishing;
                let in_flight = publishing
                    .begin(&Source::Client, events, &mut self.lane, deadline)
                    .await;
                Begun::Batch {
                    number,
                    in_flight,
                    admission: Some(admission),
                    window,
                }
            }
            Err(refusal) => Begun::Batch {
                number,
                in_flight: all_refused(&events, &refusal),
                admission: None,
                window,
            },
        }
    }

    /// Waits for room in the window. A batch larger than all of it takes all.
    async fn window(&self, size_bytes: u64) -> Option<WindowShare> {
        let batch = Arc::clone(&self.window).acquire_owned().await.ok()?;
        let bytes = size_bytes.min(self.window_bytes.max_request_bytes());
        let bytes = match self.window_bytes.try_acquire(bytes) {
            Some(permit) => permit,
            None => {
                let never = tokio::time::Instant::now() + self.ingress.publish_deadline.saturating_mul(4);
                self.window_bytes.acquire(bytes, never).await.ok()?
            }
        };
        Some((batch, bytes))
    }

    async fn refused(&self, number: u64, events: &[Bytes], refusal: &Refusal) -> Begun {
        match self.window(0).await {
            Some(window) => Begun::Batch {
                number,
                in_flight: all_refused(events, refusal),
                admission: None,
                window,
            },
            None => Begun::Ended(refusal.to_status()),
        }
    }
}

/// A refusal of a whole batch, as a result of each of its events.
fn all_refused(events: &[Bytes], refusal: &Refusal) -> InFlight {
    let result = |index: u32| EventResult {
        index,
        outcome: Outcome::Refused(refusal.clone().at_event(index as usize)),
    };
    let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
    InFlight {
        templates: Arc::default(),
        known: (0..count).map(result).collect(),
        parts: Vec::new(),
    }
}

/// A batch whose results are not all known.
struct Open {
    templates: Arc<[ReceiptTemplate]>,
    parts_left: usize,
    /// Given back when all outcomes are known, however slowly they are taken.
    admission: Option<AdmissionPermit>,
    /// Given back when the last answer is taken.
    window: WindowShare,
}

/// An answer that the connection has not taken yet.
struct Waiting {
    answer: Answer,
    /// With the last answer of a batch.
    window: Option<WindowShare>,
}

/// The batches of one stream that are not answered.
#[derive(Default)]
struct Answering {
    /// As many as the window has.
    open: HashMap<u64, Open>,
    parts: FuturesUnordered<BoxFuture<'static, (u64, Vec<EventResult>)>>,
    /// As many as the window's batches have parts.
    waiting: VecDeque<Waiting>,
}

/// Waits for outcomes and answers, until all batches are answered and no more come.
/// Outcomes are taken also while the publisher takes no answers, so that it holds
/// up nobody but itself.
async fn answer(mut batches: mpsc::Receiver<Begun>, answers: Answers) {
    let mut answering = Answering::default();
    let mut end = None;
    let mut reading = true;
    while reading || answering.is_at_work() {
        tokio::select! {
            room = answers.reserve(), if !answering.waiting.is_empty() => {
                let Ok(room) = room else {
                    return; // the publisher is gone
                };
                if let Some(next) = answering.waiting.pop_front() {
                    room.send(Ok(next.answer));
                    drop(next.window);
                }
            }
            Some((number, results)) = answering.parts.next() => answering.known(number, results),
            next = batches.recv(), if reading => match next {
                Some(Begun::Batch { number, in_flight, admission, window }) => {
                    answering.open(number, in_flight, admission, window);
                }
                Some(Begun::Ended(status)) => {
                    end = Some(status);
                    reading = false;
                }
                None => reading = false,
            },
        }
    }
    if let Some(status) = end {
        // A publisher that is gone needs no status.
        let _ = answers.send(Err(status)).await;
    }
}

impl Answering {
    fn is_at_work(&self) -> bool {
        !self.parts.is_empty() || !self.waiting.is_empty()
    }

    fn open(&mut self, number: u64, in_flight: InFlight, admission: Option<AdmissionPermit>, window: WindowShare) {
        let InFlight {
            templates,
            known,
            parts,
        } = in_flight;
        // What is known already is an answer, and so is the end of an empty batch.
        let answers_now = !known.is_empty() || parts.is_empty();
        self.open.insert(
            number,
            Open {
                templates,
                parts_left: parts.len() + usize::from(answers_now),
                admission,
                window,
            },
        );
        for part in parts {
            self.parts.push(Box::pin(async move { (number, part.await) }));
        }
        if answers_now {
            self.known(number, known);
        }
    }

    /// Some results of a batch are known.
    fn known(&mut self, number: u64, results: Vec<EventResult>) {
        let Entry::Occupied(mut batch) = self.open.entry(number) else {
            return; // a part belongs to a batch that is open
        };
        batch.get_mut().parts_left -= 1;
        let batch_complete = batch.get().parts_left == 0;
        let templates = Arc::clone(&batch.get().templates);
        let window = batch_complete.then(|| {
            let Open { admission, window, .. } = batch.remove();
            drop(admission);
            window
        });
        self.waiting.push_back(Waiting {
            answer: Answer::Part {
                batch_number: number,
                results: Results { templates, results },
                batch_complete,
            },
            window,
        });
    }
}
