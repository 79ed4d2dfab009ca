//! The first message of a session, read into terms, or a refusal that names every faulty field.
//!
//! Zero means the default, and what is over a limit is cut to it (the worker is told what is in force); what makes no
//! sense is refused. Whether the terms agree with the group's other sessions is for the group to say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use meridian_broker::{BrokerName, GroupName, MissingPositionPolicy, StartPosition, TopicName};
use meridian_proto::meridian as wire;
use meridian_runtime::BackoffPolicy;

use super::options::SubscriptionOptions;
use crate::brokers::Brokers;
use crate::dispatch::{DeliveryOrdering, SessionTerms};
use crate::fault::{FaultCode, Refusal};

/// Most topics of one group.
const MAX_TOPICS: usize = 256;
/// Most bytes of a worker's name.
const MAX_WORKER_ID_BYTES: usize = 256;
/// The largest multiplier of a retry policy.
const MAX_MULTIPLIER: f64 = 10.0;

/// Names a group in this process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct GroupKey {
    pub(super) broker: BrokerName,
    pub(super) group: GroupName,
}

impl fmt::Display for GroupKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.broker, self.group)
    }
}

/// What all sessions of a group must agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupTerms {
    /// Sorted.
    pub(super) topics: Vec<TopicName>,
    pub(super) ordering: DeliveryOrdering,
    pub(super) start: StartPosition,
    pub(super) missing_position: MissingPositionPolicy,
}

impl GroupTerms {
    /// Says in which option another session asks for something else.
    pub(super) fn check_same(&self, key: &GroupKey, asked: &GroupTerms) -> Result<(), Refusal> {
        let (field, ours, theirs) = if self.topics != asked.topics {
            ("open.topics", list(&self.topics), list(&asked.topics))
        } else if self.ordering != asked.ordering {
            (
                "open.ordering",
                self.ordering.as_str().to_owned(),
                asked.ordering.as_str().to_owned(),
            )
        } else if self.start != asked.start {
            (
                "open.start_position",
                format!("{:?}", self.start),
                format!("{:?}", asked.start),
            )
        } else if self.missing_position != asked.missing_position {
            let text = |policy| format!("{policy:?}");
            (
                "open.missing_position_policy",
                text(self.missing_position),
                text(asked.missing_position),
            )
        } else {
            return Ok(());
        };
        let words = format!(
            "group {key} is open with {field} = {ours}, this session asks for {theirs}; use the same in every worker of \
             the group, or another group"
        );
        Err(Refusal::new(FaultCode::SessionConflict, words.clone()).with_field(field, words))
    }
}

fn list(topics: &[TopicName]) -> String {
    let names: Vec<_> = topics.iter().map(TopicName::as_str).collect();
    format!("[{}]", names.join(", "))
}

/// What a session asks for, after defaults and limits.
#[derive(Clone, Debug)]
pub(super) struct OpenTerms {
    pub(super) key: GroupKey,
    pub(super) group: GroupTerms,
    pub(super) session: SessionTerms,
}

/// Reads the first message.
pub(super) fn read_open(
    open: wire::OpenSession,
    options: &SubscriptionOptions,
    brokers: &Brokers,
) -> Result<OpenTerms, Refusal> {
    let broker = broker_name(&open.broker, brokers)?;
    let mut faults = Faults::default();
    let ordering = faults.word(
        "open.ordering",
        wire::Ordering::try_from(open.ordering).ok(),
        |ordering| match ordering {
            wire::Ordering::Unspecified | wire::Ordering::Key => DeliveryOrdering::Key,
            wire::Ordering::Partition => DeliveryOrdering::Partition,
            wire::Ordering::None => DeliveryOrdering::Unordered,
        },
    );
    let start = faults.word(
        "open.start_position",
        wire::StartPosition::try_from(open.start_position).ok(),
        |start| match start {
            wire::StartPosition::Unspecified | wire::StartPosition::Earliest => StartPosition::Earliest,
            wire::StartPosition::Latest => StartPosition::Latest,
        },
    );
    let policy = wire::MissingPositionPolicy::try_from(open.missing_position_policy).ok();
    let missing_position = faults.word("open.missing_position_policy", policy, |policy| match policy {
        wire::MissingPositionPolicy::Unspecified | wire::MissingPositionPolicy::Fail => MissingPositionPolicy::Fail,
        wire::MissingPositionPolicy::Earliest => MissingPositionPolicy::Earliest,
        wire::MissingPositionPolicy::Latest => MissingPositionPolicy::Latest,
    });
    let group = match GroupName::new(&open.group) {
        Ok(group) => Some(group),
        Err(error) => faults.add("open.group", error.to_string()),
    };
    let topics = read_topics(&open.topics, options, &mut faults);
    let id = &open.worker_id;
    if id.len() > MAX_WORKER_ID_BYTES || id.chars().any(char::is_control) {
        let words = format!("must have at most {MAX_WORKER_ID_BYTES} bytes and no control characters");
        faults.add::<()>("open.worker_id", words);
    }
    let retry = open
        .retry_policy
        .as_ref()
        .and_then(|policy| read_retry_policy(policy, options, &mut faults));
    let (Some(ordering), Some(start), Some(missing_position), Some(group), true) =
        (ordering, start, missing_position, group, faults.is_empty())
    else {
        return Err(faults.into_refusal());
    };
    Ok(OpenTerms {
        key: GroupKey { broker, group },
        group: GroupTerms {
            topics,
            ordering,
            start,
            missing_position,
        },
        session: SessionTerms {
            retry: retry.unwrap_or_else(|| options.retry()),
            ..session_terms(&open, options)
        },
    })
}

fn session_terms(open: &wire::OpenSession, options: &SubscriptionOptions) -> SessionTerms {
    let or = |asked: u32, default: u32| if asked == 0 { default } else { asked };
    let lease = match open.lease_seconds {
        0 => options.default_lease,
        asked => Duration::from_secs(asked.into()).min(options.max_lease),
    };
    SessionTerms {
        worker: Arc::from(open.worker_id.as_str()),
        credit_messages: open.credit_messages.min(options.max_credit_messages),
        credit_bytes: open.credit_bytes.min(options.max_credit_bytes),
        lease,
        max_attempts: or(open.max_attempts, options.default_max_attempts).min(options.max_attempts),
        retry: options.retry(),
    }
}

/// The longest delay is cut to the limit; what makes no sense is a fault.
fn read_retry_policy(
    policy: &wire::RetryPolicy,
    options: &SubscriptionOptions,
    faults: &mut Faults,
) -> Option<BackoffPolicy> {
    let default = options.retry();
    let mut span = |field: &str, asked: &Option<prost_types::Duration>, default: Duration| match asked {
        None => Some(default),
        Some(asked) => match Duration::try_from(*asked) {
            Ok(span) => Some(span.min(options.max_release_delay)),
            Err(_) => faults.add(
                format!("open.retry_policy.{field}"),
                "must be a duration of 0 seconds or more".to_owned(),
            ),
        },
    };
    let initial = span("initial_backoff", &policy.initial_backoff, default.initial);
    let maximum = span("max_backoff", &policy.max_backoff, default.maximum);
    let multiplier = match policy.multiplier {
        0.0 => Some(default.multiplier),
        asked if (1.0..=MAX_MULTIPLIER).contains(&asked) => Some(asked),
        _ => faults.add(
            "open.retry_policy.multiplier",
            format!("must be 1 to {MAX_MULTIPLIER}, or 0 for the default"),
        ),
    };
    let (initial, maximum) = (initial?, maximum?);
    if policy.initial_backoff.is_some() && policy.max_backoff.is_some() && initial > maximum {
        return faults.add(
            "open.retry_policy.initial_backoff",
            "must not be over max_backoff".to_owned(),
        );
    }
    Some(BackoffPolicy {
        initial: initial.min(maximum),
        maximum,
        multiplier: multiplier?,
        ..default
    })
}

fn broker_name(asked: &str, brokers: &Brokers) -> Result<BrokerName, Refusal> {
    if asked.is_empty() {
        return Ok(brokers.default_name().clone());
    }
    let known = brokers.iter().find(|(name, _)| name.as_str() == asked);
    known.map(|(name, _)| name.clone()).ok_or_else(|| {
        let known: Vec<_> = brokers.iter().map(|(name, _)| name.as_str()).collect();
        let shown: String = asked.chars().take(64).collect();
        let words = format!(
            "region {} has no broker {shown:?}; it has {}",
            brokers.region(),
            known.join(", ")
        );
        Refusal::new(FaultCode::UnknownBroker, words.clone())
            .with_field("open.broker", words)
            .with_resource("broker", shown)
    })
}

fn read_topics(asked: &[String], options: &SubscriptionOptions, faults: &mut Faults) -> Vec<TopicName> {
    if asked.is_empty() || asked.len() > MAX_TOPICS {
        faults.add::<()>("open.topics", format!("must name 1 to {MAX_TOPICS} topics"));
        return Vec::new();
    }
    let mut topics = Vec::with_capacity(asked.len());
    for (index, text) in asked.iter().enumerate() {
        let field = format!("open.topics[{index}]");
        match TopicName::new(text) {
            Err(error) => drop(faults.add::<()>(field, error.to_string())),
            Ok(topic) if topics.contains(&topic) => drop(faults.add::<()>(field, format!("{topic} is named twice"))),
            Ok(topic) => match options.dead_letter_topic.topic_of(&topic) {
                Ok(_) => topics.push(topic),
                Err(error) => drop(faults.add::<()>(field, format!("has no dead-letter topic: {error}"))),
            },
        }
    }
    topics.sort();
    topics
}

/// The faulty fields so far.
#[derive(Default)]
struct Faults(Vec<(String, String)>);

impl Faults {
    fn add<T>(&mut self, field: impl Into<String>, description: String) -> Option<T> {
        self.0.push((field.into(), description));
        None
    }

    fn word<W, T>(&mut self, field: &str, known: Option<W>, meaning: impl FnOnce(W) -> T) -> Option<T> {
        match known {
            Some(word) => Some(meaning(word)),
            None => self.add(field, "is a word that this gateway does not know".to_owned()),
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn into_refusal(self) -> Refusal {
        let others = self.0.len().saturating_sub(1);
        let first = self
            .0
            .first()
            .map(|(field, description)| format!("{field} {description}"))
            .unwrap_or_default();
        let words = if others == 0 {
            first
        } else {
            format!("{first} (and {others} more)")
        };
        let refusal = Refusal::new(FaultCode::InvalidSession, words);
        self.0.into_iter().fold(refusal, |refusal, (field, description)| {
            refusal.with_field(field, description)
        })
    }
}
