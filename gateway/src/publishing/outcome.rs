//! What becomes of each event: stored, surely not stored, or nobody knows. And
//! how that is written on the wire, without an allocation for each receipt.

use std::sync::Arc;

use bytes::BufMut;
use meridian_broker::{AppendError, Position, Stored};
use meridian_proto::meridian as proto;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::receipt::ReceiptTemplate;
use crate::fault::Refusal;

const RECEIPT: u32 = 1;
const EVENT_INDEX: u32 = 1;
const RESULT: u32 = 2;

/// What became of one event.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Durable.
    Stored {
        /// Index of its receipt's template: that of the rule.
        template: u32,
        /// Where it is.
        position: Position,
        /// When it is due, if it waits for that, in milliseconds since the Unix epoch.
        due_ms: Option<i64>,
    },
    /// Surely not stored.
    Refused(Refusal),
    /// May be stored.
    Unknown(Refusal),
    /// What the gateway of another region said, or the receipt of the first time
    /// that the event was published.
    Answered(Box<proto::PublishResult>),
}

/// An outcome and the event that it is of.
#[derive(Clone, Debug)]
pub struct EventResult {
    /// Index of the event in its batch.
    pub index: u32,
    /// What became of it.
    pub outcome: Outcome,
}

/// Results of one batch, some or all, with the templates of their receipts.
#[derive(Clone, Debug)]
pub struct Results {
    /// Of the table that routed the batch.
    pub templates: Arc<[ReceiptTemplate]>,
    /// The results.
    pub results: Vec<EventResult>,
}

impl Outcome {
    /// The outcome of an append that failed, for the event at `index`.
    pub fn of_failed_append(error: &AppendError, index: u32) -> Self {
        let refusal = Refusal::from(error).at_event(index as usize);
        match error.stored {
            Stored::No => Self::Refused(refusal),
            Stored::Unknown => Self::Unknown(refusal),
        }
    }

    /// The same as a message, for all that is not a receipt.
    fn message(&self) -> Option<proto::PublishResult> {
        use proto::publish_result::Outcome as Wire;
        let outcome = match self {
            Self::Stored { .. } => return None,
            Self::Refused(refusal) => Wire::Refusal(refusal.to_rpc_status()),
            Self::Unknown(refusal) => Wire::Unknown(refusal.to_rpc_status()),
            Self::Answered(result) => return Some((**result).clone()),
        };
        Some(proto::PublishResult { outcome: Some(outcome) })
    }
}

impl Results {
    /// Writes each result as an element of the repeated field `field` of type
    /// `PublishResult`.
    pub fn encode_plain(&self, field: u32, buffer: &mut impl BufMut) {
        for each in &self.results {
            encode_key(field, WireType::LengthDelimited, buffer);
            match &each.outcome {
                Outcome::Stored {
                    template,
                    position,
                    due_ms,
                } => {
                    let (template, receipt_len) = self.receipt(*template, *position, *due_ms);
                    encode_varint(delimited_len(RECEIPT, receipt_len) as u64, buffer);
                    encode_receipt(template, receipt_len, (*position, *due_ms), buffer);
                }
                other => {
                    let message = other.message().unwrap_or_default();
                    encode_varint(message.encoded_len() as u64, buffer);
                    message.encode_raw(buffer);
                }
            }
        }
    }

    /// Writes each result as an element of the repeated field `field` of type
    /// `IndexedPublishResult`.
    pub fn encode_indexed(&self, field: u32, buffer: &mut impl BufMut) {
        for each in &self.results {
            encode_key(field, WireType::LengthDelimited, buffer);
            let index_len = if each.index == 0 {
                0
            } else {
                1 + encoded_len_varint(each.index.into())
            };
            let begin = |result_len: usize, buffer: &mut dyn BufMut| {
                let mut buffer = buffer;
                encode_varint((index_len + delimited_len(RESULT, result_len)) as u64, &mut buffer);
                if each.index != 0 {
                    prost::encoding::uint32::encode(EVENT_INDEX, &each.index, &mut buffer);
                }
                encode_key(RESULT, WireType::LengthDelimited, &mut buffer);
                encode_varint(result_len as u64, &mut buffer);
            };
            match &each.outcome {
                Outcome::Stored {
                    template,
                    position,
                    due_ms,
                } => {
                    let (template, receipt_len) = self.receipt(*template, *position, *due_ms);
                    begin(delimited_len(RECEIPT, receipt_len), buffer);
                    encode_receipt(template, receipt_len, (*position, *due_ms), buffer);
                }
                other => {
                    let message = other.message().unwrap_or_default();
                    begin(message.encoded_len(), buffer);
                    message.encode_raw(buffer);
                }
            }
        }
    }

    fn receipt(&self, template: u32, position: Position, due_ms: Option<i64>) -> (&ReceiptTemplate, usize) {
        let template = &self.templates[template as usize];
        (template, template.encoded_len(position, due_ms))
    }
}

fn delimited_len(field: u32, len: usize) -> usize {
    key_len(field) + encoded_len_varint(len as u64) + len
}

fn encode_receipt(
    template: &ReceiptTemplate,
    len: usize,
    (position, due_ms): (Position, Option<i64>),
    buffer: &mut impl BufMut,
) {
    encode_key(RECEIPT, WireType::LengthDelimited, buffer);
    encode_varint(len as u64, buffer);
    template.encode(position, due_ms, buffer);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultCode;
    use meridian_broker::Durability;

    fn results() -> Results {
        let template = |topic| ReceiptTemplate::new("us-east", "main", topic, Durability::Fsynced, "r", 1);
        let stored = |template, position| Outcome::Stored {
            template,
            position: Position { partition: 2, position },
            due_ms: None,
        };
        let refusal = || Refusal::new(FaultCode::NoRoute, "no rule");
        let peer = proto::PublishResult {
            outcome: Some(proto::publish_result::Outcome::Receipt(proto::Receipt {
                region: "eu-west".to_owned(),
                ..Default::default()
            })),
        };
        let outcomes = [
            stored(0, 9),
            Outcome::Refused(refusal()),
            stored(1, 70_000),
            Outcome::Unknown(refusal()),
            Outcome::Answered(Box::new(peer)),
        ];
        let results = (0..)
            .zip(outcomes)
            .map(|(index, outcome)| EventResult { index, outcome });
        Results {
            templates: Arc::new([template("a"), template("b")]),
            results: results.collect(),
        }
    }

    fn kinds(results: &[proto::PublishResult]) -> Vec<String> {
        use proto::publish_result::Outcome as Wire;
        let kind = |result: &proto::PublishResult| match result.outcome.as_ref().unwrap() {
            Wire::Receipt(receipt) => format!("{}/{}/{}", receipt.region, receipt.topic, receipt.position),
            Wire::Refusal(status) => format!("refusal {}", status.message),
            Wire::Unknown(status) => format!("unknown {}", status.message),
        };
        results.iter().map(kind).collect()
    }

    const EXPECTED: [&str; 5] = [
        "us-east/a/9",
        "refusal no rule",
        "us-east/b/70000",
        "unknown no rule",
        "eu-west//0",
    ];

    #[test]
    fn plain_results_decode_as_the_contract_says() {
        let mut bytes = Vec::new();
        results().encode_plain(1, &mut bytes);
        let response = proto::PublishResponse::decode(&bytes[..]).unwrap();
        assert_eq!(kinds(&response.results), EXPECTED);
    }

    #[test]
    fn indexed_results_decode_as_the_contract_says() {
        let mut bytes = Vec::new();
        results().encode_indexed(2, &mut bytes);
        let response = proto::PublishStreamResponse::decode(&bytes[..]).unwrap();
        let indices: Vec<u32> = response.results.iter().map(|each| each.event_index).collect();
        assert_eq!(indices, [0, 1, 2, 3, 4]);
        let plain: Vec<_> = response.results.into_iter().map(|each| each.result.unwrap()).collect();
        assert_eq!(kinds(&plain), EXPECTED);
    }
}
