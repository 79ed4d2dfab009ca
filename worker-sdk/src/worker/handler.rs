//! What users implement, and what a handler's result means.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use crate::worker::Delivery;

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Done.
    Accept,
    /// Not done: deliver it again, after the delay.
    Release {
        /// The least time before it comes again.
        delay: Duration,
        /// Why, for operators and the dead letter.
        reason: String,
    },
    /// Not done: deliver it again, after the delay that the group's retry policy says.
    Retry {
        /// Why, for operators and the dead letter.
        reason: String,
    },
    /// Never again: to the dead-letter topic.
    Reject {
        /// Why, for operators and the dead letter.
        reason: String,
    },
}

/// A result that says what becomes of the delivery.
///
/// `()` and `Ok` accept. An `Err` releases; how long it waits is the gateway's
/// to say, which alone counts attempts and spaces them. The maximum of attempts
/// ends in the dead-letter topic.
pub trait IntoSettlement {
    /// The settlement of a delivery that came for the `attempt`th time.
    fn into_settlement(self, attempt: u32) -> Settlement;
}

impl IntoSettlement for Settlement {
    fn into_settlement(self, _attempt: u32) -> Settlement {
        self
    }
}

impl IntoSettlement for () {
    fn into_settlement(self, _attempt: u32) -> Settlement {
        Settlement::Accept
    }
}

impl<E: Display> IntoSettlement for Result<(), E> {
    fn into_settlement(self, _attempt: u32) -> Settlement {
        match self {
            Ok(()) => Settlement::Accept,
            Err(error) => Settlement::Retry {
                reason: error.to_string(),
            },
        }
    }
}

/// Handles deliveries. Any `Fn(Delivery) -> Future` whose output says what
/// becomes of the delivery is a handler.
///
/// A handler may be called again with an event that it has seen: after a lost
/// lease, a crash, or a publish of unknown outcome. A handler that panics
/// releases its delivery.
pub trait Handler: Send + Sync + 'static {
    /// Handles one delivery.
    fn handle(&self, delivery: Delivery) -> impl Future<Output = Settlement> + Send;

    /// Told what the gateway made of a settlement, in the session's loop: it must return at once. Nothing is told
    /// when the stream is lost first: the event may come again, as after `applied: false`.
    fn answered(&self, _answer: &SettlementAnswer) {}
}

/// What the gateway made of the settlement of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettlementAnswer {
    /// The topic that the record was read from.
    pub topic: String,
    /// The partition of the topic.
    pub partition: u32,
    /// The position in the partition.
    pub position: u64,
    /// The id of the event. Positions of a broker of queues count deliveries, and name other events later.
    pub event_id: String,
    /// False: it came too late, and the event is or will be delivered again.
    pub applied: bool,
}

impl<F, R, O> Handler for F
where
    F: Fn(Delivery) -> R + Send + Sync + 'static,
    R: Future<Output = O> + Send,
    O: IntoSettlement,
{
    async fn handle(&self, delivery: Delivery) -> Settlement {
        let attempt = delivery.attempt();
        self(delivery).await.into_settlement(attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_leaves_the_delay_to_the_gateway() {
        let reason = String::from("no stock");
        let settled = Err::<(), _>("no stock").into_settlement(3);
        assert_eq!(settled, Settlement::Retry { reason });
    }

    #[test]
    fn nothing_and_ok_accept() {
        assert_eq!(().into_settlement(1), Settlement::Accept);
        assert_eq!(Ok::<(), String>(()).into_settlement(3), Settlement::Accept);
    }
}
