//! What a link is told: its ends, its topics, its limits.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use meridian_broker::{Broker, BrokerName, GroupName, MissingPositionPolicy, NameError, TopicName};

use crate::topics::{Naming, TopicPattern};

/// A link's name: 1 to 63 of `a-z`, `0-9` and inner `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkName(BrokerName);

impl LinkName {
    /// Checks the grammar.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with the text.
    pub fn new(text: &str) -> Result<Self, NameError> {
        BrokerName::new(text)
            .map(Self)
            .map_err(|error| NameError { kind: "link", ..error })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The group that the link reads with: `meridian.link.<name>`.
    ///
    /// # Errors
    /// None, as long as the grammar of links is narrower than that of groups.
    pub fn group(&self) -> Result<GroupName, NameError> {
        GroupName::new(&format!("meridian.link.{self}"))
    }

    /// Where records go that the target refuses: `meridian.link.<name>.dead-letters`, on the source.
    ///
    /// # Errors
    /// None, as long as the grammar of links is narrower than that of topics.
    pub fn dead_letter_topic(&self) -> Result<TopicName, NameError> {
        TopicName::new(&format!("meridian.link.{self}.dead-letters"))
    }
}

impl fmt::Display for LinkName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What becomes of a record that the target refuses for a fault of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnRefused {
    /// Its topic stops, until an operator resumes the link; the other topics go on.
    #[default]
    Stop,
    /// It goes to the link's dead-letter topic on the source broker, and the rest goes on.
    DeadLetter,
}

/// How a link mirrors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkOptions {
    /// The topics; `!` excludes.
    pub topics: Vec<TopicPattern>,
    /// What mirrors are called.
    pub naming: Naming,
    /// How often topics and the identities of both ends are looked at again.
    pub refresh_topics: Duration,
    /// The most regions that a record may have been through when it arrives.
    pub max_hops: usize,
    /// What becomes of records that the target refuses.
    pub on_refused: OnRefused,
    /// What to do when records are gone before they were mirrored.
    pub missing_position: MissingPositionPolicy,
    /// Whether topics that the target lacks are made.
    pub create_topics: bool,
    /// Kafka only; `None` is the broker's default.
    pub replication_factor: Option<NonZeroU32>,
    /// Records read and not settled, at most.
    pub window_records: usize,
    /// The same in bytes.
    pub window_bytes: usize,
    /// Records in one append, at most.
    pub batch_records: usize,
}

impl LinkOptions {
    /// The defaults for a link of these topics.
    pub fn new(topics: Vec<TopicPattern>) -> Self {
        Self {
            topics,
            naming: Naming::default(),
            refresh_topics: Duration::from_secs(30),
            max_hops: 8,
            on_refused: OnRefused::default(),
            missing_position: MissingPositionPolicy::default(),
            create_topics: true,
            replication_factor: None,
            window_records: 20_000,
            window_bytes: 64 * 1024 * 1024,
            batch_records: 1_000,
        }
    }
}

/// One link. The regions are those of its brokers.
#[derive(Clone)]
pub struct LinkSpec {
    /// Its name, in metrics, groups and commands.
    pub name: LinkName,
    /// Where it reads.
    pub source: Arc<dyn Broker>,
    /// Where it appends.
    pub target: Arc<dyn Broker>,
    /// How.
    pub options: LinkOptions,
}

impl LinkSpec {
    /// A link with the default options.
    pub fn new(name: LinkName, source: Arc<dyn Broker>, target: Arc<dyn Broker>, topics: Vec<TopicPattern>) -> Self {
        Self {
            name,
            source,
            target,
            options: LinkOptions::new(topics),
        }
    }
}

impl fmt::Debug for LinkSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = |broker: &Arc<dyn Broker>| format!("{}/{}", broker.profile().region, broker.profile().name);
        formatter
            .debug_struct("LinkSpec")
            .field("name", &self.name)
            .field("source", &end(&self.source))
            .field("target", &end(&self.target))
            .field("options", &self.options)
            .finish()
    }
}
