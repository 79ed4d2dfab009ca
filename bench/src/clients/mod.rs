//! Whoever puts load on a server.
//!
//! - [`stream_codec`]: a publish stream's messages, without a copy of each event.
//! - [`lean_stream`]: publish streams as lean as they can be, closed and open loop.
//! - [`lean_worker`]: sessions as lean as they can be; [`raw_consumer`]: rdkafka, reading.
//! - [`raw`]: the raw client of a broker, whichever it is.
//! - [`sdk_publisher`]: the worker SDK's publisher.
//! - [`records`]: what raw clients write; [`raw_producer`], [`raw_redis`], [`raw_rabbit`]: rdkafka,
//!   fred and lapin, without Meridian.
//! - [`unary`]: one event a call, to a gateway or to the null server.

pub(crate) mod lean_stream;
pub(crate) mod lean_worker;
pub(crate) mod raw;
pub(crate) mod raw_consumer;
pub(crate) mod raw_producer;
pub(crate) mod raw_rabbit;
pub(crate) mod raw_redis;
pub(crate) mod records;
pub(crate) mod sdk_publisher;
pub(crate) mod stream_codec;
pub(crate) mod unary;
