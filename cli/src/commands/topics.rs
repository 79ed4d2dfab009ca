//! `meridian topics`: list and make topics.

use meridian_proto::meridian::{CreateTopicRequest, ListTopicsRequest, Topic};
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
            let response = client::operations(&admin.address)
                .await?
                .list_topics(request)
                .await?
                .into_inner();
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
        TopicsCommand::Create {
            admin,
            name,
            broker,
            partitions,
            replication_factor,
            retention,
        } => {
            let request = CreateTopicRequest {
                broker,
                name,
                partitions,
                replication_factor,
                retention_seconds: retention.map_or(0, |retention| retention.as_secs()),
                retention_bytes: 0,
            };
            let response = client::operations(&admin.address)
                .await?
                .create_topic(request)
                .await?
                .into_inner();
            let row = TopicRow::from(response.topic.unwrap_or_default());
            output.value(&row, || {
                format!(
                    "topic {} on {} has {} partitions",
                    row.topic, row.broker, row.partitions
                )
            })
        }
    }
}
