//! A checkpoint: where recovery begins and what was next to be handed out there.
//!
//! The same bytes stand in `pg_control` and as the payload of a checkpoint record. Offsets inside it:
//!
//! | field | 11 | 12 to 16 | 17 |
//! |---|---|---|---|
//! | redo, ThisTimeLineID, PrevTimeLineID, fullPageWrites | 0, 8, 12, 16 | same | same |
//! | wal_level | | | 20 |
//! | nextXid | epoch u32 @20, xid u32 @24 | u64 @24 | u64 @24 |
//! | nextOid, nextMulti, nextMultiOffset | 28, 32, 36 | 32, 36, 40 | same |
//! | oldestXid, oldestXidDB, oldestMulti, oldestMultiDB | 40, 44, 48, 52 | 44, 48, 52, 56 | same |
//! | time (seconds since 1970) | 56 | 64 | same |
//! | oldestCommitTsXid, newestCommitTsXid, oldestActiveXid | 64, 68, 72 | 72, 76, 80 | same |
//! | size | 80 | 88 | 88 |
//!
//! Upstream: `struct CheckPoint` in `src/include/catalog/pg_control.h` of each version.

use recovery_core::{Cursor, Short};
use serde::Serialize;

use super::{Lsn, put};

/// Which arrangement of the fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Layout {
    /// PostgreSQL and PolarDB 11 (`pg_control` version 1100).
    V11,
    /// PostgreSQL 12 (1201): this structure as in 13, the control file with one field more.
    V12,
    /// PostgreSQL 13 to 16 and PolarDB 15 (1300).
    V13,
    /// PostgreSQL and PolarDB 17 (1700).
    V17,
}

impl Layout {
    /// Size of the structure with its trailing padding.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::V11 => 80,
            Self::V12 | Self::V13 | Self::V17 => 88,
        }
    }
}

/// The fields of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CheckPoint {
    /// Where replay has to begin.
    pub redo: Lsn,
    /// Timeline of the checkpoint.
    pub this_tli: u32,
    /// Timeline before it, different only right after a switch.
    pub prev_tli: u32,
    /// Whether full-page images were written at that time.
    pub full_page_writes: bool,
    /// `wal_level` (from 17 on).
    pub wal_level: Option<i32>,
    /// Next transaction id: epoch in the high half.
    pub next_xid: u64,
    /// Next object id.
    pub next_oid: u32,
    /// Next multixact id.
    pub next_multi: u32,
    /// Next multixact member offset.
    pub next_multi_offset: u32,
    /// Oldest transaction id whose status may still be asked for.
    pub oldest_xid: u32,
    /// Database that holds it back.
    pub oldest_xid_db: u32,
    /// Oldest multixact id still in use.
    pub oldest_multi: u32,
    /// Database that holds it back.
    pub oldest_multi_db: u32,
    /// Time of the checkpoint, seconds since 1970.
    pub time: i64,
    /// Oldest transaction with a commit timestamp, 0 for none.
    pub oldest_commit_ts_xid: u32,
    /// Newest transaction with a commit timestamp, 0 for none.
    pub newest_commit_ts_xid: u32,
    /// Oldest transaction running then, 0 for a shutdown checkpoint.
    pub oldest_active_xid: u32,
}

impl CheckPoint {
    /// Reads the fields from exactly [`Layout::size`] bytes.
    ///
    /// # Errors
    ///
    /// When the bytes end before.
    pub fn decode(c: &mut Cursor<'_>, layout: Layout) -> Result<Self, Short> {
        let mut c = c.window(layout.size(), "checkpoint")?;
        let mut out = Self {
            redo: Lsn(c.u64_le("redo")?),
            this_tli: c.u32_le("ThisTimeLineID")?,
            prev_tli: c.u32_le("PrevTimeLineID")?,
            full_page_writes: c.u8("fullPageWrites")? != 0,
            ..Self::default()
        };
        c.skip(3, "padding")?;
        let at20 = c.u32_le("nextXidEpoch")?;
        out.next_xid = match layout {
            Layout::V11 => u64::from(at20) << 32 | u64::from(c.u32_le("nextXid")?),
            Layout::V12 | Layout::V13 => c.u64_le("nextXid")?,
            Layout::V17 => {
                out.wal_level = Some(at20.cast_signed());
                c.u64_le("nextXid")?
            }
        };
        out.next_oid = c.u32_le("nextOid")?;
        out.next_multi = c.u32_le("nextMulti")?;
        out.next_multi_offset = c.u32_le("nextMultiOffset")?;
        out.oldest_xid = c.u32_le("oldestXid")?;
        out.oldest_xid_db = c.u32_le("oldestXidDB")?;
        out.oldest_multi = c.u32_le("oldestMulti")?;
        out.oldest_multi_db = c.u32_le("oldestMultiDB")?;
        if layout != Layout::V11 {
            c.skip(4, "padding")?;
        }
        out.time = c.i64_le("time")?;
        out.oldest_commit_ts_xid = c.u32_le("oldestCommitTsXid")?;
        out.newest_commit_ts_xid = c.u32_le("newestCommitTsXid")?;
        out.oldest_active_xid = c.u32_le("oldestActiveXid")?;
        Ok(out)
    }

    /// The bytes of the structure, padding zero.
    #[must_use]
    pub fn encode(&self, layout: Layout) -> Vec<u8> {
        let mut b = vec![0; layout.size()];
        put(&mut b, 0, &self.redo.0.to_le_bytes());
        put(&mut b, 8, &self.this_tli.to_le_bytes());
        put(&mut b, 12, &self.prev_tli.to_le_bytes());
        put(&mut b, 16, &[u8::from(self.full_page_writes)]);
        let (mut at, time) = match layout {
            Layout::V11 => {
                put(&mut b, 20, &(self.next_xid >> 32).to_le_bytes());
                put(&mut b, 24, &(self.next_xid & 0xffff_ffff).to_le_bytes());
                (28, 56)
            }
            Layout::V12 | Layout::V13 | Layout::V17 => {
                put(&mut b, 20, &self.wal_level.unwrap_or(0).to_le_bytes());
                put(&mut b, 24, &self.next_xid.to_le_bytes());
                (32, 64)
            }
        };
        for word in [
            self.next_oid,
            self.next_multi,
            self.next_multi_offset,
            self.oldest_xid,
            self.oldest_xid_db,
            self.oldest_multi,
            self.oldest_multi_db,
        ] {
            put(&mut b, at, &word.to_le_bytes());
            at = at.saturating_add(4);
        }
        put(&mut b, time, &self.time.to_le_bytes());
        put(&mut b, time + 8, &self.oldest_commit_ts_xid.to_le_bytes());
        put(&mut b, time + 12, &self.newest_commit_ts_xid.to_le_bytes());
        put(&mut b, time + 16, &self.oldest_active_xid.to_le_bytes());
        b
    }

    /// Next transaction id without its epoch.
    #[must_use]
    pub const fn next_xid32(&self) -> u32 {
        (self.next_xid & 0xffff_ffff) as u32
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_layout_comes_back() {
        for layout in [Layout::V11, Layout::V12, Layout::V13, Layout::V17] {
            let point = CheckPoint {
                redo: Lsn(1),
                this_tli: 2,
                prev_tli: 3,
                full_page_writes: true,
                wal_level: (layout == Layout::V17).then_some(2),
                next_xid: 5 << 32 | 4,
                next_oid: 6,
                next_multi: 7,
                next_multi_offset: 8,
                oldest_xid: 9,
                oldest_xid_db: 10,
                oldest_multi: 11,
                oldest_multi_db: 12,
                time: 13,
                oldest_commit_ts_xid: 14,
                newest_commit_ts_xid: 15,
                oldest_active_xid: 16,
            };
            let bytes = point.encode(layout);
            assert_eq!(CheckPoint::decode(&mut Cursor::new(&bytes, 0), layout).unwrap(), point);
        }
    }
}
