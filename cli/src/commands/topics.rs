//! `meridian topics`: list, show, make, grow and delete topics.

use meridian_proto::meridian::{
    CreateTopicRequest, DeleteTopicRequest, DescribeTopicRequest, GrowTopicRequest, ListTopicsRequest, Topic,
};
use serde::Serialize;

use crate::arguments::TopicsCommand;
use crate::client;
use crate::failure::Failure;
use crate::output::Output;

#[derive(Serialize)]
struct TopicRow {
    broker: String,
    topic: String,
    partitions: u32,
    records: u64,
}

#[derive(Serialize)]
struct TopicView {
    #[serde(flatten)]
    row: TopicRow,
    id: String,
}

#[derive(Serialize)]
struct Deleted {
    topic: String,
    deleted: bool,
}

impl From<Topic> for TopicRow {
    fn from(topic: Topic) -> Self {
        Self {
            broker: topic.broker,
            topic: topic.name,
            partitions: topic.partitions,
            records: topic.records,
        }
    }
}

pub(crate) async fn run(command: TopicsCommand, output: Output) -> Result<(), Failure> {
    match command {
        TopicsCommand::List { admin, broker } => {
            let request = ListTopicsRequest { broker };
            let mut operations = client::operations(&admin.address).await?;
            let response = operations.list_topics(request).await?.into_inner();
            let rows: Vec<TopicRow> = response.topics.into_iter().map(TopicRow::from).collect();
            output.rows(&rows, &["BROKER", "TOPIC", "PARTITIONS", "RECORDS"], |row| {
                let row = &rows[row];
                vec![
                    row.broker.clone(),
                    row.topic.clone(),
                    row.partitions.to_string(),
                    row.records.to_string(),
                ]
            })
        }
        TopicsCommand::Describe { topic } => {
            let mut operations = client::operations(&topic.admin.address).await?;
            let request = DescribeTopicRequest {
                broker: topic.broker,
                name: topic.name,
            };
            let response = operations.describe_topic(request).await?.into_inner();
            let view = TopicView {
                row: response.topic.unwrap_or_default().into(),
                id: response.id,
            };
            output.value(&view, || {
                let row = &view.row;
                format!(
                    "topic {} on {}: {} partitions, {} records, id {}",
                    row.topic, row.broker, row.partitions, row.records, view.id
                )
            })
        }
        TopicsCommand::Create {
            topic,
            partitions,
            replication_factor,
            retention,
        } => {
            let mut operations = client::operations(&topic.admin.address).await?;
            let request = CreateTopicRequest {
                broker: topic.broker,
                name: topic.name,
                partitions,
                replication_factor,
                retention_seconds: retention.map_or(0, |retention| retention.as_secs()),
                retention_bytes: 0,
            };
            let response = operations.create_topic(request).await?.into_inner();
            partitions_of(response.topic, output)
        }
        TopicsCommand::Grow { topic, partitions } => {
            let mut operations = client::operations(&topic.admin.address).await?;
            let request = GrowTopicRequest {
                broker: topic.broker,
                name: topic.name,
                partitions,
            };
            let response = operations.grow_topic(request).await?.into_inner();
            partitions_of(response.topic, output)
        }
        TopicsCommand::Delete { topic, yes } => {
            if !yes {
                return Err(Failure::Usage(format!(
                    "nothing was deleted: the events of topic {} would be gone for good; add --yes if that is meant",
                    topic.name
                )));
            }
            let mut operations = client::operations(&topic.admin.address).await?;
            let request = DeleteTopicRequest {
                broker: topic.broker,
                name: topic.name.clone(),
                confirm_name: topic.name.clone(),
            };
            operations.delete_topic(request).await?;
            let deleted = Deleted {
                topic: topic.name,
                deleted: true,
            };
            output.value(&deleted, || format!("topic {} is deleted", deleted.topic))
        }
    }
}

fn partitions_of(topic: Option<Topic>, output: Output) -> Result<(), Failure> {
    let row = TopicRow::from(topic.unwrap_or_default());
    output.value(&row, || {
        format!(
            "topic {} on {} has {} partitions",
            row.topic, row.broker, row.partitions
        )
    })
}
