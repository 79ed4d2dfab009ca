//! The share of a batch that one broker or one region answers for, and all shares
//! of a batch together.
//!
//! What holds: each event of the batch has exactly one result, in what was told
//! at once or in one of the parts.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::outcome::{EventResult, Results};
use super::receipt::ReceiptTemplate;

/// Resolves to the results of one share.
pub type Part = BoxFuture<'static, Vec<EventResult>>;

/// A batch whose order is fixed and whose outcomes are on their way.
pub struct InFlight {
    /// Of the table that routed the batch.
    pub templates: Arc<[ReceiptTemplate]>,
    /// Known already: refusals.
    pub known: Vec<EventResult>,
    /// The rest.
    pub parts: Vec<Part>,
}

impl InFlight {
    /// Waits for every result; in the order of the events.
    pub async fn all(mut self) -> Results {
        let mut results = self.known;
        if let [only] = self.parts.as_mut_slice() {
            // The usual case, and each set of futures costs a unary call several allocations.
            results.extend(only.await);
        } else {
            let mut parts: FuturesUnordered<Part> = self.parts.into_iter().collect();
            while let Some(part) = parts.next().await {
                results.extend(part);
            }
        }
        if !results.is_sorted_by_key(|result| result.index) {
            results.sort_unstable_by_key(|result| result.index);
        }
        Results {
            templates: self.templates,
            results,
        }
    }
}
