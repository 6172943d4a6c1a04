//! Block handle: where a block lies in its table.
//!
//! | type     | field  | meaning                                         |
//! | -------- | ------ | ----------------------------------------------- |
//! | varint64 | offset | first byte of the payload                       |
//! | varint64 | size   | bytes of payload; the 5-byte trailer is on top  |
//!
//! Upstream: `table/format.h` (`BlockHandle`).

use std::ops::Range;

use recovery_core::Cursor;

use super::coding::put_varint;
use super::error::FormatError;

/// Compression type byte and checksum behind every block of a block-based table.
pub const TRAILER: u64 = 5;

/// The same as a slice length.
pub const TRAILER_LEN: usize = 5;

/// Where a block lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockHandle {
    /// Offset of the payload in the file.
    pub offset: u64,
    /// Bytes of payload, without the trailer.
    pub size: u64,
}

impl BlockHandle {
    /// Decodes a handle at the cursor.
    ///
    /// # Errors
    ///
    /// When the bytes end inside one of the two numbers or a number is too long.
    pub fn decode(cursor: &mut Cursor<'_>) -> Result<Self, FormatError> {
        Ok(Self { offset: cursor.varint64("block offset")?, size: cursor.varint64("block size")? })
    }

    /// Appends the stored form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.offset);
        put_varint(out, self.size);
    }

    /// Offset behind the trailer: where the next block starts when there is no padding.
    #[inline]
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.size).saturating_add(TRAILER)
    }

    /// Payload and trailer.
    #[must_use]
    pub const fn range(&self) -> Range<u64> {
        self.offset..self.end()
    }

    /// Does the whole block with its trailer lie below `limit`?
    #[inline]
    #[must_use]
    pub fn fits(&self, limit: u64) -> bool {
        self.offset.checked_add(self.size).and_then(|end| end.checked_add(TRAILER)).is_some_and(|end| end <= limit)
    }
}
