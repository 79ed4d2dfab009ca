//! A block: records of one partition at positions that follow one another, as
//! one value of the store.
//!
//! ```text
//! offset  0  magic "MB"        u8;2
//!         2  version 1         u8      3  reserved, 0        u8
//!         4  crc32 of [8..]    u32     8  first position     u64
//!        16  count             u32    20  appended at, ms    i64
//!        28  base timestamp    i64    36  records
//! record: timestamp - base (zigzag), key, value, count of headers, headers
//! header: length of name, name, value
//! key and value: 0 for none, else length + 1, then the bytes
//! ```
//! Fixed numbers are little-endian, the rest LEB128 of at most ten bytes.
//!
//! What holds: decoding what was encoded gives the records; reading copies
//! nothing, a record's parts are slices of the block; no bytes make the decoder
//! panic or allocate more than they are long.

use bytes::Bytes;
use bytestring::ByteString;
use meridian_event::record::{Header, Record};

const MAGIC: [u8; 2] = *b"MB";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 36;

/// Why bytes are not a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BlockError {
    #[error("the block has no header")]
    NoHeader,
    #[error("the block has the unknown format version {0}")]
    UnknownVersion(u8),
    #[error("the block's checksum does not match its bytes")]
    ChecksumMismatch,
    #[error("the block is of position {found} and stands at {expected}")]
    WrongPosition { expected: u64, found: u64 },
    #[error("a record of the block is malformed")]
    MalformedRecord,
}

/// Gathers records into a block. One builder makes many blocks.
#[derive(Debug, Default)]
pub(super) struct BlockBuilder {
    bytes: Vec<u8>,
    first_position: u64,
    count: u32,
    base_timestamp: i64,
}

impl BlockBuilder {
    /// Starts a block anew at a position.
    pub(super) fn start(&mut self, first_position: u64) {
        self.bytes.clear();
        self.bytes.resize(HEADER_BYTES, 0);
        self.first_position = first_position;
        self.count = 0;
        self.base_timestamp = 0;
    }

    pub(super) fn push(&mut self, record: &Record) {
        if self.count == 0 {
            self.base_timestamp = record.timestamp_ms;
        }
        self.count += 1;
        let bytes = &mut self.bytes;
        put_number(bytes, zigzag(record.timestamp_ms.wrapping_sub(self.base_timestamp)));
        put_optional(bytes, record.key.as_deref());
        put_optional(bytes, record.value.as_deref());
        put_number(bytes, record.headers.len() as u64);
        for header in &record.headers {
            put_number(bytes, header.name.len() as u64);
            bytes.extend_from_slice(header.name.as_bytes());
            put_optional(bytes, header.value.as_deref());
        }
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn first_position(&self) -> u64 {
        self.first_position
    }

    /// The position that the next record gets.
    pub(super) fn next_position(&self) -> u64 {
        self.first_position + u64::from(self.count)
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The block, in a buffer of just its size; the builder keeps its own.
    pub(super) fn finish(&mut self, appended_ms: i64) -> Bytes {
        let bytes = &mut self.bytes;
        bytes[0..2].copy_from_slice(&MAGIC);
        bytes[2] = VERSION;
        bytes[8..16].copy_from_slice(&self.first_position.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.count.to_le_bytes());
        bytes[20..28].copy_from_slice(&appended_ms.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.base_timestamp.to_le_bytes());
        let checksum = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        Bytes::copy_from_slice(bytes)
    }
}

fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_optional(bytes: &mut Vec<u8>, part: Option<&[u8]>) {
    match part {
        None => bytes.push(0),
        Some(part) => {
            put_number(bytes, part.len() as u64 + 1);
            bytes.extend_from_slice(part);
        }
    }
}

/// What the header of a block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) first_position: u64,
    pub(super) count: u32,
    pub(super) appended_ms: i64,
    base_timestamp: i64,
}

impl BlockHeader {
    pub(super) fn end_position(&self) -> u64 {
        self.first_position.saturating_add(u64::from(self.count))
    }
}

/// The header of a block, without a look at the records.
pub(super) fn header(block: &[u8]) -> Result<BlockHeader, BlockError> {
    let (header, _) = block.split_first_chunk::<HEADER_BYTES>().ok_or(BlockError::NoHeader)?;
    if header[0..2] != MAGIC {
        return Err(BlockError::NoHeader);
    }
    if header[2] != VERSION {
        return Err(BlockError::UnknownVersion(header[2]));
    }
    let eight = |at: usize| -> [u8; 8] { std::array::from_fn(|index| header[at + index]) };
    let four = |at: usize| -> [u8; 4] { std::array::from_fn(|index| header[at + index]) };
    Ok(BlockHeader {
        first_position: u64::from_le_bytes(eight(8)),
        count: u32::from_le_bytes(four(16)),
        appended_ms: i64::from_le_bytes(eight(20)),
        base_timestamp: i64::from_le_bytes(eight(28)),
    })
}

/// Checks the sum over a block that came from the disk, and its place.
pub(super) fn verify(block: &[u8], position: u64) -> Result<BlockHeader, BlockError> {
    let header = header(block)?;
    let stored = u32::from_le_bytes(std::array::from_fn(|index| block[4 + index]));
    if crc32fast::hash(&block[8..]) != stored {
        return Err(BlockError::ChecksumMismatch);
    }
    if header.first_position != position {
        return Err(BlockError::WrongPosition {
            expected: position,
            found: header.first_position,
        });
    }
    Ok(header)
}

/// Reads the records of a block one by one.
#[derive(Clone, Debug)]
pub(super) struct BlockReader {
    block: Bytes,
    offset: usize,
    next_position: u64,
    end_position: u64,
    base_timestamp: i64,
}

impl BlockReader {
    /// A reader at the first record. The block is one of this process or was
    /// [verified](verify).
    pub(super) fn new(block: Bytes) -> Result<Self, BlockError> {
        let header = header(&block)?;
        Ok(Self {
            block,
            offset: HEADER_BYTES,
            next_position: header.first_position,
            end_position: header.end_position(),
            base_timestamp: header.base_timestamp,
        })
    }

    /// The position of the next record, or the end of the block.
    pub(super) fn next_position(&self) -> u64 {
        self.next_position
    }

    pub(super) fn is_done(&self) -> bool {
        self.next_position >= self.end_position
    }

    /// Passes over the records before `position`.
    pub(super) fn seek(&mut self, position: u64) -> Result<(), BlockError> {
        while self.next_position < position && !self.is_done() {
            self.skip_record()?;
            self.next_position += 1;
        }
        Ok(())
    }

    /// The next record; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Record)>, BlockError> {
        if self.is_done() {
            return Ok(None);
        }
        let record = self.record()?;
        let position = self.next_position;
        self.next_position += 1;
        Ok(Some((position, record)))
    }

    fn record(&mut self) -> Result<Record, BlockError> {
        let timestamp_ms = self.base_timestamp.wrapping_add(unzigzag(self.number()?));
        let key = self.optional()?;
        let value = self.optional()?;
        let count = self.number()? as usize;
        // A header takes two bytes at least.
        let mut headers = Vec::with_capacity(count.min(self.block.len().saturating_sub(self.offset) / 2));
        for _ in 0..count {
            let length = self.number()?;
            let name = self.part(length)?;
            let name = ByteString::try_from(name).map_err(|_| BlockError::MalformedRecord)?;
            headers.push(Header {
                name,
                value: self.optional()?,
            });
        }
        Ok(Record {
            key,
            headers,
            value,
            timestamp_ms,
        })
    }

    fn skip_record(&mut self) -> Result<(), BlockError> {
        self.number()?;
        self.skip_optional()?;
        self.skip_optional()?;
        for _ in 0..self.number()? {
            let length = self.number()?;
            self.skip(length)?;
            self.skip_optional()?;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<u64, BlockError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.block.get(self.offset).ok_or(BlockError::MalformedRecord)?;
            self.offset += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(BlockError::MalformedRecord)
    }

    fn skip(&mut self, length: u64) -> Result<std::ops::Range<usize>, BlockError> {
        let start = self.offset;
        let end = usize::try_from(length)
            .ok()
            .and_then(|length| start.checked_add(length));
        let end = end
            .filter(|end| *end <= self.block.len())
            .ok_or(BlockError::MalformedRecord)?;
        self.offset = end;
        Ok(start..end)
    }

    fn part(&mut self, length: u64) -> Result<Bytes, BlockError> {
        let range = self.skip(length)?;
        Ok(self.block.slice(range))
    }

    fn optional(&mut self) -> Result<Option<Bytes>, BlockError> {
        match self.number()? {
            0 => Ok(None),
            length => Ok(Some(self.part(length - 1)?)),
        }
    }

    fn skip_optional(&mut self) -> Result<(), BlockError> {
        match self.number()? {
            0 => Ok(()),
            length => self.skip(length - 1).map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(records: &[Record], first: u64) -> Bytes {
        let mut builder = BlockBuilder::default();
        builder.start(first);
        for record in records {
            builder.push(record);
        }
        assert_eq!(builder.next_position(), first + records.len() as u64);
        builder.finish(77)
    }

    fn read_all(mut reader: BlockReader) -> Result<Vec<(u64, Record)>, BlockError> {
        let mut records = Vec::new();
        while let Some(record) = reader.next()? {
            records.push(record);
        }
        Ok(records)
    }

    fn record() -> impl Strategy<Value = Record> {
        let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from));
        let header = ("[a-zäé]{0,12}", bytes()).prop_map(|(name, value)| Header {
            name: name.into(),
            value,
        });
        (bytes(), prop::collection::vec(header, 0..5), bytes(), any::<i64>()).prop_map(
            |(key, headers, value, timestamp_ms)| Record {
                key,
                headers,
                value,
                timestamp_ms,
            },
        )
    }

    proptest! {
        #[test]
        fn decoding_gives_what_was_encoded(records in prop::collection::vec(record(), 1..20), first in 0..1u64 << 60, skip in 0..25u64) {
            let block = block(&records, first);
            let header = verify(&block, first).unwrap();
            prop_assert_eq!((header.count as usize, header.appended_ms), (records.len(), 77));
            let mut reader = BlockReader::new(block).unwrap();
            reader.seek(first + skip).unwrap();
            let expected: Vec<_> = (first..).zip(records).skip(skip as usize).collect();
            prop_assert_eq!(read_all(reader).unwrap(), expected);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(mut bytes in prop::collection::vec(any::<u8>(), 36..300), count in any::<u32>()) {
            bytes[0..3].copy_from_slice(b"MB\x01");
            bytes[16..20].copy_from_slice(&count.to_le_bytes());
            let _ = read_all(BlockReader::new(Bytes::from(bytes)).unwrap());
        }

        #[test]
        fn a_flipped_bit_is_found(records in prop::collection::vec(record(), 1..5), place in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut bytes = block(&records, 5).to_vec();
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
            prop_assert!(place == 3 || verify(&bytes, 5).is_err(), "byte {} is reserved", place);
        }
    }

    #[test]
    fn a_block_in_the_wrong_place_is_found() {
        let block = block(&[Record::default()], 9);
        assert_eq!(
            verify(&block, 8),
            Err(BlockError::WrongPosition { expected: 8, found: 9 })
        );
        assert_eq!(verify(&block[..20], 9), Err(BlockError::NoHeader));
    }
}
