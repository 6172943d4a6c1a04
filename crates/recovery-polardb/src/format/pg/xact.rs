//! What a transaction's end says: time, subtransactions, files dropped, two-phase identity.
//!
//! Main data of a COMMIT or ABORT record: i64 time (microseconds since 2000); with bit 0x80 of the info byte a u32
//! `xinfo` and, in this order, what its bits name: 1 database, 2 subtransactions, 4 files to drop, 256 statistics to
//! drop (15 on), 8 invalidations (commit only), 16 the prepared transaction, 128 its name, 32 the origin.
//!
//! Upstream: `src/include/access/xact.h`, `src/backend/access/rmgrdesc/xactdesc.c` (`ParseCommitRecord`, `ParseAbortRecord`).

use recovery_core::{Cursor, Short};

use super::wal_record::RelFileLocator;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Committed.
    Commit,
    /// Rolled back.
    Abort,
    /// A prepared transaction was committed.
    CommitPrepared,
    /// A prepared transaction was rolled back.
    AbortPrepared,
}

impl End {
    /// Which end an info byte of the transaction manager names.
    #[must_use]
    pub const fn of(info: u8) -> Option<Self> {
        match info & 0x70 {
            0x00 => Some(Self::Commit),
            0x20 => Some(Self::Abort),
            0x30 => Some(Self::CommitPrepared),
            0x40 => Some(Self::AbortPrepared),
            _ => None,
        }
    }

    const fn commit(self) -> bool {
        matches!(self, Self::Commit | Self::CommitPrepared)
    }
}

/// The parts of an end record that recovery reports use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XactEnd {
    /// Microseconds since 2000.
    pub time: i64,
    /// Committed subtransactions.
    pub subxacts: u32,
    /// Files the transaction drops.
    pub dropped: Vec<RelFileLocator>,
    /// The prepared transaction it finishes.
    pub prepared_xid: Option<u32>,
}

/// Reads the main data of an end record.
///
/// # Errors
///
/// When the bytes end before what the flags announce.
pub fn decode(main: &[u8], info: u8, end: End, major: u32) -> Result<XactEnd, Short> {
    let mut c = Cursor::new(main, 0);
    let mut out = XactEnd { time: c.i64_le("xact_time")?, ..XactEnd::default() };
    if info & 0x80 == 0 {
        return Ok(out);
    }
    let xinfo = c.u32_le("xinfo")?;
    if xinfo & 1 != 0 {
        c.skip(8, "database")?;
    }
    if xinfo & 2 != 0 {
        out.subxacts = c.u32_le("nsubxacts")?;
        c.take_u64(u64::from(out.subxacts) * 4, "subxacts")?;
    }
    if xinfo & 4 != 0 {
        let n = c.u32_le("nrels")?;
        let mut files = Cursor::new(c.take_u64(u64::from(n) * 12, "xlocators")?, 0);
        while !files.is_empty() {
            let (tablespace, database, number) = (files.u32_le("spc")?, files.u32_le("db")?, files.u32_le("rel")?);
            out.dropped.push(RelFileLocator { tablespace, database, number });
        }
    }
    if major >= 15 && xinfo & 256 != 0 {
        let n = c.u32_le("nitems")?;
        c.take_u64(u64::from(n) * 12, "dropped statistics")?;
    }
    if end.commit() && xinfo & 8 != 0 {
        let n = c.u32_le("nmsgs")?;
        c.take_u64(u64::from(n) * 16, "invalidations")?;
    }
    if xinfo & 16 != 0 {
        out.prepared_xid = Some(c.u32_le("twophase xid")?);
    }
    Ok(out)
}
