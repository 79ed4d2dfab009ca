//! Apache Kafka.

pub mod config;
mod error;
mod native;
mod settings;
