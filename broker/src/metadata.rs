//! A frontier's islands as the text that a broker stores beside a group's
//! committed position, in the public format of Confluent's Parallel Consumer, so
//! that a JVM parallel consumer and Meridian can hand one group over to each
//! other.
//!
//! The text is base64 of one magic byte and a body that describes the positions
//! from the committed one to the highest settled one:
//!
//! | magic | body |
//! |---|---|
//! | `o` | bit set: count of bits as big-endian i32, then bits, lowest first; set means settled |
//! | `e` | run lengths: big-endian i32 each, first run unsettled, then by turns |
//! | `l`, `n` | the older forms of the two, with i16 for i32; read, never written |
//!
//! An empty text says that nothing is settled beyond. The forms with zstd
//! (`a`, `J`, `s`, `p`) are not read: they begin above 200 bytes only, and an
//! unknown magic is an error that the caller takes as "nothing settled beyond",
//! which costs repetition and never a record.
//!
//! What holds: decoding what was encoded gives the frontier, or, if that did not
//! fit, one that settles less. No text makes the decoder panic, allocate more
//! than the text is long, or move `next` back.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::frontier::Frontier;

const BIT_SET_V1: u8 = b'l';
const BIT_SET_V2: u8 = b'o';
const RUN_LENGTH_V1: u8 = b'n';
const RUN_LENGTH_V2: u8 = b'e';

/// What Kafka stores at most with a position, in characters, by default.
pub const MAX_METADATA_CHARACTERS: usize = 4096;

/// No longer text is looked at.
const MAX_DECODED_CHARACTERS: usize = 64 * 1024;

/// The longest run that the format can say.
const MAX_RUN: u64 = i32::MAX as u64;

/// A frontier's islands as text.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// The text, within the limit.
    pub text: String,
    /// Whether the text tells all islands. If not, it tells the first ones, and
    /// records settled beyond them come again after a restart.
    pub complete: bool,
    /// How full the limit is, 1.0 being full; more than 1.0 when not complete. A
    /// reader stops taking records of the partition above 0.75, so that
    /// settlements to come still fit.
    pub fill_ratio: f64,
}

/// Why a text tells nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// The text is longer than any broker stores.
    #[error("commit metadata of {characters} characters is longer than any broker stores")]
    TooLong {
        /// How long it is.
        characters: usize,
    },
    /// It is not base64.
    #[error("commit metadata is not base64")]
    NotBase64,
    /// Another format, such as zstd or Kafka Streams' own metadata.
    #[error("commit metadata has the unknown format {magic:#04x}")]
    UnknownMagic {
        /// The first byte.
        magic: u8,
    },
    /// The body does not follow its format.
    #[error("commit metadata is malformed: {fault}")]
    Malformed {
        /// What is wrong.
        fault: &'static str,
    },
}

/// Writes what is settled beyond `next`, in the shorter of the two forms and in
/// no more than `max_chars` characters.
pub fn encode(frontier: &Frontier, max_chars: usize) -> Encoded {
    if frontier.settled_beyond() == 0 {
        return Encoded {
            text: String::new(),
            complete: true,
            fill_ratio: 0.0,
        };
    }
    let positions = frontier.settled_end() - frontier.next();
    let run_bytes = run_length_bytes(frontier);
    let bit_bytes = bit_set_bytes(positions);
    let max_bytes = (max_chars / 4).saturating_mul(3); // base64: 3 bytes in 4 characters
    let needed = run_bytes.min(bit_bytes);
    let characters = needed.div_ceil(3).saturating_mul(4);
    let fill_ratio = characters as f64 / max_chars.max(1) as f64;
    let complete = needed <= max_bytes;
    let bytes = if !complete {
        encode_part(frontier, max_bytes)
    } else if run_bytes <= bit_bytes {
        run_lengths(frontier, usize::MAX)
    } else {
        bit_set(frontier, positions)
    };
    Encoded {
        text: STANDARD.encode(bytes),
        complete,
        fill_ratio,
    }
}

/// The first islands, in the form that tells more of them; empty if none fits.
fn encode_part(frontier: &Frontier, max_bytes: usize) -> Vec<u8> {
    let by_runs = run_lengths(frontier, max_bytes);
    let max_bits = max_bytes.saturating_sub(1 + 4).saturating_mul(8) as u64;
    let end = frontier.next().saturating_add(max_bits);
    let last = frontier.ranges().take_while(|range| range.start < end).last();
    let bits = last.map_or(0, |range| range.end.min(end) - frontier.next());
    let told = |bytes: &[u8]| decode_body(frontier.next(), bytes).map_or(0, |told| told.settled_beyond());
    let by_bits = if bits == 0 { Vec::new() } else { bit_set(frontier, bits) };
    if told(&by_runs) >= told(&by_bits) {
        by_runs
    } else {
        by_bits
    }
}

/// The size of the run length form, without writing it.
fn run_length_bytes(frontier: &Frontier) -> usize {
    let mut at = frontier.next();
    let mut bytes = 1;
    for range in frontier.ranges() {
        bytes += 4 * (run_count(range.start - at) + run_count(range.end - range.start));
        at = range.end;
    }
    bytes
}

fn bit_set_bytes(positions: u64) -> usize {
    if positions > MAX_RUN {
        usize::MAX
    } else {
        1 + 4 + positions.div_ceil(8) as usize
    }
}

/// How many numbers one run takes: a run too long for one is split by a run of
/// the other kind with no length.
fn run_count(length: u64) -> usize {
    usize::try_from(length.div_ceil(MAX_RUN)).map_or(usize::MAX / 64, |count| count.max(1) * 2 - 1)
}

fn run_lengths(frontier: &Frontier, max_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![RUN_LENGTH_V2];
    let mut at = frontier.next();
    for range in frontier.ranges() {
        let lengths = [range.start - at, range.end - range.start];
        let more = lengths.iter().map(|length| 4 * run_count(*length)).sum::<usize>();
        if bytes.len().saturating_add(more) > max_bytes {
            break;
        }
        for length in lengths {
            push_run(&mut bytes, length);
        }
        at = range.end;
    }
    if bytes.len() == 1 { Vec::new() } else { bytes }
}

fn push_run(bytes: &mut Vec<u8>, mut length: u64) {
    while length > MAX_RUN {
        bytes.extend_from_slice(&i32::MAX.to_be_bytes());
        bytes.extend_from_slice(&0i32.to_be_bytes());
        length -= MAX_RUN;
    }
    bytes.extend_from_slice(&(length as i32).to_be_bytes()); // at most i32::MAX after the loop
}

/// The bit set of the first `positions`, of which there are at most `MAX_RUN`.
fn bit_set(frontier: &Frontier, positions: u64) -> Vec<u8> {
    let end = frontier.next() + positions;
    let mut bytes = vec![0; bit_set_bytes(positions)];
    bytes[0] = BIT_SET_V2;
    bytes[1..5].copy_from_slice(&(positions as i32).to_be_bytes());
    for range in frontier.ranges() {
        for position in range.start..range.end.min(end) {
            let bit = (position - frontier.next()) as usize;
            bytes[5 + bit / 8] |= 1 << (bit % 8);
        }
    }
    bytes
}

/// Reads the text that was committed with the position `next`.
///
/// # Errors
/// [`MetadataError`] when the text is of another format or damaged; nothing then
/// is known to be settled beyond `next`.
pub fn decode(next: u64, text: &str) -> Result<Frontier, MetadataError> {
    if text.is_empty() {
        return Ok(Frontier::new(next));
    }
    if text.len() > MAX_DECODED_CHARACTERS {
        return Err(MetadataError::TooLong { characters: text.len() });
    }
    let bytes = STANDARD.decode(text).map_err(|_| MetadataError::NotBase64)?;
    decode_body(next, &bytes)
}

fn decode_body(next: u64, bytes: &[u8]) -> Result<Frontier, MetadataError> {
    let Some((magic, body)) = bytes.split_first() else {
        return Ok(Frontier::new(next));
    };
    match *magic {
        BIT_SET_V1 => decode_bit_set::<2>(next, body),
        BIT_SET_V2 => decode_bit_set::<4>(next, body),
        RUN_LENGTH_V1 => decode_run_lengths::<2>(next, body),
        RUN_LENGTH_V2 => decode_run_lengths::<4>(next, body),
        magic => Err(MetadataError::UnknownMagic { magic }),
    }
}

fn malformed(fault: &'static str) -> MetadataError {
    MetadataError::Malformed { fault }
}

/// A big-endian signed number of 2 or 4 bytes that must not be negative.
fn number<const WIDTH: usize>(bytes: [u8; WIDTH]) -> Result<u64, MetadataError> {
    if bytes[0] & 0x80 != 0 {
        return Err(malformed("a length is negative"));
    }
    Ok(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn decode_bit_set<const WIDTH: usize>(next: u64, body: &[u8]) -> Result<Frontier, MetadataError> {
    let (count, bits) = body
        .split_first_chunk::<WIDTH>()
        .ok_or(malformed("the count of bits is cut short"))?;
    let count = number(*count)?;
    let end = next.checked_add(count).ok_or(malformed("positions overflow"))?;
    let mut frontier = Frontier::new(next);
    for (index, byte) in (0u64..).zip(bits) {
        for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
            let position = next.saturating_add(index * 8 + bit);
            if position >= end {
                return Err(malformed("a bit is set beyond the count of bits"));
            }
            frontier.settle(position);
        }
    }
    Ok(frontier)
}

fn decode_run_lengths<const WIDTH: usize>(next: u64, body: &[u8]) -> Result<Frontier, MetadataError> {
    let (runs, rest) = body.as_chunks::<WIDTH>();
    if !rest.is_empty() {
        return Err(malformed("a run length is cut short"));
    }
    let mut frontier = Frontier::new(next);
    let mut start = next;
    let mut is_settled = false;
    for run in runs {
        let end = start
            .checked_add(number(*run)?)
            .ok_or(malformed("positions overflow"))?;
        if is_settled {
            frontier.settle_range(start..end);
        }
        is_settled = !is_settled;
        start = end;
    }
    Ok(frontier)
}

#[cfg(test)]
mod tests;
