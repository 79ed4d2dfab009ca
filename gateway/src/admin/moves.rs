//! Moving and forgetting a group, with what the gateways have to do for it.
//!
//! A forced reset pauses the group on this gateway and on the others of the region, waits until they have left the
//! broker's group, moves it, and takes its own pause back. What holds: an operator's pause that was in force stays;
//! whoever asked may go away, and the group is resumed all the same; should this process die meanwhile, the pauses of
//! the other gateways end by themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meridian_broker::{
    AdminError, AdminErrorKind, Broker, BrokerName, GroupName, GroupReset, PartitionLag, ResetTarget, TopicName,
    TopicPartition,
};
use meridian_proto::meridian as proto;
use meridian_runtime::SharedClock;

use super::fleet::Fleet;
use crate::fault::{FaultCode, Refusal};
use crate::subscription::{Pause, Subscriptions};

/// How long gateways may take to leave; half of it is for workers to settle what is out.
const LEAVE_SECONDS: u32 = 10;
/// How long the broker may take to see that they have left.
const ACTIVE_LIMIT: Duration = Duration::from_secs(10);
/// Between two tries.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A pause for a reset ends by itself after this, should nobody end it.
const PAUSE_LIMIT: Duration = Duration::from_secs(120);
/// Sessions that a refusal names.
const MAX_NAMED: usize = 8;

/// A group to be moved.
pub(super) struct Move {
    pub(super) broker_name: BrokerName,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) group: GroupName,
    /// Every topic of the group when absent.
    pub(super) topic: Option<TopicName>,
    pub(super) target: ResetTarget,
    pub(super) force: bool,
    pub(super) dry_run: bool,
    pub(super) subscriptions: Arc<Subscriptions>,
    pub(super) fleet: Fleet,
    pub(super) clock: SharedClock,
}

impl Move {
    /// Moves it.
    pub(super) async fn run(self) -> Result<proto::ResetGroupResponse, Refusal> {
        let before = self.standing().await?;
        let topics = self.topics(&before)?;
        match self.reset(&topics).await {
            Ok(after) => Ok(self.answer(&before, after, Vec::new())),
            Err(error) if error.kind == AdminErrorKind::GroupActive && self.force && !self.dry_run => {
                self.forced(&topics).await
            }
            Err(error) => Err(refused(&self.subscriptions, &self.broker_name, &self.group, &error)),
        }
    }

    async fn standing(&self) -> Result<Vec<PartitionLag>, Refusal> {
        let described = self.broker.admin().describe_group(&self.group).await;
        Ok(described.map_err(|error| Refusal::from(&error))?.partitions)
    }

    fn topics(&self, standing: &[PartitionLag]) -> Result<BTreeSet<TopicName>, Refusal> {
        if let Some(topic) = &self.topic {
            return Ok(BTreeSet::from([topic.clone()]));
        }
        let topics: BTreeSet<_> = standing.iter().map(|lag| lag.partition.topic.clone()).collect();
        let names: Vec<&str> = topics.iter().map(TopicName::as_str).collect();
        let words = match (&self.target, names.as_slice()) {
            (_, []) => format!("group {} has read no topic; name the topic", self.group),
            (ResetTarget::Position { .. }, [_, _, ..]) => format!(
                "a position is of one topic, and group {} reads several; name one of: {}",
                self.group,
                names.join(", ")
            ),
            _ => return Ok(topics),
        };
        Err(Refusal::new(FaultCode::InvalidRequest, words.clone()).with_field("topic", words))
    }

    /// Moves the group in one topic after the other.
    async fn reset(&self, topics: &BTreeSet<TopicName>) -> Result<Vec<PartitionLag>, AdminError> {
        let mut moved: Vec<PartitionLag> = Vec::new();
        for topic in topics {
            let reset = GroupReset {
                topic: topic.clone(),
                target: self.target,
                dry_run: self.dry_run,
            };
            match self.broker.admin().reset_group(&self.group, &reset).await {
                Ok(partitions) => moved.extend(partitions),
                Err(mut error) => {
                    if !moved.is_empty() && !self.dry_run {
                        error.message = format!(
                            "topic {topic}: {}; topics before it by name are reset, those behind it are not: ask again",
                            error.message
                        );
                    }
                    return Err(error);
                }
            }
        }
        Ok(moved)
    }

    async fn forced(&self, topics: &BTreeSet<TopicName>) -> Result<proto::ResetGroupResponse, Refusal> {
        let (broker, group) = (&self.broker_name, &self.group);
        let standing_pause = self.subscriptions.pause_of(broker, group);
        let now = self.wall();
        let pause = standing_pause.clone().unwrap_or_else(|| Pause {
            since: now,
            until: Some(now + PAUSE_LIMIT),
            reason: "the group is being reset".to_owned(),
        });
        let pause = self.subscriptions.pause(broker, group, pause).await?;
        let request = proto::PauseGroupRequest {
            broker: broker.to_string(),
            name: group.to_string(),
            until: pause.until.map(Into::into),
            reason: pause.reason,
            only_here: true,
            wait_seconds: LEAVE_SECONDS,
            take_back: true,
        };
        let limit = Duration::from_secs(LEAVE_SECONDS.into());
        let (departure, answers) = tokio::join!(
            self.subscriptions.departure(broker, group, limit, true),
            self.fleet.pause(&request)
        );
        let moved = match departure.left {
            true => self.reset_once_left(topics, &answers).await,
            false => {
                let words = format!(
                    "this gateway could not leave group {group} within {LEAVE_SECONDS} s, for the broker does not answer; try again"
                );
                Err(Refusal::new(FaultCode::GroupActive, words))
            }
        };
        if standing_pause.is_none() {
            self.subscriptions.resume(broker, group).await;
            let resumed = self.fleet.resume(broker, group).await;
            for answer in resumed.iter().filter(|answer| !answer.error.is_empty()) {
                tracing::warn!(
                    address = answer.address, %broker, %group,
                    "the group was not resumed there and goes on by itself within {PAUSE_LIMIT:?}: {}", answer.error
                );
            }
        }
        let (before, after) = moved?;
        Ok(self.answer(&before, after, answers))
    }

    /// Moves the group as soon as its broker sees that the gateways have left.
    async fn reset_once_left(
        &self,
        topics: &BTreeSet<TopicName>,
        answers: &[proto::GatewayAnswer],
    ) -> Result<(Vec<PartitionLag>, Vec<PartitionLag>), Refusal> {
        let deadline = self.clock.now() + ACTIVE_LIMIT;
        loop {
            let before = self.standing().await?;
            match self.reset(topics).await {
                Ok(after) => return Ok((before, after)),
                Err(error) if error.kind == AdminErrorKind::GroupActive => {
                    if self.clock.now() >= deadline {
                        return Err(self.members_stay(answers));
                    }
                    tokio::time::sleep(LOOK_INTERVAL).await;
                }
                Err(error) => return Err(Refusal::from(&error)),
            }
        }
    }

    fn members_stay(&self, answers: &[proto::GatewayAnswer]) -> Refusal {
        let failed: Vec<String> = answers
            .iter()
            .filter(|answer| !answer.error.is_empty())
            .map(|answer| format!("{}: {}", answer.address, answer.error))
            .collect();
        let failed = match failed.is_empty() {
            true => String::new(),
            false => format!(" (not paused: {})", failed.join("; ")),
        };
        let words = format!(
            "group {} has members that this gateway and its admin_siblings do not read for{failed}: another program, or \
             a gateway that is not named there; stop them, or name it, and try again",
            self.group
        );
        Refusal::new(FaultCode::GroupActive, words)
    }

    fn answer(
        &self,
        before: &[PartitionLag],
        after: Vec<PartitionLag>,
        gateways: Vec<proto::GatewayAnswer>,
    ) -> proto::ResetGroupResponse {
        let before: BTreeMap<&TopicPartition, &PartitionLag> = before.iter().map(|lag| (&lag.partition, lag)).collect();
        let partition = |after: PartitionLag| {
            // A partition that the group had no place in began with all of it.
            let before = before.get(&after.partition);
            proto::PartitionReset {
                topic: after.partition.topic.to_string(),
                partition: after.partition.partition,
                before_position: before.map_or(0, |before| before.settled_position),
                after_position: after.settled_position,
                before_lag_messages: before.map_or(0, |before| before.lag()),
                after_lag_messages: after.lag(),
            }
        };
        proto::ResetGroupResponse {
            partitions: after.into_iter().map(partition).collect(),
            gateways,
        }
    }

    fn wall(&self) -> SystemTime {
        super::groups::wall(&self.clock)
    }
}

/// A broker's refusal; one for want of an empty group names the sessions of this gateway.
pub(super) fn refused(
    subscriptions: &Subscriptions,
    broker: &BrokerName,
    group: &GroupName,
    error: &AdminError,
) -> Refusal {
    if error.kind != AdminErrorKind::GroupActive {
        return Refusal::from(error);
    }
    let sessions = subscriptions.sessions();
    let here = sessions
        .iter()
        .filter(|session| session.broker == *broker && session.group == *group);
    let names: Vec<String> = here
        .map(|session| format!("{} ({})", session.worker_id, session.session_id))
        .collect();
    let named = match names.len() {
        0 => "none of its sessions is on this gateway".to_owned(),
        count => {
            let more = count.saturating_sub(MAX_NAMED);
            let more = if more == 0 {
                String::new()
            } else {
                format!(" and {more} more")
            };
            let shown = names[..count.min(MAX_NAMED)].join(", ");
            format!("{count} sessions are on this gateway: {shown}{more}")
        }
    };
    let words = format!(
        "group {group} is being read; {named}. Stop its workers, pause it with `meridian groups pause {group}`, or force \
         a reset"
    );
    Refusal::new(FaultCode::GroupActive, words)
}
