//! Checkpoints and markers (`recovery/CheckpointStart`, `recovery/CheckpointEnd`, `log/Trace`,
//! `log/entry/RestoreRequired`).

use recovery_core::Cursor;

use super::{Lsn, Result, packed};

/// Begin of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CkptStart<'a> {
    /// ms since the epoch.
    pub time: i64,
    /// Number of the checkpoint.
    pub id: i64,
    /// Who wanted it.
    pub invoker: Option<&'a [u8]>,
}

impl<'a> CkptStart<'a> {
    /// Reads the item.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn decode(c: &mut Cursor<'a>) -> Result<Self> {
        Ok(Self {
            time: packed::long(c, "time")?,
            id: packed::long(c, "checkpoint id")?,
            invoker: packed::bytes(c, "invoker")?,
        })
    }

    /// Appends the item.
    pub fn encode(&self, out: &mut Vec<u8>) {
        packed::put_long(out, self.time);
        packed::put_long(out, self.id);
        packed::put_bytes(out, self.invoker);
    }
}

/// End of a checkpoint: where recovery begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CkptEnd {
    /// Who wanted it.
    pub invoker: Option<Vec<u8>>,
    /// ms since the epoch.
    pub time: i64,
    /// Its begin.
    pub start: Lsn,
    /// 1: a root follows; 2: cleaned files are to be deleted.
    pub flags: u8,
    /// `DbTree` entry, when there is one.
    pub root: Option<Lsn>,
    /// First entry of any transaction open at the begin.
    pub first_active: Lsn,
    /// Last ids given out: local node, replicated node, local database, replicated database, local transaction,
    /// replicated transaction.
    pub last_ids: [i64; 6],
    /// Last extinction ids, local and replicated, from version 17.
    pub last_extinctions: Option<[i64; 2]>,
    /// Number of the checkpoint.
    pub id: i64,
    /// Numbers of versions 8 to 10 that no longer mean anything.
    pub defunct: Option<(i64, i64, Vec<[i64; 4]>)>,
}

impl CkptEnd {
    /// Reads the item.
    ///
    /// # Errors
    ///
    /// When the bytes end or a count is impossible.
    pub fn decode(c: &mut Cursor<'_>, version: u8) -> Result<Self> {
        let invoker = packed::bytes(c, "invoker")?.map(<[u8]>::to_vec);
        let time = packed::long(c, "time")?;
        let start = packed::lsn(c, "CkptStart LSN")?;
        let flags = c.u8("checkpoint flags")?;
        let root = if flags & 1 != 0 { Some(packed::lsn(c, "root LSN")?) } else { None };
        let first_active = packed::lsn(c, "first active LSN")?;
        let mut last_ids = [0; 6];
        for x in &mut last_ids {
            *x = packed::long(c, "last id")?;
        }
        let last_extinctions = if version >= 17 {
            Some([packed::long(c, "last extinction id")?, packed::long(c, "last extinction id")?])
        } else {
            None
        };
        let id = packed::long(c, "checkpoint id")?;
        let defunct = if (8..=10).contains(&version) {
            let (a, b) = (packed::long(c, "summary")?, packed::long(c, "summary")?);
            let n = packed::count(c, 4, "number of averages")?;
            let mut all = Vec::with_capacity(n.min(256));
            for _ in 0..n {
                let mut q = [0; 4];
                for x in &mut q {
                    *x = packed::long(c, "average")?;
                }
                all.push(q);
            }
            Some((a, b, all))
        } else {
            None
        };
        Ok(Self { invoker, time, start, flags, root, first_active, last_ids, last_extinctions, id, defunct })
    }

    /// Appends the item.
    pub fn encode(&self, out: &mut Vec<u8>, version: u8) {
        packed::put_bytes(out, self.invoker.as_deref());
        packed::put_long(out, self.time);
        packed::put_lsn(out, self.start);
        out.push(self.flags);
        if self.flags & 1 != 0 {
            packed::put_lsn(out, self.root.unwrap_or(Lsn::NULL));
        }
        packed::put_lsn(out, self.first_active);
        for x in self.last_ids {
            packed::put_long(out, x);
        }
        if version >= 17 {
            for x in self.last_extinctions.unwrap_or_default() {
                packed::put_long(out, x);
            }
        }
        packed::put_long(out, self.id);
        if (8..=10).contains(&version) {
            let (a, b, all) = self.defunct.clone().unwrap_or_default();
            packed::put_long(out, a);
            packed::put_long(out, b);
            packed::put_len(out, all.len());
            for x in all.iter().flatten() {
                packed::put_long(out, *x);
            }
        }
    }
}

/// A message in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace<'a> {
    /// ms since the epoch.
    pub time: i64,
    /// Text.
    pub message: Option<&'a [u8]>,
}

impl<'a> Trace<'a> {
    /// Reads the item.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn decode(c: &mut Cursor<'a>) -> Result<Self> {
        Ok(Self { time: packed::long(c, "time")?, message: packed::bytes(c, "message")? })
    }

    /// Appends the item.
    pub fn encode(&self, out: &mut Vec<u8>) {
        packed::put_long(out, self.time);
        packed::put_bytes(out, self.message);
    }
}

/// JE refuses to open an environment whose last file holds this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreRequired<'a> {
    /// What happened: `NETWORK_RESTORE`, `LOG_CHECKSUM`, `BTREE_CORRUPTION`.
    pub failure: Option<&'a [u8]>,
    /// ms since the epoch.
    pub time: i64,
    /// Java properties.
    pub properties: Option<&'a [u8]>,
}

impl<'a> RestoreRequired<'a> {
    /// Reads the item.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn decode(c: &mut Cursor<'a>) -> Result<Self> {
        Ok(Self {
            failure: packed::bytes(c, "failure type")?,
            time: packed::long(c, "time")?,
            properties: packed::bytes(c, "properties")?,
        })
    }

    /// Appends the item.
    pub fn encode(&self, out: &mut Vec<u8>) {
        packed::put_bytes(out, self.failure);
        packed::put_long(out, self.time);
        packed::put_bytes(out, self.properties);
    }
}
