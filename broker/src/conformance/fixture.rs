//! What an adapter's test provides: a broker, and the hands to disturb it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::admin::TopicSpec;
use crate::name::TopicPartition;
use crate::seam::Broker;

/// What a case does to its broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It leaves the broker alone, which may be shared with other cases.
    Shared,
    /// It stops, kills or restarts the broker, which must be its own.
    Own,
}

/// The limits of one handle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Records admitted and not committed, at most.
    pub max_in_flight_records: usize,
    /// The same in bytes of records.
    pub max_in_flight_bytes: usize,
    /// The largest record in bytes.
    pub max_record_bytes: usize,
    /// When an append that was not confirmed is given up.
    pub delivery_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_in_flight_records: 10_000,
            max_in_flight_bytes: 16 * 1024 * 1024,
            max_record_bytes: 64 * 1024,
            delivery_timeout: Duration::from_secs(10),
        }
    }
}

/// A broker under test. Every method panics with a text that says what to do
/// when the broker cannot be had.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// A handle of the broker. Where the broker is in another process, every
    /// call gives a handle of its own, as another gateway would have it; where
    /// it is in this one, the handle that there is, opened anew when its
    /// settings differ or the broker was stopped.
    async fn connect(&self, settings: &Settings) -> Arc<dyn Broker>;

    /// A handle of another broker of the same kind.
    async fn connect_other(&self) -> Arc<dyn Broker>;

    /// Stops the broker in an orderly way.
    async fn stop_broker(&self);

    /// Stops the broker as if its process had been killed.
    async fn kill_broker(&self);

    /// Starts the broker after it was stopped or killed.
    async fn start_broker(&self);

    /// Whether handles outlive a restart of the broker. Where they do not (the
    /// broker is in this process), they are closed with it.
    fn handles_outlive_restarts(&self) -> bool;

    /// Changes the specification of a topic so that [`Fixture::forget`] can work.
    fn forgetful(&self, spec: TopicSpec) -> TopicSpec;

    /// Has the broker delete the records of the partition before `position`; it
    /// may add records and delete some more, but the partition keeps at least one.
    async fn forget(&self, broker: &Arc<dyn Broker>, partition: &TopicPartition, position: u64);
}
