//! Whoever puts load on a server.
//!
//! - [`stream_codec`]: a publish stream's messages, without a copy of each event.
//! - [`lean_stream`]: publish streams as lean as they can be, closed and open loop.
//! - [`sdk_publisher`]: the worker SDK's publisher.
//! - [`raw_producer`]: rdkafka, without Meridian.
//! - [`unary`]: one event a call, to a gateway or to the null server.

pub(crate) mod lean_stream;
pub(crate) mod raw_producer;
pub(crate) mod sdk_publisher;
pub(crate) mod stream_codec;
pub(crate) mod unary;
