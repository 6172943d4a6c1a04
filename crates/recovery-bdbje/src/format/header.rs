//! The frame around every entry (`log/LogEntryHeader`).
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | Adler-32 of everything behind it, little-endian |
//! | 4 | 1 | entry type |
//! | 5 | 1 | flags |
//! | 6 | 4 | offset of the previous entry in the same file |
//! | 10 | 4 | size of the item |
//! | 14 | 8 | VLSN, when flag `08` or `20` is set |
//! | 14 or 22 | size | item |
//!
//! The invisible bit is set in place, long after the entry was written, and the checksum stays as it was: the bit is
//! cleared before summing. No checksum is valid in an erased entry (type 43). No checksum covers the invisible bit.

use recovery_core::Cursor;

use super::{EntryType, FormatError, Result};

/// Header without VLSN.
pub const MIN_HEADER: usize = 14;
/// Header with VLSN.
pub const MAX_HEADER: usize = 22;

/// Never applied on its own: part of a checkpoint.
pub const PROVISIONAL: u8 = 0x80;
/// Provisional until its checkpoint has ended.
pub const BEFORE_CKPT_END: u8 = 0x40;
/// Part of the replication stream.
pub const REPLICATED: u8 = 0x20;
/// Rolled back.
pub const INVISIBLE: u8 = 0x10;
/// A VLSN stands in the header.
pub const HAS_VLSN: u8 = 0x08;

/// Header of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// Stored checksum.
    pub checksum: u32,
    /// Type.
    pub kind: EntryType,
    /// Flags, zero for a file header.
    pub flags: u8,
    /// Offset of the previous entry in the file.
    pub prev: u32,
    /// Bytes of the item.
    pub item_size: u32,
    /// Sequence number in the replication stream.
    pub vlsn: Option<i64>,
}

impl EntryHeader {
    /// Reads the header at the cursor, which knows its place in the file.
    ///
    /// # Errors
    ///
    /// When the bytes end, the type is unknown or the size is negative.
    #[inline]
    pub fn decode(c: &mut Cursor<'_>) -> Result<Self> {
        let at = c.offset();
        let checksum = c.u32_le("checksum")?;
        let number = c.u8("entry type")?;
        let mut flags = c.u8("flags")?;
        let prev = c.u32_le("previous offset")?;
        let size = c.i32_le("item size")?;
        let kind = EntryType::new(number).ok_or(FormatError::BadType { found: number, at })?;
        let item_size = u32::try_from(size).map_err(|_| FormatError::NegativeSize { found: size, at })?;
        if kind == EntryType::FILE_HEADER {
            flags = 0;
        }
        let vlsn = if flags & (REPLICATED | HAS_VLSN) != 0 { Some(c.i64_le("VLSN")?) } else { None };
        Ok(Self { checksum, kind, flags, prev, item_size, vlsn })
    }

    /// Bytes of the header itself.
    #[inline]
    #[must_use]
    pub const fn size(&self) -> usize {
        if self.vlsn.is_some() { MAX_HEADER } else { MIN_HEADER }
    }

    /// Bytes of header and item.
    #[inline]
    #[must_use]
    pub const fn total(&self) -> u64 {
        (self.size() as u64).saturating_add(self.item_size as u64)
    }

    /// Rolled back.
    #[inline]
    #[must_use]
    pub const fn invisible(&self) -> bool {
        self.flags & INVISIBLE != 0
    }

    /// Part of the replication stream.
    #[inline]
    #[must_use]
    pub const fn replicated(&self) -> bool {
        self.flags & REPLICATED != 0
    }

    /// Part of an unfinished checkpoint, always.
    #[inline]
    #[must_use]
    pub const fn provisional(&self) -> bool {
        self.flags & PROVISIONAL != 0
    }

    /// VLSN of a replicated entry.
    #[inline]
    #[must_use]
    pub fn stream_vlsn(&self) -> Option<i64> {
        self.vlsn.filter(|_| self.replicated())
    }
}

/// Adler-32 of an entry: `entry` is the whole of it, header and item.
#[must_use]
pub fn checksum(entry: &[u8]) -> u32 {
    let mut sum = simd_adler32::Adler32::new();
    feed(&mut sum, entry);
    sum.finish()
}

/// Feeds the first bytes of an entry, from its checksum field on, leaving out what is not summed.
pub fn feed(sum: &mut simd_adler32::Adler32, entry: &[u8]) {
    let body = entry.get(4..).unwrap_or_default();
    match body {
        [kind, flags, rest @ ..] if flags & INVISIBLE != 0 => {
            sum.write(&[*kind, flags & !INVISIBLE]);
            sum.write(rest);
        }
        _ => sum.write(body),
    }
}

/// Compares the checksum of a whole entry.
///
/// # Errors
///
/// When it does not agree. Erased entries have none; they pass when their item is all zeros.
#[inline]
pub fn verify(header: &EntryHeader, entry: &[u8], at: u64) -> Result<()> {
    let computed = checksum(entry);
    // An erased entry keeps its old checksum, and its item is all zeros.
    let erased = header.kind == EntryType::ERASED;
    if erased && entry.get(header.size()..).is_some_and(|item| item.iter().all(|b| *b == 0)) {
        return Ok(());
    }
    if computed == header.checksum {
        Ok(())
    } else {
        Err(FormatError::Checksum { at, stored: header.checksum, computed })
    }
}

/// Appends a whole entry with its checksum.
pub fn put(out: &mut Vec<u8>, kind: EntryType, flags: u8, prev: u32, vlsn: Option<i64>, item: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[kind.number(), flags]);
    out.extend_from_slice(&prev.to_le_bytes());
    out.extend_from_slice(&i32::try_from(item.len()).unwrap_or(i32::MAX).to_le_bytes());
    if let Some(v) = vlsn {
        out.extend_from_slice(&v.to_le_bytes());
    }
    out.extend_from_slice(item);
    let sum = checksum(out.get(start..).unwrap_or_default());
    if let Some(field) = out.get_mut(start..start.saturating_add(4)) {
        field.copy_from_slice(&sum.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_invisible_bit_is_outside_the_sum() {
        let mut e = Vec::new();
        put(&mut e, EntryType::COMMIT, REPLICATED | HAS_VLSN, 7, Some(9), b"item");
        let h = EntryHeader::decode(&mut Cursor::new(&e, 0)).unwrap();
        assert_eq!((h.size(), h.total(), h.vlsn, h.prev), (22, 26, Some(9), 7));
        verify(&h, &e, 0).unwrap();
        e[5] |= INVISIBLE;
        let h = EntryHeader::decode(&mut Cursor::new(&e, 0)).unwrap();
        assert!(h.invisible());
        verify(&h, &e, 0).unwrap();
        e[5] ^= 0x40;
        assert!(verify(&h, &e, 0).is_err());
    }

    #[test]
    fn a_cut_header_is_short() {
        let mut e = Vec::new();
        put(&mut e, EntryType::COMMIT, HAS_VLSN, 0, Some(1), b"");
        for n in 0..e.len() {
            assert!(matches!(EntryHeader::decode(&mut Cursor::new(&e[..n], 0)), Err(FormatError::Short(_))));
        }
    }
}
