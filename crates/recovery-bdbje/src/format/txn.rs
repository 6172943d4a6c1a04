//! Ends of transactions and markers of rollbacks
//! (`txn/VersionedWriteTxnEnd`, `txn/TxnPrepare`, `utilint/Matchpoint`, `txn/RollbackStart`, `txn/RollbackEnd`).
//!
//! Commit, Abort: LSN of the last record (from version 12 first, before that behind the time), transaction id, time,
//! master's node id (0: local), from version 13 the highest VLSN known to be durable on a majority.

use recovery_core::Cursor;

use super::{Lsn, Result, packed};

/// Commit or Abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnEnd {
    /// Last record of the transaction.
    pub last_lsn: Lsn,
    /// Transaction; negative when replicated.
    pub txn: i64,
    /// ms since the epoch, by the clock of the node that holds the log.
    pub time: i64,
    /// Node id of the master that decided; 0 for a local transaction.
    pub master: i64,
    /// Highest VLSN durable on a majority; absent before version 13.
    pub dtvlsn: Option<i64>,
}

impl TxnEnd {
    /// Reads the item.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn decode(c: &mut Cursor<'_>, version: u8) -> Result<Self> {
        let first = if version >= 12 { Some(packed::lsn(c, "last LSN")?) } else { None };
        let txn = packed::long(c, "transaction id")?;
        let time = packed::long(c, "time")?;
        let last_lsn = match first {
            Some(l) => l,
            None => packed::lsn(c, "last LSN")?,
        };
        let master = packed::long(c, "master id")?;
        let dtvlsn = if version >= 13 { Some(packed::long(c, "dtvlsn")?) } else { None };
        Ok(Self { last_lsn, txn, time, master, dtvlsn })
    }

    /// Appends the item.
    pub fn encode(&self, out: &mut Vec<u8>, version: u8) {
        if version >= 12 {
            packed::put_lsn(out, self.last_lsn);
        }
        packed::put_long(out, self.txn);
        packed::put_long(out, self.time);
        if version < 12 {
            packed::put_lsn(out, self.last_lsn);
        }
        packed::put_long(out, self.master);
        if version >= 13 {
            packed::put_long(out, self.dtvlsn.unwrap_or(0));
        }
    }
}

/// First phase of a two-phase commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepare<'a> {
    /// Transaction.
    pub txn: i64,
    /// ms since the epoch.
    pub time: i64,
    /// Format of the XID.
    pub format: i32,
    /// Global part, `None` when absent.
    pub gtrid: Option<&'a [u8]>,
    /// Branch part, `None` when absent.
    pub bqual: Option<&'a [u8]>,
}

impl<'a> Prepare<'a> {
    /// Reads the item.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn decode(c: &mut Cursor<'a>) -> Result<Self> {
        let txn = packed::long(c, "transaction id")?;
        let time = packed::long(c, "time")?;
        let format = c.i32_le("XID format")?;
        let mut part = |name| -> Result<Option<&'a [u8]>> {
            let n = c.i8(name)?;
            usize::try_from(n).ok().map(|n| c.take(n, name)).transpose().map_err(Into::into)
        };
        Ok(Self { txn, time, format, gtrid: part("gtrid")?, bqual: part("bqual")? })
    }

    /// Appends the item.
    pub fn encode(&self, out: &mut Vec<u8>) {
        packed::put_long(out, self.txn);
        packed::put_long(out, self.time);
        out.extend_from_slice(&self.format.to_le_bytes());
        for part in [self.gtrid, self.bqual] {
            out.push(part.map_or(0xff, |p| u8::try_from(p.len()).unwrap_or(0x7f)));
            out.extend_from_slice(part.unwrap_or_default());
        }
    }
}

/// A point on which nodes may agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matchpoint {
    /// ms since the epoch.
    pub time: i64,
    /// Node that wrote it.
    pub master: i64,
}

impl Matchpoint {
    /// Reads the item.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn decode(c: &mut Cursor<'_>) -> Result<Self> {
        Ok(Self { time: packed::long(c, "time")?, master: packed::long(c, "node id")? })
    }

    /// Appends the item.
    pub fn encode(&self, out: &mut Vec<u8>) {
        packed::put_long(out, self.time);
        packed::put_long(out, self.master);
    }
}

/// Begin of a rollback: the records of the listed transactions behind the matchpoint are to become invisible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackStart {
    /// Last VLSN that stays.
    pub matchpoint_vlsn: i64,
    /// Its place.
    pub matchpoint: Lsn,
    /// ms since the epoch.
    pub time: i64,
    /// Open transactions that are rolled back.
    pub txns: Vec<i64>,
}

impl RollbackStart {
    /// Reads the item.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn decode(c: &mut Cursor<'_>) -> Result<Self> {
        let matchpoint_vlsn = packed::long(c, "matchpoint VLSN")?;
        let matchpoint = packed::lsn(c, "matchpoint LSN")?;
        let time = packed::long(c, "time")?;
        let n = packed::count(c, 1, "number of transactions")?;
        let txns = (0..n).map(|_| packed::long(c, "transaction id")).collect::<Result<_>>()?;
        Ok(Self { matchpoint_vlsn, matchpoint, time, txns })
    }

    /// Appends the item.
    pub fn encode(&self, out: &mut Vec<u8>) {
        packed::put_long(out, self.matchpoint_vlsn);
        packed::put_lsn(out, self.matchpoint);
        packed::put_long(out, self.time);
        packed::put_len(out, self.txns.len());
        for t in &self.txns {
            packed::put_long(out, *t);
        }
    }
}

/// End of a rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RollbackEnd {
    /// Last entry that stays.
    pub matchpoint: Lsn,
    /// Its begin.
    pub start: Lsn,
    /// ms since the epoch.
    pub time: i64,
}

impl RollbackEnd {
    /// Reads the item.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn decode(c: &mut Cursor<'_>) -> Result<Self> {
        Ok(Self {
            matchpoint: packed::lsn(c, "matchpoint LSN")?,
            start: packed::lsn(c, "RollbackStart LSN")?,
            time: packed::long(c, "time")?,
        })
    }

    /// Appends the item.
    pub fn encode(&self, out: &mut Vec<u8>) {
        packed::put_lsn(out, self.matchpoint);
        packed::put_lsn(out, self.start);
        packed::put_long(out, self.time);
    }
}
