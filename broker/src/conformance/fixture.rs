//! What an adapter's test provides: a broker, and the hands to disturb it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meridian_fault_proxy::Proxy;

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

    /// A proxy in front of a case's own broker. Only [`Fixture::connect_through`] goes by it. A
    /// fixture that runs [`faulty_conformance_suite!`](crate::faulty_conformance_suite) has one.
    fn proxy(&self) -> &Proxy {
        panic!(
            "this fixture has no proxy: start a meridian_fault_proxy::Proxy in front of the broker and override `proxy` and `connect_through`"
        )
    }

    /// A handle as of [`Fixture::connect`], all of whose connections go through the proxy.
    async fn connect_through(&self, _settings: &Settings) -> Arc<dyn Broker> {
        panic!("this fixture has no proxy: override `connect_through` to connect to the address of `proxy`")
    }

    /// SIGSTOP to the process of a case's own broker.
    fn freeze_broker(&self) {
        panic!(
            "this fixture cannot freeze its broker: override `freeze_broker` and `thaw_broker` by the id in its pid file"
        )
    }

    /// SIGCONT.
    fn thaw_broker(&self) {
        panic!("this fixture cannot thaw its broker: override `thaw_broker`")
    }

    /// A handle that shows the broker a password, the right one or a wrong one; the broker, a case's
    /// own, asks for it. A fixture that runs
    /// [`guarded_conformance_suite!`](crate::guarded_conformance_suite) has it.
    async fn connect_with_password(&self, _right: bool) -> Arc<dyn Broker> {
        panic!("this fixture's broker asks for no password: override `connect_with_password`")
    }
}
