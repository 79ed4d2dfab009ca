//! What is refused before any event is looked at: a gateway that drains, a batch
//! over its limits.

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::config::Limits;
use crate::fault::{FaultCode, Refusal};

/// Clones share it.
#[derive(Clone, Debug)]
pub struct Gate {
    draining: CancellationToken,
    max_batch_events: usize,
    max_batch_bytes: usize,
}

impl Gate {
    /// An open gate; `draining` closes it.
    pub fn new(limits: &Limits, draining: CancellationToken) -> Self {
        Self {
            draining,
            max_batch_events: limits.max_batch_events,
            max_batch_bytes: limits.max_batch_bytes,
        }
    }

    /// Fires when the gateway begins to drain.
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// The words for a gateway that drains.
    pub fn drained() -> Refusal {
        Refusal::new(
            FaultCode::Draining,
            "this gateway is draining and takes no more events; publish to another gateway of the region",
        )
    }

    /// Lets a batch pass and says how many bytes it has.
    ///
    /// # Errors
    /// `DRAINING`, or `BATCH_TOO_LARGE`, which names the limit.
    pub fn pass(&self, events: &[Bytes]) -> Result<u64, Refusal> {
        if self.draining.is_cancelled() {
            return Err(Self::drained());
        }
        if events.len() > self.max_batch_events {
            let what = format!(
                "the batch has {} events, {} are allowed",
                events.len(),
                self.max_batch_events
            );
            return Err(too_large(what));
        }
        let bytes: usize = events.iter().map(Bytes::len).sum();
        if bytes > self.max_batch_bytes {
            return Err(too_large(format!(
                "the batch has {bytes} bytes of events, {} are allowed",
                self.max_batch_bytes
            )));
        }
        Ok(bytes as u64)
    }
}

fn too_large(what: String) -> Refusal {
    Refusal::new(
        FaultCode::BatchTooLarge,
        format!("{what}; publish it in smaller batches"),
    )
    .with_field("events", what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_over_a_limit_is_told_which() {
        let limits = Limits {
            max_batch_events: 2,
            max_batch_bytes: 10,
            ..Limits::default()
        };
        let draining = CancellationToken::new();
        let gate = Gate::new(&limits, draining.clone());
        let events = |count, size| vec![Bytes::from(vec![0; size]); count];
        assert_eq!(gate.pass(&events(2, 5)).unwrap(), 10);
        assert_eq!(gate.pass(&[]).unwrap(), 0);
        let refusal = gate.pass(&events(3, 1)).unwrap_err();
        assert_eq!(
            refusal.message(),
            "the batch has 3 events, 2 are allowed; publish it in smaller batches"
        );
        let refusal = gate.pass(&events(2, 6)).unwrap_err();
        assert_eq!(
            (refusal.code(), refusal.message().contains("12 bytes of events, 10")),
            (FaultCode::BatchTooLarge, true)
        );
        draining.cancel();
        assert_eq!(gate.pass(&[]).unwrap_err().code(), FaultCode::Draining);
    }
}
