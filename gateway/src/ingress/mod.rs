//! PublisherService: events come in as encoded bytes, results go out as they are
//! known.
//!
//! - [`service`]: the gRPC service, its two methods and their bounds.
//! - [`answer`]: results as messages, written without a copy of each receipt.
//! - [`deadline`]: how long a caller waits.
//! - [`gate`]: what is refused before any event is looked at.
//! - [`unary`]: the method `Publish`.
//! - [`stream`]: the method `PublishStream`: numbered batches, a window, results in any order.

pub mod answer;
pub mod deadline;
pub mod gate;
pub mod service;
pub mod stream;
pub mod unary;

pub use gate::Gate;
pub use service::PublisherService;
