//! Looking into the replies of Redis. Pure.

use bytes::Bytes;
use fred::interfaces::Resp3Frame as Frame;

use super::error::Fault;

/// The bytes of a string, or nothing for null.
pub(super) fn bytes(frame: &Frame) -> Option<&Bytes> {
    match frame {
        Frame::BlobString { data, .. }
        | Frame::SimpleString { data, .. }
        | Frame::VerbatimString { data, .. }
        | Frame::BigNumber { data, .. } => Some(data),
        _ => None,
    }
}

pub(super) fn text(frame: &Frame) -> Option<&str> {
    bytes(frame).and_then(|data| std::str::from_utf8(data).ok())
}

/// A number, also one that is written as text.
pub(super) fn number(frame: &Frame) -> Option<i64> {
    match frame {
        Frame::Number { data, .. } => Some(*data),
        other => text(other)?.parse().ok(),
    }
}

/// The elements of an array; none for anything else.
pub(super) fn array(frame: &Frame) -> &[Frame] {
    match frame {
        Frame::Array { data, .. } | Frame::Push { data, .. } => data,
        _ => &[],
    }
}

/// The elements of an array, by value.
pub(super) fn into_array(frame: Frame) -> Vec<Frame> {
    match frame {
        Frame::Array { data, .. } | Frame::Push { data, .. } => data,
        _ => Vec::new(),
    }
}

/// Pairs of a map, or of an array that stands for one.
pub(super) fn into_pairs(frame: Frame) -> Vec<(Frame, Frame)> {
    match frame {
        Frame::Map { data, .. } => data.into_iter().collect(),
        other => {
            let mut pairs = Vec::new();
            let mut elements = into_array(other).into_iter();
            while let (Some(name), Some(value)) = (elements.next(), elements.next()) {
                pairs.push((name, value));
            }
            pairs
        }
    }
}

/// The reply, or the error that it is.
pub(super) fn checked(frame: Frame) -> Result<Frame, Fault> {
    match &frame {
        Frame::SimpleError { data, .. } => Err(Fault::of_reply(data)),
        Frame::BlobError { data, .. } => Err(Fault::of_reply(&String::from_utf8_lossy(data))),
        _ => Ok(frame),
    }
}
