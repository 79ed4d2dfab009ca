//! What a stored event is told. All events that one rule routes under one revision
//! share everything but partition and position, so the rest is encoded once.
//!
//! What holds: the bytes are those that prost would write for the same `Receipt`
//! up to the order of fields, which protobuf leaves free; a test decodes them.

use bytes::{BufMut, Bytes};
use meridian_broker::{Durability, Position};
use meridian_proto::meridian as proto;
use prost::Message as _;
use prost::encoding::{encoded_len_varint, message, uint32, uint64};

const PARTITION: u32 = 4;
const POSITION: u32 = 5;
const DUE_AT: u32 = 9;

/// A receipt without partition and position.
#[derive(Clone, Debug)]
pub struct ReceiptTemplate {
    encoded: Bytes,
}

impl ReceiptTemplate {
    /// The parts that events of one rule share.
    pub fn new(region: &str, broker: &str, topic: &str, durability: Durability, rule: &str, revision: u64) -> Self {
        let durability = match durability {
            Durability::Memory => proto::Durability::Memory,
            Durability::FsyncedEverySecond => proto::Durability::FsyncedEverySecond,
            Durability::Replicas => proto::Durability::Replicas,
            Durability::Quorum => proto::Durability::Quorum,
            Durability::Fsynced => proto::Durability::Fsynced,
            Durability::InSyncReplicas => proto::Durability::InSyncReplicas,
        };
        let receipt = proto::Receipt {
            region: region.to_owned(),
            broker: broker.to_owned(),
            topic: topic.to_owned(),
            partition: 0,
            position: 0,
            durability: durability.into(),
            rule: rule.to_owned(),
            rules_revision: revision,
            duplicate: false,
            due_at: None,
        };
        Self {
            encoded: receipt.encode_to_vec().into(),
        }
    }

    /// How many bytes the receipt has.
    pub fn encoded_len(&self, at: Position, due_ms: Option<i64>) -> usize {
        let due = due_ms.map_or(0, |due_ms| message::encoded_len(DUE_AT, &timestamp(due_ms)));
        self.encoded.len() + field_len(at.partition.into()) + field_len(at.position) + due
    }

    /// Writes the receipt.
    pub fn encode(&self, at: Position, due_ms: Option<i64>, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.encoded);
        if at.partition != 0 {
            uint32::encode(PARTITION, &at.partition, buffer);
        }
        if at.position != 0 {
            uint64::encode(POSITION, &at.position, buffer);
        }
        if let Some(due_ms) = due_ms {
            message::encode(DUE_AT, &timestamp(due_ms), buffer);
        }
    }
}

fn timestamp(unix_ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: unix_ms.div_euclid(1_000),
        nanos: i32::try_from(unix_ms.rem_euclid(1_000) * 1_000_000).unwrap_or(0),
    }
}

/// A varint field with a key of one byte; zero is not written, as proto3 has it.
fn field_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + encoded_len_varint(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_decodes_to_the_receipt_that_was_meant() {
        let template = ReceiptTemplate::new("us-east", "main", "orders", Durability::Fsynced, "r", 3);
        for (partition, position, due_ms) in [
            (0, 0, None),
            (7, 0, Some(1_250)),
            (0, 300, None),
            (300, u64::MAX, Some(i64::MAX / 2_000)),
        ] {
            let at = Position { partition, position };
            let mut bytes = Vec::new();
            template.encode(at, due_ms, &mut bytes);
            assert_eq!(bytes.len(), template.encoded_len(at, due_ms));
            let receipt = proto::Receipt::decode(&bytes[..]).unwrap();
            assert_eq!((receipt.partition, receipt.position), (partition, position));
            assert_eq!(receipt.due_at, due_ms.map(timestamp));
            assert_eq!(
                (receipt.region.as_str(), receipt.topic.as_str(), receipt.rules_revision),
                ("us-east", "orders", 3)
            );
            assert_eq!(receipt.durability(), proto::Durability::Fsynced);
        }
    }
}
