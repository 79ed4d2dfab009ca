//! How much may be in flight: requests and bytes, over all publishers.
//!
//! A unary publish that finds no room is refused at once with a delay; a stream
//! waits, and HTTP/2 flow control tells its publisher. What holds: a permit
//! gives its share back when the last part of the batch has its outcome, or its
//! publisher is gone. What the broker can take is the broker's own bound.

use std::sync::Arc;
use std::time::Instant;

use meridian_runtime::{ByteBudget, ByteBudgetError, BytePermit};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use crate::config::Limits;
use crate::fault::{FaultCode, Refusal};
use crate::metrics::GatewayMetrics;

/// The gate that every batch passes; clones share it.
#[derive(Clone, Debug)]
pub struct Admission {
    requests: Arc<Semaphore>,
    bytes: ByteBudget,
    max_requests_in_flight: usize,
    metrics: GatewayMetrics,
}

/// A batch's share of the limits.
#[derive(Debug)]
#[must_use = "dropping the permit gives the share back"]
pub struct AdmissionPermit {
    _request: OwnedSemaphorePermit,
    _bytes: BytePermit,
    size_bytes: i64,
    requests_in_flight: Gauge,
    bytes_in_flight: Gauge,
}

impl Admission {
    /// A gate with the limits of the configuration.
    pub fn new(limits: &Limits, metrics: GatewayMetrics) -> Self {
        Self {
            requests: Arc::new(Semaphore::new(limits.max_requests_in_flight)),
            bytes: ByteBudget::new(limits.max_bytes_in_flight),
            max_requests_in_flight: limits.max_requests_in_flight,
            metrics,
        }
    }

    /// Lets a batch in if there is room now.
    ///
    /// # Errors
    /// A refusal `GATEWAY_OVERLOADED` that names the limit and says when to try
    /// again, or `BATCH_TOO_LARGE` when there can never be room.
    pub fn try_admit(&self, size_bytes: u64) -> Result<AdmissionPermit, Refusal> {
        let Ok(request) = Arc::clone(&self.requests).try_acquire_owned() else {
            return Err(self.full_of_requests());
        };
        match self.bytes.try_acquire(size_bytes) {
            Some(bytes) => Ok(self.permit(request, bytes, size_bytes)),
            None if size_bytes > self.bytes.max_request_bytes() => Err(self.never(size_bytes)),
            None => Err(self.full_of_bytes()),
        }
    }

    /// Lets a batch in as soon as there is room, in the order of asking.
    ///
    /// # Errors
    /// As [`Admission::try_admit`], once the deadline has passed.
    pub async fn admit(&self, size_bytes: u64, deadline: Instant) -> Result<AdmissionPermit, Refusal> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let request = match Arc::clone(&self.requests).try_acquire_owned() {
            Ok(request) => request,
            Err(_) => {
                self.hit("max_requests_in_flight");
                match timeout_at(deadline, Arc::clone(&self.requests).acquire_owned()).await {
                    Ok(Ok(request)) => request,
                    // The semaphore is never closed, so this is the deadline.
                    Ok(Err(_)) | Err(_) => return Err(self.full_of_requests()),
                }
            }
        };
        let bytes = match self.bytes.try_acquire(size_bytes) {
            Some(bytes) => bytes,
            None => {
                self.hit("max_bytes_in_flight");
                match self.bytes.acquire(size_bytes, deadline).await {
                    Ok(bytes) => bytes,
                    Err(ByteBudgetError::TooLarge { .. }) => return Err(self.never(size_bytes)),
                    Err(_) => return Err(self.full_of_bytes()),
                }
            }
        };
        Ok(self.permit(request, bytes, size_bytes))
    }

    fn permit(&self, request: OwnedSemaphorePermit, bytes: BytePermit, size_bytes: u64) -> AdmissionPermit {
        let size_bytes = i64::try_from(size_bytes).unwrap_or(i64::MAX);
        self.metrics.requests_in_flight.inc();
        self.metrics.bytes_in_flight.inc_by(size_bytes);
        AdmissionPermit {
            _request: request,
            _bytes: bytes,
            size_bytes,
            requests_in_flight: self.metrics.requests_in_flight.clone(),
            bytes_in_flight: self.metrics.bytes_in_flight.clone(),
        }
    }

    fn full_of_requests(&self) -> Refusal {
        self.hit("max_requests_in_flight");
        let max = self.max_requests_in_flight;
        overloaded(
            "max_requests_in_flight",
            format!("{max} publish requests are in flight already"),
        )
    }

    fn full_of_bytes(&self) -> Refusal {
        self.hit("max_bytes_in_flight");
        let (in_use, max) = (self.bytes.in_use(), self.bytes.max_bytes());
        overloaded(
            "max_bytes_in_flight",
            format!("{in_use} of {max} bytes are in flight already"),
        )
    }

    fn never(&self, size_bytes: u64) -> Refusal {
        let max = self.bytes.max_request_bytes();
        let message =
            format!("the batch has {size_bytes} bytes, and {max} may be in flight at most; send smaller batches");
        Refusal::new(FaultCode::BatchTooLarge, message).with_quota("max_bytes_in_flight", format!("{max} bytes"))
    }

    fn hit(&self, limit: &'static str) {
        self.metrics.limits_hit.get_or_create(&[("limit", limit)]).inc();
    }
}

fn overloaded(limit: &'static str, words: String) -> Refusal {
    Refusal::new(
        FaultCode::GatewayOverloaded,
        format!("{words}; try again after the delay, or publish by stream"),
    )
    .with_quota(limit, words)
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        self.requests_in_flight.dec();
        self.bytes_in_flight.dec_by(self.size_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_runtime::Metrics;
    use std::time::Duration;

    fn gate() -> (Admission, GatewayMetrics) {
        let metrics = GatewayMetrics::register(&Metrics::new([("region", "r")])).unwrap();
        let limits = Limits {
            max_requests_in_flight: 2,
            max_bytes_in_flight: 100,
            ..Limits::default()
        };
        (Admission::new(&limits, metrics.clone()), metrics)
    }

    #[test]
    fn a_full_gate_refuses_at_once_and_names_the_limit() {
        let (gate, metrics) = gate();
        let first = gate.try_admit(60).unwrap();
        let refusal = gate.try_admit(60).unwrap_err();
        assert_eq!(refusal.code(), FaultCode::GatewayOverloaded);
        assert!(
            refusal.message().starts_with("60 of 100 bytes are in flight already"),
            "{refusal}"
        );
        let second = gate.try_admit(1).unwrap();
        let refusal = gate.try_admit(1).unwrap_err();
        assert!(
            refusal.message().starts_with("2 publish requests are in flight"),
            "{refusal}"
        );
        assert_eq!(metrics.requests_in_flight.get(), 2);
        assert_eq!(metrics.bytes_in_flight.get(), 61);
        drop((first, second));
        assert_eq!(
            (metrics.requests_in_flight.get(), metrics.bytes_in_flight.get()),
            (0, 0)
        );
        assert_eq!(gate.try_admit(101).unwrap_err().code(), FaultCode::BatchTooLarge);
        assert_eq!(
            metrics
                .limits_hit
                .get_or_create(&[("limit", "max_bytes_in_flight")])
                .get(),
            1
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_waits_for_room_until_its_deadline() {
        let (gate, _) = gate();
        let held = gate.try_admit(60).unwrap();
        let deadline = tokio::time::Instant::now().into_std() + Duration::from_secs(1);
        assert_eq!(
            gate.admit(60, deadline).await.unwrap_err().code(),
            FaultCode::GatewayOverloaded
        );
        let waiting = tokio::spawn({
            let gate = gate.clone();
            let deadline = tokio::time::Instant::now().into_std() + Duration::from_secs(1);
            async move { gate.admit(60, deadline).await.map(drop) }
        });
        tokio::task::yield_now().await;
        drop(held);
        waiting.await.unwrap().unwrap();
    }
}
