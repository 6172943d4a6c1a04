//! Entries only found in files older than versions 8 and 9
//! (`tree/OldBINDelta`, `tree/dupConvert/INDeleteInfo`, `INDupDeleteInfo`).

use recovery_core::Cursor;

use super::{Lsn, Result, packed};

/// Changes to a BIN, types 22 and 23.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldDelta<'a> {
    /// Database.
    pub db: i64,
    /// Last full version.
    pub prev_full: Lsn,
    /// Last delta, from version 8.
    pub prev_delta: Option<Lsn>,
    /// Key, LSN, state.
    pub slots: Vec<(Option<&'a [u8]>, Lsn, u8)>,
}

impl<'a> OldDelta<'a> {
    /// Reads the item.
    ///
    /// # Errors
    ///
    /// When the bytes end or a count is impossible.
    pub fn decode(c: &mut Cursor<'a>, version: u8) -> Result<Self> {
        let db = packed::long(c, "database id")?;
        let prev_full = packed::lsn(c, "last full LSN")?;
        let prev_delta = if version >= 8 { Some(packed::lsn(c, "last delta LSN")?) } else { None };
        let n = packed::count(c, 3, "number of slots")?;
        let slots = (0..n)
            .map(|_| Ok((packed::bytes(c, "slot key")?, packed::lsn(c, "slot LSN")?, c.u8("slot state")?)))
            .collect::<Result<_>>()?;
        Ok(Self { db, prev_full, prev_delta, slots })
    }

    /// Appends the item.
    pub fn encode(&self, out: &mut Vec<u8>) {
        packed::put_long(out, self.db);
        packed::put_lsn(out, self.prev_full);
        if let Some(d) = self.prev_delta {
            packed::put_lsn(out, d);
        }
        packed::put_len(out, self.slots.len());
        for (key, lsn, state) in &self.slots {
            packed::put_bytes(out, *key);
            packed::put_lsn(out, *lsn);
            out.push(*state);
        }
    }
}

/// Deletion of a node, types 21 (one key) and 26 (main key and duplicate key).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldDelete<'a> {
    /// Node.
    pub node: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Duplicate key, type 26.
    pub dup_key: Option<Option<&'a [u8]>>,
    /// Database.
    pub db: i64,
}

impl<'a> OldDelete<'a> {
    /// Reads the item.
    ///
    /// # Errors
    ///
    /// When the bytes end.
    pub fn decode(c: &mut Cursor<'a>, duplicate: bool) -> Result<Self> {
        let node = packed::long(c, "node id")?;
        let key = packed::bytes(c, "key")?;
        let dup_key = if duplicate { Some(packed::bytes(c, "duplicate key")?) } else { None };
        Ok(Self { node, key, dup_key, db: packed::long(c, "database id")? })
    }

    /// Appends the item.
    pub fn encode(&self, out: &mut Vec<u8>) {
        packed::put_long(out, self.node);
        packed::put_bytes(out, self.key);
        if let Some(d) = self.dup_key {
            packed::put_bytes(out, d);
        }
        packed::put_long(out, self.db);
    }
}
