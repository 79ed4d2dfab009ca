//! Reads what is in a dead-letter topic, to its end, through the one group of that topic.
//!
//! What holds: what is not settled comes again with the next scan; a scan ends, also when others keep appending; it
//! holds at most [`MAX_HELD_RECORDS`] and [`MAX_HELD_BYTES`] that are not settled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use meridian_broker::{
    Broker, Claim, GroupName, MissingPositionPolicy, PartitionPosition, ReadEvent, ReadRecord, Reader, ReaderOptions,
    Settler, TopicName, TopicPartition,
};

use crate::fault::{FaultCode, Refusal};

/// Most dead letters that one scan holds without settling them.
pub const MAX_HELD_RECORDS: usize = 50_000;
/// The same in bytes.
pub const MAX_HELD_BYTES: usize = 64 * 1024 * 1024;
/// How long it may take until the scan has all partitions.
const ASSIGN_LIMIT: Duration = Duration::from_secs(20);
/// With all partitions read up to here, or silent for so long, the scan is at its end.
const QUIET: Duration = Duration::from_secs(3);
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// A dead-letter topic being read.
pub struct Scan {
    reader: Box<dyn Reader>,
    settler: Arc<dyn Settler>,
    topic: TopicName,
    partitions: usize,
    /// Whether positions tell where the end is; of a queue only silence does.
    has_positions: bool,
    /// Records handed out and not settled, by partition that is assigned.
    held: BTreeMap<TopicPartition, u64>,
}

impl Scan {
    /// Joins the topic's group.
    ///
    /// # Errors
    /// A refusal: the topic is not there, or the broker cannot be read.
    pub async fn open(broker: &Arc<dyn Broker>, topic: &TopicName) -> Result<Self, Refusal> {
        let described = broker.admin().describe_topic(topic).await;
        let partitions = described.map_err(|error| Refusal::from(&error))?.partitions;
        let group = GroupName::new(&format!("meridian.dlq.{topic}"))
            .map_err(|error| Refusal::new(FaultCode::InvalidRequest, error.to_string()))?;
        let options = ReaderOptions {
            missing_position: MissingPositionPolicy::Earliest,
            max_unsettled_records: MAX_HELD_RECORDS,
            max_unsettled_bytes: MAX_HELD_BYTES,
            ..ReaderOptions::new(group, vec![topic.clone()])
        };
        let opened = broker.open_reader(options).await;
        let reader = opened.map_err(|error| Refusal::from(&error))?;
        Ok(Self {
            settler: reader.settler(),
            reader,
            topic: topic.clone(),
            partitions: partitions as usize,
            has_positions: broker.profile().capabilities.replay,
            held: BTreeMap::new(),
        })
    }

    /// What comes next; `None` at the end.
    ///
    /// # Errors
    /// A refusal when the topic cannot be read, or somebody else holds a part of it.
    pub async fn next(&mut self) -> Result<Option<Vec<ReadRecord>>, Refusal> {
        loop {
            let has_all = self.held.len() >= self.partitions;
            if has_all && self.is_at_end() {
                return Ok(None);
            }
            let limit = if has_all { QUIET } else { ASSIGN_LIMIT };
            match tokio::time::timeout(limit, self.reader.next()).await {
                Err(_) if has_all => return Ok(None),
                Err(_) => return Err(self.held_by_others()),
                Ok(Err(error)) => return Err(Refusal::from(&error)),
                Ok(Ok(event)) => {
                    if let Some(records) = self.take_in(event) {
                        return Ok(Some(records));
                    }
                }
            }
        }
    }

    fn take_in(&mut self, event: ReadEvent) -> Option<Vec<ReadRecord>> {
        match event {
            ReadEvent::Records(records) => {
                for read in &records {
                    *self.held.entry(read.claim.partition.clone()).or_default() += 1;
                }
                return Some(records);
            }
            ReadEvent::Assigned(assignments) => {
                for assignment in assignments {
                    self.held.insert(assignment.partition, 0);
                }
            }
            ReadEvent::Revoked(partitions) => {
                for partition in partitions {
                    self.held.remove(&partition);
                }
            }
            ReadEvent::Gap(gap) => tracing::warn!(
                partition = %gap.partition, missing_records = gap.missing_records,
                "dead letters are gone: retention went past them"
            ),
        }
        None
    }

    /// A dead letter is done with.
    pub fn settle(&mut self, claim: &Claim) -> bool {
        let settled = self.settler.settle(claim).is_ok();
        if let Some(held) = self.held.get_mut(&claim.partition).filter(|_| settled) {
            *held = held.saturating_sub(1);
        }
        settled
    }

    /// Whether it ended because it holds as much as it may, with more to come as far as the broker tells.
    pub fn is_truncated(&self) -> bool {
        self.is_full() && (!self.has_positions || self.left() > 0)
    }

    /// Dead letters that are there and were not handed out.
    fn left(&self) -> u64 {
        let left = |position: &PartitionPosition| {
            let held = self.held.get(&position.partition).copied().unwrap_or(0);
            let open = position.end_position.saturating_sub(position.settled_position);
            open.saturating_sub(position.settled_beyond).saturating_sub(held)
        };
        self.settler.positions().iter().map(left).sum()
    }

    /// Whether it holds as much as it may.
    fn is_full(&self) -> bool {
        self.held.values().sum::<u64>() >= MAX_HELD_RECORDS as u64
    }

    fn is_at_end(&self) -> bool {
        self.has_positions && self.settler.positions().len() >= self.partitions && self.left() == 0
    }

    /// Makes settlements durable and leaves the group.
    ///
    /// # Errors
    /// A refusal when the last settlements may not be durable: their dead letters come again.
    pub async fn close(self) -> Result<(), Refusal> {
        let closed = self.reader.close(CLOSE_LIMIT).await;
        closed.map_err(|error| Refusal::from(&error))
    }

    fn held_by_others(&self) -> Refusal {
        let message = format!(
            "{} of {} partitions of {} are held by another dlq command or gateway; let it end, and try again",
            self.partitions.saturating_sub(self.held.len()),
            self.partitions,
            self.topic
        );
        Refusal::new(FaultCode::GroupActive, message)
    }
}
