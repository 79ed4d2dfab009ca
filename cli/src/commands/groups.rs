//! `meridian groups`: list groups and sessions, and show one. What changes a group is in `group_changes`.

use meridian_proto::meridian::{
    DescribeGroupRequest, DescribeGroupResponse, GroupSummary, ListGroupsRequest, ListSessionsRequest, Session,
};
use serde::Serialize;

use super::group_changes;
use crate::arguments::GroupsCommand;
use crate::client;
use crate::failure::Failure;
use crate::output::{Output, table};

#[derive(Serialize)]
struct GroupRow {
    broker: String,
    group: String,
    sessions: u32,
    topics: Vec<String>,
    /// In the partitions that this gateway reads.
    lag_messages: Option<u64>,
    paused: bool,
}

#[derive(Serialize)]
struct GroupView {
    broker: String,
    group: String,
    lag_messages: u64,
    lag_seconds: Option<f64>,
    settled_beyond: u64,
    paused: bool,
    paused_until: Option<String>,
    not_reading_since_seconds: Option<i64>,
    not_reading_reason: Option<String>,
    partitions: Vec<PartitionRow>,
    sessions: Vec<SessionRow>,
}

#[derive(Serialize)]
struct PartitionRow {
    topic: String,
    partition: u32,
    settled_position: u64,
    end_position: u64,
    settled_beyond: u64,
    lag_messages: u64,
    lag_seconds: Option<f64>,
    oldest_unsettled: Option<String>,
}

#[derive(Serialize)]
struct SessionRow {
    group: String,
    session: String,
    worker: String,
    in_flight_messages: u32,
    in_flight_bytes: u64,
    credit_messages: u32,
    credit_bytes: u64,
    opened_at: Option<String>,
}

pub(crate) async fn run(command: GroupsCommand, output: Output) -> Result<(), Failure> {
    match command {
        GroupsCommand::List { admin, broker } => list(&admin.address, broker, output).await,
        GroupsCommand::Describe { group } => {
            let request = DescribeGroupRequest {
                broker: group.broker,
                name: group.name,
            };
            let mut operations = client::operations(&group.admin.address).await?;
            let view = view(operations.describe_group(request).await?.into_inner());
            output.value(&view, || describe(&view))
        }
        GroupsCommand::Sessions { admin, name } => sessions(&admin.address, name.as_deref(), output).await,
        GroupsCommand::Pause {
            group,
            until,
            reason,
            wait,
        } => group_changes::pause(group, until, reason, wait, output).await,
        GroupsCommand::Resume { group } => group_changes::resume(group, output).await,
        GroupsCommand::Reset(arguments) => group_changes::reset(arguments, output).await,
        GroupsCommand::Delete { group, yes } => group_changes::delete(group, yes, output).await,
    }
}

async fn list(address: &str, broker: String, output: Output) -> Result<(), Failure> {
    let mut operations = client::operations(address).await?;
    let response = operations.list_groups(ListGroupsRequest { broker }).await?.into_inner();
    let row = |group: GroupSummary| GroupRow {
        broker: group.broker,
        group: group.name,
        sessions: group.sessions,
        topics: group.topics,
        lag_messages: group.lag_messages,
        paused: group.paused,
    };
    let rows: Vec<GroupRow> = response.groups.into_iter().map(row).collect();
    let heads = ["BROKER", "GROUP", "SESSIONS", "TOPICS", "LAG HERE", "PAUSED"];
    output.rows(&rows, &heads, |row| {
        let row = &rows[row];
        vec![
            row.broker.clone(),
            row.group.clone(),
            row.sessions.to_string(),
            row.topics.join(","),
            row.lag_messages.map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
            if row.paused { "paused" } else { "" }.to_owned(),
        ]
    })
}

async fn sessions(address: &str, group: Option<&str>, output: Output) -> Result<(), Failure> {
    let mut operations = client::operations(address).await?;
    let response = operations.list_sessions(ListSessionsRequest {}).await?.into_inner();
    let sessions = response.sessions.into_iter();
    let rows: Vec<SessionRow> = sessions
        .filter(|session| group.is_none_or(|group| session.group == group))
        .map(session_row)
        .collect();
    output.rows(
        &rows,
        &["GROUP", "WORKER", "SESSION", "IN FLIGHT", "BYTES", "OPENED"],
        |row| {
            let row = &rows[row];
            let mut cells = vec![row.group.clone()];
            cells.extend(session_cells(row));
            cells.push(row.opened_at.clone().unwrap_or_default());
            cells
        },
    )
}

fn session_row(session: Session) -> SessionRow {
    SessionRow {
        group: session.group,
        session: session.session_id,
        worker: session.worker_id,
        in_flight_messages: session.in_flight_messages,
        in_flight_bytes: session.in_flight_bytes,
        credit_messages: session.credit_messages,
        credit_bytes: session.credit_bytes,
        opened_at: session.opened_at.map(|time| time.to_string()),
    }
}

fn session_cells(row: &SessionRow) -> Vec<String> {
    vec![
        row.worker.clone(),
        row.session.clone(),
        format!("{} of {}", row.in_flight_messages, row.credit_messages),
        format!("{} of {}", row.in_flight_bytes, row.credit_bytes),
    ]
}

fn view(response: DescribeGroupResponse) -> GroupView {
    let group = response.group.unwrap_or_default();
    GroupView {
        broker: group.broker,
        group: group.name,
        lag_messages: response.lag_messages,
        lag_seconds: response.lag_seconds,
        settled_beyond: response.settled_beyond,
        paused: response.pause.is_some(),
        paused_until: response
            .pause
            .and_then(|pause| pause.until)
            .map(|time| time.to_string()),
        not_reading_since_seconds: response.not_reading_since.map(|since| since.seconds),
        not_reading_reason: Some(response.not_reading_reason).filter(|reason| !reason.is_empty()),
        partitions: response
            .partitions
            .into_iter()
            .map(|partition| PartitionRow {
                topic: partition.topic,
                partition: partition.partition,
                settled_position: partition.settled_position,
                end_position: partition.end_position,
                settled_beyond: partition.settled_beyond,
                lag_messages: partition.lag_messages,
                lag_seconds: partition.lag_seconds,
                oldest_unsettled: partition.oldest_unsettled.map(|time| time.to_string()),
            })
            .collect(),
        sessions: response.sessions.into_iter().map(session_row).collect(),
    }
}

fn describe(view: &GroupView) -> String {
    let partitions: Vec<Vec<String>> = view
        .partitions
        .iter()
        .map(|row| {
            let numbers = [
                row.settled_position,
                row.end_position,
                row.settled_beyond,
                row.lag_messages,
            ];
            let mut cells = vec![row.topic.clone(), row.partition.to_string()];
            cells.extend(numbers.map(|number| number.to_string()));
            cells.push(row.lag_seconds.map_or_else(|| "-".to_owned(), seconds));
            cells.push(row.oldest_unsettled.clone().unwrap_or_default());
            cells
        })
        .collect();
    let sessions: Vec<Vec<String>> = view.sessions.iter().map(session_cells).collect();
    let state = match (&view.not_reading_since_seconds, &view.not_reading_reason) {
        (Some(since), reason) => format!(
            "not reading since {since} (Unix seconds): {}",
            reason.as_deref().unwrap_or("")
        ),
        (None, _) => "reading, or no session here".to_owned(),
    };
    let age = view
        .lag_seconds
        .map_or_else(String::new, |age| format!(" by {}", seconds(age)));
    [
        format!(
            "group {} on {}: {} behind{age}, {} settled beyond; {state}",
            view.group, view.broker, view.lag_messages, view.settled_beyond
        ),
        table(
            &[
                "TOPIC",
                "PARTITION",
                "SETTLED",
                "END",
                "BEYOND",
                "LAG",
                "BEHIND",
                "OLDEST",
            ],
            &partitions,
        ),
        table(&["WORKER", "SESSION", "IN FLIGHT", "BYTES"], &sessions),
    ]
    .join("\n\n")
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.1} s")
}
