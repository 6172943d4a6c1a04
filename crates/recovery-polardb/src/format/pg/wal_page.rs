//! The header of a WAL page.
//!
//! | off | size | field |
//! |---|---|---|
//! | 0 | 2 | xlp_magic, one value per major version |
//! | 2 | 2 | xlp_info: 1 begins with a continued record, 2 long header, 4 backup blocks removable, 8 begins with an overwritten continuation |
//! | 4 | 4 | xlp_tli |
//! | 8 | 8 | xlp_pageaddr |
//! | 16 | 4 | xlp_rem_len: bytes of the continued record that are left, this page's included |
//! | 20 | 4 | padding |
//! | 24 | 8 | long header only: xlp_sysid |
//! | 32 | 4 | xlp_seg_size |
//! | 36 | 4 | xlp_xlog_blcksz |
//!
//! No checksum covers a page header. Upstream: `src/include/access/xlog_internal.h`, `xlogreader.c` (`XLogReaderValidatePageHeader`).

use recovery_core::{Cursor, Short};

use super::{Lsn, le16, le32, le64, put};

/// Size of an ordinary header.
pub const SHORT_HEADER: usize = 24;
/// Size of the header of a segment's first page.
pub const LONG_HEADER: usize = 40;
/// The page begins with the rest of a record.
pub const CONTRECORD: u16 = 1;
/// The page has a long header.
pub const LONG: u16 = 2;
/// The record that ran into this page was given up; a new one begins.
pub const OVERWRITE_CONTRECORD: u16 = 8;
/// All bits a server sets.
pub const ALL_FLAGS: u16 = 0x0F;

/// The part only a segment's first page has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongPart {
    /// System identifier of the cluster.
    pub system_identifier: u64,
    /// Segment size.
    pub segment_size: u32,
    /// WAL page size.
    pub block_size: u32,
}

/// A WAL page's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageHeader {
    /// Version stamp.
    pub magic: u16,
    /// Flags.
    pub info: u16,
    /// Timeline that wrote the page.
    pub tli: u32,
    /// Position of the page in the log.
    pub address: Lsn,
    /// Bytes left of a continued record.
    pub rem_len: u32,
    /// Present with [`LONG`].
    pub long: Option<LongPart>,
}

impl PageHeader {
    /// Reads a header from the first bytes of a page.
    ///
    /// # Errors
    ///
    /// When the bytes end before the header does.
    pub fn decode(page: &[u8]) -> Result<Self, Short> {
        let mut c = Cursor::new(page, 0);
        if c.remaining() < SHORT_HEADER {
            c.skip(SHORT_HEADER, "WAL page header")?;
        }
        let info = le16(page, 2);
        let long = if info & LONG == 0 {
            None
        } else {
            c.skip(LONG_HEADER, "long WAL page header")?;
            Some(LongPart {
                system_identifier: le64(page, 24),
                segment_size: le32(page, 32),
                block_size: le32(page, 36),
            })
        };
        Ok(Self {
            magic: le16(page, 0),
            info,
            tli: le32(page, 4),
            address: Lsn(le64(page, 8)),
            rem_len: le32(page, 16),
            long,
        })
    }

    /// Size of this header.
    #[must_use]
    pub const fn size(&self) -> usize {
        if self.long.is_some() { LONG_HEADER } else { SHORT_HEADER }
    }

    /// The bytes of the header.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut b = vec![0; self.size()];
        put(&mut b, 0, &self.magic.to_le_bytes());
        put(&mut b, 2, &self.info.to_le_bytes());
        put(&mut b, 4, &self.tli.to_le_bytes());
        put(&mut b, 8, &self.address.0.to_le_bytes());
        put(&mut b, 16, &self.rem_len.to_le_bytes());
        if let Some(long) = self.long {
            put(&mut b, 24, &long.system_identifier.to_le_bytes());
            put(&mut b, 32, &long.segment_size.to_le_bytes());
            put(&mut b, 36, &long.block_size.to_le_bytes());
        }
        b
    }
}

/// Size of the header of the page that begins at `page`: long at a segment's first page.
#[must_use]
pub const fn header_size(page: Lsn, segment: super::SegmentSize) -> usize {
    if segment.offset(page) == 0 { LONG_HEADER } else { SHORT_HEADER }
}

/// Whether a magic belongs to any PostgreSQL that writes this page format.
#[must_use]
pub const fn plausible_magic(magic: u16) -> bool {
    magic >= 0xD090 && magic <= 0xD1FF
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_headers_come_back() {
        let long = LongPart { system_identifier: 7, segment_size: 1 << 30, block_size: 8192 };
        for (info, long) in [(0, None), (CONTRECORD, None), (LONG | CONTRECORD, Some(long))] {
            let h = PageHeader { magic: 0xD110, info, tli: 1, address: Lsn(0x4000_0000), rem_len: 9, long };
            let bytes = h.encode();
            assert_eq!(PageHeader::decode(&bytes).unwrap(), h);
            assert_eq!(bytes.len(), h.size());
            assert!(PageHeader::decode(bytes.split_last().unwrap().1).is_err());
        }
    }
}
