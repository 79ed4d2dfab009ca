//! Every command, its flags, and the examples of its help.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub mod dlq;
mod operating;
mod value;

use dlq::DlqCommand;
pub use operating::{GroupsCommand, NameArguments, ResetArguments, TopicsCommand};
pub use value::{ResetTo, When};
use value::{parse_attribute, parse_duration};

/// Routes CloudEvents by region and type onto region-local brokers, mirrors
/// them across regions, and serves fleets of workers.
#[derive(Debug, Parser)]
#[command(
    name = "meridian",
    version,
    propagate_version = true,
    after_help = "Examples:
  meridian dev                                   two regions in one process, to try things
  meridian gateway --config gateway.yaml         one gateway of one region
  meridian publish --type com.acme.order.placed --source /shop --data '{\"total\":12}'
  meridian subscribe --group billing --topic orders

Exit codes: 0 ok, 1 failed, 2 usage, 64 bad configuration."
)]
pub struct Arguments {
    /// How results are printed.
    #[arg(long, global = true, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Table,
    /// For programs: one JSON value a result.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run one gateway of one region.
    #[command(after_help = "Examples:
  meridian gateway --config gateway.yaml
  meridian gateway --config gateway.yaml --check
  MERIDIAN__LISTEN__DATA=0.0.0.0:7400 meridian gateway --config gateway.yaml")]
    Gateway(ProcessArguments),
    /// Run one replicator: links between regions.
    #[command(after_help = "Examples:
  meridian replicator --config replicator.yaml
  meridian replicator --config replicator.yaml --check")]
    Replicator(ProcessArguments),
    /// Run two regions in one process on embedded brokers, with a link each way.
    #[command(after_help = "Examples:
  meridian dev                                   us-east on 7400, eu-west on 7500
  meridian dev --directory ./dev-data            keep the events
  meridian dev --demo --duration 20s             traffic, workers, a live table and a verdict")]
    Dev(DevArguments),
    /// Publish events.
    #[command(after_help = "Examples:
  meridian publish --type com.acme.order.placed --source /shop --data '{\"total\":12}'
  meridian publish --type com.acme.order.placed --source /shop --key customer-7 --region eu-west
  cat order.json | meridian publish --type com.acme.order.placed --source /shop --data-file -
  meridian publish --type com.acme.load.tick --source /load --count 1000")]
    Publish(PublishArguments),
    /// Work for a group: print each event and accept it.
    #[command(after_help = "Examples:
  meridian subscribe --group billing --topic orders
  meridian subscribe --group audit --topic orders --topic payments --count 10 --output json
  meridian subscribe --group late --topic orders --from latest")]
    Subscribe(SubscribeArguments),
    /// The routing rules of a gateway.
    #[command(subcommand)]
    Rules(RulesCommand),
    /// The topics of a region's brokers.
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// The groups that read a region's topics.
    #[command(subcommand)]
    Groups(GroupsCommand),
    /// The dead letters of a topic: events that were given up.
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// The links of a replicator.
    #[command(subcommand)]
    Links(LinksCommand),
    /// Ask a gateway to hand its sessions over and take no more publishes.
    #[command(after_help = "Examples:
  meridian drain --admin 127.0.0.1:7402
  meridian drain --admin 127.0.0.1:7402 --deadline 10s")]
    Drain(DrainArguments),
    /// The workers of the demo, as a process of their own.
    #[command(hide = true)]
    DemoWorkers(DemoWorkersArguments),
}

/// A process with a configuration file.
#[derive(Debug, Args)]
pub struct ProcessArguments {
    /// The YAML file.
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
    /// Say every fault of the file and exit.
    #[arg(long)]
    pub check: bool,
    /// How to log.
    #[command(flatten)]
    pub log: LogArguments,
}

/// How a process logs, to standard error.
#[derive(Debug, Args)]
pub struct LogArguments {
    /// What to log: a level, or filters such as `warn,meridian_gateway=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info", env = "MERIDIAN_LOG")]
    pub log: String,
    /// The form of a line.
    #[arg(long, value_enum, default_value_t = LogLines::Text, env = "MERIDIAN_LOG_FORMAT")]
    pub log_format: LogLines,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLines {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `meridian dev`.
#[derive(Debug, Args)]
pub struct DevArguments {
    /// Where the events are kept; a temporary folder when not given.
    #[arg(long, value_name = "FOLDER")]
    pub directory: Option<PathBuf>,
    /// Send traffic, run workers, and judge the outcome.
    #[arg(long)]
    pub demo: bool,
    /// How long the demo publishes, such as 20s or 2m.
    #[arg(long, value_parser = parse_duration, default_value = "20s", requires = "demo")]
    pub duration: Duration,
    /// Events a second over all publishers of the demo.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=100_000), requires = "demo")]
    pub rate: u64,
    /// Run the demo against gateways that are running already, as this JSON file says.
    #[arg(long, value_name = "FILE", requires = "demo", conflicts_with = "directory")]
    pub against: Option<PathBuf>,
    /// Print the rules of the demo and exit.
    #[arg(long, hide = true)]
    pub print_demo_rules: bool,
    /// Any free ports in place of 7400, 7402, 7500, 7502 and 7602.
    #[arg(long)]
    pub any_ports: bool,
    /// How to log; a demo logs warnings alone unless told otherwise.
    #[command(flatten)]
    pub log: LogArguments,
}

/// `meridian publish`.
#[derive(Debug, Args)]
pub struct PublishArguments {
    /// Gateways to publish to.
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7400",
        env = "MERIDIAN_GATEWAY",
        value_delimiter = ','
    )]
    pub gateway: Vec<String>,
    /// The event's type.
    #[arg(long = "type", value_name = "TYPE")]
    pub type_name: String,
    /// The event's source, a URI reference.
    #[arg(long)]
    pub source: String,
    /// The event's id; a random one when not given. With `--count`, a prefix.
    #[arg(long)]
    pub id: Option<String>,
    /// The partition key: events of one key stay in order.
    #[arg(long)]
    pub key: Option<String>,
    /// The event's home region.
    #[arg(long)]
    pub region: Option<String>,
    /// Another attribute; may be given several times.
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = parse_attribute)]
    pub attributes: Vec<(String, String)>,
    /// The media type of the data.
    #[arg(long, default_value = "application/json")]
    pub content_type: String,
    /// The data.
    #[arg(long, conflicts_with = "data_file")]
    pub data: Option<String>,
    /// A file with the data; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub data_file: Option<PathBuf>,
    /// How many events to publish.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub count: u64,
    /// How long an event may take, retries included.
    #[arg(long, value_parser = parse_duration, default_value = "10s")]
    pub timeout: Duration,
}

/// `meridian subscribe`.
#[derive(Debug, Args)]
pub struct SubscribeArguments {
    /// Gateways to subscribe at.
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7400",
        env = "MERIDIAN_GATEWAY",
        value_delimiter = ','
    )]
    pub gateway: Vec<String>,
    /// The group to work for.
    #[arg(long)]
    pub group: String,
    /// Topics to read; may be given several times.
    #[arg(long = "topic", required = true)]
    pub topics: Vec<String>,
    /// The broker of the topics; the region's default one when not given.
    #[arg(long, default_value = "")]
    pub broker: String,
    /// Stop after so many events.
    #[arg(long)]
    pub count: Option<u64>,
    /// Events handled at the same time.
    #[arg(long, default_value_t = 1)]
    pub concurrency: usize,
    /// Where a new group begins.
    #[arg(long, value_enum, default_value_t = From::Earliest)]
    pub from: From,
}

/// Where a new group begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum From {
    /// At the oldest event.
    Earliest,
    /// After the newest event.
    Latest,
}

/// Where a gateway's or replicator's admin port is.
#[derive(Debug, Args)]
pub struct AdminArguments {
    /// The admin address.
    #[arg(
        long = "admin",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7402",
        env = "MERIDIAN_ADMIN"
    )]
    pub address: String,
}

/// `meridian rules`.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// Print the rules in force and their revision.
    #[command(after_help = "Examples:\n  meridian rules get\n  meridian rules get --output json")]
    Get {
        /// Where.
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Say every fault of a rules file; change nothing.
    #[command(after_help = "Examples:\n  meridian rules validate rules.yaml")]
    Validate {
        /// Where.
        #[command(flatten)]
        admin: AdminArguments,
        /// The rules file.
        file: PathBuf,
    },
    /// Swap the rules for those of a file, whole or not at all.
    #[command(
        after_help = "Examples:\n  meridian rules apply rules.yaml\n  meridian rules apply rules.yaml --expected-revision 4"
    )]
    Apply {
        /// Where.
        #[command(flatten)]
        admin: AdminArguments,
        /// The rules file.
        file: PathBuf,
        /// Refuse when the rules in force are of another revision.
        #[arg(long, default_value_t = 0)]
        expected_revision: u64,
    },
    /// Say where an event would go, and why.
    #[command(
        after_help = "Examples:\n  meridian rules explain --type com.acme.order.placed --source /shop --region eu-west"
    )]
    Explain {
        /// Where.
        #[command(flatten)]
        admin: AdminArguments,
        /// The event's type.
        #[arg(long = "type", value_name = "TYPE")]
        type_name: String,
        /// The event's source.
        #[arg(long, default_value = "/explain")]
        source: String,
        /// The event's home region.
        #[arg(long)]
        region: Option<String>,
        /// The event's partition key.
        #[arg(long)]
        key: Option<String>,
        /// Another attribute; may be given several times.
        #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = parse_attribute)]
        attributes: Vec<(String, String)>,
    },
}

/// `meridian links`.
#[derive(Debug, Subcommand)]
pub enum LinksCommand {
    /// List the links, their state and their lag.
    #[command(after_help = "Examples:\n  meridian links list --admin 127.0.0.1:7602")]
    List {
        /// Where.
        #[command(flatten)]
        admin: AdminArguments,
    },
    /// Stop reading for a link; its position stays.
    #[command(after_help = "Examples:\n  meridian links pause us-to-eu --admin 127.0.0.1:7602")]
    Pause {
        /// Where.
        #[command(flatten)]
        admin: AdminArguments,
        /// The link's name.
        name: String,
    },
    /// Let a link go on.
    #[command(after_help = "Examples:\n  meridian links resume us-to-eu --admin 127.0.0.1:7602")]
    Resume {
        /// Where.
        #[command(flatten)]
        admin: AdminArguments,
        /// The link's name.
        name: String,
    },
}

/// `meridian drain`.
#[derive(Debug, Args)]
pub struct DrainArguments {
    /// Where.
    #[command(flatten)]
    pub admin: AdminArguments,
    /// How long workers may settle what they hold.
    #[arg(long, value_parser = parse_duration, default_value = "20s")]
    pub deadline: Duration,
}

/// The workers of the demo in a process of their own.
#[derive(Debug, Args)]
pub struct DemoWorkersArguments {
    /// The region to work in.
    #[arg(long)]
    pub region: String,
    /// The JSON file that says where the gateways are.
    #[arg(long)]
    pub against: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn check(command: &clap::Command) {
            let leaf = command.get_subcommands().next().is_none();
            let shown = command
                .get_after_help()
                .is_some_and(|help| help.to_string().contains("meridian "));
            assert!(
                !leaf || command.is_hide_set() || shown,
                "{} has no example",
                command.get_name()
            );
            command.get_subcommands().for_each(check);
        }
        check(&Arguments::command());
    }
}
