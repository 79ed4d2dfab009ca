//! `meridian links`: list, pause and resume the links of a replicator.

use meridian_proto::meridian::{Link, LinkState, ListLinksRequest, PauseLinkRequest, ResumeLinkRequest};
use serde::Serialize;

use crate::arguments::LinksCommand;
use crate::client;
use crate::failure::Failure;
use crate::output::Output;

#[derive(Serialize)]
struct LinkRow {
    name: String,
    source: String,
    target: String,
    state: &'static str,
    reason: String,
    mirrored_records: u64,
    skipped_loop_records: u64,
    lag_messages: u64,
    lag_seconds: f64,
}

impl From<Link> for LinkRow {
    fn from(link: Link) -> Self {
        Self {
            state: state(link.state()),
            name: link.name,
            source: format!("{}/{}", link.source_region, link.source_broker),
            target: format!("{}/{}", link.target_region, link.target_broker),
            reason: link.reason,
            mirrored_records: link.mirrored_records,
            skipped_loop_records: link.skipped_loop_records,
            lag_messages: link.lag_messages,
            lag_seconds: link.lag_seconds,
        }
    }
}

fn state(state: LinkState) -> &'static str {
    match state {
        LinkState::Unspecified => "unknown",
        LinkState::Starting => "starting",
        LinkState::Running => "running",
        LinkState::Paused => "paused",
        LinkState::Retrying => "retrying",
        LinkState::Stopped => "stopped",
    }
}

pub(crate) async fn run(command: LinksCommand, output: Output) -> Result<(), Failure> {
    let links = match command {
        LinksCommand::List { admin } => {
            client::replication(&admin.address)
                .await?
                .list_links(ListLinksRequest {})
                .await?
                .into_inner()
                .links
        }
        LinksCommand::Pause { admin, name } => {
            let request = PauseLinkRequest { name };
            client::replication(&admin.address)
                .await?
                .pause_link(request)
                .await?
                .into_inner()
                .link
                .into_iter()
                .collect()
        }
        LinksCommand::Resume { admin, name } => {
            let request = ResumeLinkRequest { name };
            client::replication(&admin.address)
                .await?
                .resume_link(request)
                .await?
                .into_inner()
                .link
                .into_iter()
                .collect()
        }
    };
    let rows: Vec<LinkRow> = links.into_iter().map(LinkRow::from).collect();
    output.rows(
        &rows,
        &[
            "LINK", "SOURCE", "TARGET", "STATE", "MIRRORED", "LAG", "SECONDS", "REASON",
        ],
        |row| {
            let row = &rows[row];
            vec![
                row.name.clone(),
                row.source.clone(),
                row.target.clone(),
                row.state.to_owned(),
                row.mirrored_records.to_string(),
                row.lag_messages.to_string(),
                format!("{:.1}", row.lag_seconds),
                row.reason.clone(),
            ]
        },
    )
}
