//! The messages of `PublishStream` as a client needs them that only counts: a batch
//! is written from framed events, an answer is read for its indexes and kinds.
//! Receipts are not decoded, as a raw producer does not look at its reports.

use bytes::{Buf, BufMut as _, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::events::put_varint;

/// A numbered batch of framed events.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) number: u64,
    /// Field `events` of the message, as often as there are events.
    pub(crate) framed_events: Bytes,
}

/// What an answer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) batch_number: u64,
    /// The events that have receipts.
    pub(crate) receipts: Vec<u32>,
    /// Refusals and unknown outcomes.
    pub(crate) failures: u64,
    /// The first failure's status, undecoded.
    pub(crate) first_failure: Option<Bytes>,
    pub(crate) batch_complete: bool,
}

/// Writes batches, reads answers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamCodec;

impl Codec for StreamCodec {
    type Encode = Batch;
    type Decode = Answer;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for StreamCodec {
    type Item = Batch;
    type Error = Status;

    fn encode(&mut self, batch: Batch, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(batch.framed_events.len() + 11);
        out.put_u8(1 << 3);
        put_varint(out, batch.number);
        out.put(batch.framed_events);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(64 * 1024, 64 * 1024)
    }
}

impl Decoder for StreamCodec {
    type Item = Answer;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Answer>, Status> {
        let message = input.copy_to_bytes(input.remaining());
        let answer =
            read_answer(message).ok_or_else(|| Status::internal("an answer that is no PublishStreamResponse"))?;
        Ok(Some(answer))
    }
}

fn read_answer(mut message: Bytes) -> Option<Answer> {
    let mut answer = Answer::default();
    while message.has_remaining() {
        match varint(&mut message)? {
            0x08 => answer.batch_number = varint(&mut message)?,
            0x12 => read_result(&mut answer, delimited(&mut message)?)?,
            0x18 => answer.batch_complete = varint(&mut message)? != 0,
            _ => return None,
        }
    }
    Some(answer)
}

/// An `IndexedPublishResult`: an index, and a `PublishResult` that begins with the
/// key of its outcome.
fn read_result(answer: &mut Answer, mut indexed: Bytes) -> Option<()> {
    let mut index = 0;
    let mut outcome = Bytes::new();
    while indexed.has_remaining() {
        match varint(&mut indexed)? {
            0x08 => index = u32::try_from(varint(&mut indexed)?).ok()?,
            0x12 => outcome = delimited(&mut indexed)?,
            _ => return None,
        }
    }
    match outcome.first() {
        Some(0x0A) => answer.receipts.push(index),
        _ => {
            answer.failures += 1;
            answer.first_failure.get_or_insert(outcome);
        }
    }
    Some(())
}

fn varint(input: &mut Bytes) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = input.has_remaining().then(|| input.get_u8())?;
        value |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn delimited(input: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(varint(input)?).ok()?;
    (length <= input.len()).then(|| input.split_to(length))
}

#[cfg(test)]
mod tests {
    use meridian_proto::google_rpc;
    use meridian_proto::meridian::publish_result::Outcome;
    use meridian_proto::meridian::{IndexedPublishResult, PublishResult, PublishStreamResponse, Receipt};

    use super::*;

    fn result(event_index: u32, outcome: Outcome) -> IndexedPublishResult {
        IndexedPublishResult {
            event_index,
            result: Some(PublishResult { outcome: Some(outcome) }),
        }
    }

    #[test]
    fn an_answer_is_read_as_prost_wrote_it() {
        let receipt = Receipt {
            topic: "orders".into(),
            position: 300,
            ..Receipt::default()
        };
        let refusal = google_rpc::Status {
            code: 3,
            ..Default::default()
        };
        let response = PublishStreamResponse {
            batch_number: 300,
            results: vec![
                result(0, Outcome::Receipt(receipt.clone())),
                result(200, Outcome::Receipt(receipt)),
                result(1, Outcome::Refusal(refusal)),
            ],
            batch_complete: true,
        };
        let encoded = Bytes::from(tonic_encoded(&response));
        let answer = read_answer(encoded.clone()).unwrap();
        assert_eq!(answer.receipts, [0, 200]);
        assert_eq!(
            (answer.batch_number, answer.failures, answer.batch_complete),
            (300, 1, true)
        );
        assert_eq!(read_answer(encoded.slice(..encoded.len() - 3)), None);
    }

    fn tonic_encoded(message: &impl prost::Message) -> Vec<u8> {
        message.encode_to_vec()
    }
}
