//! End to end and under fire: the behaviour that users rely on, shown over real
//! processes, real brokers and foreign clients. One file a behaviour.
//!
//! `regions` is the set-up that most of them share. What a test may take from the
//! machine is in `meridian_tests::harness`.

#![allow(clippy::unwrap_used)] // Every function here is part of a test.

mod bad_input;
mod chaos_embedded;
mod chaos_kafka;
mod cli;
mod client_link;
mod crowds;
mod dead_letters;
mod delayed;
mod dev_demo;
mod fleets;
mod foreign_clients;
mod foreign_settlements;
mod forged;
mod h2_attacks;
mod kafka_absent;
mod one_way;
mod operating;
mod oversize;
mod publish_and_work;
mod region_cut;
mod regions;
mod rolling_restart;
mod route_changes;
mod rules;
mod sessions;
mod slow_consumers;
mod worker_kills;
