//! `pg_logindex/log_index_meta` of PolarDB: only to judge its health, the server can rebuild the directory.
//!
//! | off | size | field |
//! |---|---|---|
//! | 0 | 4 | magic 0xFDFE |
//! | 4 | 4 | version 2 |
//! | 8 | 8 | max_idx_table_id |
//! | 16 | 32 | segment: number, max_lsn, max_table_id, min_table_id |
//! | 48 | 8 | start_lsn |
//! | 56 | 8 | max_lsn |
//! | 64 | 4 | crc |
//!
//! Known from PolarDB 11's source only; the checksum's variant is not proven on real data, so it is not judged.

use recovery_core::{Cursor, Short};
use serde::Serialize;

use super::Lsn;

/// The fields that tell how far the index reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogIndexMeta {
    /// Version of the format.
    pub version: u32,
    /// Newest table.
    pub max_table: u64,
    /// First WAL position indexed.
    pub start: Lsn,
    /// Last WAL position indexed.
    pub max: Lsn,
}

/// Reads the file; `Ok(None)` when the magic is another.
///
/// # Errors
///
/// When the bytes end before the structure does.
pub fn decode(bytes: &[u8]) -> Result<Option<LogIndexMeta>, Short> {
    let mut c = Cursor::new(bytes, 0);
    let magic = c.u32_le("magic")?;
    let version = c.u32_le("version")?;
    let max_table = c.u64_le("max_idx_table_id")?;
    c.skip(32, "segment")?;
    let (start, max) = (Lsn(c.u64_le("start_lsn")?), Lsn(c.u64_le("max_lsn")?));
    c.u32_le("crc")?;
    Ok((magic == 0xFDFE).then_some(LogIndexMeta { version, max_table, start, max }))
}
