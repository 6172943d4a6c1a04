//! Records of the VLSN index `_jeVlsnMapDb` (`rep/vlsn/VLSNRange`, `VLSNBucket`, `GhostBucket`).
//!
//! Key tuple long -1: version, first, last, last sync point, last transaction end, all packed. Any other key is the
//! first VLSN of a bucket: version, ghost byte; then file, stride, first, last, LSN of the last, and offsets, which are
//! 32-bit big-endian, of the first VLSN and of every VLSN a stride further.

use recovery_core::Cursor;
use serde::Serialize;

use super::{Lsn, Result, packed};

/// Name of the database.
pub const VLSN_DB: &str = "_jeVlsnMapDb";
/// Key of the range.
pub const RANGE_KEY: i64 = -1;
/// VLSNs between two offsets of a bucket, as JE writes them.
pub const STRIDE: i64 = 10;
/// Most VLSNs in a bucket.
pub const BUCKET_SIZE: i64 = 500;

/// What the index covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Range {
    /// Version, 1.
    #[serde(skip)]
    pub version: i64,
    /// First VLSN.
    pub first: i64,
    /// Last VLSN.
    pub last: i64,
    /// Last sync point.
    pub last_sync: i64,
    /// Last commit or abort.
    pub last_txn_end: i64,
}

impl Range {
    /// Reads the record.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn decode(data: &[u8]) -> Result<Self> {
        let mut c = Cursor::new(data, 0);
        let mut n = |f| packed::long(&mut c, f);
        Ok(Self {
            version: n("version")?,
            first: n("first VLSN")?,
            last: n("last VLSN")?,
            last_sync: n("last sync point")?,
            last_txn_end: n("last transaction end")?,
        })
    }

    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for v in [self.version, self.first, self.last, self.last_sync, self.last_txn_end] {
            packed::put_long(&mut out, v);
        }
        out
    }
}

/// Places of some VLSNs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// Known places, all in one file.
    Real {
        /// File number.
        file: i64,
        /// VLSNs between two offsets.
        stride: i64,
        /// First VLSN.
        first: i64,
        /// Last VLSN.
        last: i64,
        /// Place of the last.
        last_lsn: Lsn,
        /// Offsets of the first, and of every one a stride further.
        offsets: Vec<u32>,
    },
    /// Places not known.
    Ghost {
        /// First VLSN.
        first: i64,
        /// First possible place.
        from: Lsn,
        /// Last possible place.
        to: Lsn,
    },
}

impl Bucket {
    /// Reads the record.
    ///
    /// # Errors
    ///
    /// When the bytes end or the count is impossible.
    pub fn decode(data: &[u8]) -> Result<Self> {
        let mut cursor = Cursor::new(data, 0);
        let c = &mut cursor;
        packed::long(c, "version")?;
        if c.u8("ghost")? != 0 {
            return Ok(Self::Ghost {
                first: packed::long(c, "first VLSN")?,
                from: packed::lsn(c, "first possible LSN")?,
                to: packed::lsn(c, "last possible LSN")?,
            });
        }
        let file = packed::long(c, "file number")?;
        let stride = packed::long(c, "stride")?;
        let first = packed::long(c, "first VLSN")?;
        let last = packed::long(c, "last VLSN")?;
        let last_lsn = packed::lsn(c, "last LSN")?;
        let n = packed::count(c, 4, "number of offsets")?;
        let offsets = (0..n).map(|_| Ok(c.u32_be("offset")?)).collect::<Result<_>>()?;
        Ok(Self::Real { file, stride, first, last, last_lsn, offsets })
    }

    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1];
        match self {
            Self::Ghost { first, from, to } => {
                out.push(1);
                packed::put_long(&mut out, *first);
                packed::put_lsn(&mut out, *from);
                packed::put_lsn(&mut out, *to);
            }
            Self::Real { file, stride, first, last, last_lsn, offsets } => {
                out.push(0);
                for v in [*file, *stride, *first, *last] {
                    packed::put_long(&mut out, v);
                }
                packed::put_lsn(&mut out, *last_lsn);
                packed::put_len(&mut out, offsets.len());
                for o in offsets {
                    out.extend_from_slice(&o.to_be_bytes());
                }
            }
        }
        out
    }
}
