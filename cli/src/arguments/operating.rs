//! `meridian topics` and `meridian groups`: what operators do to both.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::AdminArguments;
use super::value::{ResetTo, When, parse_duration, parse_reset_to, parse_until};

/// `meridian topics`.
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// List the topics.
    #[command(after_help = "Examples:\n  meridian topics list\n  meridian topics list --broker main --output json")]
    List {
        /// Where.
        #[command(flatten)]
        admin: AdminArguments,
        /// Only of this broker.
        #[arg(long, default_value = "")]
        broker: String,
    },
    /// Show a topic.
    #[command(after_help = "Examples:\n  meridian topics describe orders")]
    Describe {
        /// Which.
        #[command(flatten)]
        topic: NameArguments,
    },
    /// Make a topic; one that is there already with as many partitions is fine.
    #[command(
        after_help = "Examples:\n  meridian topics create orders --partitions 16\n  meridian topics create audit --partitions 4 --retention 7d"
    )]
    Create {
        /// Which.
        #[command(flatten)]
        topic: NameArguments,
        /// How many partitions.
        #[arg(long, default_value_t = 8)]
        partitions: u32,
        /// Copies on a Kafka cluster; the broker's default when 0.
        #[arg(long, default_value_t = 0)]
        replication_factor: u32,
        /// How long events are kept, such as 7d; the broker's default when not given.
        #[arg(long, value_parser = parse_duration)]
        retention: Option<Duration>,
    },
    /// Give a topic more partitions; it never has fewer again. On Kafka and the embedded
    /// log, keys move to other partitions, so that a key's order does not hold over the
    /// growth: let groups catch up first where that matters.
    #[command(after_help = "Examples:\n  meridian topics grow orders --partitions 32")]
    Grow {
        /// Which.
        #[command(flatten)]
        topic: NameArguments,
        /// How many it is to have.
        #[arg(long)]
        partitions: u32,
    },
    /// Delete a topic and its events, for good.
    #[command(after_help = "Examples:\n  meridian topics delete orders-old --yes")]
    Delete {
        /// Which.
        #[command(flatten)]
        topic: NameArguments,
        /// Mean it.
        #[arg(long)]
        yes: bool,
    },
}

/// `meridian groups`.
#[derive(Debug, Subcommand)]
pub enum GroupsCommand {
    /// List the groups.
    #[command(after_help = "Examples:\n  meridian groups list")]
    List {
        /// Where.
        #[command(flatten)]
        admin: AdminArguments,
        /// Only of this broker.
        #[arg(long, default_value = "")]
        broker: String,
    },
    /// Show a group: its lag in events and seconds, its state, its sessions.
    #[command(after_help = "Examples:\n  meridian groups describe billing")]
    Describe {
        /// Which.
        #[command(flatten)]
        group: NameArguments,
    },
    /// List the sessions of a gateway, or of one group on it.
    #[command(after_help = "Examples:\n  meridian groups sessions\n  meridian groups sessions billing --output json")]
    Sessions {
        /// Where.
        #[command(flatten)]
        admin: AdminArguments,
        /// Only of this group.
        name: Option<String>,
    },
    /// Stop handing out and reading for a group; its sessions stay, and what is out may
    /// be settled. Told to every gateway of the region.
    #[command(
        after_help = "Examples:\n  meridian groups pause billing --reason 'the database moves'\n  meridian groups pause billing --until 2026-11-24T18:00:00Z\n  meridian groups pause billing --until 30m"
    )]
    Pause {
        /// Which.
        #[command(flatten)]
        group: NameArguments,
        /// When it ends by itself: RFC 3339, or a span from now such as 30m.
        #[arg(long, value_name = "TIME", value_parser = parse_until)]
        until: Option<When>,
        /// Why, for workers and listings.
        #[arg(long, default_value = "")]
        reason: String,
        /// How long to wait until what is out is settled, 60s at most; no wait ends the pause.
        #[arg(long, value_parser = parse_duration, default_value = "10s")]
        wait: Duration,
    },
    /// Let a paused group go on, on every gateway of the region.
    #[command(after_help = "Examples:\n  meridian groups resume billing")]
    Resume {
        /// Which.
        #[command(flatten)]
        group: NameArguments,
    },
    /// Move a group: have it read events again, or skip some.
    #[command(
        after_help = "Examples:\n  meridian groups reset billing --to earliest --dry-run\n  meridian groups reset billing --to -1h --yes\n  meridian groups reset billing --to 2026-11-24T06:00:00Z --topic orders --yes\n  meridian groups reset billing --to 3:1500 --topic orders --yes --force"
    )]
    Reset(ResetArguments),
    /// Forget a group and where it stood.
    #[command(after_help = "Examples:\n  meridian groups delete billing-old --yes")]
    Delete {
        /// Which.
        #[command(flatten)]
        group: NameArguments,
        /// Mean it.
        #[arg(long)]
        yes: bool,
    },
}

/// A topic or a group by name.
#[derive(Debug, Args)]
pub struct NameArguments {
    /// Where.
    #[command(flatten)]
    pub admin: AdminArguments,
    /// Its name.
    pub name: String,
    /// The broker; the region's default one when not given.
    #[arg(long, default_value = "")]
    pub broker: String,
}

/// `meridian groups reset`.
#[derive(Debug, Args)]
pub struct ResetArguments {
    /// Which.
    #[command(flatten)]
    pub group: NameArguments,
    /// Where to: earliest, latest, a time (RFC 3339, or a span back such as -1h), or
    /// PARTITION:POSITION of one topic.
    #[arg(long, value_name = "PLACE", value_parser = parse_reset_to, allow_hyphen_values = true)]
    pub to: ResetTo,
    /// Only in this topic; every topic of the group when not given.
    #[arg(long, default_value = "")]
    pub topic: String,
    /// Only say what would change.
    #[arg(long)]
    pub dry_run: bool,
    /// Have the gateways stop reading for the group as long as it takes, rather than refuse
    /// while it is read. What is out comes again.
    #[arg(long)]
    pub force: bool,
    /// Mean it; without, what would change is printed and nothing is done.
    #[arg(long)]
    pub yes: bool,
}
