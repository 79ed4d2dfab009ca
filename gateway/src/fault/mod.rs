//! Faults that a caller can meet: one table of stable codes, and the refusals
//! that carry them onto the wire.
//!
//! - [`code`]: the table: code, gRPC code, HTTP status, when to try again.
//! - [`refusal`]: a fault with its words and details, as `google.rpc.Status`.

pub mod code;
mod origins;
pub mod refusal;

pub use code::FaultCode;
pub use refusal::{ERROR_DOMAIN, Refusal};
