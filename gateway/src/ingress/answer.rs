//! Results as messages. The codec writes them straight into the response, for a
//! receipt a message type would cost an allocation for each of its texts.

use std::marker::PhantomData;

use bytes::BufMut;
use prost::Message;
use prost::encoding::{bool as boolean, uint64};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::publishing::Results;

/// `PublishResponse.results`.
const RESULTS: u32 = 1;
/// `PublishStreamResponse.batch_number`.
const BATCH_NUMBER: u32 = 1;
/// `PublishStreamResponse.results`.
const INDEXED_RESULTS: u32 = 2;
/// `PublishStreamResponse.batch_complete`.
const BATCH_COMPLETE: u32 = 3;

/// One message to a publisher.
#[derive(Debug)]
pub enum Answer {
    /// `PublishResponse`.
    Whole(Results),
    /// `PublishStreamResponse`.
    Part {
        /// Of the batch.
        batch_number: u64,
        /// Some of its results.
        results: Results,
        /// Whether they are the last.
        batch_complete: bool,
    },
}

impl Answer {
    /// Writes the message.
    pub fn encode(&self, buffer: &mut impl BufMut) {
        match self {
            Answer::Whole(results) => results.encode_plain(RESULTS, buffer),
            Answer::Part {
                batch_number,
                results,
                batch_complete,
            } => {
                uint64::encode(BATCH_NUMBER, batch_number, buffer);
                results.encode_indexed(INDEXED_RESULTS, buffer);
                if *batch_complete {
                    boolean::encode(BATCH_COMPLETE, batch_complete, buffer);
                }
            }
        }
    }
}

/// Reads requests with prost, whose byte fields are slices of what was received,
/// and writes answers.
#[derive(Debug)]
pub struct AnswerCodec<Request>(PhantomData<fn() -> Request>);

impl<Request> Default for AnswerCodec<Request> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// The writing half.
#[derive(Debug)]
pub struct AnswerEncoder;

/// The reading half.
#[derive(Debug)]
pub struct RequestDecoder<Request>(PhantomData<fn() -> Request>);

impl<Request: Message + Default + 'static> Codec for AnswerCodec<Request> {
    type Encode = Answer;
    type Decode = Request;
    type Encoder = AnswerEncoder;
    type Decoder = RequestDecoder<Request>;

    fn encoder(&mut self) -> Self::Encoder {
        AnswerEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        RequestDecoder(PhantomData)
    }
}

impl Encoder for AnswerEncoder {
    type Item = Answer;
    type Error = Status;

    fn encode(&mut self, answer: Answer, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        answer.encode(buffer);
        Ok(())
    }
}

impl<Request: Message + Default> Decoder for RequestDecoder<Request> {
    type Item = Request;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Request>, Status> {
        let malformed = |error: prost::DecodeError| {
            Status::invalid_argument(format!(
                "the request is no message of meridian.v1: {error}; encode it with the published proto files"
            ))
        };
        Request::decode(buffer).map(Some).map_err(malformed)
    }
}
