//! The share of another region: one request to a gateway there, in order.
//!
//! A lane is one publisher's line. What holds: of one lane and one region, a
//! request leaves only after the one before it was answered or given up, so that
//! events of one key arrive in the order of publishing.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use meridian_broker::RegionName;
use meridian_proto::meridian::{PublishRequest, PublishResponse};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::outcome::{EventResult, Outcome};
use super::peer::{PeerFault, Peers};
use super::reindex::reindex;
use crate::fault::{FaultCode, Refusal};

/// What one publisher's batches have in common: for each region, the request that
/// went last. As long as there are regions.
#[derive(Debug, Default)]
pub struct Lane {
    last: HashMap<RegionName, oneshot::Receiver<()>>,
}

/// A place in the line to one region.
#[derive(Debug)]
pub struct Turn {
    before: Option<oneshot::Receiver<()>>,
    /// Dropped when the request is answered or given up.
    _done: oneshot::Sender<()>,
}

impl Lane {
    /// Takes the next place in the line to `region`.
    pub fn turn(&mut self, region: &RegionName) -> Turn {
        let (done, finished) = oneshot::channel();
        Turn {
            before: self.last.insert(region.clone(), finished),
            _done: done,
        }
    }
}

impl Turn {
    /// Waits until the one before is done; false when the deadline came first.
    async fn comes(&mut self, deadline: Instant) -> bool {
        match self.before.take() {
            // An error is what the end of the one before looks like.
            Some(before) => timeout_at(deadline, before).await.is_ok(),
            None => true,
        }
    }
}

/// Events on their way to another region.
pub struct Share {
    /// Where to.
    pub region: RegionName,
    /// The regions that they have been through, this one last.
    pub forwarded_by: Vec<String>,
    /// Indices in the publisher's batch.
    pub indices: Vec<u32>,
    /// The events, stamped.
    pub events: Vec<Bytes>,
}

/// Sends the share and says what became of each event.
pub async fn forward(peers: Arc<Peers>, share: Share, mut turn: Turn, deadline: Instant) -> Vec<EventResult> {
    if !turn.comes(deadline).await {
        let message = format!(
            "the event was not yet sent to region {} when its time was over",
            share.region
        );
        let refusal = Refusal::new(FaultCode::PublishDeadlineExceeded, message);
        return all(&share.indices, &refusal, Outcome::Refused);
    }
    let request = PublishRequest {
        events: share.events,
        forwarded_by: share.forwarded_by,
    };
    match peers.publish(&share.region, request, deadline).await {
        Ok(response) => read(response, &share.indices, &share.region),
        Err(PeerFault::NotSent(refusal)) => all(&share.indices, &refusal, Outcome::Refused),
        Err(PeerFault::Unconfirmed(refusal)) => all(&share.indices, &refusal, Outcome::Unknown),
    }
}

fn read(response: PublishResponse, indices: &[u32], region: &RegionName) -> Vec<EventResult> {
    let mut results = Vec::with_capacity(indices.len());
    let mut answers = response.results.into_iter();
    for (theirs, ours) in indices.iter().enumerate() {
        let outcome = match answers.next() {
            Some(answer) if answer.outcome.is_some() => Outcome::Answered(Box::new(reindex(answer, theirs, *ours))),
            _ => {
                let message = format!("the gateway of region {region} gave no result for it; it may be stored there");
                let refusal = Refusal::new(FaultCode::PeerUnconfirmed, message);
                Outcome::Unknown(refusal.at_event(*ours as usize))
            }
        };
        results.push(EventResult { index: *ours, outcome });
    }
    results
}

fn all(indices: &[u32], refusal: &Refusal, outcome: impl Fn(Refusal) -> Outcome) -> Vec<EventResult> {
    let result = |index: &u32| EventResult {
        index: *index,
        outcome: outcome(refusal.clone().at_event(*index as usize)),
    };
    indices.iter().map(result).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_comes_when_the_one_before_is_done_and_not_earlier() {
        let (here, there) = (
            RegionName::new("eu-west").unwrap(),
            RegionName::new("ap-south").unwrap(),
        );
        let mut lane = Lane::default();
        let first = lane.turn(&here);
        let mut second = lane.turn(&here);
        let mut other = lane.turn(&there);
        let soon = || Instant::now() + Duration::from_millis(10);
        assert!(other.comes(soon()).await, "regions have lines of their own");
        assert!(!second.comes(soon()).await, "the first is not done");
        let mut third = lane.turn(&here);
        drop((first, second));
        assert!(third.comes(soon()).await);
    }

    #[test]
    fn an_answer_that_is_short_leaves_the_rest_unknown() {
        let region = RegionName::new("eu-west").unwrap();
        let results = read(PublishResponse::default(), &[4, 9], &region);
        let indices: Vec<u32> = results.iter().map(|result| result.index).collect();
        assert_eq!(indices, [4, 9]);
        assert!(results.iter().all(|result| matches!(&result.outcome, Outcome::Unknown(refusal) if refusal.code() == FaultCode::PeerUnconfirmed)));
    }
}
