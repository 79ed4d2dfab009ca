//! Keys and values of the store's two keyspaces, as bytes.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | blocks | topic id, partition, first position | a [block](super::block) |
//! | meta | `s` | sequence of the last commit |
//! | meta | `e` | epoch: how often the store was opened |
//! | meta | `t` topic name | [`TopicRow`] |
//! | meta | `p` topic id, partition | [`PartitionRow`] |
//! | meta | `g` group name, 0, topic id, partition | [`PositionRow`] |
//! | meta | `x` topic id | nothing: a deleted topic whose blocks are not gone yet |
//!
//! Numbers are big-endian, so that keys sort as what they name.

use uuid::Uuid;

use crate::name::{GroupName, TopicName};

pub(super) const SEQUENCE_KEY: &[u8] = b"s";
pub(super) const EPOCH_KEY: &[u8] = b"e";
pub(super) const TOPIC_PREFIX: u8 = b't';
pub(super) const PARTITION_PREFIX: u8 = b'p';
pub(super) const POSITION_PREFIX: u8 = b'g';
pub(super) const DELETED_PREFIX: u8 = b'x';

/// A row that does not read as what its key says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the row of a {0} is malformed")]
pub(super) struct RowError(pub(super) &'static str);

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicRow {
    pub(super) id: Uuid,
    pub(super) partitions: u32,
    pub(super) retention_ms: Option<u64>,
    pub(super) retention_bytes: Option<u64>,
}

/// What a partition holds: positions from `start` to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct PartitionRow {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Bytes of its blocks.
    pub(super) bytes: u64,
}

/// Where a group stands in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PositionRow {
    pub(super) next: u64,
    pub(super) metadata: String,
}

/// The key of a block.
pub(super) fn block_key(topic: Uuid, partition: u32, first_position: u64) -> [u8; 28] {
    let mut key = [0; 28];
    key[..20].copy_from_slice(&partition_part(topic, partition));
    key[20..].copy_from_slice(&first_position.to_be_bytes());
    key
}

fn partition_part(topic: Uuid, partition: u32) -> [u8; 20] {
    let mut part = [0; 20];
    part[..16].copy_from_slice(topic.as_bytes());
    part[16..].copy_from_slice(&partition.to_be_bytes());
    part
}

/// The first position of a block, from its key.
pub(super) fn block_position(key: &[u8]) -> Result<u64, RowError> {
    let position = key
        .get(20..)
        .and_then(|part| part.try_into().ok())
        .ok_or(RowError("block"))?;
    Ok(u64::from_be_bytes(position))
}

pub(super) fn topic_key(name: &TopicName) -> Vec<u8> {
    [&[TOPIC_PREFIX], name.as_str().as_bytes()].concat()
}

pub(super) fn topic_name(key: &[u8]) -> Result<TopicName, RowError> {
    let name = key.get(1..).and_then(|name| std::str::from_utf8(name).ok());
    name.and_then(|name| TopicName::new(name).ok()).ok_or(RowError("topic"))
}

pub(super) fn partition_key(topic: Uuid, partition: u32) -> Vec<u8> {
    [&[PARTITION_PREFIX][..], &partition_part(topic, partition)].concat()
}

pub(super) fn deleted_key(topic: Uuid) -> Vec<u8> {
    [&[DELETED_PREFIX][..], topic.as_bytes()].concat()
}

pub(super) fn deleted_topic(key: &[u8]) -> Result<Uuid, RowError> {
    key.get(1..)
        .and_then(|id| Uuid::from_slice(id).ok())
        .ok_or(RowError("deleted topic"))
}

pub(super) fn position_key(group: &GroupName, topic: Uuid, partition: u32) -> Vec<u8> {
    [
        &[POSITION_PREFIX][..],
        group.as_str().as_bytes(),
        &[0],
        &partition_part(topic, partition),
    ]
    .concat()
}

pub(super) fn position_of(key: &[u8]) -> Result<(GroupName, Uuid, u32), RowError> {
    let fault = || RowError("group position");
    let (rest, part) = key.split_last_chunk::<20>().ok_or_else(fault)?;
    let name = rest
        .strip_prefix(&[POSITION_PREFIX])
        .and_then(|rest| rest.strip_suffix(&[0]));
    let name = name.and_then(|name| std::str::from_utf8(name).ok()).ok_or_else(fault)?;
    let group = GroupName::new(name).map_err(|_| fault())?;
    let topic = Uuid::from_slice(&part[..16]).map_err(|_| fault())?;
    let partition = u32::from_be_bytes([part[16], part[17], part[18], part[19]]);
    Ok((group, topic, partition))
}

impl TopicRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.id.as_bytes().to_vec();
        bytes.extend_from_slice(&self.partitions.to_be_bytes());
        bytes.extend_from_slice(&self.retention_ms.unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend_from_slice(&self.retention_bytes.unwrap_or(u64::MAX).to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let bytes: &[u8; 36] = bytes.try_into().map_err(|_| RowError("topic"))?;
        let limit = |number: u64| (number != u64::MAX).then_some(number);
        Ok(Self {
            id: Uuid::from_bytes(std::array::from_fn(|index| bytes[index])),
            partitions: u32::from_be_bytes(std::array::from_fn(|index| bytes[16 + index])),
            retention_ms: limit(u64::from_be_bytes(std::array::from_fn(|index| bytes[20 + index]))),
            retention_bytes: limit(u64::from_be_bytes(std::array::from_fn(|index| bytes[28 + index]))),
        })
    }
}

impl PartitionRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        [self.start, self.end, self.bytes].map(u64::to_be_bytes).concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let bytes: &[u8; 24] = bytes.try_into().map_err(|_| RowError("partition"))?;
        let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|index| bytes[at + index]));
        Ok(Self {
            start: number(0),
            end: number(8),
            bytes: number(16),
        })
    }
}

impl PositionRow {
    pub(super) fn encode(&self) -> Vec<u8> {
        [&self.next.to_be_bytes()[..], self.metadata.as_bytes()].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, RowError> {
        let (next, metadata) = bytes.split_first_chunk::<8>().ok_or(RowError("group position"))?;
        let metadata = std::str::from_utf8(metadata).map_err(|_| RowError("group position"))?;
        Ok(Self {
            next: u64::from_be_bytes(*next),
            metadata: metadata.to_owned(),
        })
    }
}

pub(super) fn decode_number(bytes: &[u8], what: &'static str) -> Result<u64, RowError> {
    bytes.try_into().map(u64::from_be_bytes).map_err(|_| RowError(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_keys_read_as_they_were_written() {
        let id = Uuid::new_v4();
        let topic = TopicRow {
            id,
            partitions: 7,
            retention_ms: Some(5),
            retention_bytes: None,
        };
        assert_eq!(TopicRow::decode(&topic.encode()), Ok(topic));
        let partition = PartitionRow {
            start: 1,
            end: 9,
            bytes: 300,
        };
        assert_eq!(PartitionRow::decode(&partition.encode()), Ok(partition));
        let position = PositionRow {
            next: 4,
            metadata: "ZQ==".into(),
        };
        assert_eq!(PositionRow::decode(&position.encode()), Ok(position));
        let group = GroupName::new("g-1").unwrap();
        assert_eq!(position_of(&position_key(&group, id, 3)), Ok((group, id, 3)));
        assert_eq!(block_position(&block_key(id, 3, 258)), Ok(258));
        let name = TopicName::new("orders").unwrap();
        assert_eq!(topic_name(&topic_key(&name)), Ok(name));
        assert_eq!(deleted_topic(&deleted_key(id)), Ok(id));
    }

    #[test]
    fn cut_rows_are_faults() {
        assert!(TopicRow::decode(&[0; 35]).is_err());
        assert!(PartitionRow::decode(&[0; 23]).is_err());
        assert!(PositionRow::decode(&[0; 7]).is_err());
        assert!(position_of(b"gshort").is_err());
        assert!(block_position(&[0; 27]).is_err());
    }
}
