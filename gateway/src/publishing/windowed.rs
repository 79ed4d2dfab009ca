//! The events of a share that have a window: those that were stored before are
//! answered, those under way are waited for, the rest keep their place in the
//! share and their claim until their outcome is known.
//!
//! What holds: a claim is ended by a task of its own, so that a publisher who
//! does not wait any more leaves none behind; an event that was confirmed after
//! its deadline is remembered as stored.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use meridian_broker::AppendRecord;
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use super::outcome::{EventResult, Outcome};
use super::part::Part;
use super::receipt::ReceiptTemplate;
use crate::delay::Bucket;
use crate::idempotence::claim::Ending;
use crate::idempotence::{Claim, Verdict, Windows};

/// The share of one broker, before it is appended.
#[derive(Default)]
pub(super) struct LocalShare {
    pub(super) events: Vec<Appended>,
    pub(super) records: Vec<AppendRecord>,
    /// The claims of those that have a window, with their places above.
    pub(super) claims: Vec<(usize, Claim)>,
    /// Buckets that some of them wait in.
    pub(super) buckets: SmallVec<[Bucket; 1]>,
}

/// An event on its way to a broker.
#[derive(Clone, Copy)]
pub(super) struct Appended {
    /// Its place in the batch.
    pub(super) index: u32,
    /// Its receipt's.
    pub(super) template: u32,
    /// The wait that it begins with.
    pub(super) wait: Option<(Bucket, i64)>,
}

/// The claims of events on their way, by their indices in the batch.
pub(super) struct Held {
    windows: Arc<Windows>,
    claims: Vec<(u32, Claim)>,
}

/// Asks the windows of a share. What is not to be appended leaves the share, for
/// `known` or for a part of its own.
pub(super) async fn sift(
    windows: &Arc<Windows>,
    share: &mut LocalShare,
    known: &mut Vec<EventResult>,
    parts: &mut Vec<Part>,
    deadline: Instant,
) -> Held {
    let (places, claims): (Vec<usize>, Vec<Claim>) = std::mem::take(&mut share.claims).into_iter().unzip();
    let verdicts = windows.claim(&claims).await;
    let mut held = Vec::with_capacity(claims.len());
    let mut waiting = Vec::new();
    let mut gone = Vec::new();
    for ((place, claim), verdict) in places.into_iter().zip(claims).zip(verdicts) {
        let index = share.events[place].index;
        match verdict {
            Verdict::Append => {
                held.push((index, claim));
                continue;
            }
            Verdict::Wait => waiting.push((index, claim)),
            verdict => known.push(result(index, verdict)),
        }
        gone.push(place);
    }
    share.leave(&gone);
    if !waiting.is_empty() {
        parts.push(Box::pin(wait(Arc::clone(windows), waiting, deadline)));
    }
    Held {
        windows: Arc::clone(windows),
        claims: held,
    }
}

impl LocalShare {
    /// Takes out what stands at these places, which rise.
    fn leave(&mut self, places: &[usize]) {
        if places.is_empty() {
            return;
        }
        let keeper = || {
            let mut gone = places.iter().peekable();
            let mut place = 0;
            move || {
                let leaves = gone.next_if_eq(&&place).is_some();
                place += 1;
                !leaves
            }
        };
        let (mut keeps_event, mut keeps_record) = (keeper(), keeper());
        self.events.retain(|_| keeps_event());
        self.records.retain(|_| keeps_record());
    }
}

fn result(index: u32, verdict: Verdict) -> EventResult {
    let outcome = match verdict {
        Verdict::Duplicate(receipt) => Outcome::Answered(receipt),
        Verdict::Refused(refusal) => Outcome::Refused(refusal.at_event(index as usize)),
        // Neither is asked of here; and what nobody knows may be stored.
        Verdict::Append | Verdict::Wait => super::pipeline::unconfirmed(index),
    };
    EventResult { index, outcome }
}

async fn wait(windows: Arc<Windows>, waiting: Vec<(u32, Claim)>, deadline: Instant) -> Vec<EventResult> {
    let each = waiting.into_iter().map(|(index, claim)| {
        let windows = &windows;
        async move { result(index, windows.wait(&claim, deadline.into()).await) }
    });
    futures::future::join_all(each).await
}

impl Held {
    /// Whether there is a claim to end.
    pub(super) fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// Ends the claims of events that were refused at once.
    pub(super) async fn refused(&mut self, is_refused: impl Fn(u32) -> bool) {
        let (refused, held) = std::mem::take(&mut self.claims)
            .into_iter()
            .partition(|(index, _)| is_refused(*index));
        self.claims = held;
        let free = |(_, claim)| (claim, Ending::Free);
        self.windows.end(Vec::into_iter(refused).map(free).collect()).await;
    }

    /// The results of a commit, told by the deadline; the claims end when the
    /// commit does, which may be later.
    pub(super) fn follow(
        self,
        commit: impl Future<Output = Vec<EventResult>> + Send + 'static,
        templates: Arc<[ReceiptTemplate]>,
        late: Vec<u32>,
        deadline: Instant,
    ) -> impl Future<Output = Vec<EventResult>> + Send + 'static {
        let (tell, told) = oneshot::channel();
        // It ends with the commit, which the broker's delivery time-out bounds.
        tokio::spawn(async move {
            let results = commit.await;
            self.windows.end(self.endings(&results, &templates)).await;
            // The publisher may have gone.
            let _ = tell.send(results);
        });
        async move {
            match timeout_at(deadline.into(), told).await {
                Ok(Ok(results)) => results,
                _ => late
                    .into_iter()
                    .map(|index| EventResult {
                        index,
                        outcome: super::pipeline::unconfirmed(index),
                    })
                    .collect(),
            }
        }
    }

    fn endings(&self, results: &[EventResult], templates: &[ReceiptTemplate]) -> Vec<(Claim, Ending)> {
        let outcomes: HashMap<u32, &Outcome> = results.iter().map(|result| (result.index, &result.outcome)).collect();
        let ending = |(index, claim): &(u32, Claim)| {
            let ending = match outcomes.get(index) {
                Some(Outcome::Stored {
                    template,
                    position,
                    due_ms,
                }) => {
                    let mut receipt = Vec::new();
                    templates[*template as usize].encode(*position, *due_ms, &mut receipt);
                    Ending::Stored(Bytes::from(receipt))
                }
                _ => Ending::Free,
            };
            (claim.clone(), ending)
        };
        self.claims.iter().map(ending).collect()
    }
}
