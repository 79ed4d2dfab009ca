//! Process plumbing shared by the gateway, the replicator, the brokers and the command line: configuration,
//! telemetry, health, shutdown, tasks, time. It knows no domain: no event, topic, broker or rule has a name here.
//!
//! What holds: nothing here reads the environment, the clock or a source of randomness by itself, except at the edges
//! that say so ([`SystemClock`], [`TerminationSignals`], [`init_tracing`], the process metrics). Everything has a
//! bound.

pub mod admin_http;
pub mod backoff;
pub mod byte_budget;
pub mod clock;
pub mod config;
pub mod health;
pub mod metrics;
pub mod secret;
pub mod shutdown;
pub mod signal;
pub mod socket;
pub mod tasks;
pub mod telemetry;

pub use admin_http::admin_routes;
pub use backoff::{Backoff, BackoffPolicy};
pub use byte_budget::{ByteBudget, ByteBudgetError, BytePermit};
pub use clock::{Clock, ManualClock, SharedClock, SystemClock};
pub use config::{Document, Fault, Faults, Mapping, Node, SecretSources};
pub use health::{ComponentSnapshot, ComponentState, Health, HealthComponent, HealthSnapshot};
pub use metrics::{BoundedFamily, LATENCY_BUCKETS_SECONDS, Metrics, OVERFLOW, RegisterError, latency_histogram};
pub use secret::Secret;
pub use shutdown::{PhaseOutcome, PhaseReport, Shutdown, ShutdownPlan, ShutdownReport, ShutdownSignal};
pub use signal::{TerminationSignal, TerminationSignals};
pub use socket::{BindError, bind, set_no_delay};
pub use tasks::{FailurePolicy, JoinReport, SpawnRefused, TaskError, TaskFailure, TaskFailureKind, TaskOutput, Tasks};
pub use telemetry::{LogFormat, LogOptions, TelemetryError, init_tracing};
