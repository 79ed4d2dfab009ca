//! `meridian dlq`: its commands and flags.

use std::time::Duration;

use clap::{Args, Subcommand};
use prost_types::Timestamp;

use super::AdminArguments;
use super::value::parse_duration;

/// `meridian dlq`.
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// List dead letters, and count them by reason, type, group and topic.
    #[command(after_help = "Examples:
  meridian dlq list orders
  meridian dlq list orders --reason MAX_ATTEMPTS --group billing --since 24h --limit 20
  meridian dlq list orders --output json")]
    List {
        /// Which.
        #[command(flatten)]
        letters: LetterArguments,
        /// Show at most so many; all are counted.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show one dead letter, with its event.
    #[command(after_help = "Examples:\n  meridian dlq show orders 0:17\n  meridian dlq show orders 0:17 --output json")]
    Show {
        /// Where.
        #[command(flatten)]
        admin: AdminArguments,
        /// The topic, or its dead-letter topic.
        topic: String,
        /// Its place in the dead-letter topic, as `list` shows it.
        #[arg(value_name = "PARTITION:POSITION", value_parser = parse_place)]
        place: Place,
        /// The broker; the region's default one when not given.
        #[arg(long, default_value = "")]
        broker: String,
    },
    /// Append dead letters to the topics that they came from, for all groups there; interrupted, run it again.
    #[command(after_help = "Examples:
  meridian dlq replay orders --dry-run
  meridian dlq replay orders --reason MAX_ATTEMPTS --group billing --rate 50
  meridian dlq replay orders --to orders.mended --max-replays 5")]
    Replay {
        /// Which.
        #[command(flatten)]
        letters: LetterArguments,
        /// Another topic to send them to.
        #[arg(long, value_name = "TOPIC", default_value = "")]
        to: String,
        /// Events a second; as fast as the broker takes them when not given.
        #[arg(long, value_name = "EVENTS")]
        rate: Option<f64>,
        /// Leave those that were replayed so often.
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
        max_replays: u32,
        /// Stop after so many.
        #[arg(long, default_value_t = 0)]
        limit: u64,
        /// Only count what would be replayed.
        #[arg(long)]
        dry_run: bool,
    },
    /// Drop dead letters for good.
    #[command(after_help = "Examples:
  meridian dlq purge orders --dry-run
  meridian dlq purge orders --reason EXPIRED --until 7d --yes")]
    Purge {
        /// Which.
        #[command(flatten)]
        letters: LetterArguments,
        /// Stop after so many.
        #[arg(long, default_value_t = 0)]
        limit: u64,
        /// Only count what would be dropped.
        #[arg(long)]
        dry_run: bool,
        /// Yes, drop them.
        #[arg(long, required_unless_present = "dry_run")]
        yes: bool,
    },
}

/// Which dead letters are meant.
#[derive(Debug, Args)]
pub struct LetterArguments {
    /// Where.
    #[command(flatten)]
    pub admin: AdminArguments,
    /// The topic, or its dead-letter topic.
    pub topic: String,
    /// The broker; the region's default one when not given.
    #[arg(long, default_value = "")]
    pub broker: String,
    /// Only of this reason: MAX_ATTEMPTS, REJECTED, NOT_A_CLOUDEVENT, TOO_LARGE or EXPIRED.
    #[arg(long, default_value = "")]
    pub reason: String,
    /// Only those that died for this group.
    #[arg(long, default_value = "")]
    pub group: String,
    /// Only events of this type.
    #[arg(long = "type", value_name = "TYPE", default_value = "")]
    pub type_name: String,
    /// Only those that came from this topic.
    #[arg(long, value_name = "TOPIC", default_value = "")]
    pub source_topic: String,
    /// Only those that died since then: so long ago, such as 24h, or RFC 3339.
    #[arg(long, value_name = "WHEN", value_parser = parse_moment)]
    pub since: Option<Moment>,
    /// Only those that died before then: so long ago, such as 1h, or RFC 3339.
    #[arg(long, value_name = "WHEN", value_parser = parse_moment)]
    pub until: Option<Moment>,
}

/// A place in a dead-letter topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The partition.
    pub partition: u32,
    /// The position.
    pub position: u64,
}

/// A moment, absolute or before now.
#[derive(Clone, Debug, PartialEq)]
pub enum Moment {
    /// So long before now.
    Ago(Duration),
    /// Then.
    At(Timestamp),
}

fn parse_place(text: &str) -> Result<Place, String> {
    let place = text.split_once(':').and_then(|(partition, position)| {
        Some(Place {
            partition: partition.parse().ok()?,
            position: position.parse().ok()?,
        })
    });
    place.ok_or_else(|| format!("{text:?} is not PARTITION:POSITION such as 0:17"))
}

fn parse_moment(text: &str) -> Result<Moment, String> {
    let ago = parse_duration(text).map(Moment::Ago);
    ago.or_else(|_| text.parse().map(Moment::At))
        .map_err(|_| format!("{text:?} is neither a duration such as 24h nor a time such as 2024-05-01T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_moments_are_read() {
        let place = Place {
            partition: 2,
            position: 17,
        };
        assert_eq!(parse_place("2:17"), Ok(place));
        assert_eq!(parse_moment("24h"), Ok(Moment::Ago(Duration::from_secs(86_400))));
        assert!(matches!(parse_moment("2024-05-01T12:00:00Z"), Ok(Moment::At(_))));
        for text in ["17", ":", "a:1", "-1:2"] {
            assert!(parse_place(text).is_err(), "{text}");
        }
        assert!(parse_moment("yesterday").unwrap_err().contains("neither a duration"));
    }
}
