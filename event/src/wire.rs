//! The protobuf wire format: reading keys, varints and lengths in place, and
//! writing them.
//!
//! Knows nothing of CloudEvents; which field means what is the scanner's and the
//! builder's business. A cursor accepts and refuses exactly what prost does
//! (varints of at most ten bytes, keys of at most 32 bits, groups nested at most
//! [`MAX_DEPTH`] deep), never reads past its end, and never allocates.

use bytes::{BufMut, BytesMut};

use crate::scan::ScanError;

/// How deep messages and groups may nest: prost's `RECURSION_LIMIT`.
pub(crate) const MAX_DEPTH: u32 = 100;

/// The longest varint in bytes: 64 bits at 7 bits a byte.
const MAX_VARINT_BYTES: usize = 10;

/// Wire types, the low three bits of a key (protobuf encoding guide, "Message
/// Structure").
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH_DELIMITED: u32 = 2;
const START_GROUP: u32 = 3;
const END_GROUP: u32 = 4;
const FIXED32: u32 = 5;

/// The key of a length-delimited field.
pub(crate) const fn length_key(field: u32) -> u32 {
    (field << 3) | LENGTH_DELIMITED
}

/// The key of a varint field.
pub(crate) const fn varint_key(field: u32) -> u32 {
    (field << 3) | VARINT
}

/// A part of the scanned bytes; both ends are offsets from their start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    /// The part of `bytes` that this span names.
    pub(crate) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// Reads a message front to back. Offsets count from the start of the outermost
/// message, also inside a nested one.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    /// Everything up to the end of the message being read.
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor over a whole message.
    ///
    /// # Errors
    /// `TooLarge` past 4 GiB, so that every offset fits 32 bits.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, ScanError> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(ScanError::TooLarge {
                size_bytes: bytes.len(),
            });
        }
        Ok(Self { bytes, at: 0 })
    }

    #[inline(always)]
    pub(crate) fn at_end(&self) -> bool {
        self.at >= self.bytes.len()
    }

    /// The offset of the next byte. It fits 32 bits, as `new` checked.
    #[inline(always)]
    pub(crate) fn offset(&self) -> u32 {
        self.at as u32
    }

    /// A field's key: its number and wire type, unchecked.
    #[inline(always)]
    pub(crate) fn key(&mut self) -> Result<u32, ScanError> {
        let at = self.offset();
        let key = self.varint()?;
        u32::try_from(key).map_err(|_| ScanError::BadKey { at })
    }

    #[inline(always)]
    pub(crate) fn varint(&mut self) -> Result<u64, ScanError> {
        match self.bytes.get(self.at) {
            Some(&byte) if byte < 0x80 => {
                self.at += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, ScanError> {
        let at = self.offset();
        let mut value = 0;
        for (index, &byte) in self.bytes[self.at..].iter().take(MAX_VARINT_BYTES).enumerate() {
            value |= u64::from(byte & 0x7F) << (7 * index);
            if byte < 0x80 {
                // The tenth byte holds bit 63 alone; more would overflow.
                if index == MAX_VARINT_BYTES - 1 && byte > 1 {
                    break;
                }
                self.at += index + 1;
                return Ok(value);
            }
        }
        Err(ScanError::BadVarint { at })
    }

    /// The content of a length-delimited field.
    #[inline(always)]
    pub(crate) fn delimited(&mut self) -> Result<Span, ScanError> {
        let length = self.varint()?;
        let left = self.bytes.len() - self.at;
        if length > left as u64 {
            return Err(ScanError::Truncated { at: self.offset() });
        }
        let start = self.at;
        self.at += length as usize;
        Ok(Span {
            start: start as u32,
            end: self.at as u32,
        })
    }

    /// The content of a string field, checked to be UTF-8.
    #[inline(always)]
    pub(crate) fn text(&mut self) -> Result<Span, ScanError> {
        let span = self.delimited()?;
        let content = span.of(self.bytes);
        if !content.is_ascii() && std::str::from_utf8(content).is_err() {
            return Err(ScanError::NotText { at: span.start });
        }
        Ok(span)
    }

    /// A cursor over a nested message's content; this one moves past it.
    #[inline(always)]
    pub(crate) fn nested(&mut self) -> Result<Cursor<'a>, ScanError> {
        let span = self.delimited()?;
        Ok(Cursor {
            bytes: &self.bytes[..span.end as usize],
            at: span.start as usize,
        })
    }

    /// Deals with a key that is none of the message's expected ones: skips an
    /// unknown field, refuses a known field of the wrong wire type. `known` is
    /// the message's highest field number (ours are numbered without gaps from 1), and
    /// `depth` how much deeper a group may nest.
    #[cold]
    pub(crate) fn other_field(&mut self, key: u32, known: u32, depth: u32) -> Result<(), ScanError> {
        let at = self.offset();
        let field = key >> 3;
        if key & 7 > FIXED32 || field == 0 {
            return Err(ScanError::BadKey { at });
        }
        if field <= known {
            return Err(ScanError::WrongWireType { at, field });
        }
        self.skip(key, depth)
    }

    fn skip(&mut self, key: u32, depth: u32) -> Result<(), ScanError> {
        let at = self.offset();
        if depth == 0 {
            return Err(ScanError::TooDeep { at });
        }
        match key & 7 {
            VARINT => self.varint().map(|_| ()),
            FIXED64 => self.advance(8),
            LENGTH_DELIMITED => self.delimited().map(|_| ()),
            FIXED32 => self.advance(4),
            START_GROUP => loop {
                let inner = self.key()?;
                if inner & 7 > FIXED32 || inner >> 3 == 0 {
                    return Err(ScanError::BadKey { at: self.offset() });
                }
                if inner & 7 == END_GROUP {
                    if inner >> 3 != key >> 3 {
                        return Err(ScanError::UnbalancedGroup { at: self.offset() });
                    }
                    return Ok(());
                }
                self.skip(inner, depth - 1)?;
            },
            _ => Err(ScanError::UnbalancedGroup { at }),
        }
    }

    fn advance(&mut self, length: usize) -> Result<(), ScanError> {
        if length > self.bytes.len() - self.at {
            return Err(ScanError::Truncated { at: self.offset() });
        }
        self.at += length;
        Ok(())
    }
}

/// How many bytes `value` takes as a varint: 1 to 10.
pub(crate) const fn varint_length(value: u64) -> usize {
    // One byte for each started group of seven bits; zero takes one as well.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

pub(crate) fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes a length-delimited field; `field` is below 16, so that its key is one byte.
pub(crate) fn put_delimited(out: &mut BytesMut, field: u32, content: &[u8]) {
    put_varint(out, u64::from(length_key(field)));
    put_varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// What [`put_delimited`] writes, in bytes.
pub(crate) const fn delimited_length(content_bytes: usize) -> usize {
    1 + varint_length(content_bytes as u64) + content_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_survive_and_take_the_length_told() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = BytesMut::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_length(value), "{value}");
                let mut cursor = Cursor::new(&out).unwrap();
                assert_eq!(cursor.varint(), Ok(value));
                assert!(cursor.at_end());
            }
        }
    }

    #[test]
    fn a_varint_past_64_bits_is_refused() {
        let mut bytes = [0xFF; 10];
        bytes[9] = 2;
        assert_eq!(
            Cursor::new(&bytes).unwrap().varint(),
            Err(ScanError::BadVarint { at: 0 })
        );
        bytes[9] = 1;
        assert_eq!(Cursor::new(&bytes).unwrap().varint(), Ok(u64::MAX));
    }

    #[test]
    fn a_length_past_the_end_is_refused() {
        assert_eq!(
            Cursor::new(&[5, 1, 2]).unwrap().delimited(),
            Err(ScanError::Truncated { at: 1 })
        );
    }
}
