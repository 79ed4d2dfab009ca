//! A record that the target refuses, kept at the source: in the dead-letter topic
//! of the link, as it was, with headers that say from where and why.
//!
//! What holds: the record is settled only once its dead letter is durable; the
//! write is tried for ever, and the partition waits for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_broker::{AdminErrorKind, AppendRecord, Broker, TopicName, TopicSpec};
use meridian_event::{ByteString, Header, Record};
use meridian_runtime::{Backoff, BackoffPolicy};

use super::lanes::LaneId;
use super::session::Session;
use crate::line::{Item, Phase, Refusal};

/// How long one attempt may wait for room.
const ADMIT_WITHIN: Duration = Duration::from_secs(5);

impl Session {
    /// Starts the next dead letter, if one waits and none is being written.
    pub(super) fn dead_letter(&mut self) {
        if self.dead_lettering.is_some() {
            return;
        }
        while let Some(id) = self.to_dead_letter.front().copied() {
            if let Some(lane) = self.lanes.get(id)
                && let (Phase::Refused(refusal), Some(item)) = (lane.line.phase(), lane.line.front())
                && let Ok(topic) = self.cell.spec.name.dead_letter_topic()
            {
                let record = letter(self.cell.spec.name.as_str(), item, refusal);
                let source = Arc::clone(&self.cell.spec.source);
                self.dead_lettering = Some(Box::pin(async move {
                    write(source, topic, record, id).await;
                    id
                }));
                return;
            }
            self.to_dead_letter.pop_front();
        }
    }

    /// The dead letter is durable.
    pub(super) fn dead_lettered(&mut self, id: LaneId) {
        self.to_dead_letter.retain(|waiting| *waiting != id);
        if let Some(lane) = self.lanes.get_mut(id) {
            lane.line.dead_lettered();
        }
        self.settle(id);
        self.lanes.give_turn(id);
    }
}

/// The record as it was, and what befell it.
fn letter(link: &str, item: &Item, refusal: &Refusal) -> Record {
    let mut record = item.record.clone();
    let claim = &item.claim;
    let more = [
        ("meridian-dead-letter-link", link.to_owned()),
        ("meridian-dead-letter-topic", claim.partition.topic.to_string()),
        ("meridian-dead-letter-partition", claim.partition.partition.to_string()),
        ("meridian-dead-letter-position", claim.position.to_string()),
        ("meridian-dead-letter-code", refusal.code.to_owned()),
        ("meridian-dead-letter-reason", refusal.message.clone()),
    ];
    record
        .headers
        .extend(more.map(|(name, value)| Header::new(ByteString::from_static(name), value.into_bytes())));
    record
}

async fn write(source: Arc<dyn Broker>, topic: TopicName, record: Record, seed: u64) {
    let mut backoff = Backoff::new(BackoffPolicy::default(), seed);
    while let Err(reason) = attempt(&*source, &topic, record.clone()).await {
        let delay = backoff.next_delay();
        tracing::warn!(%topic, reason, ?delay, "a dead letter was not written and is tried again");
        tokio::time::sleep(delay).await;
    }
}

async fn attempt(source: &dyn Broker, topic: &TopicName, record: Record) -> Result<(), String> {
    let made = source.admin().create_topic(&TopicSpec::new(topic.clone(), 1)).await;
    made.map(drop).or_else(|error| {
        if error.kind == AdminErrorKind::AlreadyExists {
            Ok(())
        } else {
            Err(error.to_string())
        }
    })?;
    let append = AppendRecord {
        topic: topic.clone(),
        partition: None,
        record,
    };
    let mut admission = source
        .appender()
        .admit(vec![append], Instant::now() + ADMIT_WITHIN)
        .await;
    if let Some(refused) = admission.refused.pop() {
        return Err(refused.error.to_string());
    }
    match admission.commit.await.pop() {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("the source broker told no outcome".to_owned()),
    }
}
