//! A WAL record: header, block references, main data.
//!
//! | off | size | field |
//! |---|---|---|
//! | 0 | 4 | xl_tot_len, this header included |
//! | 4 | 4 | xl_xid |
//! | 8 | 8 | xl_prev: where the record before begins |
//! | 16 | 1 | xl_info: high half for the resource manager, low half for the log itself |
//! | 17 | 1 | xl_rmid |
//! | 20 | 4 | xl_crc: CRC-32C over bytes 24 to the end, then 0 to 20 |
//!
//! Behind it stand item headers (0 to 32: a block, 252: top-level transaction, 253: replication origin, 254 and 255:
//! main data) and then the data in the same order. No checksum covers the two padding bytes 18 and 19 apart: they
//! lie inside the CRC's range like everything else, so a record has no uncovered byte.
//!
//! Upstream: `src/include/access/xlogrecord.h`, `src/backend/access/transam/xlogreader.c` (`DecodeXLogRecord`).

use super::{Lsn, put};

/// Size of the fixed header, and so of the smallest record.
pub const HEADER: usize = 24;
/// Largest record a server writes (`XLogRecordMaxSize`).
pub const MAX_LENGTH: u32 = 1020 << 20;

/// The fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Length of the whole record.
    pub tot_len: u32,
    /// Transaction, 0 for none.
    pub xid: u32,
    /// Where the record before begins.
    pub prev: Lsn,
    /// Flags and the kind of record.
    pub info: u8,
    /// Resource manager.
    pub rmid: u8,
    /// Checksum.
    pub crc: u32,
}

impl RecordHeader {
    /// Reads the header; absent bytes read as zero, so check [`tot_len`](Self::tot_len).
    #[must_use]
    #[inline]
    pub fn of(record: &[u8]) -> Self {
        let Some(h) = record.first_chunk::<HEADER>() else {
            return Self { tot_len: 0, xid: 0, prev: Lsn(0), info: 0, rmid: 0, crc: 0 };
        };
        Self {
            tot_len: u32::from_le_bytes([h[0], h[1], h[2], h[3]]),
            xid: u32::from_le_bytes([h[4], h[5], h[6], h[7]]),
            prev: Lsn(u64::from_le_bytes([h[8], h[9], h[10], h[11], h[12], h[13], h[14], h[15]])),
            info: h[16],
            rmid: h[17],
            crc: u32::from_le_bytes([h[20], h[21], h[22], h[23]]),
        }
    }

    /// The resource manager's half of the info byte.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.info & 0xF0
    }

    /// Whether this is the record after which the rest of the segment is skipped.
    #[must_use]
    pub const fn is_switch(&self) -> bool {
        self.rmid == 0 && self.kind() == 0x40
    }
}

/// The checksum of a whole record.
#[must_use]
#[inline]
pub fn crc(record: &[u8]) -> u32 {
    let (head, body) = record.split_at_checked(HEADER).unwrap_or((&[], &[]));
    crc32c::crc32c_append(crc32c::crc32c(body), head.get(..20).unwrap_or_default())
}

/// A relation fork's file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelFileLocator {
    /// Tablespace OID: 1663 base, 1664 global.
    pub tablespace: u32,
    /// Database OID, 0 for shared relations.
    pub database: u32,
    /// File number.
    pub number: u32,
}

/// A full-page image in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Bytes stored.
    pub length: u16,
    /// Where the page's hole begins.
    pub hole_offset: u16,
    /// Its length.
    pub hole_length: u16,
    /// `bimg_info` as stored.
    pub info: u8,
}

/// One block a record touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// Number of the reference in the record.
    pub id: u8,
    /// Which relation.
    pub relation: RelFileLocator,
    /// Which fork: 0 main, 1 free-space map, 2 visibility map, 3 init.
    pub fork: u8,
    /// Which block.
    pub block: u32,
    /// Bytes of data stored for the block.
    pub data_length: u16,
    /// Full-page image, if there is one.
    pub image: Option<Image>,
    /// Whether replay makes the page anew.
    pub will_init: bool,
}

impl BlockRef {
    /// Whether replay of this record alone gives the whole page, whatever is there now.
    #[must_use]
    pub const fn restores(&self, major: u32) -> bool {
        let apply = if major >= 15 { 0x02 } else { 0x04 };
        match self.image {
            Some(image) => image.info & apply != 0,
            None => self.will_init,
        }
    }
}

/// What the item headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Items {
    /// Block references in order.
    pub blocks: Vec<BlockRef>,
    /// Length of the main data, which stands at the end of the record.
    pub main_length: u32,
    /// Top-level transaction, where a subtransaction names it.
    pub toplevel_xid: Option<u32>,
    /// Replication origin.
    pub origin: Option<u16>,
    /// Bytes of full-page images.
    pub image_bytes: u32,
}

/// Item headers that contradict each other; the server stops replay at such a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid item headers at byte {at} of the record: {what}")]
pub struct BadItems {
    /// Offset in the record.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
}

struct Walk<'a> {
    rest: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadItems> {
        let short = BadItems { at: self.at, what: "they run behind the record" };
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(short)?;
        self.rest = tail;
        self.at = self.at.saturating_add(N);
        Ok(*head)
    }

    #[inline]
    fn u8(&mut self) -> Result<u8, BadItems> {
        self.take::<1>().map(|[b]| b)
    }

    #[inline]
    fn u16(&mut self) -> Result<u16, BadItems> {
        self.take().map(u16::from_le_bytes)
    }

    #[inline]
    fn u32(&mut self) -> Result<u32, BadItems> {
        self.take().map(u32::from_le_bytes)
    }
}

const HAS_IMAGE: u8 = 0x10;
const HAS_DATA: u8 = 0x20;
const WILL_INIT: u8 = 0x40;
const SAME_REL: u8 = 0x80;
const HAS_HOLE: u8 = 0x01;

/// Whether an image's info byte says that the image is compressed; the bits moved in 15.
const fn compressed(info: u8, major: u32) -> bool {
    if major >= 15 { info & 0x1C != 0 } else { info & 0x02 != 0 }
}

/// Reads the item headers of a whole record, calling `block` for each block reference.
///
/// # Errors
///
/// When the headers contradict each other or the length of the record.
#[inline]
pub fn items_with(record: &[u8], major: u32, mut block: impl FnMut(BlockRef)) -> Result<Items, BadItems> {
    let mut w = Walk { rest: record.get(HEADER..).unwrap_or_default(), at: HEADER };
    let mut out = Items::default();
    let mut data = 0u64;
    let mut last = None;
    let mut relation = None;
    while (w.rest.len() as u64) > data {
        let at = w.at;
        match w.u8()? {
            255 => {
                out.main_length = u32::from(w.u8()?);
                data = data.saturating_add(u64::from(out.main_length));
                break;
            }
            254 => {
                out.main_length = w.u32()?;
                data = data.saturating_add(u64::from(out.main_length));
                break;
            }
            253 => out.origin = Some(w.u16()?),
            252 => out.toplevel_xid = Some(w.u32()?),
            id @ 0..=32 => {
                if last.is_some_and(|l| id <= l) {
                    return Err(BadItems { at, what: "block numbers out of order" });
                }
                last = Some(id);
                let r = block_ref(&mut w, id, major, &mut relation)?;
                let image = u32::from(r.image.map_or(0, |i| i.length));
                data = data.saturating_add(u64::from(r.data_length)).saturating_add(u64::from(image));
                out.image_bytes = out.image_bytes.saturating_add(image);
                block(r);
            }
            _ => return Err(BadItems { at, what: "unknown item" }),
        }
    }
    if w.rest.len() as u64 == data {
        Ok(out)
    } else {
        Err(BadItems { at: w.at, what: "the lengths do not add up to the record" })
    }
}

fn block_ref(
    w: &mut Walk<'_>,
    id: u8,
    major: u32,
    relation: &mut Option<RelFileLocator>,
) -> Result<BlockRef, BadItems> {
    let at = w.at;
    let flags = w.u8()?;
    let data_length = w.u16()?;
    if (flags & HAS_DATA != 0) != (data_length > 0) {
        return Err(BadItems { at, what: "data flag and data length disagree" });
    }
    let image = if flags & HAS_IMAGE != 0 { Some(image(w, major)?) } else { None };
    if flags & SAME_REL == 0 {
        *relation = Some(RelFileLocator { tablespace: w.u32()?, database: w.u32()?, number: w.u32()? });
    }
    let relation = relation.ok_or(BadItems { at, what: "same relation as before, but there is none before" })?;
    Ok(BlockRef {
        id,
        relation,
        fork: flags & 0x0F,
        block: w.u32()?,
        data_length,
        image,
        will_init: flags & WILL_INIT != 0,
    })
}

fn image(w: &mut Walk<'_>, major: u32) -> Result<Image, BadItems> {
    let at = w.at;
    let (length, hole_offset, info) = (w.u16()?, w.u16()?, w.u8()?);
    let whole = u16::try_from(super::BLOCK).unwrap_or(u16::MAX);
    let packed = compressed(info, major);
    let hole_length = match (packed, info & HAS_HOLE != 0) {
        (true, true) => w.u16()?,
        (true, false) => 0,
        (false, _) => whole.checked_sub(length).ok_or(BadItems { at, what: "image longer than a page" })?,
    };
    let hole = info & HAS_HOLE != 0;
    if hole && (hole_offset == 0 || hole_length == 0 || length == whole)
        || !hole && (hole_offset != 0 || hole_length != 0)
    {
        return Err(BadItems { at, what: "hole flag and hole disagree" });
    }
    if packed && length == whole {
        return Err(BadItems { at, what: "compressed image as long as a page" });
    }
    Ok(Image { length, hole_offset, hole_length, info })
}

/// Reads the item headers of a whole record.
///
/// # Errors
///
/// When the headers contradict each other or the length of the record.
pub fn items(record: &[u8], major: u32) -> Result<Items, BadItems> {
    let mut blocks = Vec::new();
    let mut out = items_with(record, major, |b| blocks.push(b))?;
    out.blocks = blocks;
    Ok(out)
}

/// The main data of a record whose items were read.
#[must_use]
pub fn main_data<'a>(record: &'a [u8], items: &Items) -> &'a [u8] {
    let start = record.len().saturating_sub(items.main_length as usize);
    record.get(start..).unwrap_or_default()
}

/// Builds a record that has only main data, checksum set.
#[must_use]
pub fn build(rmid: u8, info: u8, xid: u32, prev: Lsn, main: &[u8]) -> Vec<u8> {
    let mut r = vec![0; HEADER];
    match u8::try_from(main.len()) {
        Ok(_) if main.is_empty() => {}
        Ok(n) => r.extend_from_slice(&[255, n]),
        Err(_) => {
            r.push(254);
            r.extend_from_slice(&u32::try_from(main.len()).unwrap_or(u32::MAX).to_le_bytes());
        }
    }
    r.extend_from_slice(main);
    let total = u32::try_from(r.len()).unwrap_or(u32::MAX);
    put(&mut r, 0, &total.to_le_bytes());
    put(&mut r, 4, &xid.to_le_bytes());
    put(&mut r, 8, &prev.0.to_le_bytes());
    put(&mut r, 16, &[info, rmid]);
    let sum = crc(&r);
    put(&mut r, 20, &sum.to_le_bytes());
    r
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    #[test]
    fn a_built_record_reads_back() {
        for main in [&b""[..], b"abc", &[7; 300]] {
            let r = build(10, 0x20, 99, Lsn(0x1000), main);
            let h = RecordHeader::of(&r);
            assert_eq!((h.tot_len as usize, h.xid, h.prev, h.info, h.rmid), (r.len(), 99, Lsn(0x1000), 0x20, 10));
            assert_eq!(h.crc, crc(&r));
            let found = items(&r, 15).unwrap();
            assert_eq!(main_data(&r, &found), main);
            for bit in (0..r.len() * 8).filter(|b| !(160..192).contains(b)) {
                let mut bad = r.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_ne!(crc(&bad), h.crc, "bit {bit}");
            }
        }
    }

    #[test]
    fn block_references() {
        let mut body = vec![0u8, HAS_DATA, 2, 0];
        for word in [1663u32, 5, 16_391, 7] {
            body.extend_from_slice(&word.to_le_bytes());
        }
        body.extend_from_slice(&[1, SAME_REL, 0, 0, 9, 0, 0, 0, 255, 1]);
        body.extend_from_slice(&[1, 2, 3]);
        let mut r = vec![0; HEADER];
        r.extend_from_slice(&body);
        let found = items(&r, 15).unwrap();
        assert_eq!(found.blocks.len(), 2);
        assert_eq!((found.blocks[1].relation.number, found.blocks[1].block), (16_391, 9));
        assert_eq!(main_data(&r, &found), [3]);
        // Cut right behind the first block's header and data, what is left is a record of its own.
        for cut in (HEADER + 1..r.len()).filter(|&c| c != HEADER + 22 && c != HEADER + 30) {
            assert!(items(&r[..cut], 15).is_err(), "{cut}");
        }
    }
}
