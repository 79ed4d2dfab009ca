//! Every command, its flags, and the examples of its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Puts load on a Meridian gateway and prints figures as one table.
///
/// Client, gateway and broker share this machine. Each run has a gateway process, a
/// topic and a store of its own; figures are medians of alternating runs.
#[derive(Debug, Parser)]
#[command(
    name = "meridian-bench",
    version,
    after_help = "Examples:
  meridian-bench all                              every figure of docs/performance.md
  meridian-bench stream-embedded --runs 1         a first look
  meridian-bench unary --seconds 10 --calls 32
  meridian-bench latency --broker kafka --rate 50000

The Kafka cluster is the one of `make services-up` unless --kafka names another."
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) shared: SharedArguments,
    /// What to measure.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub(crate) struct SharedArguments {
    /// Runs of each figure; the median is printed.
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) runs: u32,
    /// Seconds that a run measures.
    #[arg(long, global = true, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) seconds: u64,
    /// Seconds that a run works before it measures.
    #[arg(long, global = true, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub(crate) warm_up_seconds: u64,
    /// The program `meridian`; the one beside this program when not given.
    #[arg(long, global = true, value_name = "FILE", env = "MERIDIAN_BIN")]
    pub(crate) meridian: Option<PathBuf>,
    /// A Kafka cluster; the local cluster `a` when not given.
    #[arg(long, global = true, value_name = "HOST:PORT", env = "MERIDIAN_KAFKA_A")]
    pub(crate) kafka: Option<String>,
    /// A Redis server; the local server `a` when not given.
    #[arg(long, global = true, value_name = "HOST:PORT", env = "MERIDIAN_REDIS_A")]
    pub(crate) redis: Option<String>,
    /// A RabbitMQ broker; the local broker `a` when not given.
    #[arg(long, global = true, value_name = "HOST:PORT", env = "MERIDIAN_RABBITMQ_A")]
    pub(crate) rabbitmq: Option<String>,
    /// Where gateways keep their data, on a disk whose syncs count; the build folder
    /// when not given.
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) folder: Option<PathBuf>,
    /// Streams of a streaming client, with a connection each.
    #[arg(long, global = true, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) streams: u16,
    /// Batches of one stream in flight.
    #[arg(long, global = true, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) batches_in_flight: u16,
    /// Events of one batch, at most.
    #[arg(long, global = true, default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) batch_events: u16,
    /// Connections of the unary client.
    #[arg(long, global = true, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) connections: u16,
    /// Calls at the same time on each connection of the unary client.
    #[arg(long, global = true, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub(crate) calls: u16,
    /// Events a second of the end to end figures.
    #[arg(long, global = true, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) end_to_end_rate: u32,
    /// Seconds that memory is watched under idle sessions.
    #[arg(long, global = true, default_value_t = 60, value_parser = clap::value_parser!(u64).range(15..=86_400))]
    pub(crate) idle_seconds: u64,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything, one after the other.
    #[command(after_help = "Examples:\n  meridian-bench all\n  meridian-bench all --runs 1 --seconds 2")]
    All,
    /// Publish streams to Kafka, next to a raw producer.
    #[command(
        after_help = "Examples:\n  meridian-bench stream-kafka\n  meridian-bench stream-kafka --kafka 127.0.0.1:9092"
    )]
    StreamKafka,
    /// Publish streams to the embedded log.
    #[command(after_help = "Examples:\n  meridian-bench stream-embedded --streams 8")]
    StreamEmbedded,
    /// Publish streams to Redis, next to raw fred.
    #[command(after_help = "Examples:\n  meridian-bench stream-redis --redis 127.0.0.1:6379")]
    StreamRedis,
    /// Publish streams to RabbitMQ, next to raw lapin.
    #[command(after_help = "Examples:\n  meridian-bench stream-rabbitmq --rabbitmq 127.0.0.1:5672")]
    StreamRabbitmq,
    /// Consuming a backlog with settlement, next to a raw consumer.
    #[command(after_help = "Examples:\n  meridian-bench consume\n  meridian-bench consume --broker redis --runs 1")]
    Consume(BrokerArguments),
    /// One event a call, next to a server that does nothing.
    #[command(after_help = "Examples:\n  meridian-bench unary --connections 8 --calls 16")]
    Unary,
    /// Publish latencies at half of the greatest rate.
    #[command(
        after_help = "Examples:\n  meridian-bench latency\n  meridian-bench latency --broker embedded --rate 100000"
    )]
    Latency(LatencyArguments),
    /// From a publisher to a worker, at 5,000 events a second.
    #[command(
        after_help = "Examples:\n  meridian-bench end-to-end --broker kafka\n  meridian-bench end-to-end --end-to-end-rate 10000"
    )]
    EndToEnd(BrokerArguments),
    /// Memory with a million events of backlog and a stuck worker.
    #[command(after_help = "Examples:\n  meridian-bench backlog --broker embedded")]
    Backlog(BrokerArguments),
    /// CPU time an event next to Kafka's share groups, on the local cluster `a`.
    #[command(after_help = "Examples:\n  meridian-bench share-groups --runs 3")]
    ShareGroups,
    /// Memory under 1,000 idle sessions and 100 publishers.
    #[command(after_help = "Examples:\n  meridian-bench idle --broker embedded --idle-seconds 600")]
    Idle(BrokerArguments),
    /// What there is to be compared with, without a gateway.
    #[command(after_help = "Examples:\n  meridian-bench baselines --runs 1")]
    Baselines,
    /// The server that does nothing.
    #[command(hide = true)]
    NullServer {
        /// Where to listen.
        #[arg(long)]
        port: u16,
    },
}

/// `latency`.
#[derive(Debug, Args)]
pub(crate) struct LatencyArguments {
    #[command(flatten)]
    pub(crate) broker: BrokerArguments,
    /// Events a second; half of the greatest rate, measured first, when not given.
    #[arg(long)]
    pub(crate) rate: Option<u32>,
}

/// Which brokers.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct BrokerArguments {
    /// Only this one.
    #[arg(long, value_enum)]
    pub(crate) broker: Option<BrokerKind>,
}

/// A kind of broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BrokerKind {
    /// A Kafka cluster.
    Kafka,
    /// The gateway's own log.
    Embedded,
    /// A Redis server.
    Redis,
    /// A RabbitMQ broker.
    Rabbitmq,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Arguments::command().debug_assert();
    }
}
