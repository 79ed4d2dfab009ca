//! The worker SDK: publish events to Meridian, and write workers for it.
//!
//! A [`Publisher`] pipelines events to the least busy gateway and tells the
//! outcome of each. A [`Worker`] runs a handler over a group's events with
//! bounded concurrency and settles each by the handler's result. Both take
//! several gateway addresses, reconnect by themselves, and never see a broker.
//!
//! Module map:
//! - [`endpoint`]: gateway addresses and the connections to them.
//! - [`balance`]: which gateway gets the next work (pure).
//! - [`publisher`]: the publishing side.
//! - [`worker`]: the handling side.
//! - [`error`]: typed errors.
//!
//! ```no_run
//! use meridian_worker_sdk::{EventBuilder, Publisher, Settlement, Worker};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let publisher = Publisher::builder(["http://127.0.0.1:7400"]).build()?;
//! let event = EventBuilder::new("1", "/shop", "com.acme.order.placed")
//!     .partition_key("customer-7")
//!     .text_data("{\"total\":12}")
//!     .build()?;
//! let receipt = publisher.publish(event).await?;
//! println!("stored at {}/{}@{}", receipt.topic, receipt.partition, receipt.position);
//!
//! Worker::builder(["http://127.0.0.1:7400"], "billing", ["orders"])
//!     .concurrency(16)
//!     .run(
//!         |delivery: meridian_worker_sdk::Delivery| async move {
//!             println!("{} attempt {}", delivery.event().id(), delivery.attempt());
//!             Settlement::Accept
//!         },
//!         async { tokio::signal::ctrl_c().await.unwrap_or(()) },
//!     )
//!     .await?;
//! # Ok(()) }
//! ```

pub mod balance;
pub mod endpoint;
pub mod error;
pub mod publisher;
pub mod worker;

pub use error::{ConfigurationError, PublishError, WorkerError};
pub use meridian_event::{Event, EventBuilder};
pub use meridian_proto::meridian::Receipt;
pub use publisher::{Pending, Publisher, PublisherBuilder, PublisherLoad};
pub use worker::{
    Delivery, Handler, IntoSettlement, Settlement, SettlementAnswer, Worker, WorkerBuilder, WorkerReport,
};
