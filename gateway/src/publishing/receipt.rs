//! What a stored event is told. All events that one rule routes under one revision
//! share everything but partition and position, so the rest is encoded once.
//!
//! What holds: the bytes are those that prost would write for the same `Receipt`
//! up to the order of fields, which protobuf leaves free; a test decodes them.

use bytes::{BufMut, Bytes};
use meridian_broker::{Durability, Position};
use meridian_proto::meridian as proto;
use prost::Message as _;
use prost::encoding::{encoded_len_varint, uint32, uint64};

const PARTITION: u32 = 4;
const POSITION: u32 = 5;

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
        };
        Self {
            encoded: receipt.encode_to_vec().into(),
        }
    }

    /// How many bytes the receipt has.
    pub fn encoded_len(&self, at: Position) -> usize {
        self.encoded.len() + field_len(at.partition.into()) + field_len(at.position)
    }

    /// Writes the receipt.
    pub fn encode(&self, at: Position, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.encoded);
        if at.partition != 0 {
            uint32::encode(PARTITION, &at.partition, buffer);
        }
        if at.position != 0 {
            uint64::encode(POSITION, &at.position, buffer);
        }
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
        for (partition, position) in [(0, 0), (7, 0), (0, 300), (300, u64::MAX)] {
            let at = Position { partition, position };
            let mut bytes = Vec::new();
            template.encode(at, &mut bytes);
            assert_eq!(bytes.len(), template.encoded_len(at));
            let receipt = proto::Receipt::decode(&bytes[..]).unwrap();
            assert_eq!((receipt.partition, receipt.position), (partition, position));
            assert_eq!(
                (receipt.region.as_str(), receipt.topic.as_str(), receipt.rules_revision),
                ("us-east", "orders", 3)
            );
            assert_eq!(receipt.durability(), proto::Durability::Fsynced);
        }
    }
}
