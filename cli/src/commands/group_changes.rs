//! What `meridian groups` does to a group: pause, resume, reset, delete.
//!
//! What holds: nothing is thrown away or read again without `--yes`; what other gateways answered is told, and one that
//! did not do what was asked makes the command fail.

use std::time::Duration;

use meridian_proto::meridian::reset_group_request::Target;
use meridian_proto::meridian::{
    DeleteGroupRequest, EarliestTarget, GatewayAnswer, LatestTarget, PartitionReset, PauseGroupRequest, PositionTarget,
    ResetGroupRequest, ResumeGroupRequest,
};
use meridian_runtime::SystemClock;
use serde::Serialize;

use crate::arguments::{NameArguments, ResetArguments, ResetTo, When};
use crate::client;
use crate::failure::Failure;
use crate::output::{Output, table};

/// As long as a gateway waits for an answer.
const MAX_WAIT: Duration = Duration::from_secs(60);

#[derive(Serialize)]
struct Paused {
    group: String,
    until: Option<String>,
    left: bool,
    in_flight_messages: u32,
    gateways: Vec<Answer>,
}

#[derive(Serialize)]
struct Resumed {
    group: String,
    was_paused: bool,
    gateways: Vec<Answer>,
}

#[derive(Serialize)]
struct Deleted {
    group: String,
    deleted: bool,
}

#[derive(Serialize)]
struct Reset {
    group: String,
    changed: bool,
    partitions: Vec<Moved>,
    gateways: Vec<Answer>,
}

#[derive(Serialize)]
struct Moved {
    topic: String,
    partition: u32,
    from: u64,
    to: u64,
    again: u64,
    skipped: u64,
}

/// Another gateway's answer.
#[derive(Serialize)]
struct Answer {
    gateway: String,
    error: Option<String>,
}

impl From<GatewayAnswer> for Answer {
    fn from(answer: GatewayAnswer) -> Self {
        Self {
            gateway: answer.address,
            error: Some(answer.error).filter(|error| !error.is_empty()),
        }
    }
}

impl From<PartitionReset> for Moved {
    fn from(moved: PartitionReset) -> Self {
        let (before, after) = (moved.before_lag_messages, moved.after_lag_messages);
        Self {
            topic: moved.topic,
            partition: moved.partition,
            from: moved.before_position,
            to: moved.after_position,
            again: after.saturating_sub(before),
            skipped: before.saturating_sub(after),
        }
    }
}

pub(super) async fn pause(
    group: NameArguments,
    until: Option<When>,
    reason: String,
    wait: Duration,
    output: Output,
) -> Result<(), Failure> {
    if wait > MAX_WAIT {
        return Err(Failure::Usage(format!(
            "a gateway waits for {} s at most",
            MAX_WAIT.as_secs()
        )));
    }
    let request = PauseGroupRequest {
        broker: group.broker,
        name: group.name.clone(),
        until: until.map(moment).transpose()?,
        reason,
        only_here: false,
        wait_seconds: u32::try_from(wait.as_secs()).unwrap_or(u32::MAX),
        take_back: false,
    };
    let mut operations = client::operations_within(&group.admin.address, wait).await?;
    let response = operations.pause_group(request).await?.into_inner();
    let paused = Paused {
        group: group.name,
        until: response
            .pause
            .and_then(|pause| pause.until)
            .map(|time| time.to_string()),
        left: response.left,
        in_flight_messages: response.in_flight_messages,
        gateways: answers(response.gateways),
    };
    output.value(&paused, || {
        let until = match &paused.until {
            Some(until) => format!("until {until}"),
            None => "until it is resumed".to_owned(),
        };
        let state = match (paused.left, paused.in_flight_messages) {
            (true, _) => "nothing is out".to_owned(),
            (false, 0) => "this gateway is about to leave the group".to_owned(),
            (false, out) => format!("{out} deliveries are still out and may be settled"),
        };
        with_answers(
            format!("group {} is paused {until}; {state}", paused.group),
            &paused.gateways,
        )
    })?;
    all_agree(&paused.gateways)
}

pub(super) async fn resume(group: NameArguments, output: Output) -> Result<(), Failure> {
    let request = ResumeGroupRequest {
        broker: group.broker,
        name: group.name.clone(),
        only_here: false,
    };
    let mut operations = client::operations(&group.admin.address).await?;
    let response = operations.resume_group(request).await?.into_inner();
    let resumed = Resumed {
        group: group.name,
        was_paused: response.was_paused,
        gateways: answers(response.gateways),
    };
    output.value(&resumed, || {
        let words = match resumed.was_paused {
            true => format!("group {} goes on", resumed.group),
            false => format!("group {} was not paused on this gateway", resumed.group),
        };
        with_answers(words, &resumed.gateways)
    })?;
    all_agree(&resumed.gateways)
}

pub(super) async fn reset(arguments: ResetArguments, output: Output) -> Result<(), Failure> {
    let ResetArguments {
        group,
        to,
        topic,
        dry_run,
        force,
        yes,
    } = arguments;
    let target = match to {
        ResetTo::Earliest => Target::Earliest(EarliestTarget {}),
        ResetTo::Latest => Target::Latest(LatestTarget {}),
        ResetTo::Time(when) => Target::Time(moment(when)?),
        ResetTo::Position { partition, position } => Target::Position(PositionTarget { partition, position }),
    };
    let is_dry = dry_run || !yes;
    let request = ResetGroupRequest {
        broker: group.broker,
        name: group.name.clone(),
        topic,
        target: Some(target),
        force,
        dry_run: is_dry,
    };
    let mut operations = client::operations_within(&group.admin.address, MAX_WAIT).await?;
    let response = operations.reset_group(request).await?.into_inner();
    let reset = Reset {
        group: group.name,
        changed: !is_dry,
        partitions: response.partitions.into_iter().map(Moved::from).collect(),
        gateways: answers(response.gateways),
    };
    output.value(&reset, || with_answers(describe(&reset), &reset.gateways))?;
    match dry_run || yes {
        true => Ok(()),
        false => Err(Failure::Usage(
            "nothing was changed; repeat with --yes if that is meant, or with --dry-run to look only".to_owned(),
        )),
    }
}

pub(super) async fn delete(group: NameArguments, yes: bool, output: Output) -> Result<(), Failure> {
    if !yes {
        return Err(Failure::Usage(format!(
            "nothing was deleted: group {} would forget where it stood; add --yes if that is meant",
            group.name
        )));
    }
    let request = DeleteGroupRequest {
        broker: group.broker,
        name: group.name.clone(),
    };
    let mut operations = client::operations(&group.admin.address).await?;
    operations.delete_group(request).await?;
    let deleted = Deleted {
        group: group.name,
        deleted: true,
    };
    output.value(&deleted, || format!("group {} is deleted", deleted.group))
}

fn describe(reset: &Reset) -> String {
    let row = |moved: &Moved| {
        let change = match (moved.again, moved.skipped) {
            (0, 0) => "-".to_owned(),
            (again, 0) => format!("{again} come again"),
            (_, skipped) => format!("{skipped} are skipped"),
        };
        vec![
            moved.topic.clone(),
            moved.partition.to_string(),
            moved.from.to_string(),
            moved.to.to_string(),
            change,
        ]
    };
    let rows: Vec<Vec<String>> = reset.partitions.iter().map(row).collect();
    let again: u64 = reset.partitions.iter().map(|moved| moved.again).sum();
    let skipped: u64 = reset.partitions.iter().map(|moved| moved.skipped).sum();
    let verb = if reset.changed { "was reset" } else { "would be reset" };
    format!(
        "{}\n\ngroup {} {verb}: {again} come again, {skipped} are skipped",
        table(&["TOPIC", "PARTITION", "FROM", "TO", "CHANGE"], &rows),
        reset.group
    )
}

fn answers(gateways: Vec<GatewayAnswer>) -> Vec<Answer> {
    gateways.into_iter().map(Answer::from).collect()
}

fn with_answers(words: String, gateways: &[Answer]) -> String {
    let line = |answer: &Answer| match &answer.error {
        None => format!("\n{}: done", answer.gateway),
        Some(error) => format!("\n{}: {error}", answer.gateway),
    };
    gateways.iter().map(line).fold(words, |words, line| words + &line)
}

fn all_agree(gateways: &[Answer]) -> Result<(), Failure> {
    let failed = gateways.iter().filter(|answer| answer.error.is_some()).count();
    match failed {
        0 => Ok(()),
        _ => Err(Failure::failed(format!(
            "{failed} of {} other gateways did not do so yet; ask again when they can be reached",
            gateways.len()
        ))),
    }
}

/// The moment that is meant, by the clock of this machine.
fn moment(when: When) -> Result<prost_types::Timestamp, Failure> {
    let now = SystemClock::shared().wall_millis();
    let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    let at = match when {
        When::At(time) => return Ok(time),
        When::Ago(span) => now.saturating_sub(millis(span)),
        When::In(span) => now.saturating_add(millis(span)),
    };
    if at < 0 {
        return Err(Failure::Usage("the time is before 1970".to_owned()));
    }
    Ok(prost_types::Timestamp {
        seconds: at / 1_000,
        nanos: i32::try_from(at % 1_000 * 1_000_000).unwrap_or(0),
    })
}
