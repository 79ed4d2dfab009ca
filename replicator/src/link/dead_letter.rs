//! A record that the target refuses, kept at the source: in the dead-letter topic
//! of the link, as it was, with headers that say from where and why.
//!
//! What holds: the record is settled only once its dead letter is durable; the
//! write is tried for ever, and the partition waits for it. A record that is too
//! large even for that stops its topic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_broker::{AdminErrorKind, AppendError, AppendRecord, Broker, TopicName, TopicSpec};
use meridian_event::{ByteString, Header, Record};
use meridian_runtime::{Backoff, BackoffPolicy};

use super::lanes::LaneId;
use super::session::{Session, SessionEnd};
use crate::line::{Item, Phase, Refusal, Verdict, verdict};

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
                self.dead_lettering = Some(Box::pin(async move { (id, write(source, topic, record, id).await) }));
                return;
            }
            self.to_dead_letter.pop_front();
        }
    }

    /// The dead letter is durable, or can never be.
    pub(super) fn dead_lettered(&mut self, id: LaneId, written: Result<(), String>) {
        self.to_dead_letter.retain(|waiting| *waiting != id);
        let Some(lane) = self.lanes.get_mut(id) else {
            return;
        };
        if let Err(reason) = written {
            let position = lane.line.front().map_or(0, |item| item.claim.position);
            let reason = format!(
                "topic {} stopped at partition {}, position {position}: neither the target nor the dead letters take the record: {reason}",
                lane.source.topic, lane.source.partition
            );
            tracing::error!(link = %self.cell.spec.name, reason, "a record cannot be dead-lettered");
            self.end = Some(SessionEnd::TopicRefused(lane.source.topic.clone(), reason));
            return;
        }
        lane.line.dead_lettered();
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

/// Tries until the record is durable; the error is that of a record which never can be.
async fn write(source: Arc<dyn Broker>, topic: TopicName, record: Record, seed: u64) -> Result<(), String> {
    let mut backoff = Backoff::new(BackoffPolicy::default(), seed);
    loop {
        let reason = match attempt(&*source, &topic, record.clone()).await {
            Ok(()) => return Ok(()),
            Err(NotWritten::Never(reason)) => return Err(reason),
            Err(NotWritten::NotNow(reason)) => reason,
        };
        let delay = backoff.next_delay();
        tracing::warn!(%topic, reason, ?delay, "a dead letter was not written and is tried again");
        tokio::time::sleep(delay).await;
    }
}

/// Why a dead letter is not durable.
enum NotWritten {
    NotNow(String),
    Never(String),
}

impl From<AppendError> for NotWritten {
    fn from(error: AppendError) -> Self {
        match verdict(&error) {
            Verdict::Refused => Self::Never(error.to_string()),
            Verdict::Retry | Verdict::TopicGone | Verdict::Halt => Self::NotNow(error.to_string()),
        }
    }
}

async fn attempt(source: &dyn Broker, topic: &TopicName, record: Record) -> Result<(), NotWritten> {
    match source.admin().create_topic(&TopicSpec::new(topic.clone(), 1)).await {
        Err(error) if error.kind != AdminErrorKind::AlreadyExists => return Err(NotWritten::NotNow(error.to_string())),
        _ => {}
    }
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
        return Err(refused.error.into());
    }
    match admission.commit.await.pop() {
        Some(outcome) => outcome.map(drop).map_err(NotWritten::from),
        None => Err(NotWritten::NotNow("the source broker told no outcome".to_owned())),
    }
}
