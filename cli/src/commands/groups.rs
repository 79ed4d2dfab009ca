//! `meridian groups`: list groups, and show one.

use meridian_proto::meridian::{DescribeGroupRequest, DescribeGroupResponse, ListGroupsRequest};
use serde::Serialize;

use crate::arguments::GroupsCommand;
use crate::client;
use crate::failure::Failure;
use crate::output::{Output, table};

#[derive(Serialize)]
struct GroupRow {
    broker: String,
    group: String,
    sessions: u32,
}

#[derive(Serialize)]
struct GroupView {
    broker: String,
    group: String,
    lag_messages: u64,
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
}

#[derive(Serialize)]
struct SessionRow {
    session: String,
    worker: String,
    in_flight_messages: u32,
    in_flight_bytes: u64,
    credit_messages: u32,
    credit_bytes: u64,
}

pub(crate) async fn run(command: GroupsCommand, output: Output) -> Result<(), Failure> {
    match command {
        GroupsCommand::List { admin, broker } => {
            let request = ListGroupsRequest { broker };
            let response = client::operations(&admin.address)
                .await?
                .list_groups(request)
                .await?
                .into_inner();
            let rows: Vec<GroupRow> = response
                .groups
                .into_iter()
                .map(|group| GroupRow {
                    broker: group.broker,
                    group: group.name,
                    sessions: group.sessions,
                })
                .collect();
            output.rows(&rows, &["BROKER", "GROUP", "SESSIONS"], |row| {
                let row = &rows[row];
                vec![row.broker.clone(), row.group.clone(), row.sessions.to_string()]
            })
        }
        GroupsCommand::Describe { admin, name, broker } => {
            let request = DescribeGroupRequest { broker, name };
            let response = client::operations(&admin.address)
                .await?
                .describe_group(request)
                .await?
                .into_inner();
            let view = view(response);
            output.value(&view, || describe(&view))
        }
    }
}

fn view(response: DescribeGroupResponse) -> GroupView {
    let group = response.group.unwrap_or_default();
    GroupView {
        broker: group.broker,
        group: group.name,
        lag_messages: response.lag_messages,
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
            })
            .collect(),
        sessions: response
            .sessions
            .into_iter()
            .map(|session| SessionRow {
                session: session.session_id,
                worker: session.worker_id,
                in_flight_messages: session.in_flight_messages,
                in_flight_bytes: session.in_flight_bytes,
                credit_messages: session.credit_messages,
                credit_bytes: session.credit_bytes,
            })
            .collect(),
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
            cells
        })
        .collect();
    let sessions: Vec<Vec<String>> = view
        .sessions
        .iter()
        .map(|row| {
            vec![
                row.worker.clone(),
                row.session.clone(),
                format!("{} of {}", row.in_flight_messages, row.credit_messages),
                format!("{} of {}", row.in_flight_bytes, row.credit_bytes),
            ]
        })
        .collect();
    let state = match (&view.not_reading_since_seconds, &view.not_reading_reason) {
        (Some(since), reason) => format!(
            "not reading since {since} (Unix seconds): {}",
            reason.as_deref().unwrap_or("")
        ),
        (None, _) => "reading, or no session here".to_owned(),
    };
    [
        format!(
            "group {} on {}: {} behind; {state}",
            view.group, view.broker, view.lag_messages
        ),
        table(&["TOPIC", "PARTITION", "SETTLED", "END", "BEYOND", "LAG"], &partitions),
        table(&["WORKER", "SESSION", "IN FLIGHT", "BYTES"], &sessions),
    ]
    .join("\n\n")
}
