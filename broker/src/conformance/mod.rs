//! One suite that holds every adapter to the duties of the seam.
//!
//! An adapter's test says how its broker is made, stopped and killed (a
//! [`Fixture`]) and calls [`conformance_suite!`](crate::conformance_suite); each
//! case becomes a test of its own, named after the duty that it checks.
//!
//! - [`fixture`]: what an adapter's test provides.
//! - [`suite`]: the list of cases, as macros.
//! - [`history`]: the checker of what a reader tells, pure, with tests of its own.
//! - [`reading`]: drives one reader and has the checker watch it.
//! - [`writing`]: numbered records, and appending them.
//! - [`waiting`]: waits for a condition, with a deadline.
//! - the cases: [`durability`], [`admission`], [`order`], [`round_trip`],
//!   [`claims`], [`settlement`], [`bounds`], [`sharing`], [`storm`], [`leaving`],
//!   [`positions`], [`lag`], [`administration`], [`resetting`], [`lifecycle`],
//!   [`restarts`]; [`absence`] for brokers that are in another process; and
//!   [`network`], [`hanging`] and [`deletion`] for those that have a proxy in front of
//!   them; [`credentials`] for those that ask for some.
//!
//! A failed check panics with what was seen, for the suite is only ever a test.

#![allow(
    clippy::unwrap_used,
    reason = "the suite is test code, though it is compiled into the library"
)]

pub mod absence;
pub mod administration;
pub mod admission;
pub mod bounds;
pub mod claims;
pub mod credentials;
pub mod deletion;
pub mod durability;
pub mod fixture;
pub mod hanging;
pub mod history;
pub mod lag;
pub mod leaving;
pub mod lifecycle;
pub mod network;
pub mod order;
pub mod positions;
pub mod reading;
pub mod resetting;
pub mod restarts;
pub mod round_trip;
pub mod settlement;
pub mod sharing;
pub mod storm;
pub mod suite;
pub mod waiting;
pub mod writing;

pub use fixture::{Fixture, Need, Settings};
